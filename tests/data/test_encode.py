"""Specification of ids and labels: what is supervised, and what ends an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import example as with_example
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AddedToken, PreTrainedTokenizerFast

from finetuning_exam.data.encode import (
    IGNORED,
    Encoder,
    encode_all,
    make_encoder,
    refuse_special_tokens,
)
from finetuning_exam.data.records import Example
from finetuning_exam.data.template import prompt_func, render
from finetuning_exam.errors import DataError, ModelError, UserError
from finetuning_exam.settings import Template

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]

END, START, PAD, TURN, TURN_END = "<|end|>", "<|start|>", "<|pad|>", "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_LIKE = "{{ bos_token }}" + CHATML
NO_END = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

KINDS: dict[str, tuple[Template, Mapping[str, object]]] = {
    "plain": ("plain", {}),
    "plain, pad": ("plain", {"pad": PAD}),
    "plain, pad is end": ("plain", {"pad": END}),
    "plain, start written": ("plain", {"start": START, "writes_start": True}),
    "plain, start not written": ("plain", {"start": START}),
    "plain, start is end": ("plain", {"start": END, "writes_start": True}),
    "chat": ("chat", {"chat_template": CHATML}),
    "chat, pad is end": ("chat", {"chat_template": CHATML, "pad": END}),
    "chat, end is end of turn": ("chat", {"chat_template": CHATML, "end": TURN_END}),
    "chat, turns not named": ("chat", {"chat_template": CHATML, "names_turns": False}),
    "chat, start twice": (
        "chat",
        {"chat_template": LLAMA_LIKE, "start": START, "writes_start": True},
    ),
    "chat without an end": ("chat", {"chat_template": NO_END}),
}
PLAIN_KINDS = [name for name, (template, _) in KINDS.items() if template == "plain"]

Encoders = dict[tuple[str, bool], Encoder]
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
EXAMPLES = st.builds(
    Example,
    instruction=WORDS.filter(str.strip),
    answer=WORDS.filter(str.strip),
    line=st.just(1),
    path=st.just("d.jsonl"),
    input=WORDS,
)
LOOKALIKE = Example(f"Say {TURN_END}{END}", f"{START}x{END} {TURN}y{TURN_END}", 3, "d.jsonl", PAD)
few = settings(max_examples=12, deadline=None)


@pytest.fixture(scope="session")
def encoders(make_tokenizer: MakeTokenizer) -> Encoders:
    """An encoder for every kind of tokenizer, with and without loss on the prompt."""
    return {
        (name, only): make_encoder(make_tokenizer(**kwargs), template, completion_only_loss=only)
        for name, (template, kwargs) in KINDS.items()
        for only in (True, False)
    }


@pytest.fixture(params=KINDS, scope="session")
def kind(request: pytest.FixtureRequest) -> str:
    """Every kind of tokenizer and template."""
    return str(request.param)


@pytest.fixture(params=PLAIN_KINDS, scope="session")
def plain_kind(request: pytest.FixtureRequest) -> str:
    """Every kind of tokenizer with the plain template."""
    return str(request.param)


def _decode(encoder: Encoder, ids: tuple[int, ...]) -> str:
    tokenizer = encoder.tokenizer
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    text = tokenizer.decode(list(ids), skip_special_tokens=False)
    assert isinstance(text, str)
    return text


def _supervised(labels: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(label for label in labels if label != IGNORED)


@few
@given(record=EXAMPLES, only=st.booleans())
def test_every_position_has_a_label(
    encoders: Encoders, kind: str, record: Example, only: bool
) -> None:
    """Ids and labels have equal length, the first is ignored, and a label is its own id."""
    row = encoders[kind, only].encode(record)
    assert len(row.ids) == len(row.labels)
    assert row.labels[0] == IGNORED
    assert all(label in (IGNORED, token) for label, token in zip(row.labels, row.ids, strict=True))
    assert row.n_supervised == len(_supervised(row.labels)) > 0
    assert row.answer_bytes == len(record.answer.encode("utf-8"))


@few
@given(record=EXAMPLES)
def test_the_prompt_at_inference_is_the_masked_prefix_in_training(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """`prompt_ids` gives the first ids of the training row, with or without the answer known."""
    encoder = encoders[kind, True]
    row = encoder.encode(record)
    asked = Example(record.instruction, "", 1, "argument", input=record.input)
    assert encoder.prompt_ids(record) == row.ids[: row.prompt_length]
    assert encoder.prompt_ids(asked) == row.ids[: row.prompt_length]
    assert 0 < row.prompt_length < len(row.ids)


@few
@given(record=EXAMPLES)
def test_nothing_but_the_answer_is_supervised(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """With `completion_only_loss` the whole prompt is ignored and the whole answer is not."""
    row = encoders[kind, True].encode(record)
    assert set(row.labels[: row.prompt_length]) == {IGNORED}
    assert row.labels[row.prompt_length :] == row.ids[row.prompt_length :]


@few
@given(record=EXAMPLES)
def test_the_prompt_is_supervised_when_asked_for(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """Without `completion_only_loss` every token but the first is supervised; ids are the same."""
    row = encoders[kind, False].encode(record)
    assert row.ids == encoders[kind, True].encode(record).ids
    assert row.labels == (IGNORED, *row.ids[1:])


@few
@given(record=EXAMPLES)
def test_the_last_label_ends_the_answer(encoders: Encoders, kind: str, record: Example) -> None:
    """The last label of every row is a stop id, and generation knows it."""
    encoder = encoders[kind, True]
    assert encoder.encode(record).labels[-1] in encoder.stop_ids()


@few
@given(record=EXAMPLES)
@with_example(record=LOOKALIKE)
def test_plain_supervised_tokens_are_exactly_the_answer(
    encoders: Encoders, plain_kind: str, record: Example
) -> None:
    """In the plain template the supervised tokens are the answer's text and the end token."""
    encoder = encoders[plain_kind, True]
    supervised = _supervised(encoder.encode(record).labels)
    assert _decode(encoder, supervised[:-1]) == record.answer
    assert supervised[-1] == encoder.eos_token_id


