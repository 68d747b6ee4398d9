"""Parts that the HTML pages share: the template environment, and shortened texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetuning_exam.report.diff import Span
from finetuning_exam.report.text import (
    counted,
    interval_text,
    number,
    p_value,
    percent,
    signed,
    visible,
)

if TYPE_CHECKING:
    from jinja2 import Environment

N_CHARACTERS_SHOWN = 2000
N_CHARACTERS_OF_NAME = 120


@dataclass(frozen=True, slots=True)
class AnswerView:
    """One of the texts of an example, with a title and a note such as `empty answer`."""

    title: str
    spans: tuple[Span, ...]
    note: str


def make_environment() -> Environment:
    """Return the environment of this package's templates, which escapes every value."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: object) -> object:
        # Runs last, just before escaping: no control character reaches the page.
        is_text = isinstance(value, str) and not isinstance(value, Markup)
        return visible(str(value)) if is_text else value

    environment = Environment(
        loader=PackageLoader("finetuning_exam", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": number,
        "signed": signed,
        "percent": percent,
        "p_value": p_value,
        "interval": interval_text,
        "name": short_name,
    }
    return environment


def short_name(text: str) -> str:
    """Shorten a very long name, path or tag to its beginning and end."""
    if len(text) <= N_CHARACTERS_OF_NAME:
        return text
    half = N_CHARACTERS_OF_NAME // 2
    return f"{text[:half]}…{text[-half:]}"


def shorten(text: str, where: str = "") -> str:
    """Cut a long text and say how much is left out; `where` names a file with all of it."""
    return beginning(text) + left_out(text, where)


def beginning(text: str) -> str:
    """Cut a text to `N_CHARACTERS_SHOWN`."""
    return text[:N_CHARACTERS_SHOWN]


def left_out(text: str, where: str = "") -> str:
    """Say how many characters `beginning` leaves out; empty if none."""
    n = len(text) - N_CHARACTERS_SHOWN
    place = f": see {where}" if where else ""
    return f" … ({counted(n, 'more character')}{place})" if n > 0 else ""


def with_rest(spans: tuple[Span, ...], text: str, where: str = "") -> tuple[Span, ...]:
    """Add to the spans of a text's beginning an unmarked note of how much is left out."""
    rest = left_out(text, where)
    return (*spans, Span(rest, False)) if rest else spans
