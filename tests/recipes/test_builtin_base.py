"""Specification of the built-in base's recipe, in its small version."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

RECIPE = Path(__file__).parents[2] / "recipes" / "builtin_base"
ENTRIES = 1024
PACKAGES = ("grep", "sed", "findutils", "tar", "coreutils")


def _step(script: str, *arguments: str) -> str:
    """Run one step of the recipe; returns what it prints."""
    done = subprocess.run(
        [sys.executable, str(RECIPE / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of a few small packages."""
    if not (shutil.which("apt-get") and shutil.which("mandoc")):
        pytest.skip("the corpus needs Debian's apt-get and mandoc")
    folder = tmp_path_factory.mktemp("recipe")
    _step("corpus.py", "--work", str(folder), "--out", str(folder / "c"), "--only", *PACKAGES)
    if not (folder / "c" / "train.jsonl").read_text(encoding="utf-8"):
        pytest.skip("apt-get could download none of the packages")
    return folder / "c"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_small_version_makes_a_model(corpus: Path, tmp_path: Path) -> None:
    """Corpus, tokenizer and a minute of pretraining give a model that plain Transformers loads.

    It has learnt more than the frequencies of bytes, a run goes on where it ended when it is given
    more tokens, and every source has its licence.
    """
    sources = json.loads((corpus / "sources.json").read_text(encoding="utf-8"))
    assert {row["package"] for row in sources} <= set(PACKAGES)
    assert all(row["licence"] and row["version"] for row in sources)
    tokenizer, run = tmp_path / "tokenizer", tmp_path / "run"
    _step("tokenizer.py", "--corpus", str(corpus), "--out", str(tokenizer), "--entries", "1024")
    step = ["--corpus", str(corpus), "--tokenizer", str(tokenizer), "--run", str(run)]
    first = _pretrain(step, 100_000)
    second = _pretrain(step, 200_000)
    assert second["tokens"] >= 200_000 > first["tokens"] >= 100_000
    assert second["seconds"] > first["seconds"]
    scores = json.loads(
        _step("evaluate.py", "--model", str(run / "model"), "--corpus", str(corpus))
    )
    by_kind = {row["kind"]: row for row in scores}
    assert 0.5 < by_kind["all"]["bits_per_byte"] < 4
    model = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(run / "model")("Print the file.", return_tensors="pt")
    with torch.inference_mode():
        loss = model(ids.input_ids, labels=ids.input_ids).loss.item()
    assert loss < math.log(ENTRIES)


def _pretrain(step: list[str], tokens: int) -> dict[str, float]:
    """Run or resume the pretraining; returns the last line of its log."""
    _step("pretrain.py", *step, "--preset", "tiny", "--tokens", str(tokens))
    log = Path(step[-1]) / "log.jsonl"
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    assert last.pop("event") == "end"
    figures: dict[str, float] = last
    return figures
