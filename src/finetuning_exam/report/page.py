"""What the pages have in common: their templates, and a text as they show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetuning_exam.report.diff import Span
from finetuning_exam.report.text import interval_text, number, p_value, percent, signed, visible

if TYPE_CHECKING:
    from jinja2 import Environment

N_CHARACTERS_SHOWN = 2000
N_CHARACTERS_OF_NAME = 120


@dataclass(frozen=True, slots=True)
class AnswerView:
    """One of the texts of an example; `note` says what the text itself does not."""

    title: str
    spans: tuple[Span, ...]
    note: str


def make_environment() -> Environment:
    """Templates of this package, which escape whatever is put into them."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: object) -> object:
        # The last thing before escaping: no text reaches the page with characters that act.
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
    """A name, path or tag; of a very long one its beginning and its end."""
    if len(text) <= N_CHARACTERS_OF_NAME:
        return text
    half = N_CHARACTERS_OF_NAME // 2
    return f"{text[:half]}…{text[-half:]}"


def shorten(text: str, where: str = "") -> str:
    """The beginning of a long text, and how much is left out; `where` names a file that has it."""
    return beginning(text) + left_out(text, where)


def beginning(text: str) -> str:
    """As much of a text as a page shows."""
    return text[:N_CHARACTERS_SHOWN]


def left_out(text: str, where: str = "") -> str:
    """How much more there is than the beginning; empty where that is all."""
    n = len(text) - N_CHARACTERS_SHOWN
    return f" … ({n:,} more characters{f': see {where}' if where else ''})" if n > 0 else ""


def with_rest(spans: tuple[Span, ...], text: str, where: str = "") -> tuple[Span, ...]:
    """The pieces of a text's beginning, and how much is left out, which is never marked."""
    rest = left_out(text, where)
    return (*spans, Span(rest, False)) if rest else spans
