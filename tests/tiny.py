"""Tiny tokenizers, tiny random models of many architectures, and rows to train them on.

Models are saved as folders, so that tests load them like a user's folder.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    GraniteMoeConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    OlmoeConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
    StableLmConfig,
)
from transformers.utils import logging as transformers_logging

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import Split
from finetuning_exam.model.adapter import add_adapter, lora_config, save_adapter
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.likelihood import collate, supervised_nll
from finetuning_exam.model.load import load_base
from finetuning_exam.model.targets import ALL_LINEAR
from finetuning_exam.run_record import TrainingResult
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.checkpoint.find import find_checkpoint
from finetuning_exam.training.checkpoint.save import CheckpointConfig
from finetuning_exam.training.interrupt import Interrupts
from finetuning_exam.training.prepare import Prepared, prepare
from finetuning_exam.training.progress import Progress
from finetuning_exam.training.run import train

VOCABULARY = 512
TOKENS = 500
"""Size of the tokenizer: smaller, since some model types add their own special token."""
CONTEXT = 1024
LICENSE = Path(__file__).parents[1] / "LICENSE"
"""English text that never changes, on which the tokenizers are trained."""
END = "<|end|>"
START = "<|start|>"
PAD = "<|pad|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@dataclass(frozen=True)
class Architecture:
    """A model class by its config, and the number of modules `all-linear` adapts in two layers."""

    config: Callable[..., PreTrainedConfig]
    n_modules: int


def _llama_like(kind: type[PreTrainedConfig], **more: object) -> Callable[..., PreTrainedConfig]:
    def make(**options: object) -> PreTrainedConfig:
        settings: dict[str, object] = {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
            "initializer_range": 0.3,
            "tie_word_embeddings": False,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": None,
        }
        return kind(**(settings | more | options))

    return make


ARCHITECTURES = {
    # q, k, v, o, gate, up, down
    "llama": Architecture(_llama_like(LlamaConfig), 14),
    "qwen2": Architecture(_llama_like(Qwen2Config), 14),
    "qwen3": Architecture(_llama_like(Qwen3Config, head_dim=8), 14),
    "gemma3": Architecture(
        _llama_like(
            Gemma3TextConfig, head_dim=8, query_pre_attn_scalar=8, tie_word_embeddings=True
        ),
        14,
    ),
    "mistral": Architecture(_llama_like(MistralConfig, head_dim=8), 14),
    "olmo2": Architecture(_llama_like(Olmo2Config), 14),
    "smollm3": Architecture(_llama_like(SmolLM3Config), 14),
    "granite": Architecture(_llama_like(GraniteConfig), 14),
    "stablelm": Architecture(_llama_like(StableLmConfig), 14),
    # qkv_proj, o_proj, gate_up_proj, down_proj
    "phi3": Architecture(_llama_like(Phi3Config), 8),
    # q, k, v, dense, fc1, fc2
    "phi": Architecture(_llama_like(PhiConfig), 12),
    # c_attn, c_proj, c_fc, c_proj: Conv1D, not Linear
    "gpt2": Architecture(
        lambda **options: GPT2Config(
            **{
                "vocab_size": VOCABULARY,
                "n_embd": 32,
                "n_layer": 2,
                "n_head": 4,
                "n_positions": CONTEXT,
                "initializer_range": 0.3,
                "bos_token_id": 0,
                "eos_token_id": 0,
                **options,
            }
        ),
        8,
    ),
    # query_key_value, dense, dense_h_to_4h, dense_4h_to_h
    "gpt_neox": Architecture(_llama_like(GPTNeoXConfig), 8),
    "falcon": Architecture(_llama_like(FalconConfig, alibi=False), 8),
    "bloom": Architecture(
        lambda **options: BloomConfig(
            **{
                "vocab_size": VOCABULARY,
                "hidden_size": 32,
                "n_layer": 2,
                "n_head": 4,
                "initializer_range": 0.3,
                "bos_token_id": 0,
                "eos_token_id": 0,
                "pad_token_id": None,
                **options,
            }
        ),
        8,
    ),
    # q, k, v, out_proj, fc1, fc2
    "opt": Architecture(
        _llama_like(OPTConfig, ffn_dim=64, word_embed_proj_dim=32, init_std=0.3), 12
    ),
}


def _with_experts(kind: type[PreTrainedConfig], **more: object) -> Callable[..., PreTrainedConfig]:
    return _llama_like(kind, num_experts_per_tok=2, **more)


EXPERTS = {
    # q, k, v, o; the experts are no linear modules
    "mixtral": Architecture(_with_experts(MixtralConfig, num_local_experts=4), 8),
    # gate, up and down of the shared expert, too
    "qwen2_moe": Architecture(
        _with_experts(
            Qwen2MoeConfig,
            num_experts=4,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=24,
            output_router_logits=True,
        ),
        14,
    ),
    "qwen3_moe": Architecture(
        _with_experts(Qwen3MoeConfig, head_dim=8, num_experts=4, moe_intermediate_size=16), 8
    ),
    "olmoe": Architecture(_with_experts(OlmoeConfig, num_experts=4), 8),
    "granitemoe": Architecture(_with_experts(GraniteMoeConfig, num_local_experts=4), 8),
}
"""Mixtures of experts, whose experts `all-linear` leaves alone."""


class Models:
    """Model folders, each created on first use."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(
        self, architecture: str = "llama", *, seed: int = 0, text: str = "plain", **options: object
    ) -> Path:
        """Return a folder with config, safetensors and tokenizer (`text`: see `save_tokenizer`)."""
        details = "-".join(f"{key}={value}" for key, value in sorted(options.items()))
        folder = self._root / f"{architecture}-{seed}-{text}-{details}"
        if not folder.exists():
            transformers_logging.disable_progress_bar()
            torch.manual_seed(seed)
            config = (ARCHITECTURES | EXPERTS)[architecture].config(**options)
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
            save_tokenizer(folder, text)
        return folder


