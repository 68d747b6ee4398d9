"""Specification of ids and labels: what is supervised, and what ends an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import example as with_example
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AddedToken, PreTrainedTokenizerFast

from finetuning_exam.data.encoding.encode import (
    IGNORED,
    Encoder,
    LossOn,
    encode_all,
    make_encoder,
    special_token_findings,
)
from finetuning_exam.data.encoding.template import prompt_func, render
from finetuning_exam.data.findings import Kind
from finetuning_exam.data.reading.read import refuse_errors
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.errors import DataError, ModelError
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
MARKS_ONLY = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}\n"
    "{% endfor %}"
)
HEADER_ALWAYS = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}<|pad|>\n\n{{ message.content | trim }}<|im_end|>"
    "{% endfor %}"
    "{{ '<|im_start|>assistant<|pad|>\n\n' }}"
)
END_BEHIND_END = CHATML.replace("{% endif %}", "{% else %}{{ eos_token }}{% endif %}")
BLANK_FIRST = (
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    " {{ message.content }}{{ eos_token }}{% else %}[INST] {{ message.content }} [/INST]{% endif %}"
    "{% endfor %}"
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
    "chat, marks only": ("chat", {"chat_template": MARKS_ONLY}),
    "chat, header always": ("chat", {"chat_template": HEADER_ALWAYS}),
    "chat, end behind the end": ("chat", {"chat_template": END_BEHIND_END}),
    "chat, blank first": ("chat", {"chat_template": BLANK_FIRST}),
}
PLAIN_KINDS = [name for name, (template, _) in KINDS.items() if template == "plain"]
ENDLESS_KINDS = ["chat without an end", "chat, marks only"]
"""Kinds that write no special token behind an answer."""

Encoders = dict[tuple[str, LossOn], Encoder]
LOSSES: tuple[LossOn, ...] = ("last_answer", "answers", "everything")
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SAID = WORDS.filter(str.strip)
SYSTEMS = st.lists(st.builds(Turn, st.just("system"), SAID), max_size=1)
EXCHANGES = st.lists(st.tuples(SAID, SAID), max_size=3)
EARLIER = st.builds(
    lambda system, pairs: (
        *system,
        *(turn for q, a in pairs for turn in (Turn("user", q), Turn("assistant", a))),
    ),
    SYSTEMS,
    EXCHANGES,
)
EXAMPLES = st.builds(
    Example,
    instruction=SAID,
    answer=SAID,
    line=st.just(1),
    path=st.just("d.jsonl"),
    input=WORDS,
    earlier=EARLIER,
)
TALK = Example(
    "And -a?",
    "It shows hidden ones.",
    3,
    "d.jsonl",
    earlier=(
        Turn("system", "Be brief."),
        Turn("user", "What does ls do?"),
        Turn("assistant", "It lists files."),
        Turn("user", "And -l?"),
        Turn("assistant", "It is long."),
    ),
)
LOOKALIKE = Example(f"Say {TURN_END}{END}", f"{START}x{END} {TURN}y{TURN_END}", 3, "d.jsonl", PAD)
few = settings(max_examples=12, deadline=None)


@pytest.fixture(scope="session")
def encoders(make_tokenizer: MakeTokenizer) -> Encoders:
    """An encoder for every kind of tokenizer and every choice of what is supervised."""
    return {
        (name, loss_on): make_encoder(make_tokenizer(**kwargs), template, loss_on=loss_on)
        for name, (template, kwargs) in KINDS.items()
        for loss_on in LOSSES
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


def _spans(encoder: Encoder, labels: tuple[int, ...]) -> list[str]:
    """The text of each stretch of supervised tokens."""
    stretches = groupby(labels, key=lambda label: label != IGNORED)
    return [_decode(encoder, tuple(stretch)) for trained, stretch in stretches if trained]


def _supervised(labels: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(label for label in labels if label != IGNORED)


@few
@given(record=EXAMPLES, loss_on=st.sampled_from(LOSSES))
def test_every_position_has_a_label(
    encoders: Encoders, kind: str, record: Example, loss_on: LossOn
) -> None:
    """Ids and labels have equal length, the first is ignored, and a label is its own id."""
    row = encoders[kind, loss_on].encode(record)
    assert len(row.ids) == len(row.labels)
    assert row.labels[0] == IGNORED
    assert all(label in (IGNORED, token) for label, token in zip(row.labels, row.ids, strict=True))
    assert row.n_supervised == len(_supervised(row.labels)) > 0
    said = [it.text for it in record.earlier if it.role == "assistant" and loss_on != "last_answer"]
    assert row.answer_bytes == len("".join((*said, record.answer)).encode("utf-8"))


@few
@given(record=EXAMPLES)
def test_the_prompt_at_inference_is_the_masked_prefix_in_training(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """`prompt_ids` gives the first ids of the training row, with or without the answer known."""
    encoder = encoders[kind, "last_answer"]
    row = encoder.encode(record)
    asked = replace(record, answer="", path="argument")
    assert encoder.prompt_ids(record) == row.ids[: row.prompt_length]
    assert encoder.prompt_ids(asked) == row.ids[: row.prompt_length]
    assert 0 < row.prompt_length < len(row.ids)


@few
@given(record=EXAMPLES)
def test_nothing_but_the_answer_is_supervised(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """With loss on the last answer all before it is ignored, earlier answers too, and it is not."""
    row = encoders[kind, "last_answer"].encode(record)
    assert set(row.labels[: row.prompt_length]) == {IGNORED}
    assert row.labels[row.prompt_length :] == row.ids[row.prompt_length :]


@few
@given(record=EXAMPLES)
def test_the_prompt_is_supervised_when_asked_for(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """With loss on everything each token but the first is supervised; ids are the same."""
    row = encoders[kind, "everything"].encode(record)
    assert row.ids == encoders[kind, "last_answer"].encode(record).ids
    assert row.labels == (IGNORED, *row.ids[1:])


@few
@given(record=EXAMPLES)
def test_the_last_label_ends_the_answer(encoders: Encoders, kind: str, record: Example) -> None:
    """The last label of every row is a stop id, and generation knows it."""
    encoder = encoders[kind, "last_answer"]
    assert encoder.encode(record).labels[-1] in encoder.stop_ids()


@few
@given(record=EXAMPLES)
@with_example(record=LOOKALIKE)
def test_plain_supervised_tokens_are_exactly_the_answer(
    encoders: Encoders, plain_kind: str, record: Example
) -> None:
    """In the plain template the supervised tokens are the answer's text and the end token."""
    encoder = encoders[plain_kind, "last_answer"]
    supervised = _supervised(encoder.encode(record).labels)
    assert _decode(encoder, supervised[:-1]) == record.answer
    assert supervised[-1] == encoder.eos_token_id


