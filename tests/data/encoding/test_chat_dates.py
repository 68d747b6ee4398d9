"""Specification of templates that write the date: one date for a whole run."""

from __future__ import annotations

from datetime import datetime

import pytest
from encoders import CHATML, MakeTokenizer, decode_ids

from finetuning_exam.data.encoding.encoder import make_encoder
from finetuning_exam.data.encoding.rows import template_findings
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example, Turn

EXAMPLE = Example("Hi", "Ho", 1, "d.jsonl")
LEAP_DAY = datetime(2024, 2, 29, 23, 59, 59)
TODAY = "{{ '<|im_start|>system\nToday is ' + strftime_now('%d %b %Y') + '<|im_end|>\n' }}"
DATE_STRING = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}"
    "{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "{{ '<|im_start|>system\nToday Date: ' + date_string + '<|im_end|>\n' }}"
)
TIME = "{{ '<|im_start|>system\nIt is ' + strftime_now('%H:%M') + '<|im_end|>\n' }}"


@pytest.mark.parametrize(
    ("template", "written"),
    [(TODAY, "29 Feb 2024"), (DATE_STRING, "29 Feb 2024"), (TIME, "23:59")],
)
def test_a_template_writes_the_date_of_the_run(
    make_tokenizer: MakeTokenizer, template: str, written: str
) -> None:
    """Every prompt has the date that the encoder was made with, whatever the clock says."""
    tokenizer = make_tokenizer(chat_template=template + CHATML)
    encoder = make_encoder(tokenizer, "chat", date=LEAP_DAY)
    assert encoder.date == LEAP_DAY
    assert written in decode_ids(encoder, encoder.encode(EXAMPLE).ids)
    later = Example("And?", "", 1, "d.jsonl", earlier=(Turn("user", "a"), Turn("assistant", "b")))
    assert written in decode_ids(encoder, encoder.prompt_ids(later))


@pytest.mark.parametrize("template", [TODAY, DATE_STRING, TIME])
def test_the_date_is_reported(make_tokenizer: MakeTokenizer, template: str) -> None:
    """A check and a run say that the template writes the date, and which."""
    tokenizer = make_tokenizer(chat_template=template + CHATML)
    (found,) = template_findings(make_encoder(tokenizer, "chat", date=LEAP_DAY), "base")
    assert found.kind is Kind.TEMPLATE_DATE
    assert str(found) == "base: the chat template writes the date, here 2024-02-29."


def test_a_template_without_a_date_has_none(make_tokenizer: MakeTokenizer) -> None:
    """Where the template does not write the date there is none to record."""
    encoder = make_encoder(make_tokenizer(chat_template=CHATML), "chat", date=LEAP_DAY)
    assert encoder.date is None
    assert template_findings(encoder, "base") == ()
