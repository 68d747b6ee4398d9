"""How well answers call tools: the right one, with the right arguments, and only when needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetuning_exam.data.encoding.tools import uses_tools
from finetuning_exam.data.records import Example
from finetuning_exam.data.thoughts import said
from finetuning_exam.data.tool_text import Call, find_calls
from finetuning_exam.evaluation.stats import PairedDifference, paired_difference

Found = tuple[Call, ...] | None
"""The calls in an answer; () if it tries to call and its JSON is broken, None if it does not."""


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """What was expected of one answer, and the answers of both models."""

    expected: Found
    base: Found
    tuned: Found
    name: str
    """The piece of evidence that the question belongs to."""


@dataclass(frozen=True, slots=True)
class ValidJson:
    """Answers of one model that try to call, and those of them whose calls can be read."""

    n_tried: int
    n_valid: int


@dataclass(frozen=True, slots=True)
class CallAccuracy:
    """Shares of answers, base and tuned, with 95% intervals of the difference.

    Of the `n_calls` answers that should call: the shares that call the right tools, and also with
    the right arguments, in any order of their names. Of the `n_others` with tools at hand that
    should not call: the share that calls all the same.
    """

    n_calls: int
    n_others: int
    right_tool: PairedDifference
    right_call: PairedDifference
    needless: PairedDifference
    base_json: ValidJson
    tuned_json: ValidJson


def found_calls(example: Example, base: str, tuned: str, name: str) -> CallAnswer | None:
    """Return what two answers call; None if the example has no tools."""
    if not uses_tools(example):
        return None
    expected = find_calls(said(example.answer))
    return CallAnswer(expected, find_calls(said(base)), find_calls(said(tuned)), name)


def call_accuracy(answers: Sequence[CallAnswer], seed: int) -> CallAccuracy | None:
    """Compare how base and tuned model call tools; None if no answer is to call one.

    Answers to questions of one conversation are resampled together.
    """
    calling = [it for it in answers if it.expected]
    others = [it for it in answers if it.expected is None]
    if not calling:
        return None

    def share(
        asked: Sequence[CallAnswer], is_met: Callable[[Found, Found], bool]
    ) -> PairedDifference:
        return paired_difference(
            [float(is_met(it.base, it.expected)) for it in asked],
            [float(is_met(it.tuned, it.expected)) for it in asked],
            [1] * len(asked),
            seed,
            [it.name for it in asked],
        )

    return CallAccuracy(
        len(calling),
        len(others),
        share(calling, _is_right_tool),
        share(calling, _is_right_call),
        share(others, lambda found, _: found is not None),
        _json([it.base for it in answers]),
        _json([it.tuned for it in answers]),
    )


def _is_right_tool(found: Found, expected: Found) -> bool:
    return sorted(it.name for it in found or ()) == sorted(it.name for it in expected or ())


def _is_right_call(found: Found, expected: Found) -> bool:
    return sorted(map(_key, found or ())) == sorted(map(_key, expected or ()))


def _key(call: Call) -> str:
    """Return a call as JSON, in which 1 is not true and the order of arguments does not matter."""
    return json.dumps(call, sort_keys=True)


def _json(found: Sequence[Found]) -> ValidJson:
    tried = [it for it in found if it is not None]
    return ValidJson(len(tried), sum(map(bool, tried)))