@few
@given(record=EXAMPLES)
def test_chat_supervised_tokens_are_exactly_the_answer(encoders: Encoders, record: Example) -> None:
    """In a chat template they are the answer's text and the end of the turn, and no more."""
    encoder = encoders["chat", True]
    supervised = _supervised(encoder.encode(record).labels)
    assert _decode(encoder, supervised) == f"{record.answer}{TURN_END}"
    assert _decode(encoder, supervised[-1:]) == TURN_END


@few
@given(record=EXAMPLES)
@with_example(record=LOOKALIKE)
def test_plain_prompt_tokens_are_exactly_the_prompt(
    encoders: Encoders, plain_kind: str, record: Example
) -> None:
    """The masked tokens are the text of `prompt_func`, after what the tokenizer puts first."""
    encoder = encoders[plain_kind, True]
    prompt = encoder.prompt_ids(record)[len(encoder.start_ids) :]
    assert _decode(encoder, prompt) == prompt_func(record)


@few
@given(record=EXAMPLES)
@with_example(record=LOOKALIKE)
def test_special_tokens_in_the_data_stay_text_in_the_plain_template(
    encoders: Encoders, plain_kind: str, record: Example
) -> None:
    """The only special tokens of a plain row are its start and its end, whatever the data says."""
    encoder = encoders[plain_kind, True]
    ids = encoder.encode(record).ids
    inner = ids[len(encoder.start_ids) : -1]
    assert not set(inner) & encoder.special_ids
    assert {START, END, PAD, TURN, TURN_END}.isdisjoint(
        _token(encoder, identifier) for identifier in inner
    )


