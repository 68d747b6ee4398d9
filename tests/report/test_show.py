"""Specification of showing an example as the model sees it."""

from __future__ import annotations

import pytest
from families import FAMILIES, family
from tiny import END, Models

from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.labels import LossOn
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.model.tokenizer import load_tokenizer
from finetuning_exam.report.show import render_example
from finetuning_exam.settings import Template

ROW = Example("What now?", "This:\n\nthat.", 3, "d.jsonl", column=5)


@pytest.fixture
def encoders(models: Models) -> dict[Template, Encoder]:
    """An encoder for each template."""
    plain = load_tokenizer(models.folder())
    chat = load_tokenizer(models.folder(text="chat"))
    return {"plain": make_encoder(plain, "plain"), "chat": make_encoder(chat, "chat")}


def _shown(encoder: Encoder, example: Example, limit: int = 999) -> tuple[str, list[str]]:
    """The heading, and the lines under it."""
    heading, *lines = render_example(example, encoder, limit).plain.split("\n")
    return heading, lines


def test_each_line_is_marked_as_given_or_trained(encoders: dict[Template, Encoder]) -> None:
    """Given text has a thin mark, trained text a thick one, including the end token; nothing of the
    row is omitted.
    """
    heading, lines = _shown(encoders["plain"], ROW)
    row = encoders["plain"].encode(ROW)
    assert heading == f"d.jsonl:3:5 · {len(row.ids)} tokens, {row.n_supervised} trained"
    assert lines == [
        "│ ### Instruction:",
        "│ What now?",
        "│ ",
        "│ ### Response:",
        "┃ This:",
        "┃ ",
        f"┃ that.{END}",
    ]


def test_a_conversation_in_its_chat_template(models: Models) -> None:
    """Every trained answer is marked, with its end token, and no question is."""
    loss_on: LossOn = "answers"
    encoder = make_encoder(load_tokenizer(models.folder(text="chat")), "chat", loss_on=loss_on)
    example = Example("And b?", "B.", 1, "d", earlier=(Turn("user", "a?"), Turn("assistant", "A.")))
    _, lines = _shown(encoder, example)
    assert [line for line in lines if line.startswith("┃")] == ["┃ A.<|end|>", "┃ B.<|end|>"]
    given = [line.removeprefix("│ ") for line in lines if not line.startswith("┃")]
    assert [line for line in given if line] == [
        "<|user|>",
        "a?<|end|>",
        "<|assistant|>",
        "<|user|>",
        "And b?<|end|>",
        "<|assistant|>",
    ]


def test_with_everything_trained_the_prompt_is_marked_too(models: Models) -> None:
    """Without `--completion_only_loss` only the first token is not trained."""
    encoder = make_encoder(load_tokenizer(models.folder()), "plain", loss_on="everything")
    _, lines = _shown(encoder, ROW)
    assert [line[0] for line in lines].count("│") == 1
    assert lines[-1] == f"┃ that.{END}"


def test_hostile_text_is_shown_escaped(encoders: dict[Template, Encoder]) -> None:
    """Characters that would control the terminal are shown as code points, in text and path."""
    example = Example("\x1b[2J\u202eq\r", "a\x9b", 1, "d\x07")
    heading, lines = _shown(encoders["plain"], example)
    assert heading.startswith("d‹U+0007›:1 · ")
    assert "│ ‹U+001B›[2J‹U+202E›q‹U+000D›" in lines
    assert lines[-1] == f"┃ a‹U+009B›{END}"


def test_a_truncated_prompt_is_shown_as_trained(encoders: dict[Template, Encoder]) -> None:
    """The truncation is reported before the row, which has no more tokens than the limit."""
    example = Example("word " * 300, "yes", 1, "d")
    heading, lines = _shown(encoders["plain"], example, limit=64)
    assert heading.startswith("d:1 · 64 tokens, ")
    assert lines[0].startswith("the prompt is cut from ")
    assert lines[-1] == f"┃ yes{END}"


def test_an_example_that_is_left_out_has_a_reason(encoders: dict[Template, Encoder]) -> None:
    """A row that does not fit has no text, only its reason."""
    heading, lines = _shown(encoders["plain"], Example("q", "word " * 300, 1, "d"), limit=64)
    assert heading == "d:1"
    assert len(lines) == 1
    assert lines[0].startswith("the answer alone has ")
    assert lines[0].endswith("left out.")


def test_a_special_token_is_a_reason_too(encoders: dict[Template, Encoder]) -> None:
    """An example that the chat template would interpret is reported, not shown; in the plain
    template it is shown.
    """
    example = Example("q", f"a {END} b", 1, "d")
    assert _shown(encoders["chat"], example) == (
        "d:1",
        [f"the text contains the special token {END}."],
    )
    assert _shown(encoders["plain"], example)[1][-1] == f"┃ a {END} b{END}"


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("template", ["plain", "chat"])
@pytest.mark.parametrize("answer", ["It is.", "  two blanks first", "\n\nlines first"])
def test_no_blank_is_lost(name: str, template: Template, answer: str) -> None:
    """What is shown in parts is the text of the whole row, also where a tokenizer drops the blank
    that a part begins with; only line ends between parts are dropped.
    """
    tokenizer = family(name)
    tokenizer.chat_template = FAMILIES[name][1]
    encoder = make_encoder(tokenizer, template, loss_on="answers")
    example = Example("Why?", answer, 1, "d", earlier=(Turn("user", "a"), Turn("assistant", "b")))
    _, lines = _shown(encoder, example)
    whole = tokenizer.decode(encoder.encode(example).ids)
    assert "".join(line[2:] for line in lines) == whole.replace("\n", "")
