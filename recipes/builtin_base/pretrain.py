"""Step 3: pretrain the model and export it as a bfloat16 Transformers folder.

The learning rate has a warmup, a stable phase and a linear decay to zero. The decay covers the last
`--decay-fraction` of `--tokens`, or starts once `--run` contains a file named `decay` with its
length in tokens. A stopped run resumes from its last checkpoint. A finished run with larger
`--tokens` continues at the full rate and decays again.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from evaluate import document_windows, load_heldout, total_bits
from packing import batches, load_documents
from torch import nn
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)


@dataclass(frozen=True)
class Plan:
    """All settings of a pretraining run; each field is a flag."""

    width: int = 256
    layers: int = 6
    heads: int = 4
    inner: int = 704
    length: int = 256
    """Tokens per window in the warmup and stable phase."""
    decay_length: int = 512
    """Tokens per window in the decay."""
    micro_tokens: int = 2048
    batch_tokens: int = 4096
    tokens: int = 8_500_000
    warmup_steps: int = 50
    decay_fraction: float = 0.45
    optimizer: str = "muon"
    """`muon` (with AdamW for the embedding and the norms) or `adamw` for every parameter."""
    muon_lr: float = 0.04
    adam_lr: float = 0.006
    seed: int = 0
    compiled: bool = True


PRESETS = {
    "builtin": Plan(),
    "tiny": Plan(
        width=64, layers=2, heads=2, inner=128, length=64, decay_length=64, micro_tokens=512,
        batch_tokens=512, tokens=50_000, warmup_steps=10, compiled=False,
    ),
}  # fmt: skip


@dataclass
class Progress:
    """The progress of a run, saved with every checkpoint."""

    step: int = 0
    tokens: int = 0
    decay_start: int | None = None
    decay_tokens: int = 0
    seconds: float = 0.0

    @property
    def is_done(self) -> bool:
        """True if the decay is finished."""
        return self.decay_start is not None and self.tokens >= self.decay_start + self.decay_tokens


def build_model(plan: Plan, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Build a Llama model with tied embeddings and random weights."""
    torch.manual_seed(plan.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=plan.width,
        num_hidden_layers=plan.layers,
        intermediate_size=plan.inner,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def build_optimizers(model: LlamaForCausalLM, plan: Plan) -> list[torch.optim.Optimizer]:
    """Build Muon for the matrices of the layers, and AdamW for the embedding and the norms."""
    inside = list(model.model.layers.parameters()) if plan.optimizer == "muon" else []
    matrices = [parameter for parameter in inside if parameter.ndim == 2]
    known = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    adamw = torch.optim.AdamW(others, lr=plan.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)
    if not matrices:
        return [adamw]
    return [torch.optim.Muon(matrices, lr=plan.muon_lr, weight_decay=0.01, momentum=0.95), adamw]


def loss_function(
    model: LlamaForCausalLM, plan: Plan, device: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function for the mean cross-entropy of a batch of windows, in bfloat16 autocast."""

    def loss(windows: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, dtype=torch.bfloat16):
            hidden = model.model(windows[:, :-1], use_cache=False).last_hidden_state
            logits = model.lm_head(hidden)
        return nn.functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())

    return torch.compile(loss, dynamic=False) if plan.compiled else loss


def rate_factor(plan: Plan, progress: Progress) -> float:
    """Return the factor of the learning rate: linear warmup, one, linear decay to zero."""
    warm = min(1.0, (progress.step + 1) / max(1, plan.warmup_steps))
    if progress.decay_start is None:
        return warm
    gone = (progress.tokens - progress.decay_start) / max(1, progress.decay_tokens)
    return warm * max(0.0, 1.0 - gone)


def start_decay_if_due(plan: Plan, progress: Progress, run: Path) -> None:
    """Start the decay if a `decay` file exists or the planned stable tokens are used up."""
    trigger, planned = run / "decay", int(plan.tokens * plan.decay_fraction)
    if trigger.is_file() and progress.decay_start is None:
        progress.decay_start, progress.decay_tokens = progress.tokens, int(trigger.read_text())
        trigger.unlink()
    elif progress.decay_start is None and progress.tokens >= plan.tokens - planned:
        progress.decay_start, progress.decay_tokens = progress.tokens, planned


def export(model: LlamaForCausalLM, tokenizer: Path, folder: Path) -> None:
    """Write the bfloat16 model folder, replacing each file atomically."""
    fresh = folder.with_name(folder.name + ".new")
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16)
    copy.generation_config = GenerationConfig(
        eos_token_id=model.config.eos_token_id, pad_token_id=model.config.pad_token_id
    )
    copy.save_pretrained(fresh)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, fresh / name)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(fresh.iterdir()):
        path.chmod(0o644)
        path.replace(folder / path.name)
    fresh.rmdir()


class Trainer:
    """One pretraining run: model, optimizers and progress, kept in the folder `run`."""

    def __init__(self, plan: Plan, corpus: Path, tokenizer: Path, run: Path, device: str) -> None:
        self.plan, self.run, self.device, self.tokenizer_folder = plan, run, device, tokenizer
        run.mkdir(parents=True, exist_ok=True)
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        self.model = build_model(plan, self.tokenizer).to(device)
        self.optimizers = build_optimizers(self.model, plan)
        self.progress = Progress()
        self.documents = load_documents(corpus / "train.jsonl", self.tokenizer)
        self.heldout = load_heldout(corpus)
        self.loss = loss_function(self.model, plan, device)
        if (run / "checkpoint.pt").is_file():
            self._resume()

    def _resume(self) -> None:
        state = torch.load(self.run / "checkpoint.pt", map_location=self.device)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.progress = Progress(**state["progress"])
        if self.progress.is_done and self.plan.tokens > self.progress.tokens:
            self.progress.decay_start = None

    def save(self) -> None:
        """Write the checkpoint atomically, and the model folder `run/model`."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": asdict(self.progress),
        }
        torch.save(state, self.run / "checkpoint.new")
        (self.run / "checkpoint.new").replace(self.run / "checkpoint.pt")
        export(self.model, self.tokenizer_folder, self.run / "model")

    def log(self, **figures: float | str) -> None:
        """Append one line to the run's log."""
        with (self.run / "log.jsonl").open("a") as lines:
            lines.write(json.dumps({**asdict(self.progress), **figures}) + "\n")

    def heldout_bits(self, bytes_per_kind: int = 60_000) -> dict[str, float]:
        """Compute bits per byte on a fixed part of the held-out text, by kind."""
        result = {}
        for kind, texts in self.heldout.items():
            chosen, size = [], 0
            for text in (text[:6000] for text in texts):
                if size < bytes_per_kind:
                    chosen.append(text)
                    size += len(text.encode())
            windows = document_windows(chosen, self.tokenizer, self.plan.length)
            result[f"bpb_{kind}"] = round(total_bits(self.model, windows) / size, 4)
        return result

    def step(self, micro_batches: list[torch.Tensor]) -> float:
        """Run one optimizer step; return the mean loss in nats per token."""
        factor, total = rate_factor(self.plan, self.progress), 0.0
        for windows in micro_batches:
            loss = self.loss(windows.to(self.device)) / len(micro_batches)
            loss.backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            is_muon = isinstance(optimizer, torch.optim.Muon)
            rate = self.plan.muon_lr if is_muon else self.plan.adam_lr
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad()
        return total

    def phase(self, length: int, keep_going: Callable[[], bool], save_minutes: float) -> None:
        """Train on windows of `length` tokens while `keep_going` returns True."""
        plan, progress = self.plan, self.progress
        rows, micro = plan.micro_tokens // length, plan.batch_tokens // plan.micro_tokens
        first = progress.tokens - (progress.decay_start or 0)
        seed = plan.seed + (0 if progress.decay_start is None else 1000)
        stream = batches(self.documents, length, rows, seed, first // plan.micro_tokens)
        saved = started = time.monotonic()
        while keep_going():
            loss = self.step([next(stream) for _ in range(micro)])
            now = time.monotonic()
            progress.step += 1
            progress.tokens += plan.batch_tokens
            progress.seconds += now - started
            started = now
            if progress.step % 20 == 0:
                self.log(loss=round(loss, 4), rate=rate_factor(plan, progress))
            if now - saved > 60 * save_minutes:
                self.save()
                self.log(**self.heldout_bits())
                saved = started = time.monotonic()

    def train(self, save_minutes: float) -> None:
        """Run to the end of the decay and save."""

        def is_stable() -> bool:
            start_decay_if_due(self.plan, self.progress, self.run)
            return self.progress.decay_start is None

        self.phase(self.plan.length, is_stable, save_minutes)
        self.phase(self.plan.decay_length, lambda: not self.progress.is_done, save_minutes)
        self.save()
        self.log(**self.heldout_bits(), event="end")


def main() -> None:
    """Parse the flags and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder that corpus.py wrote")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder from tokenizer.py")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints and model")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="builtin", help="shape")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument(
        "--save-minutes", type=float, default=5.0, help="minutes between checkpoints"
    )
    parser.add_argument("--eager", action="store_true", help="do not compile the loss")
    names = [name for name in asdict(PRESETS["tiny"]) if name != "compiled"]
    for name in names:
        kind = type(getattr(PRESETS["tiny"], name))
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help="overrides the preset")
    flags = parser.parse_args()
    fields = {name: vars(flags)[name] for name in names if vars(flags)[name] is not None}
    if flags.eager:
        fields["compiled"] = False
    torch.set_num_threads(flags.threads)
    plan = replace(PRESETS[flags.preset], **fields)
    trainer = Trainer(plan, flags.corpus, flags.tokenizer, flags.run, flags.device)
    trainer.train(flags.save_minutes)


if __name__ == "__main__":
    main()
