"""Specification of a row's ids: those that the tokenizer gives the whole text."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from encoders import decode_ids
from families import FAMILIES, family

from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.data.encoding.template import render
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.settings import Template

WORDS = [
    *("ls", "git", "the", "files", "What", "does", "it", "do?", "don't", "12,345", "x+1", "f(x):"),
    *(
        "Über",
        "Brücke",
        "東京",
        "日本の",
        "🙂",
        "A.",
        "(b)",
        "[c]",
        "-",
        "--",
        "#",
        "##",
        "…",
        "2)",
    ),
    *("\n", "\n\n", "\t", "", "'quoted'", '"so"', "e.g.", "http://a.b/c?d=e", "    return"),
]
N_ROWS = 200


def _text(draw: random.Random, n_words: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(n_words)).strip() or "x"


def _rows(seed: int) -> list[Example]:
    """Random rows: half of them with earlier turns, a few with a system turn or an input."""
    draw = random.Random(seed)
    rows = []
    for line in range(N_ROWS):
        earlier = [
            turn
            for _ in range(draw.choice((0, 0, 1, 3)))
            for turn in (
                Turn("user", _text(draw, draw.randint(1, 9))),
                Turn("assistant", _text(draw, draw.randint(1, 9))),
            )
        ]
        rows.append(
            Example(
                _text(draw, draw.randint(1, 12)),
                _text(draw, draw.randint(1, 15)),
                line + 1,
                "d.jsonl",
                input=_text(draw, 3) if draw.random() < 0.2 else "",
                earlier=tuple(earlier),
            )
        )
    return rows


def _theirs(encoder: Encoder, text: str) -> tuple[int, ...]:
    """Return the ids that the tokenizer itself gives a text with its special tokens written out."""
    return tuple(encoder.tokenizer.encode(text, add_special_tokens=False))


def _written(encoder: Encoder, example: Example) -> tuple[str, str]:
    """Return the prompt and the whole text of an example as a server would send them."""
    parts = [segment.text for segment in render(example, encoder.shape)]
    if encoder.shape is not None:
        parts = list(encoder.shape.ended(parts))
    else:
        added = encoder.tokenizer.added_tokens_decoder
        parts[0] = "".join(added[it].content for it in encoder.start_ids) + parts[0]
        end = added[encoder.eos_token_id].content
        parts[1:-1:2] = [part + end for part in parts[1:-1:2]]
    return "".join(parts[:-1]), "".join(parts)


@pytest.mark.parametrize("template", ["plain", "chat"])
@pytest.mark.parametrize("name", FAMILIES)
def test_prompt_and_answer_are_the_ids_of_the_whole(name: str, template: Template) -> None:
    """For every family of tokenizers: the ids before the answer are those of the prompt alone, as
    inference has them, and with those of the answer they are the ids of the whole text.
    """
    encoder = make_encoder(family(name), template, loss_on="answers")
    examples = _rows(1)
    for example, row in zip(examples, encoder.encode_batch(examples), strict=True):
        prompt, whole = _written(encoder, example)
        ids = row.ids
        if encoder.shape is None or not encoder.shape.ends_with_token:
            assert ids[-1] == encoder.eos_token_id
            ids = ids[:-1]
        assert ids[: row.prompt_length] == _theirs(encoder, prompt)
        assert ids == _theirs(encoder, whole)


@pytest.mark.parametrize("template", ["plain", "chat"])
@pytest.mark.parametrize("name", FAMILIES)
def test_an_answer_is_decoded_as_it_was_written(name: str, template: Template) -> None:
    """The supervised ids of an answer hold no blank too many or too few."""
    encoder = make_encoder(family(name), template)
    for example in _rows(2)[:50]:
        row = encoder.encode(replace(example, answer="It lists the files."))
        trained = tuple(it for it in row.labels if it != IGNORED)
        text = decode_ids(encoder, (*row.ids[row.prompt_length - 1 : row.prompt_length], *trained))
        assert "It lists the files." in text
        assert "  It" not in text


@pytest.mark.parametrize("answer", ["\nOn the next line", "  indented", "\n\n", " ", "\tTab"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_prompt_does_not_depend_on_the_answer(name: str, answer: str) -> None:
    """Where a token would span prompt and answer, the prompt keeps the ids of inference, and the
    answer follows as text of its own.
    """
    encoder = make_encoder(family(name), "plain")
    asked = Example("What does ls do?", "", 1, "d.jsonl")
    row = encoder.encode(replace(asked, answer=answer))
    assert row.ids[: row.prompt_length] == encoder.prompt_ids(asked)
    if name != "T5":  # its tokenizer folds white space
        text = decode_ids(encoder, row.ids[:-1]).partition("### Response:")[2]
        assert text.rstrip() == f"\n{answer}".rstrip()


def test_special_tokens_that_only_the_whole_text_has_stay_text() -> None:
    """A special token that prompt and answer spell together is ordinary text in the plain form."""
    encoder = make_encoder(family("Qwen"), "plain")
    row = encoder.encode(Example("", "im_end|> x", 1, "d.jsonl", earlier=(Turn("user", "<|"),)))
    assert encoder.eos_token_id not in row.ids[:-1]
