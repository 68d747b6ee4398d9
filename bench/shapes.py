# ruff: noqa: T201, TID251 - a script that creates models and prints their folder
"""Models and rows for the benchmarks, and the operations that a LoRA step on them needs.

    uv run python bench/shapes.py smollm2-135m --data train.jsonl --out models/smollm2

creates a model folder with a public model's architecture, seeded random weights (their values do
not affect the time of a step) and a byte-level BPE tokenizer trained on the data.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_exam.data.encoding.encoder import Encoded, make_encoder
from finetuning_exam.data.encoding.rows import special_token_findings
from finetuning_exam.data.encoding.template import formatting_func, prompt_func
from finetuning_exam.data.reading.read import read_records
from finetuning_exam.data.records import Example
from finetuning_exam.durable import file_sha256
from finetuning_exam.model.folder import find_model_folder
from finetuning_exam.model.tokenizer import load_tokenizer
from finetuning_exam.settings import BUILTIN_MODEL, FieldSettings

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ROOT = Path(__file__).parents[1]
END = "<|endoftext|>"
FEWEST_TIMES = 2
"""Pairs of tokens that occur less often are not merged."""
ROWS_FOR_TRL, ROWS_FOR_FTE, EXAM_FILE = "rows_trl.jsonl", "rows_fte.jsonl", "exam.jsonl"
EXAM = (("What is one and one?", "Two."), ("What is two and two?", "Four."))
MODELS = (BUILTIN_MODEL, "smollm2-135m", "qwen3-0.6b")
"""The built-in base, and the shapes of two public models."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight matrix of the body: y = x Wᵀ with W of shape (outputs, inputs)."""

    name: str
    outputs: int
    inputs: int


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a model that determine the cost of a token.

    `n_body` counts all weights except the embedding and the head; `query_width` is heads × head
    width.
    """

    matrices: tuple[Matrix, ...]
    n_body: int
    vocabulary: int
    width: int
    query_width: int
    n_layers: int


@dataclass(frozen=True, slots=True)
class Work:
    """The training rows as the project encodes them, in the order of the file."""

    examples: tuple[Example, ...]
    rows: tuple[Encoded, ...]

    def write(self, folder: Path) -> None:
        """Write the rows for plain TRL and for `fte train`, and two questions for its exam."""
        for_trl = [{"prompt": prompt_func(it), "completion": it.answer} for it in self.examples]
        for_fte = [
            {"instruction": it.instruction, "input": it.input, "output": it.answer}
            for it in self.examples
        ]
        exam = [{"instruction": question, "output": answer} for question, answer in EXAM]
        for name, rows in ((ROWS_FOR_TRL, for_trl), (ROWS_FOR_FTE, for_fte), (EXAM_FILE, exam)):
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / name).write_text(lines, encoding="utf-8")

    @property
    def n_tokens(self) -> int:
        """The number of tokens in all rows, without padding."""
        return sum(len(row.ids) for row in self.rows)

    @property
    def supervised_share(self) -> float:
        """The share of positions that have a label."""
        return sum(row.n_supervised for row in self.rows) / self.n_tokens

    @property
    def mean_own_length(self) -> float:
        """The length of a token's row, averaged over tokens."""
        return sum(len(row.ids) ** 2 for row in self.rows) / self.n_tokens


def lora_parameters(shape: ModelShape, targets: Sequence[str], r: int) -> int:
    """Count the parameters of a rank-r adapter: r · (inputs + outputs) per adapted matrix.

    `targets` are last components of names, or only `all-linear`.

    Raises:
        ValueError: no matrix has one of the names.
    """
    if tuple(targets) == ("all-linear",):
        chosen = shape.matrices
    else:
        names = {matrix.name.rsplit(".", 1)[-1] for matrix in shape.matrices}
        if missing := sorted(set(targets) - names):
            raise ValueError(f"no matrix is named {', '.join(missing)}")
        chosen = tuple(it for it in shape.matrices if it.name.rsplit(".", 1)[-1] in targets)
    return sum(r * (matrix.inputs + matrix.outputs) for matrix in chosen)


def lora_flops_per_token(
    shape: ModelShape, n_lora: int, supervised_share: float, mean_own_length: float
) -> float:
    """Count the floating-point operations that a LoRA step needs at least, per real token.

    - 4 N: forward pass and input gradients of the N frozen weights of the body, which need no
      weight gradients.
    - 4 s H: the same for the head, H = vocabulary × width, at the share s of supervised positions.
    - 6 P: forward pass and both gradients of the P weights of the adapter.
    - Attention: 4 · c · d forward and 10 · c · d backward (recomputing the scores as flash
      attention does, Dao et al. 2022) per layer, where c is the number of positions a token
      attends to, on average half of its row, and d the width of all heads.

    Padding, recomputed layers and the head at unsupervised positions are not counted, so they lower
    LoRA-MFU: real tokens per second times this number, over the machine's matrix rate.
    """
    body = 4 * shape.n_body
    head = 4 * supervised_share * shape.vocabulary * shape.width
    attention = 14 * (mean_own_length / 2) * shape.query_width * shape.n_layers
    return body + head + 6 * n_lora + attention


