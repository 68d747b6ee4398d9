"""System texts before the first question, where a template takes no system turn."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from encoders import CHATML, TALK, MakeTokenizer

from finetuning_exam.data.encoding.chat_template import TurnsRefusedError
from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.rows import encode_all, form_findings
from finetuning_exam.data.encoding.system_text import folded
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.settings import Template

RAISES = "{% if messages[0].role == 'system' %}{{ raise_exception('No system') }}{% endif %}"
ALTERNATES = (
    "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{% endfor %}"
)
DROPS = CHATML.replace("in messages", "in messages if message.role != 'system'")
REFUSING = {"raises": RAISES + CHATML, "alternates": ALTERNATES + CHATML, "drops": DROPS}
ASKED = Example("What is a tree?", "A plant.", 1, "d.jsonl", earlier=(Turn("system", "Be brief."),))
WITH_INPUT = replace(ASKED, input="An oak.", line=2)
SYSTEMATIC = {"one question": ASKED, "with an input": WITH_INPUT, "a conversation": TALK}


def _encoder(make: MakeTokenizer, template: str | None, *, folds: bool = True) -> Encoder:
    tokenizer = make(chat_template=template) if template else make()
    choice: Template = "chat" if template else "plain"
    encoder = make_encoder(tokenizer, choice, loss_on="answers")
    return replace(encoder, folds_system=folds)


def _without_system(example: Example) -> Example:
    """Return the record that a user would have written by hand."""
    _, *rest = example.earlier
    if rest:
        rest[0] = replace(rest[0], text=f"Be brief.\n\n{rest[0].text}")
        return replace(example, earlier=tuple(rest))
    return replace(example, earlier=(), instruction=f"Be brief.\n\n{example.instruction}")


@pytest.mark.parametrize("template", [*REFUSING.values(), CHATML, None])
@pytest.mark.parametrize("example", SYSTEMATIC.values(), ids=SYSTEMATIC)
def test_a_folded_system_text_is_part_of_the_first_question(
    make_tokenizer: MakeTokenizer, template: str | None, example: Example
) -> None:
    """In every template, rows and prompts are those of the record written that way."""
    encoder, kept = (_encoder(make_tokenizer, template, folds=it) for it in (True, False))
    by_hand = _without_system(example)
    assert encoder.encode(example) == kept.encode(by_hand)
    assert encoder.prompt_ids(example) == kept.prompt_ids(by_hand)


@pytest.mark.parametrize("template", [REFUSING["raises"], CHATML, None])
def test_a_folded_system_text_stays_where_a_row_is_shortened(
    make_tokenizer: MakeTokenizer, template: str | None
) -> None:
    """It moves to the first question that is left."""
    encoder = _encoder(make_tokenizer, template)
    n_tokens = len(encoder.prompt_ids(replace(TALK, earlier=TALK.earlier[:1])))
    ids, n_cut = encoder.fit_prompt(TALK, n_tokens)
    assert ids == encoder.prompt_ids(replace(TALK, earlier=TALK.earlier[:1]))
    assert n_cut
    assert "Be brief.\n\nAnd -a?" in encoder.tokenizer.decode(list(ids))


@pytest.mark.parametrize("name", REFUSING)
def test_a_refused_system_turn_is_told_by_line_and_its_hint_names_the_option(
    make_tokenizer: MakeTokenizer, name: str
) -> None:
    """The other records are kept; with the option nothing is refused."""
    sound = Example("Why?", "So.", 9, "d.jsonl")
    examples = [sound, *SYSTEMATIC.values()]
    rows = encode_all(_encoder(make_tokenizer, REFUSING[name], folds=False), examples, 1000)
    assert rows.examples == (sound,)
    assert [(it.kind, it.line) for it in rows.findings] == [
        (Kind.SYSTEM_REFUSED, it.line) for it in SYSTEMATIC.values()
    ]
    assert "--system_turns fold" in Kind.SYSTEM_REFUSED.hint
    rows = encode_all(_encoder(make_tokenizer, REFUSING[name]), examples, 1000)
    assert (rows.examples, rows.findings) == (tuple(examples), ())


def test_a_system_text_that_the_template_writes_anyway_is_refused(
    make_tokenizer: MakeTokenizer,
) -> None:
    """A template that drops system turns may hold the same words elsewhere."""
    encoder = _encoder(make_tokenizer, DROPS, folds=False)
    with pytest.raises(TurnsRefusedError) as caught:
        encoder.encode(replace(ASKED, earlier=(Turn("system", "user"),)))
    assert caught.value.kind is Kind.SYSTEM_REFUSED


@pytest.mark.parametrize("template", [*REFUSING.values(), CHATML, None])
def test_spelled_out_tools_follow_a_folded_system_text(
    make_tokenizer: MakeTokenizer, template: str | None
) -> None:
    """Both are before the first question, in this order."""
    example = replace(ASKED, tools=json.dumps([{"name": "search", "parameters": {}}]))
    text = _decoded(_encoder(make_tokenizer, template), example)
    begin = text.index("Be brief.\n\nYou can use these tools,")
    assert begin < text.index('{"name": "search"') < text.index("\n\nWhat is a tree?")
    assert "system\n" not in text.lower()


def _decoded(encoder: Encoder, example: Example) -> str:
    return encoder.tokenizer.decode(list(encoder.encode(example).ids))


def test_a_greeting_stays_before_a_folded_system_text() -> None:
    """The system text is before the first question, wherever that is."""
    hello = Turn("assistant", "Hello!")
    greeted = folded(replace(ASKED, earlier=(*ASKED.earlier, hello)))
    assert greeted.earlier == (hello,)
    assert greeted.instruction == "Be brief.\n\nWhat is a tree?"
    talk = folded(replace(TALK, earlier=(TALK.earlier[0], hello, *TALK.earlier[1:])))
    assert [turn.role for turn in talk.earlier[:2]] == ["assistant", "user"]
    assert talk.earlier[1].text == f"Be brief.\n\n{TALK.earlier[1].text}"


@pytest.mark.parametrize(
    ("template", "detail"),
    [
        (REFUSING["raises"], "2 of 3 records have a system text"),
        (REFUSING["drops"], "2 of 3 records have a system text"),
        (
            CHATML,
            "2 of 3 records have a system text; the chat template would take it as a turn of its "
            "own",
        ),
        (None, "2 of 3 records have a system text; the plain template would have a place for it"),
    ],
)
def test_a_note_says_what_the_option_does(
    make_tokenizer: MakeTokenizer, template: str | None, detail: str
) -> None:
    """It says how many records it concerns, where it is not needed, and where it does nothing."""
    encoder = _encoder(make_tokenizer, template)
    plain = Example("Why?", "So.", 9, "d.jsonl")
    (found,) = form_findings(encoder, [plain, ASKED, WITH_INPUT], "answers")
    assert (found.kind, found.detail, found.line) == (Kind.SYSTEM_FOLDED, detail, 1)
    (found,) = form_findings(encoder, [plain], "answers")
    assert found.detail == "none of the 1 records has a system text, so nothing changes"
    kept = replace(encoder, folds_system=False)
    assert form_findings(kept, [ASKED], "answers") == ()
