"""Specification of the errors a user can see."""

from __future__ import annotations

import ast
import inspect
import re
import signal

import pytest

from finetuning_exam import errors
from finetuning_exam.errors import (
    AdapterError,
    DataError,
    DiffersError,
    DiskError,
    DivergedError,
    IncompleteError,
    InUseError,
    ModelError,
    StoppedError,
    UsageError,
    UserError,
    WorseError,
)

CODES = {
    UsageError: 2,
    DataError: 2,
    ModelError: 2,
    AdapterError: 3,
    DiskError: 4,
    DivergedError: 5,
    InUseError: 6,
    WorseError: 7,
    DiffersError: 8,
    IncompleteError: 9,
}
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_every_error_has_its_exit_code(kind: type[UserError], code: int) -> None:
    """Exit codes are stable, since scripts depend on them."""
    assert kind.exit_code == code


def test_every_error_of_the_tree_is_specified() -> None:
    """The module defines no other errors, and its drawing lists every error with its code."""
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass)}
    own = {kind for kind in kinds if issubclass(kind, UserError)} - {UserError, StoppedError}
    assert own == set(CODES)
    drawn = re.findall(
        r"[├└]── (\w+) +(\d+)", ast.get_docstring(ast.parse(inspect.getsource(errors))) or ""
    )
    assert {name: int(code) for name, code in drawn} == {
        "StoppedError": 130,
        **{kind.__name__: code for kind, code in CODES.items()},
    }


@pytest.mark.parametrize(("number", "code"), SIGNALS.items())
def test_a_signal_has_its_exit_code(number: int, code: int) -> None:
    """The exit code is 128 plus the signal's number; the message names the saved step."""
    error = StoppedError(number, 12, 40)
    assert error.exit_code == code
    assert str(error) == "stopped after step 12 of 40 (checkpoint saved)."


def test_an_error_is_what_and_hint_on_one_line() -> None:
    """The text of an error says what is wrong, then how to fix it."""
    assert str(UsageError("x: no such file.", "Make it.")) == "x: no such file. Make it."
    assert str(UsageError("x: no such file.")) == "x: no such file."


def test_faults_of_data_are_lines_with_the_hint_at_the_end() -> None:
    """A data error shows one line per fault, and keeps them all."""
    error = DataError(["d:1: a.", "d:2: b."], "Fix these lines.")
    assert str(error) == "d:1: a.\nd:2: b.\nFix these lines."
    assert error.faults == ("d:1: a.", "d:2: b.")


def test_faults_past_the_limit_are_counted_and_kept() -> None:
    """Faults that are not shown are counted in the message and kept in `faults`."""
    error = DataError([f"d:{n}: x." for n in range(1, 26)], shown=3)
    assert str(error).splitlines()[:3] == ["d:1: x.", "d:2: x.", "d:3: x."]
    assert str(error).splitlines()[3].startswith("… and 22 more faults")
    assert len(error.faults) == 25
