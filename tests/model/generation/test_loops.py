"""Answers that repeat themselves: what counts as a loop, and what it changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from tiny import adapted

from finetuning_exam.model.generation.batch import Row, write_answers
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import Answer, answer_both, to_answer, write_alone
from finetuning_exam.model.generation.loops import (
    FEWEST_REPEATS,
    FEWEST_TOKENS,
    LONGEST_CYCLE,
    LoopWatch,
    tokens_of_loop,
)
from finetuning_exam.model.generation.stream import stream_answer

FREE = Decoding(300, stop_ids=(28,), pad_id=0)
WATCHED = replace(FREE, loop_tokens=FEWEST_TOKENS)
PROMPTS = tuple((31 + at, 45, 99, 120 + at) for at in range(6))


class Numbers:
    """A tokenizer whose text is the ids."""

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """The ids in decimal, with spaces between."""
        assert skip_special_tokens
        return " ".join(map(str, ids))


def _cut(ids: Sequence[int], n_tokens: int = FEWEST_TOKENS) -> list[int]:
    """The ids up to the first place at which the rule, spelled out, finds a loop."""
    for end in range(1, len(ids) + 1):
        for cycle in range(1, LONGEST_CYCLE + 1):
            n = max(n_tokens, FEWEST_REPEATS * cycle)
            last = ids[end - n : end] if n <= end else []
            if last and all(last[at] == last[at - cycle] for at in range(cycle, n)):
                return list(ids[:end])
    return list(ids)


@settings(deadline=None, max_examples=60)
@given(
    start=st.lists(st.integers(0, 2), max_size=12),
    cycle=st.lists(st.integers(0, 2), min_size=1, max_size=5),
    times=st.integers(0, 30),
    end=st.lists(st.integers(0, 2), max_size=8),
    n_tokens=st.integers(1, 40),
)
def test_the_rule_is_the_one_that_is_written_down(
    start: list[int], cycle: list[int], times: int, end: list[int], n_tokens: int
) -> None:
    """A loop is one cycle, often enough and long enough, at the end of the tokens so far."""
    ids = start + cycle * times + end
    watch, found = LoopWatch(n_tokens), []
    for token in ids:
        found.append(token)
        if watch.add(token):
            break
    assert found == _cut(ids, n_tokens)


@pytest.mark.parametrize(
    ("cycle", "n_until_loop"),
    [(1, 96), (2, 96), (5, 96), (16, 96), (17, 102), (50, 300), (128, 768), (129, None)],
)
def test_how_long_a_cycle_must_go_on(cycle: int, n_until_loop: int | None) -> None:
    """Short cycles fill 96 tokens, longer ones come six times, and the longest are no loops."""
    watch = LoopWatch()
    found = (at for at in range(1, 2000) if watch.add(at % cycle))
    assert next(found, None) == n_until_loop


def test_what_nearly_repeats_is_no_loop() -> None:
    """Counting, a table whose numbers change, and a cycle that is broken once are no loops."""
    counting = [token for n in range(200) for token in (7, n)]
    broken = [token for n in range(20) for token in ([1, 2, 3] * 30 + [n])]
    assert _looped(counting) is False
    assert _looped(broken) is False
    assert _looped([1, 2, 3] * 32) is True


def _looped(ids: Sequence[int]) -> bool:
    watch = LoopWatch()
    return any(map(watch.add, ids))


def test_right_answers_that_repeat_raise_the_limit() -> None:
    """An answer like any of the references is never a loop, however often that repeats itself."""
    line = [9] * 80
    table = [1, 2, 3] * 60
    assert tokens_of_loop([[1, 2, 3, 4], []]) == FEWEST_TOKENS
    assert tokens_of_loop([[5, *line, 6], [1, 2]]) == 160
    assert tokens_of_loop([[5, *line, 6], table]) == 360
    for reference in (line, table, [*table, *line]):
        watch = LoopWatch(tokens_of_loop([line, table]))
        assert not any(map(watch.add, reference))


def _forgetful() -> PeftModel:
    """A llama without attention and MLP, whose next token follows from the last one: it loops."""
    model = adapted().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                parameter.zero_()
    return model


@pytest.fixture(scope="module")
def endless() -> list[list[int]]:
    """What it writes without the rule, up to the limit."""
    model = _forgetful()
    rows = [Row(prompt, number) for number, prompt in enumerate(PROMPTS)]
    return write_answers(model, rows, FREE)


def test_rows_that_loop_leave_their_batch(endless: list[list[int]]) -> None:
    """A row ends where the rule finds a loop; what it wrote, and all other rows, are the same."""
    model = _forgetful()
    rows = [Row(prompt, number) for number, prompt in enumerate(PROMPTS)]
    found = write_answers(model, rows, WATCHED)
    assert found == [_cut(ids) for ids in endless]
    assert found != endless, "no row loops, so nothing is tested"


@pytest.mark.parametrize("kind", ["batch", "alone", "stream"])
def test_every_way_to_answer_ends_a_loop(kind: str, endless: list[list[int]]) -> None:
    """A batch, a single row of any model and a stream end at the same token, and say so."""
    model = _forgetful()
    place = next(at for at, ids in enumerate(endless) if _cut(ids) != ids)
    prompt, expected = PROMPTS[place], _cut(endless[place])
    text = " ".join(map(str, expected))
    if kind == "batch":
        _, tuned = answer_both(model, Numbers(), [prompt], WATCHED, 1)
        assert tuned == (Answer(text, stopped=False, repeats=True),)
    elif kind == "alone":
        assert write_alone(model, Row(prompt, 0), WATCHED) == expected
    else:
        pieces = stream_answer(model, Numbers(), prompt, WATCHED, "tuned")
        assert "".join(pieces).strip() == text


def test_sampled_answers_are_not_watched() -> None:
    """A sampled answer leaves a cycle by chance, so it may go on to its limit."""
    assert WATCHED.new_watch() is not None
    assert replace(WATCHED, do_sample=True).new_watch() is None
    assert FREE.new_watch() is None


@pytest.mark.parametrize(
    ("ids", "stop_text", "stopped", "repeats"),
    [
        ([40] * 96, "", False, True),
        ([40] * 95, "", False, False),
        ([*[40] * 95, 28], "", True, False),
        ([41, *[40] * 96], "41", True, False),
    ],
)
def test_what_an_answer_says_of_its_end(
    ids: list[int], stop_text: str, stopped: bool, repeats: bool
) -> None:
    """An answer that ended, by a token or by a text, did not repeat itself without end."""
    decoding = replace(WATCHED, stop_text=stop_text)
    answer = to_answer(Numbers(), ids, decoding)
    assert (answer.stopped, answer.repeats) == (stopped, repeats)