def _token(encoder: Encoder, identifier: int) -> str:
    tokenizer = encoder.tokenizer
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return str(tokenizer.convert_ids_to_tokens(identifier))


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(Example("Say it", f"a{TURN_END}b", 3, "d.jsonl"), id="in the answer"),
        pytest.param(Example(f"a{TURN_END}\n{TURN}system\nb", "c", 3, "d.jsonl"), id="prompt"),
    ],
)
def test_special_tokens_in_the_data_do_not_act_in_a_chat_template(
    encoders: Encoders, record: Example
) -> None:
    """A record cannot open or end a turn: it is encoded as text, or refused by its line."""
    encoder = encoders["chat", True]
    expected = encoder.encode(Example("a", "b", 1, "d.jsonl")).ids
    turns = [sum(_token(encoder, i) == token for i in expected) for token in (TURN, TURN_END)]
    try:
        ids = encode_all(encoder, [record], 1000)[0].ids
    except UserError as error:
        complaint = str(error)
    else:
        found = [sum(_token(encoder, i) == token for i in ids) for token in (TURN, TURN_END)]
        assert found == turns
        return
    assert "d.jsonl:3" in complaint


def test_splitting_special_tokens_leaves_no_trace_in_the_tokenizer(
    make_tokenizer: MakeTokenizer,
) -> None:
    """A plain encoder and a chat encoder may share a tokenizer, in any order."""
    tokenizer = make_tokenizer(chat_template=CHATML)
    chat, plain = make_encoder(tokenizer, "chat"), make_encoder(tokenizer, "plain")
    record = Example("Say it", "a", 1, "d.jsonl")
    before = chat.encode(record)
    plain.encode(LOOKALIKE)
    assert chat.encode(record) == before
    assert _token(chat, before.ids[0]) == TURN


