"""Specification of a comparison: which prompts are cut, and whose answers stand where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import Models, rows, save_noisy_adapter

from finetuning_exam.api.compare import compare_examples, fitted_prompts
from finetuning_exam.api.events import Event, Notice
from finetuning_exam.data.records import Example
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.generation import generate
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import generate_answers
from finetuning_exam.model.likelihood import stock_nll
from finetuning_exam.model.load import load_base
from finetuning_exam.model.score import score_rows
from finetuning_exam.model.session import Session
from finetuning_exam.settings import CompareSettings


@pytest.fixture(scope="module")
def session(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A llama with an adapter of noise, loaded from its folder."""
    folder: Path = tmp_path_factory.mktemp("adapter")
    save_noisy_adapter(models.folder(), folder)
    return Session.load(folder, str(models.folder()), "cpu", "float32", "plain")


def test_a_prompt_that_is_cut_is_named(session: Session) -> None:
    """A prompt that is cut to leave room for the answer is a line with its place."""
    short = rows(1)[0]
    long = Example("why? " * 300, "", 1, "argument")
    small = replace(session, base=replace(session.base, context=200))
    events: list[Event] = []
    prompts = fitted_prompts(small, (short, long), 80, events.append)
    assert [len(it.ids) for it in prompts] == [len(session.encoder.prompt_ids(short)), 120]
    n_before = len(session.encoder.prompt_ids(long))
    text = (
        f"argument:1: the prompt is cut from {n_before} to 120 tokens, so that the model has room "
        "for an answer."
    )
    assert events == [Notice(text)]


def test_each_answer_stands_beside_its_question_and_model(models: Models, session: Session) -> None:
    """Base and tuned answers are those of a fresh base and of the adapter, in the order asked,
    with the reference.
    """
    examples = (*rows(5), replace(rows(6)[5], answer=""))
    settings = CompareSettings(max_new_tokens=8, eval_batch_size=4)
    found = compare_examples(session, examples, settings)
    base = load_base(str(models.folder()), choose_compute("cpu", "float32"))
    prompts = [session.encoder.prompt_ids(example) for example in examples]
    decoding = Decoding(8, session.encoder.stop_ids, 0)
    before = generate_answers(base.model, base.tokenizer, prompts, decoding, 1)
    after = generate_answers(session.model, base.tokenizer, prompts, decoding, 1)
    assert [(it.prompt, it.base.text, it.tuned.text, it.reference) for it in found] == [
        (example.instruction, old.text, new.text, example.answer)
        for example, old, new in zip(examples, before, after, strict=True)
    ]
    assert before != after
    assert [(it.base.stopped, it.tuned.stopped) for it in found] == [
        (old.stopped, new.stopped) for old, new in zip(before, after, strict=True)
    ]


def test_questions_are_shown_with_their_input(session: Session) -> None:
    """Two questions that differ only in their input are not shown as the same."""
    examples = [Example("Translate.", "", line, "d.jsonl", input=f"w{line}") for line in (1, 2)]
    found = compare_examples(session, examples, CompareSettings(max_new_tokens=1))
    assert [it.prompt for it in found] == ["Translate.\n\nw1", "Translate.\n\nw2"]


def test_references_are_scored_by_both(session: Session) -> None:
    """A reference's NLL per token is that of a fresh base and of the tuned model; a question
    without one has none.
    """
    examples = (*rows(3), replace(rows(4)[3], answer=""))
    settings = CompareSettings(max_new_tokens=2, eval_batch_size=2)
    found = compare_examples(session, examples, settings)
    encoded = [session.encoder.encode(example) for example in examples[:3]]
    with session.model.disable_adapter():
        base = score_rows(session.model, encoded, stock_nll(session.model, 0), 1)
    after = score_rows(session.model, encoded, stock_nll(session.model, 0), 1)
    for it, old, new in zip(found, base, after, strict=False):
        assert it.base.nll_per_token == pytest.approx(old.nll_per_token, rel=1e-5)
        assert it.tuned.nll_per_token == pytest.approx(new.nll_per_token, rel=1e-5)
    assert (found[3].base.nll_per_token, found[3].tuned.nll_per_token) == (None, None)


def test_the_settings_of_the_draw_reach_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sampling, its settings, the model's context and the batch size are passed on as given."""
    seen: list[tuple[Decoding, int]] = []

    def spy(model: object, tokenizer: object, prompts: object, *rest: object) -> object:
        decoding, batch_size = rest
        assert isinstance(decoding, Decoding)
        assert isinstance(batch_size, int)
        seen.append((decoding, batch_size))
        return (), ()

    monkeypatch.setattr(generate, "answer_both", spy)
    settings = CompareSettings(
        max_new_tokens=7, do_sample=True, temperature=0.8, top_p=0.9, seed=5, eval_batch_size=3
    )
    compare_examples(session, (), settings)
    encoder = session.encoder
    wanted = Decoding(
        *(7, encoder.stop_ids, encoder.eos_token_id, True, 0.8, 0.9),
        seed=5,
        context=1024,
        loop_tokens=96,
    )
    assert seen == [(wanted, 3)]
