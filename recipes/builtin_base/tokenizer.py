"""Step 2: train the byte-level BPE tokenizer and write it as a Transformers tokenizer folder."""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END, PAD = "<|endoftext|>", "<|pad|>"


def training_texts(corpus: Path, seed: int) -> Iterator[str]:
    """Yield the training documents, each repeated by its weight, in a seeded order."""
    with (corpus / "train.jsonl").open() as lines:
        rows = [json.loads(line) for line in lines]
    texts = [row["text"] for row in rows for _ in range(row["weight"])]
    random.Random(seed).shuffle(texts)
    yield from texts


def train(corpus: Path, entries: int, seed: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE with exactly `entries` entries; `END` is id 0 and `PAD` id 1."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(training_texts(corpus, seed), trainer)
    if bpe.get_vocab_size() != entries:
        raise SystemExit(f"the corpus is too small for {entries} entries")
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=PAD, model_max_length=1024
    )


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the folder, with a class name that every version of Transformers knows."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    """Parse the flags, train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder that corpus.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tokenizer")
    parser.add_argument("--entries", type=int, default=4096, help="vocabulary size")
    parser.add_argument("--seed", type=int, default=0, help="order of the documents")
    flags = parser.parse_args()
    save(train(flags.corpus, flags.entries, flags.seed), flags.out)
    print(f"wrote {flags.out}")


if __name__ == "__main__":
    main()
