"""What the pages have in common: their templates, and a text as they show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetuning_exam.report.diff import Span
from finetuning_exam.report.text import interval_text, number, p_value, percent, signed, visible

if TYPE_CHECKING:
    from jinja2 import Environment

N_CHARACTERS_SHOWN = 2000


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
    }
    return environment


def shorten(text: str) -> str:
    """The beginning of a long text, and how much is left out."""
    left_out = len(text) - N_CHARACTERS_SHOWN
    if left_out <= 0:
        return text
    return f"{text[:N_CHARACTERS_SHOWN]} … ({left_out:,} more characters: see exam.json)"
