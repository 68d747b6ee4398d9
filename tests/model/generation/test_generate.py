"""Generation: base and tuned side by side answer like two models asked prompt by prompt, end where
training ends, and draw from a seed.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from passes import count_passes
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from tiny import ARCHITECTURES, Models, Run, adapted, brisk, rows, run_training
from transformers import AutoModelForCausalLM, GenerationConfig, MambaConfig, PreTrainedModel

from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.generation import generate
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import (
    MAX_POSITIONS,
    Answer,
    answer_both,
    batches,
    generate_answers,
)
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


def _answers(run: Run, batch_size: int, n: int = 10, **changes: Any) -> tuple[Answer, ...]:
    encoder = run.prepared.rows.encoder
    settings: dict[str, Any] = {
        "max_new_tokens": 12,
        "stop_ids": encoder.stop_ids,
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
    stop_ids = fitted.prepared.rows.encoder.stop_ids
    assert {row.labels[-1] for row in fitted.prepared.rows.train} <= set(stop_ids)


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
    encoder = run.prepared.rows.encoder
    decoding = Decoding(12, encoder.stop_ids, encoder.eos_token_id)
    prompts = [encoder.prompt_ids(rows(10)[index])]
    model, tokenizer = run.prepared.model, run.prepared.base.tokenizer
    return generate_answers(model, tokenizer, prompts, decoding, 1)[0]


def test_prompts_of_unequal_length_come_back_in_order(plain: Run) -> None:
    """Though prompts of like length share a batch, the answers stand in the order asked."""
    encoder = plain.prepared.rows.encoder
    prompts = [encoder.prompt_ids(example) for example in rows(6)]
    prompts = [p[-length:] for p, length in zip(prompts, (20, 3, 15, 2, 9, 1), strict=True)]
    decoding = Decoding(8, encoder.stop_ids, encoder.eos_token_id)
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


@pytest.mark.parametrize("in_batches", [True, False])
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
    models: Models,
    plain: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: object,
    in_batches: bool,
) -> None:
    """A base whose generation_config.json samples, penalizes or searches is still asked greedily:
    `Decoding` is all there is, in batches and prompt by prompt.
    """
    folder = Path(shutil.copytree(models.folder(), tmp_path / "model"))
    (folder / "generation_config.json").write_text(json.dumps({name: value}), encoding="utf-8")
    base = load_base(str(folder), choose_compute("cpu", "float32"))
    encoder = plain.prepared.rows.encoder
    prompts = [encoder.prompt_ids(example) for example in rows(10)]
    decoding = Decoding(12, encoder.stop_ids, encoder.eos_token_id)
    with plain.prepared.model.disable_adapter():
        expected = generate_answers(plain.prepared.model, base.tokenizer, prompts, decoding, 5)
    monkeypatch.setattr(generate, "can_batch", lambda model: in_batches)
    assert generate_answers(base.model, base.tokenizer, prompts, decoding, 5) == expected


@pytest.mark.parametrize("max_new_tokens", [1, 5])
@pytest.mark.parametrize("in_batches", [True, False])
def test_answers_are_no_longer_than_allowed(
    monkeypatch: pytest.MonkeyPatch, max_new_tokens: int, in_batches: bool
) -> None:
    """A model that does not stop is given exactly `max_new_tokens` tokens."""
    monkeypatch.setattr(generate, "can_batch", lambda model: in_batches)
    decoding = Decoding(max_new_tokens, (511,), 0)
    answers = generate_answers(adapted().eval(), Numbers(), PROMPTS, decoding, 4)
    assert {len(answer.text.split()) for answer in answers} == {max_new_tokens}
    assert not any(answer.stopped for answer in answers)


def test_no_prompts_have_no_answers(plain: Run) -> None:
    """Asking nothing answers nothing."""
    assert _answers(plain, 4, 0) == ()
    assert answer_both(adapted(), Numbers(), [], DECODING, 4) == ((), ())


def test_a_long_prompt_shortens_no_other_answer() -> None:
    """A prompt with too little room for its answer is cut short alone; the others have it all."""
    model = adapted(max_position_embeddings=64).eval()
    decoding = Decoding(12, (511,), 0, context=64)
    prompts = _prompts([58, 10, 59, 11, 58, 70])
    for answers in answer_both(model, Numbers(), prompts, decoding, 4):
        assert [len(it.text.split()) for it in answers] == [6, 12, 5, 12, 6, 1]


def test_without_a_context_there_is_no_limit() -> None:
    """Without `context` every answer may have `max_new_tokens`."""
    (answer,) = generate_answers(adapted(), Numbers(), _prompts([58]), Decoding(12, (511,), 0), 2)
    assert len(answer.text.split()) == 12


# which prompts share a batch


def test_prompts_of_like_length_share_a_batch() -> None:
    """At most `batch_size` prompts, from the shortest to the longest."""
    assert batches([5, 1, 4, 2, 3], DECODING, 2) == [[1, 3], [4, 2], [0]]
    assert batches([], DECODING, 2) == []


def test_prompts_that_are_cut_short_share_a_batch_with_their_equals() -> None:
    """Beyond the context less `max_new_tokens`, only prompts of the very same length."""
    decoding = Decoding(12, (0,), 0, context=64)
    assert batches([58, 10, 59, 58, 52], decoding, 8) == [[1, 4], [0, 3], [2]]


@pytest.mark.parametrize("n_sides", [1, 2])
def test_batches_of_long_prompts_are_smaller(n_sides: int) -> None:
    """No batch of several prompts has more than MAX_POSITIONS positions, both sides counted, and
    none has room for one prompt more.
    """
    draw = random.Random(0)
    lengths = [draw.randrange(1, 900) for _ in range(300)]
    found = batches(lengths, DECODING, 64, n_sides)
    assert sorted(index for batch in found for index in batch) == list(range(300))
    for batch, after in pairwise(found):
        assert _n_positions(lengths, batch, n_sides) <= MAX_POSITIONS
        larger = [*batch, after[0]]
        assert len(batch) == 64 or _n_positions(lengths, larger, n_sides) > MAX_POSITIONS
    assert len({len(batch) for batch in found}) > 3
    assert batches([MAX_POSITIONS, MAX_POSITIONS], DECODING, 64, n_sides) == [[0], [1]]


def _n_positions(lengths: Sequence[int], batch: Sequence[int], n_sides: int) -> int:
    width = max(lengths[index] for index in batch)
    return len(batch) * n_sides * (width + DECODING.max_new_tokens)


# base and tuned model


class Numbers:
    """A tokenizer whose text is the ids, so that equal texts are equal ids."""

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """The ids in decimal, with spaces between."""
        assert skip_special_tokens
        return " ".join(map(str, ids))


def _prompts(lengths: Sequence[int]) -> list[tuple[int, ...]]:
    draw = random.Random(0)
    return [tuple(draw.randrange(30, 500) for _ in range(length)) for length in lengths]


PROMPTS = _prompts([9, 1, 14, 4, 4, 22, 2, 7])
DECODING = Decoding(16, tuple(range(30)), 0)
"""With so many stop ids some answers end early."""


def _one_by_one(model: PreTrainedModel | PeftModel) -> tuple[Answer, ...]:
    """What Transformers' own `generate` answers, asked prompt by prompt."""
    found: list[Answer] = []
    config = GenerationConfig(
        max_new_tokens=DECODING.max_new_tokens,
        do_sample=False,
        eos_token_id=list(DECODING.stop_ids),
        pad_token_id=0,
    )
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
            )
        new = output[0, len(prompt) :].tolist()
        stopped = new[-1] in DECODING.stop_ids
        found.append(Answer(" ".join(map(str, new[:-1] if stopped else new)), stopped))
    return tuple(found)


