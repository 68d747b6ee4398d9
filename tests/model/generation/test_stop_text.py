"""A text that ends an answer, where the template has no token for it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import Answer, to_answer
from finetuning_exam.model.generation.stream import UpTo

DECODING = Decoding(12, (0,), 0, stop_text="<|im_end|>")


class Letters:
    """A tokenizer whose ids are characters."""

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Return the characters."""
        assert skip_special_tokens
        return "".join(map(chr, ids))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Four.<|im_end|>\0", Answer("Four.", stopped=True)),
        ("Four.<|im_end|>\n<|im_start|>user\nMore?", Answer("Four.", stopped=True)),
        ("<|im_end|>", Answer("", stopped=True)),
        ("Four.\0", Answer("Four.", stopped=True)),
        ("Four.<|im_", Answer("Four.<|im_", stopped=False)),
        ("Four.", Answer("Four.", stopped=False)),
    ],
)
def test_an_answer_ends_before_the_stop_text(text: str, answer: Answer) -> None:
    """What a model writes from the closing mark on is no part of its answer."""
    assert to_answer(Letters(), list(map(ord, text)), DECODING) == answer


@pytest.mark.parametrize(
    "text",
    [
        "Four.<|im_end|>\nuser",
        "a < b <| c <|im_ end <|im_end|",
        "<|im_end|>",
        "<<|im_end|>>",
        "",
        "Four.",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_stream_shows_the_answer_and_no_more(text: str, size: int) -> None:
    """The pieces joined are the text before the mark, whatever pieces it arrives in."""
    shown = UpTo("<|im_end|>")
    written: list[str] = []
    for start in range(0, len(text), size):
        written += shown.pieces([text[start : start + size]])
    written += shown.rest()
    assert "".join(written) == text.partition("<|im_end|>")[0]
    assert shown.is_over == ("<|im_end|>" in text)


def test_without_a_stop_text_nothing_is_held_back() -> None:
    """Pieces pass as they come."""
    shown = UpTo("")
    assert shown.pieces(["a", "<|im_"]) == ["a", "<|im_"]
    assert (shown.rest(), shown.is_over) == ([], False)
