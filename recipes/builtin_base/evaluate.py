"""Compute held-out bits per byte of a model by kind of text, with `xz -9` for comparison."""

import argparse
import json
import lzma
import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)


@dataclass(frozen=True)
class HeldOutScore:
    """Compression of the held-out text of one kind."""

    kind: str
    text_bytes: int
    tokens: int
    bits_per_byte: float
    xz_bits_per_byte: float


def load_heldout(corpus: Path) -> dict[str, list[str]]:
    """Read the held-out documents by kind."""
    texts: dict[str, list[str]] = defaultdict(list)
    with (corpus / "heldout.jsonl").open() as lines:
        for line in lines:
            row = json.loads(line)
            texts[row["kind"]].append(row["text"])
    return dict(texts)


@torch.no_grad()
def total_bits(model: LlamaForCausalLM, windows: torch.Tensor, rows: int = 16) -> float:
    """Compute the bits of the targets of `windows`, (n, length + 1), ignoring targets of -100."""
    nats = 0.0
    for part in windows.split(rows):
        part = part.to(model.device)
        logits = model(part[:, :-1].clamp(min=0), use_cache=False).logits.float()
        nats += torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), part[:, 1:].flatten(), ignore_index=-100, reduction="sum"
        ).item()
    return nats / math.log(2)


def document_windows(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, length: int
) -> torch.Tensor:
    """Cut each document, after an end token, into windows; short ones are padded with -100."""
    windows = []
    for text in texts:
        ids = [tokenizer.eos_token_id, *tokenizer.encode(text, verbose=False)]
        for at in range(0, len(ids) - 1, length):
            window = ids[at : at + length + 1]
            windows.append(window + [-100] * (length + 1 - len(window)))
    return torch.tensor(windows)


def score(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    texts: dict[str, list[str]],
    length: int = 512,
) -> list[HeldOutScore]:
    """Score each kind of text, and finally all of them together."""
    rows, joined = [], {**texts, "all": [text for part in texts.values() for text in part]}
    bits: dict[str, float] = {}
    for kind, part in joined.items():
        windows = document_windows(part, tokenizer, length)
        bits[kind] = sum(bits.values()) if kind == "all" else total_bits(model, windows)
        size = sum(len(text.encode()) for text in part)
        packed = 8 * len(lzma.compress("\n\n".join(part).encode(), preset=9))
        tokens = int((windows[:, 1:] >= 0).sum())
        rows.append(HeldOutScore(kind, size, tokens, bits[kind] / size, packed / size))
    return rows


def main() -> None:
    """Parse the flags, score, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--corpus", type=Path, required=True, help="folder that corpus.py wrote")
    parser.add_argument("--length", type=int, default=512, help="tokens of context")
    flags = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(flags.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(flags.model)
    rows = score(model, tokenizer, load_heldout(flags.corpus), flags.length)
    print(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