def save_tokenizer(folder: Path, text: str = "plain") -> None:
    """Save a byte-level BPE tokenizer: `plain` (no pad token), `padded`, `started` or `chat`."""
    core = Tokenizer(BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=TOKENS,
        special_tokens=[END, START, PAD, "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [f"### Instruction:\n{e.instruction}\n\n### Response:\n{e.answer}" for e in rows(40)]
    core.train_from_iterator([*corpus, LICENSE.read_text(encoding="utf-8")], trainer)
    if text == "started":
        start = (START, core.token_to_id(START))
        core.post_processor = processors.TemplateProcessing(
            single=f"{START} $A", special_tokens=[start]
        )
    names = {"eos_token": END}
    names |= {"bos_token": START} if text == "started" else {}
    names |= {"pad_token": PAD} if text == "padded" else {}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **names)
    if text == "chat":
        tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)


def adapted(
    architecture: str = "llama",
    *,
    dropout: float = 0.0,
    targets: Sequence[str] = (ALL_LINEAR,),
    **options: object,
) -> PeftModel:
    """Return a random model with an adapter, in training mode, without weights of zero or one.

    Norms and biases are random too, and so are the B matrices, without which A has no gradient.
    """
    torch.manual_seed(0)
    whole = AutoModelForCausalLM.from_config(ARCHITECTURES[architecture].config(**options))
    config = lora_config(4, 8, dropout, targets)
    config.fan_in_fan_out = architecture == "gpt2"
    model = get_peft_model(whole, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 or "lora_B" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model.train()


def save_noisy_adapter(base_folder: Path, folder: Path) -> None:
    """Save an adapter of noise, which answers otherwise than its base."""
    base = load_base(str(base_folder), choose_compute("cpu", "float32"))
    model = add_adapter(base, lora_config(4, 8, 0.0, (ALL_LINEAR,)), seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    save_adapter(model, folder)


def encoded_rows(lengths: Sequence[int], seed: int = 0) -> tuple[Encoded, ...]:
    """Return rows of random ids, one per length, supervised from a random position to the end."""
    draw = random.Random(seed)
    found: list[Encoded] = []
    for length in lengths:
        ids = tuple(draw.randrange(1, TOKENS) for _ in range(length))
        prompt = draw.randint(1, max(1, length - 1))
        found.append(Encoded(ids, (*[IGNORED] * prompt, *ids[prompt:]), prompt, 0))
    return tuple(found)


@dataclass(frozen=True)
class Result:
    """Losses of rows, (rows,), and the gradient of their weighted sum for each parameter."""

    nll: torch.Tensor
    gradients: dict[str, torch.Tensor]


def result_of(model: torch.nn.Module, nll: Callable[[], torch.Tensor]) -> Result:
    """Return the losses of rows and the gradients of their sum, with a different weight per row."""
    model.zero_grad()
    found = nll()
    weights = torch.linspace(0.5, 1.5, len(found))
    (found @ weights / 50).backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return Result(found.detach(), grads)


def gradient_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a tensor, which a backward pass must have reached."""
    assert tensor.grad is not None
    return tensor.grad


def stock_result(model: torch.nn.Module, batch: Sequence[Encoded]) -> Result:
    """Return losses and gradients of the model's own forward pass."""
    return result_of(model, lambda: supervised_nll(model, collate(batch, 0)))


def assert_same_result(found: Result, expected: Result) -> None:
    """Assert equal losses to 1e-5, and equal gradients to 1e-4 of each tensor's largest entry."""
    torch.testing.assert_close(found.nll, expected.nll, rtol=1e-5, atol=0)
    assert found.gradients.keys() == expected.gradients.keys()
    assert_gradients_close(found.gradients, expected.gradients)


def assert_gradients_close(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    """Assert that each tensor is within 1e-4 of the largest entry of the expected one."""
    assert expected
    for name, tensor in expected.items():
        largest = tensor.abs().max().item()
        assert largest > 0, f"the gradient of {name} is zero, so the test proves nothing"
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-4 * largest, msg=name)


_ANIMALS = ("cat", "dog", "cow", "hen", "pig", "owl", "bee", "ant", "fox", "bat")
_VERBS = ("sleeps in the warm barn", "eats", "runs", "sings at night", "hides under the old tree")


def rows(n: int, tag: str = "") -> tuple[Example, ...]:
    """Return `n` examples with different questions and answers of unequal lengths."""
    return tuple(
        Example(
            instruction=f"What does the {_ANIMALS[i % 10]} do on day {i}?",
            answer=f"The {_ANIMALS[i % 10]} {_VERBS[i % 5]} {i}.",
            line=i + 1,
            path="rows.jsonl",
            tag=tag,
        )
        for i in range(n)
    )


def write_rows(path: Path, examples: Sequence[Example]) -> Path:
    """Write examples as JSON lines."""
    lines = [
        json.dumps(
            {"instruction": e.instruction, "output": e.answer} | ({"tag": e.tag} if e.tag else {})
        )
        for e in examples
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


LEAN = ("--replay", "none", "--adapter_scale", "1", "--skills", "none")
"""Flags of a training that leaves out what a test is not about."""
LEAN_SETTINGS: dict[str, Any] = {"replay": ("none",), "adapter_scale": 1.0, "skills": "none"}
BRISK = TrainSettings(
    device="cpu",
    dtype="float32",
    lora_r=4,
    lora_alpha=8,
    learning_rate=1e-2,
    lr_scheduler_type="constant",
    warmup_ratio=0.0,
    per_device_train_batch_size=4,
    max_steps=4,
    logging_steps=1,
    **LEAN_SETTINGS,
)
"""Settings for a training that takes seconds and changes the model visibly."""


def brisk(model: Path, **changes: Any) -> TrainSettings:
    """Return `BRISK` for a model folder, with some settings changed."""
    return replace(BRISK, model_name_or_path=str(model), **changes)


@dataclass(frozen=True)
class Run:
    """A finished training and the folder with its adapter."""

    prepared: Prepared
    result: TrainingResult
    folder: Path


def ignore(progress: Progress) -> None:
    """Ignore the progress of a training."""


def run_training(
    settings: TrainSettings,
    folder: Path,
    train_rows: Sequence[Example],
    validation: Sequence[Example] = (),
    *,
    on_progress: Callable[[Progress], None] = ignore,
    checkpoint: Path | None = None,
    interrupts: Interrupts | None = None,
) -> Run:
    """Prepare and train like `fte train`, in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = replace(settings, output_dir=str(folder))
    prepared = prepare(settings, Split(tuple(train_rows), tuple(validation), ()))
    resumed = find_checkpoint(folder, str(checkpoint)) if checkpoint else None
    checkpoints = checkpoints_in(folder, resumed=resumed, interrupts=interrupts or Interrupts())
    return Run(prepared, train(prepared, checkpoints, on_progress), folder)


def checkpoints_in(folder: Path, **changes: Any) -> CheckpointConfig:
    """Return a config that keeps two checkpoints in a folder."""
    return replace(CheckpointConfig(folder, keep=2), **changes)


def logits_of(model: torch.nn.Module, ids: Sequence[int]) -> torch.Tensor:
    """Return the logits of a single row, without padding: (length, vocabulary)."""
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=torch.tensor([list(ids)])).logits[0]
    return logits
