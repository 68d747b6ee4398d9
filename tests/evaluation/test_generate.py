"""Generation: batches answer like single rows, end where training ends, and draw from a seed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny import Models, Run, brisk, rows, run_training

from finetuning_exam.evaluation.generate import Answer, Decoding, generate_answers
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.load import load_base

TAUGHT = rows(4)


@pytest.fixture(scope="module", params=["plain", "padded", "started", "chat"])
def fitted(
    request: pytest.FixtureRequest, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A llama over-fitted to four rows, for each kind of tokenizer."""
    settings = brisk(
        models.folder(text=request.param),
        max_steps=60,
        save_steps=1000,
        lora_r=16,
        lora_alpha=32,
        logging_steps=100,
    )
    return run_training(settings, tmp_path_factory.mktemp(request.param), TAUGHT)


@pytest.fixture(scope="module")
def plain(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A llama after one step: its answers ramble."""
    settings = brisk(models.folder(), max_steps=1)
    return run_training(settings, tmp_path_factory.mktemp("plain"), TAUGHT)


def _answers(run: Run, batch_size: int, n: int = 10, **changes: object) -> tuple[Answer, ...]:
    encoder = run.prepared.encoder
    settings: dict[str, object] = {
        "max_new_tokens": 12,
        "stop_ids": encoder.stop_ids(),
        "pad_id": encoder.eos_token_id,
    }
    return generate_answers(
        run.prepared.model,
        run.prepared.base.tokenizer,
        [encoder.prompt_ids(example) for example in rows(n)],
        Decoding(**(settings | changes)),
        batch_size,
    )


def test_an_overfitted_model_answers_and_stops(fitted: Run) -> None:
    """A model that learned four rows by heart answers them word for word and ends by itself,
    long before `max_new_tokens`.
    """
    answers = _answers(fitted, 4, 4, max_new_tokens=200)
    assert answers == tuple(Answer(example.answer, stopped=True) for example in TAUGHT)


def test_every_trained_end_is_a_stop_id(fitted: Run) -> None:
    """The last label of every trained row is among the ids that stop generation."""
    stop_ids = fitted.prepared.encoder.stop_ids()
    assert {row.labels[-1] for row in fitted.prepared.train_rows} <= set(stop_ids)


def test_without_its_stop_ids_the_model_goes_on(fitted: Run) -> None:
    """It is the stop ids that end an answer: without the trained one it runs on past its end."""
    answer = _answers(fitted, 4, 1, max_new_tokens=60, stop_ids=(499,))[0]
    assert answer.text.startswith(TAUGHT[0].answer)
    assert len(answer.text) > len(TAUGHT[0].answer)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batched_answers_are_the_single_ones(plain: Run, batch_size: int) -> None:
    """Left-padded batches give the answers of single, unpadded rows, in the order of prompts."""
    alone = tuple(_single(plain, index) for index in range(10))
    assert _answers(plain, batch_size) == alone
    assert len(set(alone)) == 10


def _single(run: Run, index: int) -> Answer:
    encoder = run.prepared.encoder
    decoding = Decoding(12, encoder.stop_ids(), encoder.eos_token_id)
    prompts = [encoder.prompt_ids(rows(10)[index])]
    model, tokenizer = run.prepared.model, run.prepared.base.tokenizer
    return generate_answers(model, tokenizer, prompts, decoding, 1)[0]


def test_prompts_of_unequal_length_come_back_in_order(plain: Run) -> None:
    """Though prompts of like length share a batch, the answers stand in the order asked."""
    encoder = plain.prepared.encoder
    prompts = [encoder.prompt_ids(example) for example in rows(6)]
    prompts = [p[-length:] for p, length in zip(prompts, (20, 3, 15, 2, 9, 1), strict=True)]
    decoding = Decoding(8, encoder.stop_ids(), encoder.eos_token_id)
    model, tokenizer = plain.prepared.model, plain.prepared.base.tokenizer
    forward = generate_answers(model, tokenizer, prompts, decoding, 2)
    backward = generate_answers(model, tokenizer, prompts[::-1], decoding, 2)
    assert forward == backward[::-1]
    assert len(set(forward)) > 3


def test_the_padding_token_makes_no_difference(plain: Run) -> None:
    """Which id fills a batch on the left changes no answer."""
    assert _answers(plain, 10, pad_id=0) == _answers(plain, 10, pad_id=300)


def test_sampling_is_drawn_from_its_seed(plain: Run) -> None:
    """The same seed draws the same answers, another seed others, and greedy draws none."""
    first = _answers(plain, 5, do_sample=True, seed=1)
    assert _answers(plain, 5, do_sample=True, seed=1) == first
    assert _answers(plain, 5, do_sample=True, seed=2) != first
    assert _answers(plain, 5, seed=1) == _answers(plain, 5, seed=2) != first


def test_temperature_and_top_p_reach_the_draw(plain: Run) -> None:
    """A temperature near zero, or a tiny top-p, draws the likeliest token: the greedy answer."""
    greedy = _answers(plain, 5)
    assert _answers(plain, 5, do_sample=True, temperature=1e-4) == greedy
    assert _answers(plain, 5, do_sample=True, top_p=1e-6) == greedy
    assert _answers(plain, 5, do_sample=True, temperature=5.0) != greedy


def test_sampling_is_not_cut_to_fifty_tokens(plain: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers' default of top-k 50 is off, since nobody asked for it."""
    seen: list[object] = []
    generate = plain.prepared.model.generate

    def spy(**named: object) -> object:
        seen.append(named["generation_config"])
        return generate(**named)

    monkeypatch.setattr(plain.prepared.model, "generate", spy)
    _answers(plain, 10, do_sample=True, temperature=0.8, top_p=0.9)
    (config,) = seen
    assert (config.top_k, config.temperature, config.top_p) == (0, 0.8, 0.9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("do_sample", True),
        ("temperature", 3.0),
        ("max_length", 30),
        ("min_new_tokens", 12),
        ("eos_token_id", 5),
        ("repetition_penalty", 2.0),
        ("no_repeat_ngram_size", 1),
        ("num_beams", 3),
    ],
)
def test_a_folders_own_generation_settings_have_no_say(
    models: Models, plain: Run, tmp_path: Path, name: str, value: object
) -> None:
    """A base whose generation_config.json samples, penalizes or searches is still asked greedily:
    `Decoding` is all there is.
    """
    folder = Path(shutil.copytree(models.folder(), tmp_path / "model"))
    (folder / "generation_config.json").write_text(json.dumps({name: value}), encoding="utf-8")
    base = load_base(str(folder), choose_compute("cpu", "float32"))
    encoder = plain.prepared.encoder
    prompts = [encoder.prompt_ids(example) for example in rows(10)]
    decoding = Decoding(12, encoder.stop_ids(), encoder.eos_token_id)
    with plain.prepared.model.disable_adapter():
        expected = generate_answers(plain.prepared.model, base.tokenizer, prompts, decoding, 5)
    assert generate_answers(base.model, base.tokenizer, prompts, decoding, 5) == expected