@few
@given(record=EXAMPLES)
def test_chat_supervised_tokens_are_exactly_the_answer(encoders: Encoders, record: Example) -> None:
    """In a chat template they are the answer's text and the end of the turn, and no more."""
    encoder = encoders["chat", "last_answer"]
    supervised = _supervised(encoder.encode(record).labels)
    assert _decode(encoder, supervised) == f"{record.answer}{TURN_END}"
    assert _decode(encoder, supervised[-1:]) == TURN_END


@few
@given(record=EXAMPLES)
@with_example(record=TALK)
@with_example(record=replace(TALK, answer="assistant", earlier=TALK.earlier[:1]))
@with_example(record=replace(TALK, answer="end", earlier=TALK.earlier[:3]))
def test_each_answer_is_supervised_with_exactly_one_end(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """Whatever a template writes around them, the supervised ids of each answer hold its text and
    one special token, the last; only before the last answer may a template leave the end out.
    """
    encoder = encoders[kind, "answers"]
    row = encoder.encode(record)
    stretches = groupby(row.labels, key=lambda label: label != IGNORED)
    trained = [tuple(stretch) for is_trained, stretch in stretches if is_trained]
    said = [*(it.text for it in record.earlier if it.role == "assistant"), record.answer]
    for ids, answer in zip(trained, said, strict=True):
        n_ends = int(ids is trained[-1] or kind not in ENDLESS_KINDS)
        text, ends = ids[: len(ids) - n_ends], ids[len(ids) - n_ends :]
        assert _decode(encoder, text).strip() == answer.strip()
        assert not encoder.special_ids.intersection(text)
        assert encoder.special_ids.issuperset(ends)
    assert trained[-1][-1] in encoder.stop_ids()
    assert len(encoder.stop_ids()) == len({trained[-1][-1], encoder.eos_token_id})


def test_a_header_that_the_generation_prompt_lacks_is_prompt(encoders: Encoders) -> None:
    """Where a template ignores the generation prompt, the marker of the answer's role is given."""
    encoder = encoders["chat, marks only", "last_answer"]
    asked = Example("Hi", "", 1, "argument")
    assert _decode(encoder, encoder.prompt_ids(asked)) == f"{TURN}user\nHi\n{TURN}assistant\n"
    row = encoder.encode(replace(asked, answer="assistant"))
    assert _spans(encoder, row.labels) == [f"assistant\n{END}"]


def test_what_stands_behind_the_end_of_a_turn_is_not_trained(encoders: Encoders) -> None:
    """The next turn's header, or the end of the text, behind the end of a turn is not learned."""
    for kind in ("chat, header always", "chat, end behind the end"):
        encoder = encoders[kind, "answers"]
        assert [_token(encoder, it) for it in encoder.stop_ids()] == [END, TURN_END]
        answers = ["It lists files.", "It is long.", "It shows hidden ones."]
        row = encoder.encode(TALK)
        assert _spans(encoder, row.labels) == [f"{answer}{TURN_END}" for answer in answers]


def test_blanks_that_an_end_token_takes_in_stay_with_it(make_tokenizer: MakeTokenizer) -> None:
    """A conversation has the ids of the template's text where a token swallows what follows."""
    tokenizer = make_tokenizer(chat_template=END_BEHIND_END)
    tokenizer.add_tokens([AddedToken(TURN_END, special=True, rstrip=True)], special_tokens=True)
    encoder = make_encoder(tokenizer, "chat", loss_on="answers")
    segments = render(TALK, "chat", tokenizer, encoder.shape)
    whole = tokenizer.encode("".join(it.text for it in segments), add_special_tokens=False)
    assert list(encoder.encode(TALK).ids) == whole
    assert segments[1].text == f"It lists files.{TURN_END}\n"


@few
@given(record=EXAMPLES)
@with_example(record=LOOKALIKE)
def test_plain_prompt_tokens_are_exactly_the_prompt(
    encoders: Encoders, plain_kind: str, record: Example
) -> None:
    """The masked tokens are the text of `prompt_func`, after what the tokenizer puts first; each
    earlier answer is followed by the end token.
    """
    encoder = encoders[plain_kind, "last_answer"]
    prompt = encoder.prompt_ids(record)[len(encoder.start_ids) :]
    given = "".join(
        segment.text + (END if segment.is_answer else "")
        for segment in render(record, "plain", encoder.tokenizer)[:-1]
    )
    assert _decode(encoder, prompt) == given
    assert record.earlier or given == prompt_func(record)


@few
@given(record=EXAMPLES)
@with_example(record=LOOKALIKE)
def test_special_tokens_in_the_data_stay_text_in_the_plain_template(
    encoders: Encoders, plain_kind: str, record: Example
) -> None:
    """The only special tokens of a plain row are its start and the ends of its answers, whatever
    the data says.
    """
    encoder = encoders[plain_kind, "last_answer"]
    ids = encoder.encode(record).ids
    inner = [it for it in ids[len(encoder.start_ids) : -1] if it != encoder.eos_token_id]
    answers = sum(turn.role == "assistant" for turn in record.earlier)
    assert len(ids) - len(inner) == len(encoder.start_ids) + answers + 1
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
    encoder = encoders["chat", "last_answer"]
    expected = encoder.encode(Example("a", "b", 1, "d.jsonl")).ids
    turns = [sum(_token(encoder, i) == token for i in expected) for token in (TURN, TURN_END)]
    encoded = encode_all(encoder, [record], 1000)
    for row in encoded.rows:
        found = [sum(_token(encoder, i) == token for i in row.ids) for token in (TURN, TURN_END)]
        assert found == turns
    assert encoded.rows or encoded.findings[0].where == "d.jsonl:3"


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
    encoder = encoders[kind, "last_answer"]
    start = encoder.tokenizer.bos_token_id
    writes_it = kind in ("plain, start written", "plain, start is end", "chat, start twice")
    row = encoder.encode(record)
    expected = [start] if writes_it else []
    if kind == "plain, start is end":  # there it ends every earlier answer too
        expected += [start for turn in record.earlier if turn.role == "assistant"]
    assert [token for token in row.ids[: row.prompt_length] if token == start] == expected
    assert [token for token in encoder.prompt_ids(record) if token == start] == expected
    assert list(row.ids[:writes_it]) == expected[:writes_it]
    assert not writes_it or row.ids[1] != start


@few
@given(text=WORDS.filter(len))
def test_a_plain_text_is_supervised_but_for_its_first_token(
    encoders: Encoders, plain_kind: str, text: str
) -> None:
    """`encode_text` adds the tokenizer's start, and neither a template nor an end token."""
    encoder = encoders[plain_kind, "last_answer"]
    row = encoder.encode_text(text)
    assert _decode(encoder, row.ids[len(encoder.start_ids) :]) == text
    assert row.labels == (IGNORED, *row.ids[1:])
    assert (row.prompt_length, row.answer_bytes) == (0, len(text.encode("utf-8")))


def test_the_first_supervised_token_starts_at_the_answer(encoders: Encoders) -> None:
    """No token spans the border, even where the whole text would be tokenized across it."""
    encoder = encoders["plain", "last_answer"]
    record = Example("What does ls do?", "\n\n\nIt lists the files.", 1, "d.jsonl")
    row = encoder.encode(record)
    whole = encoder.tokenizer.encode(prompt_func(record) + record.answer, add_special_tokens=False)
    assert list(row.ids[:-1]) != whole, "this example no longer merges across the border"
    assert _decode(encoder, row.ids[row.prompt_length : -1]) == record.answer


def test_stop_ids_hold_the_end_of_text_and_the_end_of_a_turn(encoders: Encoders) -> None:
    """A chat model stops at the end of its turn and at the end of text; a plain one at the end."""
    chat, plain = encoders["chat", "last_answer"], encoders["plain", "last_answer"]
    assert [_token(chat, identifier) for identifier in chat.stop_ids()] == [END, TURN_END]
    assert [_token(plain, identifier) for identifier in plain.stop_ids()] == [END]


def test_a_chat_template_without_an_end_gets_the_end_token(encoders: Encoders) -> None:
    """Where no special token ends a turn, the end-of-text token is appended and trained."""
    encoder = encoders["chat without an end", "last_answer"]
    row = encoder.encode(Example("Hi", "Ho", 1, "d.jsonl"))
    assert _decode(encoder, row.ids) == f"user: Hi\nassistant: Ho\n{END}"
    assert _decode(encoder, _supervised(row.labels)) == f"Ho\n{END}"


def test_a_chat_row_is_the_template_s_text(encoders: Encoders) -> None:
    """A row's text is what the template renders, without what follows the end of the turn."""
    encoder = encoders["chat, start twice", "last_answer"]
    record = Example("Hi", "Ho", 1, "d.jsonl")
    rendered = render(record, "chat", encoder.tokenizer)
    text = _decode(encoder, encoder.encode(record).ids)
    assert text == f"{START}{TURN}user\nHi{TURN_END}\n{TURN}assistant\nHo{TURN_END}"
    assert "".join(segment.text for segment in rendered) == text + "\n"


def test_a_tokenizer_without_an_end_token_is_refused(make_tokenizer: MakeTokenizer) -> None:
    """Without an end-of-text token answers could not end: an error that says what to set."""
    with pytest.raises(ModelError) as caught:
        make_encoder(make_tokenizer(end=None), "plain")
    assert str(caught.value) == (
        "The tokenizer has no end-of-text token, so answers could not end. "
        "Set eos_token in its tokenizer_config.json."
    )


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
    """In a chat template a special token in instruction, input, answer or an earlier turn is
    refused by its line.
    """
    records = [
        Example("a", "b", 1, "d.jsonl"),
        Example(f"a{TURN}", "b", 2, "d.jsonl"),
        Example("a", f"b{TURN_END}", 3, "d.jsonl"),
        Example("a", "", 4, "d.jsonl", input=END),
        Example("a", "b", 5, "d.jsonl", earlier=(Turn("system", f"c {START}"),)),
    ]
    for name in ("chat", "chat, turns not named"):
        with pytest.raises(DataError) as caught:
            refuse_errors(special_token_findings(encoders[name, "last_answer"], records))
        assert str(caught.value) == (
            f"d.jsonl:2: the text holds the special token {TURN}.\n"
            f"d.jsonl:3: the text holds the special token {TURN_END}.\n"
            f"d.jsonl:4: the text holds the special token {END}.\n"
            f"d.jsonl:5: the text holds the special token {START}.\n"
            "Take it out, or use --template plain, where it is only text."
        )
    refuse_errors(special_token_findings(encoders["plain", "last_answer"], records))


def test_special_tokens_are_findings_of_both_templates(encoders: Encoders) -> None:
    """One finding for each record that holds one: an error where it would be obeyed, else a
    warning; the first in the text is named.
    """
    records = [
        Example("a", "b", 1, "d.jsonl"),
        Example(f"a {TURN_END}{PAD}", f"b{END}", 2, "d.jsonl", column=7),
        replace(TALK, earlier=(Turn("user", "x"), Turn("assistant", f"y{TURN}"))),
    ]
    for name, kind in (("chat", Kind.SPECIAL_TOKEN), ("plain", Kind.SPECIAL_TOKEN_TEXT)):
        found = special_token_findings(encoders[name, "last_answer"], records)
        assert [str(finding) for finding in found] == [
            f"d.jsonl:2:7: the text holds the special token {TURN_END}.",
            f"d.jsonl:3: the text holds the special token {TURN}.",
        ]
        assert {finding.kind for finding in found} == {kind}
    kept = encode_all(encoders["chat", "last_answer"], records, 1000)
    assert [example.line for example in kept.examples] == [1]
    assert kept.findings == special_token_findings(encoders["chat", "last_answer"], records)
    assert len(encode_all(encoders["plain", "last_answer"], records, 1000).rows) == 3


def test_the_longest_special_token_is_named(make_tokenizer: MakeTokenizer) -> None:
    """Where one special token begins another, the text's own is the longer one."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<s>", "<s>2"], special_tokens=True)
    encoder = make_encoder(tokenizer, "plain")
    assert encoder.special_text_in("a <s>2 b <s>") == "<s>2"
    assert encoder.special_text_in("a < s>") is None


# Conversations


def test_every_answer_of_a_conversation_is_trained_with_its_end(encoders: Encoders) -> None:
    """With loss on answers each assistant turn is supervised with its end token, and nothing of
    what stands between.
    """
    answers = ["It lists files.", "It is long.", "It shows hidden ones."]
    for name, end in (("plain", END), ("plain, start written", END), ("chat", TURN_END)):
        encoder = encoders[name, "answers"]
        row = encoder.encode(TALK)
        assert _spans(encoder, row.labels) == [f"{answer}{end}" for answer in answers]
        assert row.answer_bytes == len("".join(answers))
        assert row.ids == encoders[name, "last_answer"].encode(TALK).ids
    last = encoders["chat", "last_answer"].encode(TALK)
    assert _spans(encoders["chat", "last_answer"], last.labels) == [f"{answers[-1]}{TURN_END}"]
    assert last.answer_bytes == len(answers[-1])


@few
@given(record=EXAMPLES)
def test_the_prompt_length_is_where_the_last_answer_starts(
    encoders: Encoders, kind: str, record: Example
) -> None:
    """Whatever is supervised, `prompt_length` is the start of the last answer."""
    lengths = {encoders[kind, loss_on].encode(record).prompt_length for loss_on in LOSSES}
    row = encoders[kind, "last_answer"].encode(record)
    assert lengths == {next(i for i, label in enumerate(row.labels) if label != IGNORED)}


def test_a_chat_conversation_is_the_template_s_text(encoders: Encoders) -> None:
    """The ids of a conversation are those of the template's text, with one start token."""
    encoder = encoders["chat, start twice", "answers"]
    text = _decode(encoder, encoder.encode(TALK).ids)
    segments = render(TALK, "chat", encoder.tokenizer)
    assert text + "\n" == "".join(segment.text for segment in segments)
    assert text.count(START) == 1


def test_an_earlier_answer_without_an_end_of_turn_is_trained_whole(encoders: Encoders) -> None:
    """Where no special token ends a turn the template's text stays as it is; only the last answer
    gets the end token.
    """
    encoder = encoders["chat without an end", "answers"]
    row = encoder.encode(
        Example("c", "d", 1, "p", earlier=(Turn("user", "a"), Turn("assistant", "b")))
    )
    assert _decode(encoder, row.ids) == f"user: a\nassistant: b\nuser: c\nassistant: d\n{END}"
    assert _spans(encoder, row.labels) == ["b\n", f"d\n{END}"]


# Plain texts


@few
@given(text=SAID)
def test_a_record_of_plain_text_is_supervised_with_its_end(
    encoders: Encoders, kind: str, text: str
) -> None:
    """A record without a question is its text and the end token, without a template; all but the
    first token is supervised, or all of the text where a start token stands before it.
    """
    record = Example("", text, 1, "d.jsonl")
    for loss_on in LOSSES:
        encoder = encoders[kind, loss_on]
        row = encoder.encode(record)
        n_start = len(encoder.start_ids)
        assert row.ids[:n_start] == encoder.start_ids
        assert _decode(encoder, row.ids[n_start:-1]) == text
        assert row.ids[-1] == encoder.eos_token_id
        assert row.labels == (IGNORED, *row.ids[1:])
        assert (row.prompt_length, row.answer_bytes) == (0, len(text.encode("utf-8")))
        assert encoder.prompt_ids(record) == ()


# Many rows at once


@few
@given(records=st.lists(EXAMPLES, max_size=5))
@with_example(records=[LOOKALIKE, TALK, LOOKALIKE])
def test_rows_together_are_the_rows_alone(
    encoders: Encoders, kind: str, records: list[Example]
) -> None:
    """Tokenizing many texts at once gives the ids of the tokenizer's own `encode`, text by text."""
    encoder = encoders[kind, "answers"]
    assert encoder.backend is not None
    one_by_one = replace(encoder, backend=None)
    assert encoder.encode_batch(records) == [one_by_one.encode(record) for record in records]


def test_rows_are_encoded_in_order_over_several_batches(
    encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows are tokenized together, each stands with its own example."""
    monkeypatch.setattr("finetuning_exam.data.encoding.encode._CHUNK", 3)
    encoder = encoders["plain", "answers"]
    records = [Example(f"q{i}", f"a{i}", i, "d.jsonl") for i in range(10)]
    found = encode_all(encoder, records, 1000)
    assert found.examples == tuple(records)
    assert found.rows == tuple(encoder.encode(record) for record in records)
    assert found.findings == ()


def test_a_saved_truncation_cuts_nothing(make_tokenizer: MakeTokenizer) -> None:
    """A tokenizer whose file asks for truncation and padding gives whole texts, unpadded."""
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    encoder = make_encoder(tokenizer, "plain")
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    row = encoder.encode(Example("Say it", "one two three four five", 1, "d.jsonl"))
    assert _decode(encoder, row.ids[row.prompt_length : -1]) == "one two three four five"


def test_a_tokenizer_that_thinks_for_itself_is_asked_text_by_text(
    make_tokenizer: MakeTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the Rust half alone gives other ids than the tokenizer, the tokenizer is asked."""
    tokenizer = make_tokenizer()
    own = type(tokenizer).encode

    def encode(self: PreTrainedTokenizerFast, text: str, **options: bool) -> list[int]:
        return own(self, text.upper(), **options)

    monkeypatch.setattr(type(tokenizer), "encode", encode)
    encoder = make_encoder(tokenizer, "plain")
    assert encoder.backend is None
    row = encoder.encode(Example("Say it", "loud", 1, "d.jsonl"))
    assert _decode(encoder, row.ids[row.prompt_length : -1]) == "LOUD"


def test_ids_are_shared_between_rows(encoders: Encoders) -> None:
    """One number object stands for an id wherever it occurs, so that many rows take little."""
    rows = encoders["plain", "answers"].encode_batch([Example("Ähm", "Öhm Öhm", 1, "d.jsonl")] * 2)
    objects = {id(token) for row in rows for token in (*row.ids, *row.labels)}
    assert len(objects) == len({token for row in rows for token in (*row.ids, *row.labels)})