def _assert_like_two_models(model: PeftModel, base: PreTrainedModel) -> None:
    """Side by side has the texts of the two models, which differ."""
    expected = _one_by_one(base.eval()), _one_by_one(model.eval())
    assert answer_both(model, Numbers(), PROMPTS, DECODING, 5) == expected
    assert expected[0] != expected[1]


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        *((name, {}) for name in ARCHITECTURES),
        ("gemma3", {"sliding_window": 8}),
        ("mistral", {"sliding_window": 8}),
        ("falcon", {"alibi": True}),
    ],
)
def test_side_by_side_answers_like_two_models(architecture: str, options: dict[str, Any]) -> None:
    """In one padded batch with a cache, base and tuned model have the texts that two separate
    models give prompt by prompt, for every architecture.
    """
    model = adapted(architecture, **options)
    _assert_like_two_models(model, copy.deepcopy(model).unload())


def _randomized(base: PreTrainedModel, config: LoraConfig | PromptTuningConfig) -> PeftModel:
    torch.manual_seed(1)
    model = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "prompt" in name:
                parameter.normal_()
    return model


def _llama() -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(ARCHITECTURES["llama"].config())


@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # PEFT, of its own generate
@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(target_modules=["q_proj", "up_proj"], use_dora=True, task_type="CAUSAL_LM"),
        LoraConfig(target_modules=["v_proj", "embed_tokens"], task_type="CAUSAL_LM"),
        PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
    ],
    ids=["DoRA", "embedding", "prompt tuning"],
)
def test_other_adapters_answer_like_two_models(config: LoraConfig | PromptTuningConfig) -> None:
    """What cannot be mixed with base rows is asked after them, and answers no differently."""
    _assert_like_two_models(_randomized(_llama(), config), _llama())


