"""Specification of truncation: rows that are cut or left out, and their findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.labels import IGNORED, LossOn
from finetuning_exam.data.encoding.rows import encode_all
from finetuning_exam.data.encoding.truncate import (
    MIN_PROMPT_TOKENS,
    fewest_left_out,
    middle,
    n_exchanges,
    without_oldest,
)
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example, Turn

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]

START = "<|start|>"
CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LOSSES: tuple[LossOn, ...] = ("last_answer", "answers", "everything")
SYSTEM = Turn("system", "Be brief.")
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)
EARLIER = st.builds(
    lambda system, pairs: (
        *system,
        *(turn for q, a in pairs for turn in (Turn("user", q), Turn("assistant", a))),
    ),
    st.sampled_from([(), (SYSTEM,)]),
    st.lists(st.tuples(WORDS, WORDS), max_size=4),
)
EXAMPLES = st.builds(
    Example,
    instruction=WORDS.map(lambda text: text * 3),
    answer=WORDS,
    line=st.just(7),
    path=st.just("d.jsonl"),
    earlier=EARLIER,
)


@pytest.fixture(scope="session")
def encoders(make_tokenizer: MakeTokenizer) -> dict[tuple[str, LossOn], Encoder]:
    """Encoders for the plain template (with and without a start token) and a chat template."""
    tokenizers = {
        "plain": make_tokenizer(),
        "started": make_tokenizer(start=START, writes_start=True),
        "chat": make_tokenizer(chat_template=CHATML),
    }
    return {
        (name, loss_on): make_encoder(
            tokenizer, "chat" if name == "chat" else "plain", loss_on=loss_on
        )
        for name, tokenizer in tokenizers.items()
        for loss_on in LOSSES
    }


@pytest.fixture(params=["plain", "started", "chat"], scope="session")
def name(request: pytest.FixtureRequest) -> str:
    """Each kind of encoder."""
    return str(request.param)


Encoders = dict[tuple[str, LossOn], Encoder]


def _talk(n_exchanges: int, answer: str = "The end.", question: str = "And then?") -> Example:
    earlier = [
        turn
        for number in range(n_exchanges)
        for turn in (Turn("user", f"What {number}?"), Turn("assistant", f"Answer {number}."))
    ]
    return Example(question, answer, 3, "d.jsonl", earlier=(SYSTEM, *earlier))


def _answer(encoder: Encoder, example: Example) -> tuple[int, ...]:
    row = encoder.encode(example)
    return row.ids[row.prompt_length :]


@settings(max_examples=60, deadline=None)
@given(example=EXAMPLES, limit=st.integers(1, 120), loss_on=st.sampled_from(LOSSES))
def test_cutting_never_touches_the_answer(
    encoders: Encoders, name: str, example: Example, limit: int, loss_on: LossOn
) -> None:
    """A row within the limit is unchanged; a longer one is cut to fit, with its answer's ids
    unchanged and supervised up to a stop id, or it is left out. Each has one finding.
    """
    encoder = encoders[name, loss_on]
    whole = encoder.encode(example)
    found = encode_all(encoder, [example], limit)
    if len(whole.ids) <= limit:
        assert (found.rows, found.examples, found.findings) == ((whole,), (example,), ())
        return
    (finding,) = found.findings
    assert (finding.path, finding.line) == ("d.jsonl", 7)
    if not found.rows:
        assert found.examples == ()
        assert finding.kind is Kind.ANSWER_TOO_LONG
        return
    (row,) = found.rows
    assert found.examples == (example,)
    assert finding.kind is Kind.PROMPT_CUT
    assert len(row.ids) == len(row.labels) <= limit
    assert row.ids[row.prompt_length :] == _answer(encoder, example)
    assert row.labels[row.prompt_length :] == row.ids[row.prompt_length :]
    assert row.labels[0] == IGNORED
    assert row.labels[-1] in encoder.stop_ids
    assert all(label in (IGNORED, token) for label, token in zip(row.labels, row.ids, strict=True))
    assert row.ids[: len(encoder.start_ids)] == encoder.start_ids
    if loss_on == "last_answer":
        assert set(row.labels[: row.prompt_length]) == {IGNORED}


@settings(max_examples=40, deadline=None)
@given(example=EXAMPLES, limit=st.integers(1, 120))
def test_a_row_is_left_out_only_if_too_little_of_its_prompt_would_stay(
    encoders: Encoders, name: str, example: Example, limit: int
) -> None:
    """A row is kept exactly if its answer leaves room for sixteen tokens of the prompt without
    earlier exchanges, or for all of it.
    """
    encoder = encoders[name, "answers"]
    n_exchanges = sum(turn.role == "assistant" for turn in example.earlier)
    shortest = encoder.encode(without_oldest(example, n_exchanges))
    needed = min(MIN_PROMPT_TOKENS, shortest.prompt_length)
    room = limit - (len(shortest.ids) - shortest.prompt_length)
    assert bool(encode_all(encoder, [example], limit).rows) == (room >= needed)


def test_head_and_marker_of_a_prompt_stay(encoders: Encoders) -> None:
    """Of a prompt that is too long the first and the last half remain, the row fills the limit, and
    the finding says so.
    """
    for name in ("plain", "started"):
        encoder = encoders[name, "last_answer"]
        example = Example("word " * 200, "It lists.", 3, "d.jsonl", column=2)
        row = encoder.encode(example)
        n_prompt, n_answer = row.prompt_length, len(row.ids) - row.prompt_length
        limit = 61 + n_answer
        found = encode_all(encoder, [example], limit)
        prompt = row.ids[:n_prompt]
        assert found.rows[0].ids == prompt[:31] + prompt[-30:] + row.ids[n_prompt:]
        assert found.rows[0].prompt_length == 61
        assert [str(finding) for finding in found.findings] == [
            f"d.jsonl:3:2: the prompt is cut from {n_prompt} to 61 tokens "
            f"to fit the limit of {limit}."
        ]


def test_a_cut_keeps_the_turns_of_a_chat_template(encoders: Encoders) -> None:
    """The cut moves off the middle if it would remove a mark between turns."""
    encoder = encoders["chat", "last_answer"]
    short = Example("Why?", "So.", 3, "d.jsonl", earlier=(Turn("system", "word " * 100),))
    long = Example("word " * 100, "So.", 3, "d.jsonl", earlier=(SYSTEM,))
    for example in (short, long):
        marks = [token for token in encoder.prompt_ids(example) if token in encoder.special_ids]
        (row,) = encode_all(encoder, [example], 60).rows
        assert len(row.ids) == 60
        kept = row.ids[: row.prompt_length]
        assert [token for token in kept if token in encoder.special_ids] == marks


def test_the_token_after_a_gap_is_not_trained(encoders: Encoders) -> None:
    """With loss on everything the first token after a cut is ignored: it is unpredictable."""
    encoder = encoders["plain", "everything"]
    (row,) = encode_all(encoder, [Example("word " * 200, "So.", 3, "d.jsonl")], 60).rows
    n_answer = len(_answer(encoder, Example("word", "So.", 3, "d.jsonl")))
    gap = (60 - n_answer + 1) // 2
    assert [i for i, label in enumerate(row.labels) if label == IGNORED] == [0, gap]


def test_whole_oldest_exchanges_go_first(encoders: Encoders, name: str) -> None:
    """As few of the oldest exchanges as possible are dropped, whole; the system turn stays, and
    nothing else is cut.
    """
    encoder = encoders[name, "answers"]
    example = _talk(6)
    for kept in range(6):
        shorter = replace(
            example, earlier=(SYSTEM, *example.earlier[len(example.earlier) - 2 * kept :])
        )
        expected = encoder.encode(shorter)
        for limit in (len(expected.ids), len(expected.ids) + 3):
            found = encode_all(encoder, [example], limit)
            assert found.rows == (expected,)
            assert found.examples == (example,)
            oldest = "oldest exchange is" if kept == 5 else f"{6 - kept} oldest exchanges are"
            assert [str(finding) for finding in found.findings] == [
                f"d.jsonl:3: the {oldest} left out to fit the limit of {limit}."
            ]
            assert found.findings[0].kind is Kind.PROMPT_CUT


def test_a_conversation_may_lose_exchanges_and_the_middle_of_its_question(
    encoders: Encoders,
) -> None:
    """If the last question alone is too long all exchanges are dropped, then its middle is cut; one
    finding reports both.
    """
    encoder = encoders["plain", "answers"]
    example = _talk(2, question="word " * 100)
    alone = encoder.encode(replace(example, earlier=(SYSTEM,)))
    found = encode_all(encoder, [example], 80)
    n_prompt = 80 - (len(alone.ids) - alone.prompt_length)
    assert found.rows[0].prompt_length == n_prompt
    assert str(found.findings[0]) == (
        "d.jsonl:3: the 2 oldest exchanges are left out and the prompt is cut from "
        f"{alone.prompt_length} to {n_prompt} tokens to fit the limit of 80."
    )


def test_an_answer_that_is_too_long_is_left_out(encoders: Encoders) -> None:
    """A row whose answer leaves no room for a prompt is left out; the others keep their order."""
    encoder = encoders["plain", "answers"]
    first, last = Example("a", "b", 1, "d.jsonl"), Example("c", "d", 9, "e.jsonl")
    long = Example("What does ls do, and why?", "xyz " * 50, 4, "d.jsonl")
    n_answer = len(_answer(encoder, long))
    limit = n_answer + MIN_PROMPT_TOKENS
    assert len(encode_all(encoder, [first, long, last], limit).rows) == 3
    found = encode_all(encoder, [first, long, last], limit - 1)
    assert found.examples == (first, last)
    assert found.rows == (encoder.encode(first), encoder.encode(last))
    assert [str(finding) for finding in found.findings] == [
        f"d.jsonl:4: the answer alone has {n_answer} tokens, more than fit in {limit - 1}; "
        "left out."
    ]


def test_a_short_prompt_needs_no_more_than_its_own_room(encoders: Encoders) -> None:
    """A prompt of fewer than sixteen tokens is kept whole when earlier exchanges are dropped."""
    encoder = encoders["plain", "answers"]
    alone = Example("a", "b", 1, "d.jsonl")
    row = encoder.encode(alone)
    assert row.prompt_length < MIN_PROMPT_TOKENS
    talk = replace(alone, earlier=(Turn("user", "c"), Turn("assistant", "d")))
    assert encode_all(encoder, [talk], len(row.ids)).rows == (row,)
    assert encode_all(encoder, [talk], len(row.ids) - 1).rows == ()


def test_a_plain_text_that_is_too_long_is_left_out(encoders: Encoders, name: str) -> None:
    """A plain text is never cut but left out, and the finding gives the length of a piece that
    fits.
    """
    encoder = encoders[name, "answers"]
    text = Example("", "xyz " * 50, 4, "d.jsonl")
    n = len(encoder.encode(text).ids)
    assert len(encode_all(encoder, [text], n).rows) == 1
    found = encode_all(encoder, [text], n - 1)
    assert (found.rows, found.examples) == ((), ())
    assert found.findings[0].kind is Kind.ANSWER_TOO_LONG
    pieces = n - 1 - len(encoder.start_ids) - 1
    assert str(found.findings[0]) == (
        f"d.jsonl:4: the text has {n} tokens, over the limit of {n - 1}; left out "
        f"(split it into pieces of at most {pieces} tokens)."
    )
    own = encoder.tokenizer.encode(text.answer, add_special_tokens=False)[:pieces]
    piece = replace(text, answer=encoder.tokenizer.decode(own))
    assert len(encode_all(encoder, [piece], n - 1).rows) == 1


@settings(max_examples=40, deadline=None)
@given(example=EXAMPLES, limit=st.integers(20, 120))
def test_a_prompt_for_an_answer_is_cut_like_a_row(
    encoders: Encoders, name: str, example: Example, limit: int
) -> None:
    """`fit_prompt` returns the prompt of the row cut to the same room, and the number of tokens
    cut.
    """
    encoder = encoders[name, "last_answer"]
    n_answer = len(_answer(encoder, example))
    ids, n_cut = encoder.fit_prompt(replace(example, answer=""), limit)
    (row,) = encode_all(encoder, [example], limit + n_answer).rows
    assert ids == row.ids[: row.prompt_length]
    assert len(ids) <= limit
    assert len(ids) + n_cut == len(encoder.prompt_ids(example))


# The rules


@given(
    ids=st.lists(st.integers(0, 9), min_size=2, max_size=60).map(tuple), share=st.floats(0.01, 0.99)
)
def test_half_of_the_rest_is_head(ids: tuple[int, ...], share: float) -> None:
    """Without special tokens the cut keeps as much of the head as of the tail, or one more."""
    room = max(1, int(len(ids) * share))
    start, end = middle(ids, room, frozenset())
    assert start + len(ids) - end == room
    assert start - (len(ids) - end) in (0, 1)


@given(
    ids=st.lists(st.integers(0, 3), min_size=2, max_size=60).map(tuple), share=st.floats(0.01, 0.99)
)
def test_special_tokens_are_kept_if_possible(ids: tuple[int, ...], share: float) -> None:
    """Special tokens (here 0) are cut only if no stretch between them is as long as the cut."""
    room = max(1, int(len(ids) * share))
    start, end = middle(ids, room, frozenset({0}))
    assert 0 <= start < end <= len(ids)
    assert end - start == len(ids) - room
    runs = "".join("x" if token else " " for token in ids).split()
    if max(map(len, runs), default=0) >= len(ids) - room:
        assert 0 not in ids[start:end]


@given(n=st.integers(1, 9), needed=st.integers(1, 12))
def test_no_more_exchanges_are_dropped_than_needed(n: int, needed: int) -> None:
    """As many exchanges are dropped as needed, or all if even that is not enough."""
    example = _talk(n)
    full = len(example.earlier)
    found = fewest_left_out(example, lambda it: full - len(it.earlier) >= 2 * needed)
    assert found == min(n, needed)
    assert without_oldest(example, found).earlier[:1] == (SYSTEM,)
    assert len(without_oldest(example, found).earlier) == full - 2 * found
    assert fewest_left_out(_talk(0), lambda it: False) == 0


CALL = Turn("assistant", '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>')
USED = (SYSTEM, Turn("user", "a"), CALL, Turn("tool", "1"), Turn("assistant", "b"))


def test_a_result_stays_with_its_call() -> None:
    """An exchange is dropped with all calls in it; what led to the last question never is."""
    asked = Example("c", "d", 1, "d.jsonl", earlier=USED)
    assert n_exchanges(asked) == 1
    assert without_oldest(asked, 1).earlier == (SYSTEM,)
    later = (*USED, Turn("user", "c"), CALL)
    pending = replace(asked, instruction="2", asked_by="tool", earlier=later)
    assert n_exchanges(pending) == 1
    assert without_oldest(pending, 1).earlier == (SYSTEM, Turn("user", "c"), CALL)
    assert n_exchanges(replace(pending, earlier=USED[:3])) == 0