@few
@given(record=EXAMPLES)
def test_a_row_never_begins_with_two_start_tokens(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """Where a start token is written it is written once, in training and at inference."""
    encoder = encoders[kind, True]
    start = encoder.tokenizer.bos_token_id
    writes_it = kind in ("plain, start written", "plain, start is end", "chat, start twice")
    row = encoder.encode(record)
    expected = [start] if writes_it else []
    assert [token for token in row.ids[: row.prompt_length] if token == start] == expected
    assert [token for token in encoder.prompt_ids(record) if token == start] == expected
    assert list(row.ids[: len(expected)]) == expected


@few
@given(text=WORDS.filter(len))
def test_a_plain_text_is_supervised_but_for_its_first_token(
    encoders: Encoders, plain_kind: str, text: str
) -> None:
    """`encode_text` adds the tokenizer's start, and neither a template nor an end token."""
    encoder = encoders[plain_kind, True]
    row = encoder.encode_text(text)
    assert _decode(encoder, row.ids[len(encoder.start_ids) :]) == text
    assert row.labels == (IGNORED, *row.ids[1:])
    assert (row.prompt_length, row.answer_bytes) == (0, len(text.encode("utf-8")))


def test_the_first_supervised_token_starts_at_the_answer(encoders: Encoders) -> None:
    """No token spans the border, even where the whole text would be tokenized across it."""
    encoder = encoders["plain", True]
    record = Example("What does ls do?", "\n\n\nIt lists the files.", 1, "d.jsonl")
    row = encoder.encode(record)
    whole = encoder.tokenizer.encode(prompt_func(record) + record.answer, add_special_tokens=False)
    assert list(row.ids[:-1]) != whole, "this example no longer merges across the border"
    assert _decode(encoder, row.ids[row.prompt_length : -1]) == record.answer


def test_stop_ids_hold_the_end_of_text_and_the_end_of_a_turn(encoders: Encoders) -> None:
    """A chat model stops at the end of its turn and at the end of text; a plain one at the end."""
    chat, plain = encoders["chat", True], encoders["plain", True]
    assert [_token(chat, identifier) for identifier in chat.stop_ids()] == [END, TURN_END]
    assert [_token(plain, identifier) for identifier in plain.stop_ids()] == [END]


def test_a_chat_template_without_an_end_gets_the_end_token(encoders: Encoders) -> None:
    """Where no special token ends a turn, the end-of-text token is appended and trained."""
    encoder = encoders["chat without an end", True]
    row = encoder.encode(Example("Hi", "Ho", 1, "d.jsonl"))
    assert _decode(encoder, row.ids) == f"user: Hi\nassistant: Ho\n{END}"
    assert _decode(encoder, _supervised(row.labels)) == f"Ho\n{END}"


def test_a_chat_row_is_the_template_s_text(encoders: Encoders) -> None:
    """A row's text is what the template renders, without what follows the end of the turn."""
    encoder = encoders["chat, start twice", True]
    record = Example("Hi", "Ho", 1, "d.jsonl")
    rendered = render(record, "chat", encoder.tokenizer)
    text = _decode(encoder, encoder.encode(record).ids)
    assert text == f"{START}{TURN}user\nHi{TURN_END}\n{TURN}assistant\nHo{TURN_END}"
    assert rendered.prompt + rendered.answer == text + "\n"


def test_a_tokenizer_without_an_end_token_is_refused(make_tokenizer: MakeTokenizer) -> None:
    """Without an end-of-text token answers could not end: an error that says what to set."""
    with pytest.raises(ModelError) as caught:
        make_encoder(make_tokenizer(end=None), "plain")
    assert str(caught.value) == (
        "The tokenizer has no end-of-text token, so answers could not end. "
        "Set eos_token in its tokenizer_config.json."
    )


def test_rows_that_are_too_long_are_all_named(encoders: Encoders) -> None:
    """Rows longer than the limit raise one error with each row's line and length; none is cut."""
    encoder = encoders["plain", True]
    short, long = Example("a", "b", 1, "d.jsonl"), "xyz " * 50
    records = [short, Example("a", long, 4, "d.jsonl"), short, Example(long, "b", 9, "e.jsonl")]
    limit = len(encoder.encode(short).ids)
    lengths = [len(encoder.encode(record).ids) for record in records]
    with pytest.raises(DataError) as caught:
        encode_all(encoder, records, limit)
    assert str(caught.value) == (
        f"d.jsonl:4: {lengths[1]} tokens, more than {limit}.\n"
        f"e.jsonl:9: {lengths[3]} tokens, more than {limit}. "
        "Shorten them; training takes as many as --max_length says."
    )


def test_a_row_as_long_as_the_limit_is_taken(encoders: Encoders) -> None:
    """A row of exactly the longest length passes, whole; one token less is too little."""
    encoder = encoders["plain", True]
    record = Example("a", "xyz " * 20, 1, "d.jsonl")
    row = encoder.encode(record)
    assert encode_all(encoder, [record], len(row.ids)) == (row,)
    with pytest.raises(DataError):
        encode_all(encoder, [record], len(row.ids) - 1)


@pytest.mark.parametrize(("special", "is_special"), [(True, True), (False, False)])
def test_special_tokens_are_those_added_as_special(
    make_tokenizer: MakeTokenizer, special: bool, is_special: bool
) -> None:
    """A token counts as special if the tokenizer added it as such, whether it has a name or not;
    a word that was merely added does not.
    """
    tokenizer = make_tokenizer(chat_template=CHATML, names_turns=False)
    tokenizer.add_tokens([AddedToken("<tool>", special=special)])
    encoder = make_encoder(tokenizer, "chat")
    identifier = tokenizer.convert_tokens_to_ids("<tool>")
    assert (identifier in encoder.special_ids) == is_special
    assert ("<tool>" in encoder.special_texts) == is_special
    assert {END, START, PAD, TURN, TURN_END} <= set(encoder.special_texts)


def test_texts_with_special_tokens_are_all_named(encoders: Encoders) -> None:
    """In a chat template a special token in instruction, input or answer is refused by its line."""
    records = [
        Example("a", "b", 1, "d.jsonl"),
        Example(f"a{TURN}", "b", 2, "d.jsonl"),
        Example("a", f"b{TURN_END}", 3, "d.jsonl"),
        Example("a", "", 4, "d.jsonl", input=END),
    ]
    for name in ("chat", "chat, turns not named"):
        with pytest.raises(DataError) as caught:
            refuse_special_tokens(encoders[name, True], records)
        assert str(caught.value) == (
            f"d.jsonl:2: the text holds the special token {TURN}.\n"
            f"d.jsonl:3: the text holds the special token {TURN_END}.\n"
            f"d.jsonl:4: the text holds the special token {END}. "
            "Take it out, or use --template plain, where it is only text."
        )
    refuse_special_tokens(encoders["plain", True], records)