def test_a_model_without_a_common_cache_answers_like_two_models() -> None:
    """A recurrent model is asked prompt by prompt."""
    config = MambaConfig(vocab_size=512, hidden_size=32, num_hidden_layers=2, initializer_range=0.3)
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(config)
    lora = LoraConfig(target_modules=["in_proj"], task_type="CAUSAL_LM")
    _assert_like_two_models(_randomized(copy.deepcopy(base), lora), base)


def _shapes(model: PeftModel) -> list[tuple[int, int]]:
    """The shapes of the ids of all forward passes while both answer with six tokens."""
    shapes = count_passes(model.eval())
    answer_both(model, Numbers(), PROMPTS, Decoding(6, (511,), 0), 5)
    return shapes


def test_both_write_in_the_same_passes() -> None:
    """Base and tuned rows share every forward pass: there are no more of them than for one."""
    assert _shapes(adapted()) == [(10, 7)] + [(10, 1)] * 5 + [(6, 22)] + [(6, 1)] * 5


def test_the_positions_of_both_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six rows of 4 + 6 positions fill sixty: a fourth prompt of the same length has to wait."""
    monkeypatch.setattr(generate, "MAX_POSITIONS", 60)
    assert _shapes(adapted())[0] == (6, 4)


@pytest.mark.parametrize("in_batches", [True, False])
def test_drawn_answers_do_not_depend_on_the_batch(
    monkeypatch: pytest.MonkeyPatch, in_batches: bool
) -> None:
    """Batches of any size, other prompts after it or none, and prompt by prompt: the same draws."""
    model = adapted()
    decoding = Decoding(16, tuple(range(20)), 0, do_sample=True, temperature=0.8, top_p=0.9, seed=5)
    expected = answer_both(model, Numbers(), PROMPTS, decoding, 8)
    monkeypatch.setattr(generate, "can_batch", lambda model: in_batches)
    for n_prompts, batch_size in ((8, 3), (8, 1), (3, 8)):
        found = answer_both(model, Numbers(), PROMPTS[:n_prompts], decoding, batch_size)
        assert found == tuple(side[:n_prompts] for side in expected)


def test_the_same_question_is_drawn_anew_in_another_place() -> None:
    """Each prompt of a list has draws of its own, even where the prompts are equal."""
    decoding = Decoding(16, (511,), 0, do_sample=True)
    for side in answer_both(adapted(), Numbers(), [PROMPTS[0]] * 4, decoding, 4):
        assert len(set(side)) == 4


def test_base_and_tuned_model_draw_with_the_same_numbers() -> None:
    """An adapter that does nothing draws what its base draws."""
    model = adapted()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    decoding = Decoding(16, (511,), 0, do_sample=True)
    base, tuned = answer_both(model, Numbers(), PROMPTS, decoding, 3)
    assert base == tuned


@pytest.mark.parametrize("in_batches", [True, False])
def test_dropout_is_off_and_nothing_is_left_changed(
    monkeypatch: pytest.MonkeyPatch, in_batches: bool
) -> None:
    """A model in training mode answers as in evaluation, and stays in training mode; the global
    random state is not touched.
    """
    monkeypatch.setattr(generate, "can_batch", lambda model: in_batches)
    model = adapted(dropout=0.9, attention_dropout=0.9)
    expected = answer_both(model.eval(), Numbers(), PROMPTS, DECODING, 8)
    model.train()
    before = torch.get_rng_state()
    assert answer_both(model, Numbers(), PROMPTS, DECODING, 8) == expected
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(AssertionError):
        answer_both(model, Numbers(), [()], DECODING, 8)
