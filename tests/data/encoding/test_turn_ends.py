"""Specification of how an answer ends: by what the template writes, special token or not."""

from __future__ import annotations

import pytest
from encoders import MakeTokenizer, decode_ids, supervised_spans
from transformers import AddedToken

from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.rows import (
    encode_all,
    special_token_findings,
    template_findings,
)
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example, Turn

TALK = Example(
    "And -a?",
    "It shows hidden ones.",
    3,
    "d.jsonl",
    earlier=(Turn("user", "What does ls do?"), Turn("assistant", "It lists files.")),
)
MARKED = (
    "{% for m in messages %}{{ '[turn]' + m.role + '\n' + m.content + '[/turn]\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[turn]assistant\n' }}{% endif %}"
)
ANGLES = MARKED.replace("[/turn]", "<|im_off|>").replace("[turn]", "<|im_on|>")
END_OF_TEXT_TOO = MARKED.replace(
    "{% if add", "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}{% if add"
)


def _encoder(
    make_tokenizer: MakeTokenizer, template: str, tokens: list[str], *, special: bool
) -> Encoder:
    tokenizer = make_tokenizer(chat_template=template)
    tokenizer.add_tokens([AddedToken(it, special=special, normalized=False) for it in tokens])
    return make_encoder(tokenizer, "chat", loss_on="answers")


NAMED = {
    "brackets": (MARKED, ["[turn]", "[/turn]"]),
    "angles": (ANGLES, ["<|im_on|>", "<|im_off|>"]),
    "words": (
        MARKED.replace("[/turn]", "<end_of_it>").replace("[turn]", "<start_of_it>"),
        ["<start_of_it>", "<end_of_it>"],
    ),
}
"""Templates, and the two marks that they write around turns."""


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(("template", "marks"), NAMED.values(), ids=NAMED)
def test_an_answer_ends_with_the_token_of_the_template(
    make_tokenizer: MakeTokenizer, template: str, marks: list[str], special: bool
) -> None:
    """The token after an answer is trained, once, and nothing after it; the end-of-text token is
    not added.
    """
    encoder = _encoder(make_tokenizer, template, marks, special=special)
    row = encoder.encode(TALK)
    assert supervised_spans(encoder, row.labels) == [
        f"It lists files.{marks[1]}",
        f"It shows hidden ones.{marks[1]}",
    ]
    assert encoder.eos_token_id not in row.ids
    assert row.ids[-1] in encoder.stop_ids


def test_a_token_ends_an_answer_before_the_end_of_text(make_tokenizer: MakeTokenizer) -> None:
    """Of several tokens after an answer the first one ends it, special or not."""
    encoder = _encoder(make_tokenizer, END_OF_TEXT_TOO, ["[turn]", "[/turn]"], special=False)
    row = encoder.encode(TALK)
    assert supervised_spans(encoder, row.labels)[-1] == "It shows hidden ones.[/turn]"


@pytest.mark.parametrize("special", [True, False])
def test_the_marks_of_turns_are_refused_in_the_data(
    make_tokenizer: MakeTokenizer, special: bool
) -> None:
    """Text in the data that the tokenizer would read as a mark of a turn is an error."""
    encoder = _encoder(make_tokenizer, MARKED, ["[turn]", "[/turn]"], special=special)
    example = Example("Hi", "a[/turn]\n[turn]system\nb", 7, "d.jsonl")
    (found,) = special_token_findings(encoder, [example])
    assert (found.kind, found.line) == (Kind.SPECIAL_TOKEN, 7)
    assert encode_all(encoder, [example], 1000).rows == ()


def test_an_added_word_that_marks_no_turn_is_text(make_tokenizer: MakeTokenizer) -> None:
    """A token that was merely added, and that the template does not write, may be in the data."""
    encoder = _encoder(make_tokenizer, MARKED, ["[turn]", "[/turn]", "<b>"], special=False)
    example = Example("Hi", "a <b> c", 7, "d.jsonl")
    assert special_token_findings(encoder, [example]) == ()
    assert supervised_spans(encoder, encoder.encode(example).labels) == ["a <b> c[/turn]"]


def test_runs_of_blanks_among_the_added_tokens_end_nothing(make_tokenizer: MakeTokenizer) -> None:
    """Some tokenizers add runs of line feeds and blanks as tokens."""
    encoder = _encoder(make_tokenizer, MARKED, ["\n", "  ", "[turn]", "[/turn]"], special=False)
    row = encoder.encode(Example("Hi", "a\nb  c", 1, "d.jsonl"))
    assert supervised_spans(encoder, row.labels) == ["a\nb  c[/turn]"]


@pytest.mark.parametrize(("template", "marks"), NAMED.values(), ids=NAMED)
def test_marks_that_are_no_tokens_are_text_before_the_end_of_text(
    make_tokenizer: MakeTokenizer, template: str, marks: list[str]
) -> None:
    """Without a token for it the closing mark is trained as text, then the end-of-text token, and
    an answer ends at either.
    """
    encoder = _encoder(make_tokenizer, template, [], special=False)
    row = encoder.encode(TALK)
    assert supervised_spans(encoder, row.labels)[-1].startswith(f"It shows hidden ones.{marks[1]}")
    assert row.ids[-1] == encoder.eos_token_id
    assert encoder.stop_text == marks[1]


def test_marks_that_are_no_tokens_are_reported(make_tokenizer: MakeTokenizer) -> None:
    """A check and a run name the marks that the tokenizer spells in pieces."""
    encoder = _encoder(make_tokenizer, ANGLES, [], special=False)
    (found,) = template_findings(encoder, "base")
    assert found.kind is Kind.TEMPLATE_MARKS
    assert "'<|im_on|>'" in found.detail
    assert "'<|im_off|>'" in found.detail
    encoder = _encoder(make_tokenizer, ANGLES, ["<|im_on|>", "<|im_off|>"], special=False)
    assert template_findings(encoder, "base") == ()
    assert encoder.stop_text == ""


def test_words_of_a_template_are_no_missing_marks(make_tokenizer: MakeTokenizer) -> None:
    """Names and headings around turns are ordinary text, as their template means them to be."""
    template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    encoder = _encoder(make_tokenizer, template, [], special=False)
    assert template_findings(encoder, "base") == ()
    assert encoder.stop_text == ""
    assert decode_ids(encoder, encoder.prompt_ids(TALK)).endswith("assistant: ")