@pytest.mark.parametrize("max_new_tokens", [1, 5])
def test_answers_are_no_longer_than_allowed(
    plain: Run, monkeypatch: pytest.MonkeyPatch, max_new_tokens: int
) -> None:
    """A model that does not stop is given exactly `max_new_tokens` tokens."""
    widths: list[int] = []
    generate = plain.prepared.model.generate

    def spy(**named: object) -> torch.Tensor:
        output: torch.Tensor = generate(**named)
        widths.append(output.shape[1] - named["input_ids"].shape[1])
        return output

    monkeypatch.setattr(plain.prepared.model, "generate", spy)
    answers = _answers(plain, 10, max_new_tokens=max_new_tokens, stop_ids=(499,))
    assert widths == [max_new_tokens]
    assert not all(answer.stopped for answer in answers)


def test_no_prompts_have_no_answers(plain: Run) -> None:
    """Asking nothing answers nothing."""
    assert _answers(plain, 4, 0) == ()


def _widths(
    plain: Run, monkeypatch: pytest.MonkeyPatch, prompts: list[tuple[int, ...]], decoding: Decoding
) -> list[tuple[int, int]]:
    """Width and new tokens of every batch of two."""
    widths: list[tuple[int, int]] = []
    generate = plain.prepared.model.generate

    def spy(**named: object) -> torch.Tensor:
        output: torch.Tensor = generate(**named)
        width = named["input_ids"].shape[1]
        widths.append((width, output.shape[1] - width))
        return output

    monkeypatch.setattr(plain.prepared.model, "generate", spy)
    model, tokenizer = plain.prepared.model, plain.prepared.base.tokenizer
    generate_answers(model, tokenizer, prompts, decoding, 2)
    return widths


def test_a_long_prompt_shortens_no_other_answer(
    plain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt with too little room for its answer is answered alone; the others have it all."""
    ids = plain.prepared.encoder.prompt_ids(rows(1)[0])
    prompts = [(ids * 9)[:58], ids[:10], (ids * 9)[:59], ids[:11]]
    decoding = Decoding(12, (499,), 0, context=64)
    assert _widths(plain, monkeypatch, prompts, decoding) == [(11, 12), (58, 6), (59, 5)]


def test_without_a_context_there_is_no_limit(plain: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `context` every answer may have `max_new_tokens`."""
    ids = plain.prepared.encoder.prompt_ids(rows(1)[0])
    decoding = Decoding(12, (499,), 0)
    assert _widths(plain, monkeypatch, [(ids * 9)[:58]], decoding) == [(58, 12)]
