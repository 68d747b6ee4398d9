"""What `fte compare` asks: prompts that are cut are told, and what cannot be asked is refused."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console
from tiny import Models, rows

from finetuning_exam.cli import compare
from finetuning_exam.data.encoding.encode import make_encoder
from finetuning_exam.data.records import Example
from finetuning_exam.errors import DataError
from finetuning_exam.model.tokenizer import load_tokenizer


def _ask(
    models: Models, *examples: Example, context: int, max_new_tokens: int
) -> tuple[list[tuple[int, ...]], str]:
    encoder = make_encoder(load_tokenizer(models.folder()), "plain")
    tuned = SimpleNamespace(encoder=encoder, base=SimpleNamespace(context=context))
    console = Console(file=io.StringIO(), width=200)
    prompts = compare._prompts(console, tuned, examples, max_new_tokens)  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return prompts, console.file.getvalue()


def test_a_prompt_without_room_for_an_answer_is_cut_and_told(models: Models) -> None:
    """A prompt longer than the context less the answer is cut to that length, with its place."""
    short = rows(1)[0]
    long = Example("why? " * 300, "", 1, "argument")
    prompts, said = _ask(models, short, long, context=200, max_new_tokens=80)
    encoder = make_encoder(load_tokenizer(models.folder()), "plain")
    assert prompts[0] == encoder.prompt_ids(short)
    whole = encoder.prompt_ids(long)
    assert prompts[1] == whole[:60] + whole[-60:]
    assert said == (
        f"argument:1: the prompt is cut from {len(whole)} to 120 tokens, "
        "so that the model has room for an answer.\n"
    )


def test_a_prompt_keeps_half_of_the_context(models: Models) -> None:
    """However many new tokens are allowed, half of the context is the prompt's."""
    long = Example("why? " * 300, "", 1, "argument")
    prompts, _ = _ask(models, long, context=200, max_new_tokens=5000)
    assert len(prompts[0]) == 100


def test_a_plain_text_cannot_be_asked(models: Models) -> None:
    """A record without a question is named."""
    text = Example("", "Once upon a time.", 4, "d.jsonl")
    with pytest.raises(DataError) as caught:
        _ask(models, text, context=200, max_new_tokens=80)
    assert str(caught.value) == "d.jsonl:4: a plain text, which asks nothing. Give questions."
