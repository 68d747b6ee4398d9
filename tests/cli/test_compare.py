"""What `fte compare` asks: prompts that are cut are told, and what cannot be asked is refused; and
whose answers it shows where.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from tiny import Models, rows

from finetuning_exam.cli import compare
from finetuning_exam.data.encoding.encode import make_encoder
from finetuning_exam.data.records import Example
from finetuning_exam.errors import DataError
from finetuning_exam.model.adapter import add_adapter, lora_config, save_adapter
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.generation import generate
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import generate_answers
from finetuning_exam.model.likelihood import stock_nll
from finetuning_exam.model.load import load_base
from finetuning_exam.model.score import score_rows
from finetuning_exam.model.tokenizer import load_tokenizer
from finetuning_exam.model.tuned import Tuned, load_tuned
from finetuning_exam.settings import CompareSettings


def _ask(
    models: Models, *examples: Example, context: int, max_new_tokens: int
) -> tuple[list[tuple[int, ...]], str]:
    encoder = make_encoder(load_tokenizer(models.folder()), "plain")
    tuned = SimpleNamespace(encoder=encoder, base=SimpleNamespace(context=context))
    console = Console(file=io.StringIO(), width=200)
    prompts = compare._prompts(console, tuned, examples, max_new_tokens)  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return prompts, console.file.getvalue()


def test_a_prompt_without_room_for_an_answer_is_cut_and_told(models: Models) -> None:
    """A prompt longer than the context less the answer is cut to that length, with its place."""
    short = rows(1)[0]
    long = Example("why? " * 300, "", 1, "argument")
    prompts, said = _ask(models, short, long, context=200, max_new_tokens=80)
    encoder = make_encoder(load_tokenizer(models.folder()), "plain")
    assert prompts[0] == encoder.prompt_ids(short)
    whole = encoder.prompt_ids(long)
    assert prompts[1] == whole[:60] + whole[-60:]
    assert said == (
        f"argument:1: the prompt is cut from {len(whole)} to 120 tokens, "
        "so that the model has room for an answer.\n"
    )


def test_a_prompt_keeps_half_of_the_context(models: Models) -> None:
    """However many new tokens are allowed, half of the context is the prompt's."""
    long = Example("why? " * 300, "", 1, "argument")
    prompts, _ = _ask(models, long, context=200, max_new_tokens=5000)
    assert len(prompts[0]) == 100


def test_a_plain_text_cannot_be_asked(models: Models) -> None:
    """A record without a question is named."""
    text = Example("", "Once upon a time.", 4, "d.jsonl")
    with pytest.raises(DataError) as caught:
        _ask(models, text, context=200, max_new_tokens=80)
    assert str(caught.value) == "d.jsonl:4: a plain text, which asks nothing. Give questions."


@pytest.fixture(scope="module")
def tuned(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """A llama with an adapter of noise, loaded from its folder."""
    base = load_base(str(models.folder()), choose_compute("cpu", "float32"))
    model = add_adapter(base, lora_config(4, 8, 0.0, ("all-linear",)), seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    folder: Path = tmp_path_factory.mktemp("adapter")
    save_adapter(model, folder)
    return load_tuned(folder, str(models.folder()), "cpu", "float32", "plain")


def test_each_answer_stands_beside_its_question_and_model(models: Models, tuned: Tuned) -> None:
    """Base and tuned answers are those of a fresh base and of the adapter, in the order asked,
    with the reference.
    """
    examples = (*rows(5), replace(rows(6)[5], answer=""))
    settings = CompareSettings(max_new_tokens=8, eval_batch_size=4)
    found = compare._answer(Console(file=io.StringIO()), tuned, examples, settings)
    base = load_base(str(models.folder()), choose_compute("cpu", "float32"))
    prompts = [tuned.encoder.prompt_ids(example) for example in examples]
    decoding = Decoding(8, tuned.encoder.stop_ids(), 0)
    before = generate_answers(base.model, base.tokenizer, prompts, decoding, 1)
    after = generate_answers(tuned.model, base.tokenizer, prompts, decoding, 1)
    assert [(it.prompt, it.base.text, it.tuned.text, it.reference) for it in found] == [
        (example.instruction, old.text, new.text, example.answer)
        for example, old, new in zip(examples, before, after, strict=True)
    ]
    assert before != after
    assert [(it.base.stopped, it.tuned.stopped) for it in found] == [
        (old.stopped, new.stopped) for old, new in zip(before, after, strict=True)
    ]


def test_references_are_scored_by_both(tuned: Tuned) -> None:
    """A reference's NLL per token is that of a fresh base and of the tuned model; a question
    without one has none.
    """
    examples = (*rows(3), replace(rows(4)[3], answer=""))
    settings = CompareSettings(max_new_tokens=2, eval_batch_size=2)
    found = compare._answer(Console(file=io.StringIO()), tuned, examples, settings)
    encoded = [tuned.encoder.encode(example) for example in examples[:3]]
    with tuned.model.disable_adapter():
        base = score_rows(tuned.model, encoded, stock_nll(tuned.model, 0), 1)
    after = score_rows(tuned.model, encoded, stock_nll(tuned.model, 0), 1)
    for it, old, new in zip(found, base, after, strict=False):
        assert it.base.nll_per_token == pytest.approx(old.nll_per_token, rel=1e-5)
        assert it.tuned.nll_per_token == pytest.approx(new.nll_per_token, rel=1e-5)
    assert (found[3].base.nll_per_token, found[3].tuned.nll_per_token) == (None, None)


def test_the_settings_of_the_draw_reach_it(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
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
    compare._answer(Console(file=io.StringIO()), tuned, (), settings)
    encoder = tuned.encoder
    wanted = Decoding(
        7, encoder.stop_ids(), encoder.eos_token_id, True, 0.8, 0.9, seed=5, context=1024
    )
    assert seen == [(wanted, 3)]
