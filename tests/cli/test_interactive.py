"""Questions typed one after the other: who answers, what a command does, and when it ends."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tiny import Models

from finetuning_exam.cli.interactive import HELP, ask_interactively
from finetuning_exam.errors import DataError
from finetuning_exam.model.adapter import add_adapter, lora_config, save_adapter
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import answer_both, stream_answer
from finetuning_exam.model.load import load_base
from finetuning_exam.model.tuned import Tuned, load_tuned

PROMPTS = {"why?": (5, 6, 7), "how?": (8, 9, 10, 11)}


@pytest.fixture(scope="module")
def tuned(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """A llama with an adapter of noise."""
    base = load_base(str(models.folder()), choose_compute("cpu", "float32"))
    model = add_adapter(base, lora_config(4, 8, 0.0, ("all-linear",)), seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    folder: Path = tmp_path_factory.mktemp("adapter")
    save_adapter(model, folder)
    return load_tuned(folder, str(models.folder()), "cpu", "float32", "plain")


def _decoding(tuned: Tuned) -> Decoding:
    return Decoding(8, tuned.encoder.stop_ids(), tuned.encoder.eos_token_id)


def _talk(tuned: Tuned, monkeypatch: pytest.MonkeyPatch, *lines: str) -> str:
    typed = iter(lines)

    def read(self: Console, prompt: str = "") -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    def to_ids(text: str, number: int) -> tuple[int, ...]:
        if text not in PROMPTS:
            raise DataError([f"question:{number}: not known."])
        return PROMPTS[text]

    monkeypatch.setattr(Console, "input", read)
    console = Console(file=io.StringIO(), width=500)
    ask_interactively(console, tuned, _decoding(tuned), to_ids)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("prompt", PROMPTS.values())
@pytest.mark.parametrize("do_sample", [False, True])
def test_a_streamed_answer_is_that_of_a_batch(
    tuned: Tuned, prompt: tuple[int, ...], do_sample: bool
) -> None:
    """The pieces joined are the text, and it is what `compare` shows for the same question."""
    decoding = Decoding(
        8, tuned.encoder.stop_ids(), tuned.encoder.eos_token_id, do_sample=do_sample, seed=3
    )
    tokenizer = tuned.base.tokenizer
    ((base,), (after,)) = answer_both(tuned.model, tokenizer, [prompt], decoding, 1)
    pieces: list[str] = []
    assert stream_answer(tuned.model, tokenizer, prompt, decoding, pieces.append) == after
    assert "".join(pieces).strip() == after.text
    with tuned.model.disable_adapter():
        assert stream_answer(tuned.model, tokenizer, prompt, decoding, pieces.append) == base


def test_commands_say_who_answers(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both at first, then one, then both again; an unknown command shows the help."""
    said = _talk(tuned, monkeypatch, "why?", "/base", "how?", "/tuned", "why?", "/what", "/quit")
    found = [line.split(":")[0] for line in said.splitlines() if line[:5] in ("base:", "tuned")]
    assert found == ["base", "tuned", "base", "tuned will answer.", "tuned"]
    assert said.count(HELP) == 2


@pytest.mark.parametrize("last", ["", "/quit", None])
def test_it_ends(tuned: Tuned, monkeypatch: pytest.MonkeyPatch, last: str | None) -> None:
    """An empty line, /quit and the end of input end it; what follows is not asked."""
    lines = [
        "/base",
        *([last] if last is not None else []),
        *(["why?"] if last is not None else []),
    ]
    assert "base: " not in _talk(tuned, monkeypatch, *lines)


def test_a_question_that_cannot_be_asked_is_told(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is a line, and the next question is answered."""
    said = _talk(tuned, monkeypatch, "what?", "why?")
    assert "question:1: not known." in said
    assert "tuned: " in said


def test_ctrl_c_ends_an_answer_only(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is marked as stopped, and the talk goes on."""

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("finetuning_exam.model.generation.generate.stream_answer", stop)
    said = _talk(tuned, monkeypatch, "/tuned", "why?", "/both")
    assert "tuned:  (stopped)" in said
    assert "base and tuned will answer." in said
