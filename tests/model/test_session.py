"""A session: one model in memory that encodes, answers, streams and scores as base or as tuned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from tiny import END, Models, logits_of, rows, save_noisy_adapter

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.errors import DataError, ModelError
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.fast.path import FastPath
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import generate_answers
from finetuning_exam.model.likelihood import stock_nll
from finetuning_exam.model.load import load_base
from finetuning_exam.model.mode import Side
from finetuning_exam.model.score import score_rows
from finetuning_exam.model.session import Prompt, Session
from finetuning_exam.settings import CompareSettings

EXAMPLES = rows(5)
QUESTION = "What does the cat do?"


@pytest.fixture(scope="module")
def folder(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of noise for a llama."""
    folder: Path = tmp_path_factory.mktemp("adapter")
    save_noisy_adapter(models.folder(), folder)
    return folder


@pytest.fixture(scope="module")
def session(models: Models, folder: Path) -> Session:
    """The adapter on its base."""
    return Session.load(folder, str(models.folder()), "cpu", "float32", "plain")


def _with_context(session: Session, context: int) -> Session:
    return replace(session, base=replace(session.base, context=context))


def test_everything_is_that_of_two_separate_models(
    models: Models, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers and scores of each side are those of a fresh base and of the adapter on it, in the
    order asked, and nothing is printed.
    """
    base = load_base(str(models.folder()), choose_compute("cpu", "float32"))
    prompts = [it.ids for it in session.prompts(EXAMPLES, 8)]
    decoding = session.decoding(8)
    expected = [
        generate_answers(model, base.tokenizer, prompts, decoding, 1)
        for model in (base.model, session.model)
    ]
    assert session.answer_both(EXAMPLES, decoding, 3) == tuple(expected)
    assert tuple(session.answer(it, decoding, "base") for it in EXAMPLES) == expected[0]
    assert tuple(session.answer(it, decoding, "tuned") for it in EXAMPLES) == expected[1]
    assert session.answer(EXAMPLES[0], decoding) == expected[1][0]
    assert expected[0] != expected[1]
    encoded = [session.encode(example) for example in EXAMPLES]
    for found, model in zip(session.score(encoded, 2), (base.model, session.model), strict=True):
        assert [it.nll for it in found] == pytest.approx(
            [it.nll for it in score_rows(model, encoded, stock_nll(model, 0), 1)], rel=1e-5
        )
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("do_sample", [False, True])
def test_a_stream_is_the_answer(session: Session, do_sample: bool) -> None:
    """For each side the pieces joined are the text that `answer` gives."""
    decoding = session.decoding(8, do_sample=do_sample, seed=3)
    sides: tuple[Side, ...] = ("base", "tuned")
    for side in sides:
        answer = session.answer(QUESTION, decoding, side)
        assert "".join(session.stream(QUESTION, decoding, side)).strip() == answer.text


def test_the_fast_path_scores_the_same(session: Session) -> None:
    """The faster likelihood agrees with the stock one for both sides."""
    encoded = [session.encode(example) for example in EXAMPLES]
    fast = session.with_fast_path()
    assert fast.fast.decoder is not None
    assert session.fast.decoder is None
    for found, expected in zip(fast.score(encoded), session.score(encoded), strict=True):
        assert [it.nll for it in found] == pytest.approx([it.nll for it in expected], rel=1e-4)


def test_a_session_does_one_thing_at_a_time(session: Session) -> None:
    """While a stream is open every other use is refused, since the adapter may be off; closing it
    gives the session free, also for one with another likelihood.
    """
    decoding = session.decoding(8)
    row = session.encode(EXAMPLES[0])
    uses: tuple[Callable[[], object], ...] = (
        lambda: session.score([row]),
        lambda: session.with_fast_path().score([row]),
        lambda: session.answer(QUESTION, decoding),
        lambda: session.answer_both([QUESTION], decoding),
        lambda: next(session.stream(QUESTION, decoding, "tuned")),
    )
    expected = session.score([row])
    pieces = session.stream(QUESTION, decoding, "base")
    assert session.score([row]) == expected, "a stream that has not begun is not open"
    next(pieces)
    for use in uses:
        with pytest.raises(RuntimeError, match=r"^The session is in use: .* close the stream"):
            use()
    pieces.close()
    assert session.score([row]) == expected
    list(session.stream(QUESTION, decoding, "base"))
    assert session.score([row]) == expected


def test_an_error_gives_the_session_free(session: Session) -> None:
    """After a call that failed the next one is answered."""
    with pytest.raises(AssertionError):
        session.answer(Prompt(()), session.decoding(8))
    assert session.answer_both([], session.decoding(8)) == ((), ())


def test_an_answer_needs_no_more_than_a_question(session: Session) -> None:
    """Without settings an answer is greedy and as long as `fte compare` has it."""
    assert session.decoding().max_new_tokens == CompareSettings().max_new_tokens
    assert session.answer(QUESTION) == session.answer(QUESTION, session.decoding())


def test_decoding_knows_the_model(session: Session) -> None:
    """Stop ids, padding and context are the model's, the rest is as it was asked for."""
    found = session.decoding(7, do_sample=True, temperature=0.8, top_p=0.9, seed=5)
    encoder = session.encoder
    end = encoder.eos_token_id
    assert found == Decoding(
        7, encoder.stop_ids, end, True, 0.8, 0.9, seed=5, context=1024, loop_tokens=96
    )


# prompts


def test_a_prompt_without_room_for_an_answer_is_cut(session: Session) -> None:
    """A prompt longer than the context less the answer is cut to that length in its middle, and
    the number of tokens that were cut is known.
    """
    long = Example("why? " * 300, "", 1, "argument")
    whole = session.encoder.prompt_ids(long)
    short, cut = _with_context(session, 200).prompts([EXAMPLES[0], long], 80)
    assert short == Prompt(session.encoder.prompt_ids(EXAMPLES[0]), 0)
    assert cut == Prompt(whole[:60] + whole[-60:], len(whole) - 120)


def test_a_prompt_keeps_half_of_the_context(session: Session) -> None:
    """However many new tokens are allowed, half of the context is the prompt's."""
    (prompt,) = _with_context(session, 200).prompts(["why? " * 300], 5000)
    assert len(prompt.ids) == 100


def test_a_question_may_be_a_text(session: Session) -> None:
    """A text is asked as a record with that instruction is; an empty one is refused by its
    number.
    """
    example = Example(QUESTION, "", 1, "d.jsonl")
    assert session.prompts([QUESTION], 8) == session.prompts([example], 8)
    with pytest.raises(DataError, match=r"^question:2: the question is empty\.$"):
        session.prompts([QUESTION, " "], 8)


def test_a_prompt_stays_as_it_is(session: Session) -> None:
    """What `prompts` made is not encoded or cut again, also among other questions."""
    prompt = Prompt((5, 6, 7), 2)
    assert _with_context(session, 4).prompts([QUESTION, prompt], 8)[1] is prompt
    decoding = session.decoding(8)
    assert session.answer(session.prompts([QUESTION], 8)[0], decoding) == session.answer(
        QUESTION, decoding
    )


def test_earlier_turns_are_part_of_the_prompt(session: Session) -> None:
    """A conversation is an example with earlier turns; what does not fit loses the oldest ones."""
    turns = (Turn("user", "Who sleeps?"), Turn("assistant", "The cat."))
    talk = Example("Where?", "", 1, "chat", earlier=turns)
    (prompt,) = session.prompts([talk], 8)
    text = session.base.tokenizer.decode(prompt.ids)
    assert text.index("Who sleeps?") < text.index("The cat.") < text.index("Where?")
    small = _with_context(session, 2 * (len(prompt.ids) - 1))
    (cut,) = small.prompts([talk], len(prompt.ids))
    assert cut.ids == session.prompts(["Where?"], 8)[0].ids
    assert cut.n_cut == len(prompt.ids) - len(cut.ids)


def test_a_plain_text_cannot_be_asked(session: Session) -> None:
    """Records without a question are named, all of them."""
    texts = [Example("", "Once upon a time.", line, "d.jsonl") for line in (4, 7)]
    with pytest.raises(DataError) as caught:
        session.prompts([texts[0], EXAMPLES[0], texts[1]], 80)
    assert caught.value.faults == (
        "d.jsonl:4: a plain text, which asks nothing.",
        "d.jsonl:7: a plain text, which asks nothing.",
    )


def test_a_special_token_that_a_template_would_obey_is_refused(
    models: Models, tmp_path: Path
) -> None:
    """Nobody ends a turn of the conversation from within a question."""
    base = models.folder(text="chat")
    save_noisy_adapter(base, tmp_path)
    session = Session.load(tmp_path, str(base), "cpu", "float32")
    assert session.encoder.template == "chat"
    with pytest.raises(DataError, match=r"question:1: .*<\|end\|>"):
        session.prompts([f"a{END}b"], 8)


def test_the_base_is_the_one_the_adapter_names(
    models: Models, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path as text will do, and without `model` the adapter's own base is loaded."""
    monkeypatch.chdir(models.folder().parent)
    session = Session.load(str(folder), device="cpu", dtype="float32")
    assert session.base.folder.resolve() == models.folder().resolve()
    ids = session.encode(EXAMPLES[0]).ids
    with session.model.disable_adapter():
        base = logits_of(session.model, ids)
    assert not torch.equal(logits_of(session.model, ids), base)


@pytest.mark.parametrize("side", ["base", "tuned"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_an_error(
    session: Session, side: Side, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model without finite likelihoods is named; nothing is concluded from its scores."""

    def nll(fast: FastPath, rows: Sequence[Encoded]) -> torch.Tensor:
        wrong = mode_of(session) == side
        return torch.tensor([value if wrong and len(row.ids) % 2 else 1.0 for row in rows])

    encoded = [replace(session.encode(it), ids=(5,) * n) for n, it in enumerate(EXAMPLES, 4)]
    n_odd = sum(len(row.ids) % 2 for row in encoded)
    monkeypatch.setattr(FastPath, "row_nll", nll)
    with pytest.raises(ModelError) as caught:
        session.score(encoded)
    assert str(caught.value).startswith(
        f"The {side} model gives {n_odd} of 5 texts a likelihood that is NaN or infinite."
    )


def mode_of(session: Session) -> Side:
    """Return which of the two models answers now."""
    layers = [it for it in session.model.modules() if isinstance(it, BaseTunerLayer)]
    return "base" if layers[0].disable_adapters else "tuned"
