"""The exam of calls: right tools, right arguments, JSON that can be read, and no needless calls."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from finetuning_exam.data.encoding.tools import each_answer
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.split import clusters_of, leave_out_taught
from finetuning_exam.data.tool_text import Call, call_text
from finetuning_exam.evaluation.calls import CallAnswer, Found, call_accuracy, found_calls
from finetuning_exam.evaluation.calls_file import call_figures
from finetuning_exam.evaluation.results import ExamRow, summarize
from finetuning_exam.model.generation.generate import Answer
from finetuning_exam.model.score import Score
from finetuning_exam.report.calls import call_lines, calls_words

BERN, ROME = Call("weather", {"city": "Bern", "days": 2}), Call("weather", {"city": "Rome"})
TIME = Call("time", {})
TOOLS = json.dumps([{"name": "weather"}, {"name": "time"}])
TALK = Example(
    "Sun.",
    "It is sunny.",
    3,
    "d.jsonl",
    earlier=(
        Turn("system", "Be brief."),
        Turn("user", "Hello"),
        Turn("assistant", "Hi."),
        Turn("user", "Weather in Bern?"),
        Turn("assistant", call_text("", [BERN])),
    ),
    asked_by="tool",
    tools=TOOLS,
)


def test_the_exam_asks_for_each_answer_of_a_conversation_with_tools() -> None:
    """Each after the history that led to it, all in one group."""
    first, call, last = each_answer([TALK])
    assert (first.instruction, first.answer, len(first.earlier)) == ("Hello", "Hi.", 1)
    assert (call.instruction, call.answer) == ("Weather in Bern?", call_text("", [BERN]))
    assert (call.asked_by, last.asked_by) == ("user", "tool")
    assert {first.group, call.group, last.group} == {"d.jsonl:3"}
    assert all(it.tools == TOOLS for it in (first, call, last))
    silent = (TALK.earlier[0], TALK.earlier[1], replace(TALK.earlier[2], weight=0))
    masked = replace(TALK, earlier=(*silent, *TALK.earlier[3:]))
    assert [it.answer for it in each_answer([masked])] == [call.answer, last.answer]
    plain = Example("q", "a", 1, "d.jsonl", earlier=(Turn("user", "p"), Turn("assistant", "b")))
    assert each_answer([plain]) == (plain,)


def _figures(expected: Found, base: Found, tuned: Found) -> list[float]:
    """Return the shares of the tuned model in six answers alike; the base is right throughout."""
    found = call_accuracy([CallAnswer(expected, base, tuned, str(n)) for n in range(6)], seed=0)
    assert found is not None
    return [found.right_tool.tuned, found.right_call.tuned]


SAME = Call("weather", {"days": 2, "city": "Bern"})
CASES: dict[str, tuple[Found, Found, list[float]]] = {
    "the same": ((BERN,), (BERN,), [1, 1]),
    "arguments in another order": ((BERN,), (SAME,), [1, 1]),
    "calls in another order": ((BERN, TIME), (TIME, BERN), [1, 1]),
    "other arguments": ((BERN,), (ROME,), [1, 0]),
    "another tool": ((BERN,), (TIME,), [0, 0]),
    "one call too many": ((BERN,), (BERN, BERN), [0, 0]),
    "one call too few": ((BERN, TIME), (BERN,), [0, 0]),
    "broken JSON": ((BERN,), (), [0, 0]),
    "no call": ((BERN,), None, [0, 0]),
}


@pytest.mark.parametrize(("expected", "found", "shares"), CASES.values(), ids=CASES)
def test_calls_are_compared_as_values(expected: Found, found: Found, shares: list[float]) -> None:
    """Neither the order of arguments nor that of parallel calls matters; all else does."""
    assert _figures(expected, expected, found) == shares


def test_all_figures_of_calls() -> None:
    """By hand: 8 answers that should call, 6 that should not."""
    answers = [CallAnswer((BERN,), None, (BERN,), f"a{n}") for n in range(5)]
    answers += [CallAnswer((BERN,), (ROME,), (ROME,), f"b{n}") for n in range(2)]
    answers += [CallAnswer((BERN,), (), (), "c")]
    answers += [CallAnswer(None, (BERN,), None, f"d{n}") for n in range(4)]
    answers += [CallAnswer(None, None, (TIME,), f"e{n}") for n in range(2)]
    found = call_accuracy(answers, seed=0)
    assert found is not None
    assert (found.n_calls, found.n_others) == (8, 6)
    assert (found.right_tool.base, found.right_tool.tuned) == (2 / 8, 7 / 8)
    assert (found.right_call.base, found.right_call.tuned) == (0, 5 / 8)
    assert (found.needless.base, found.needless.tuned) == (4 / 6, 2 / 6)
    assert (found.base_json.n_tried, found.base_json.n_valid) == (7, 6)
    assert (found.tuned_json.n_tried, found.tuned_json.n_valid) == (10, 9)
    assert found.right_tool.interval.low < 5 / 8 < found.right_tool.interval.high
    assert calls_words(found) == "8 answers should call a tool, 6 should not"
    lines = {it.name: (it.shares, it.change) for it in call_lines(found)}
    assert lines["right tool"][0] == "25% → 88%"
    assert lines["right tool"][1].startswith("+62 (")
    assert lines["valid JSON"] == ("6 of 7 → 9 of 10", "")
    assert lines["calls when it should not"][0] == "67% → 33%"
    assert call_figures(found).right_tool.difference == 5 / 8


def test_without_calls_there_are_no_figures() -> None:
    """An exam in which nothing is to be called says nothing of calls."""
    assert call_accuracy([], seed=0) is None
    assert call_accuracy([CallAnswer(None, None, None, "a")], seed=0) is None
    found = call_accuracy([CallAnswer((BERN,), None, (BERN,), "a")], seed=0)
    assert found is not None
    assert math.isnan(found.needless.base)
    assert [it.name for it in call_lines(found)][-1] == "valid JSON"


def test_answers_are_judged_by_what_follows_their_thought() -> None:
    """A thought may talk of calls, and is no part of an exact match."""
    thought = "<think>\nI call <tool_call>.\n</think>\n\n"
    asked = each_answer([TALK])[1]
    found = found_calls(asked, f"{thought}No.", f"{thought}{call_text('', [BERN])}", "a")
    assert found == CallAnswer((BERN,), None, (BERN,), "a")
    assert found_calls(Example("q", "a", 1, "d.jsonl"), "", "", "a") is None
    score = Score(1.0, 1, 1)
    example = Example("q", f"{thought}Yes.", 1, "d.jsonl")
    row = ExamRow(example, score, score, Answer("No.", True), Answer("Hm.\n</think>\n\nYes.", True))
    results = summarize([row], ["a"], seed=0)
    assert (results.exact_match.base, results.exact_match.tuned) == (0, 1)
    assert results.chrf.tuned == 100


def test_a_conversation_whose_call_was_trained_is_not_examined() -> None:
    """Its end may differ, but the exam would ask for the call that was taught."""
    other = replace(TALK, line=9, answer="Take a hat.", instruction="Rain.")
    kept, taught = leave_out_taught([other], [TALK])
    assert (kept, taught) == ((), (other,))
    asked = (*TALK.earlier[:3], Turn("user", "Weather in Rome?"), TALK.earlier[4])
    new = replace(other, earlier=asked)
    assert leave_out_taught([new], [TALK]) == ((new,), ())
    assert len(clusters_of([TALK, other, new], [])) == 2