def read_shape(folder: Path) -> ModelShape:
    """Read the sizes of a model from its config and the headers of its weight files."""
    from safetensors import safe_open

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sizes: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as weights:
            names: list[str] = weights.keys()
            sizes.update({it: tuple(weights.get_slice(it).get_shape()) for it in names})
    vocabulary, width = next(size for name, size in sizes.items() if "embed_tokens" in name)
    body = {it: size for it, size in sizes.items() if not ("embed_tokens" in it or "lm_head" in it)}
    n_heads = config["num_attention_heads"]
    return ModelShape(
        tuple(
            Matrix(name.removesuffix(".weight"), *size)
            for name, size in body.items()
            if len(size) == 2
        ),
        sum(size[0] * (size[1] if len(size) == 2 else 1) for size in body.values()),
        vocabulary,
        width,
        n_heads * (config.get("head_dim") or config["hidden_size"] // n_heads),
        config["num_hidden_layers"],
    )


def default_data() -> Path:
    """Return the file of 600 Alpaca rows if it is there, else the project's train.jsonl."""
    beside = ROOT.parent / "shared" / "data" / "alpaca_600.json"
    return beside if beside.is_file() else ROOT / "train.jsonl"


def read_examples(data: Path) -> tuple[Example, ...]:
    """Read the single-turn examples of a file; conversations are left out."""
    records = read_records([str(data)], FieldSettings())
    return tuple(it for it in records.examples if it.instruction and not it.earlier)


def choose_work(data: Path, model: Path, n_rows: int, max_length: int, seed: int) -> Work:
    """Draw a seeded sample of a file's rows, in the order of the file.

    Rows longer than `max_length`, or containing the text of a special token, are not drawn.
    """
    encoder = make_encoder(load_tokenizer(model), "plain")
    examples = read_examples(data)
    odd = {(it.line, it.column) for it in special_token_findings(encoder, examples)}
    sound = [it for it in examples if (it.line, it.column) not in odd]
    rows = encoder.encode_batch(sound)
    fitting = [pair for pair in zip(sound, rows, strict=True) if len(pair[1].ids) <= max_length]
    drawn = random.Random(seed).sample(range(len(fitting)), min(n_rows, len(fitting)))
    chosen = [fitting[index] for index in sorted(drawn)]
    return Work(tuple(it for it, _ in chosen), tuple(row for _, row in chosen))


def model_folder(name: str, cache: Path, data: Path) -> Path:
    """Return the folder of a model, whether or not it exists yet.

    `name` is one of `MODELS` or a folder. The folder of a shape depends on the data, on which its
    tokenizer is trained.
    """
    if name in MODELS[1:]:
        return cache / f"{name}-{file_sha256(data)[:8]}"
    return find_model_folder(name)


def make_model(name: str, data: Path, folder: Path, seed: int = 0) -> None:
    """Write a model with a public architecture, random float32 weights and a tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    config = _config(name)
    n_entries = _make_tokenizer([formatting_func(it) for it in read_examples(data)], config, folder)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    n_parameters = model.num_parameters() / 1e6
    print(f"{folder}: {n_parameters:.0f} M parameters, {n_entries:,} tokenizer entries")


def _config(name: str) -> PreTrainedConfig:
    from transformers import LlamaConfig, Qwen3Config

    common = {"bos_token_id": None, "eos_token_id": 0, "tie_word_embeddings": True}
    if name == "smollm2-135m":
        return LlamaConfig(
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            vocab_size=49152,
            max_position_embeddings=8192,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
            rms_norm_eps=1e-5,
            **common,
        )
    return Qwen3Config(
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151936,
        max_position_embeddings=40960,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        rms_norm_eps=1e-6,
        **common,
    )


def _make_tokenizer(texts: Sequence[str], config: PreTrainedConfig, folder: Path) -> int:
    """Train and save a byte-level BPE tokenizer; return its size, at most the vocabulary's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=FEWEST_TIMES,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END).save_pretrained(folder)
    return tokenizer.get_vocab_size()


def main() -> None:
    """Create one model."""
    parser = argparse.ArgumentParser(description="Create a model folder with random weights.")
    parser.add_argument("name", choices=MODELS[1:])
    parser.add_argument(
        "--data", type=Path, default=default_data(), help="file to train the tokenizer on"
    )
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    make_model(flags.name, flags.data, flags.out)


if __name__ == "__main__":
    main()
