"""A run in parts: preparing its rows, and training on every kind of record."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tiny import Models, brisk, checkpoints_in, ignore, rows, run_training

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.data.split import Split
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.evaluation.exam_file import to_json
from finetuning_exam.model.fast.path import ALL_PIECES
from finetuning_exam.report.card import model_card
from finetuning_exam.report.html import render_report
from finetuning_exam.report.terminal import exam_summary
from finetuning_exam.run_record import DataRecord
from finetuning_exam.training.prepare import prepare
from finetuning_exam.training.run import examine, make_record, train

DATA = DataRecord(("d.jsonl",), "0" * 64, None, None, 6, 2, 4, False, 0, "1" * 64)


def _texts(n: int) -> tuple[Example, ...]:
    return tuple(
        replace(example, instruction="", answer=f"{example.instruction} {example.answer}")
        for example in rows(n)
    )


def _conversations(n: int) -> tuple[Example, ...]:
    return tuple(
        replace(
            example,
            earlier=(
                Turn("system", "Answer in one sentence."),
                Turn("user", f"Is it day {index}?"),
                Turn("assistant", f"It is day {index}."),
            ),
        )
        for index, example in enumerate(rows(n))
    )


@pytest.mark.parametrize("kind", ["texts", "conversations"])
@pytest.mark.parametrize("text", ["plain", "chat", "started"])
def test_other_records_run_from_training_to_report(
    models: Models, tmp_path: Path, text: str, kind: str
) -> None:
    """Plain texts and conversations go through training, validation, exam and report in both
    templates; all answers of a conversation are trained, but only the last is examined.
    """
    examples = _conversations(12) if kind == "conversations" else _texts(12)
    settings = brisk(
        models.folder(text=text), max_steps=8, answered_examples=2, output_dir=str(tmp_path)
    )
    prepared = prepare(settings, Split(examples[:6], examples[6:8], examples[8:]))
    assert prepared.rows.template == ("chat" if text == "chat" else "plain")
    result = train(prepared, checkpoints_in(tmp_path), ignore)
    assert result.best_validation_loss is not None
    exam = examine(prepared, lambda stage: None)
    assert exam.overall.nll_per_token.difference < 0
    assert exam.overall.n_answered == (2 if kind == "conversations" else 0)
    n_answers = {
        sum(before == IGNORED != label for before, label in pairwise(row.labels))
        for row in prepared.rows.train
    }
    assert n_answers == {2 if kind == "conversations" else 1}
    stop_ids = prepared.rows.encoder.stop_ids
    assert {row.labels[-1] for row in prepared.rows.train} <= set(stop_ids)
    assert json.dumps(to_json(exam), allow_nan=False)
    record = make_record(prepared, DATA, result, "fte train", {})
    console = Console(file=io.StringIO(), width=100)
    console.print(exam_summary(exam))
    assert "nan" not in model_card(exam, record)
    assert render_report(exam, record, ()).startswith("<!")


def test_rows_that_are_too_long_are_reported(models: Models) -> None:
    """Rows that do not fit are cut or left out, each with one finding."""
    long = replace(rows(1)[0], answer="y " * 200, line=77)
    cut = replace(rows(1)[0], instruction="What? " * 100, line=78)
    settings = brisk(models.folder(), max_length=100)
    split = Split((*rows(4), long, cut), (*rows(2), long), (*rows(3), long, cut))
    prepared = prepare(settings, split)
    assert prepared.rows.split == Split((*rows(4), cut), rows(2), (*rows(3), cut))
    assert [finding.line for finding in prepared.rows.findings] == [77, 78]
    sizes = [len(prepared.rows.train), len(prepared.rows.validation), len(prepared.rows.exam.rows)]
    assert sizes == [5, 2, 4]
    assert max(len(row.ids) for row in prepared.rows.train) == 100
    assert prepared.rows.exam.rows[-1].ids == prepared.rows.train[-1].ids


def test_no_row_left_is_an_error(models: Models) -> None:
    """If all training rows or all exam rows are left out, the error lists them."""
    long = replace(rows(1)[0], answer="y " * 200, line=77)
    settings = brisk(models.folder(), max_length=100)
    for split, use in (
        (Split((long,), (), ()), "train on"),
        (Split(rows(4), (), (long,)), "examine"),
    ):
        with pytest.raises(DataError) as caught:
            prepare(settings, split)
        assert str(caught.value).startswith(
            f"rows.jsonl: no rows left to {use}: the only one had to be left out.\n"
            "rows.jsonl:77: the answer"
        )
        assert str(caught.value).endswith(Kind.NOTHING_LEFT.hint)


@pytest.mark.parametrize(("only", "spans"), [(True, 2), (False, 1)])
def test_the_supervised_parts_of_a_conversation(models: Models, only: bool, spans: int) -> None:
    """Training supervises all answers, or everything with `completion_only_loss` off; validation
    and exam supervise only the last answer in either case.
    """
    settings = brisk(models.folder(), completion_only_loss=only)
    prepared = prepare(settings, Split(_conversations(2), _conversations(1), _conversations(1)))
    labels = prepared.rows.train[0].labels
    assert sum(a == IGNORED != b for a, b in pairwise(labels)) == spans
    for row in (*prepared.rows.validation, *prepared.rows.exam.rows):
        assert set(row.labels[: row.prompt_length]) == {IGNORED}


# The fast path of a run


@pytest.mark.parametrize(
    ("changes", "pieces", "notes"),
    [
        ({}, set(ALL_PIECES), ()),
        ({"fast_path": ("rows", "loss")}, {"rows", "loss"}, ()),
        ({"fast_path": ("none",)}, set(), ()),
        (
            {"lora_dropout": 0.1},
            set(ALL_PIECES) - {"lora"},
            ("without lora: the adapter has dropout",),
        ),
    ],
    ids=["default", "some", "none", "dropout"],
)
def test_a_run_uses_the_requested_pieces(
    models: Models, changes: dict[str, Any], pieces: set[str], notes: tuple[str, ...]
) -> None:
    """`--fast_path` selects the pieces of the fast path; pieces that do not apply are noted."""
    prepared = prepare(brisk(models.folder(), **changes), Split(rows(4), (), ()))
    assert (prepared.fast.pieces, prepared.fast.notes) == (frozenset(pieces), notes)
    assert prepared.model is prepared.fast.model


def test_an_unknown_architecture_is_noted(models: Models) -> None:
    """A note names a base whose layers are unknown."""
    prepared = prepare(brisk(models.folder("bloom")), Split(rows(4), (), ()))
    assert prepared.fast.notes == (
        "without attention, lora, elementwise: unsupported architecture bloom",
    )


def test_an_invalid_fast_path_is_rejected_before_the_base_is_loaded(tmp_path: Path) -> None:
    """`--fast_path all rows` is an error even if there is no base to load."""
    settings = brisk(tmp_path / "nothing", fast_path=("all", "rows"))
    with pytest.raises(UsageError, match=r"^--fast_path all rows: all and none cannot be combined"):
        prepare(settings, Split(rows(4), (), ()))


def test_choosing_the_fast_path_does_not_change_the_run(models: Models, tmp_path: Path) -> None:
    """The fresh adapter and its training do not depend on the choice of pieces: probing the model
    does not consume random numbers.
    """
    adapters = []
    for fast_path in (("none",), ("loss",)):
        settings = brisk(models.folder(), fast_path=fast_path, lora_dropout=0.2, max_steps=2)
        run = run_training(settings, tmp_path / fast_path[0], rows(8))
        adapters.append({n: p for n, p in run.prepared.model.named_parameters() if "lora" in n})
    for name, parameter in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], parameter, rtol=1e-4, atol=1e-5, msg=name)


def test_the_exam_uses_the_fast_path_of_the_run(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exam computes its scores with the same fast path as training."""
    prepared = prepare(
        brisk(models.folder(), answered_examples=0), Split(rows(4), (), rows(10)[4:])
    )
    n_rows: list[int] = []
    row_nll = prepared.fast.row_nll

    def counted(batch: Sequence[Encoded]) -> torch.Tensor:
        n_rows.append(len(batch))
        return row_nll(batch)

    monkeypatch.setattr(prepared.fast, "row_nll", counted)
    exam = examine(prepared, lambda stage: None)
    assert sum(n_rows) == 2 * 6
    found = [row.tuned_score.nll for row in exam.rows]
    with torch.no_grad():
        expected = row_nll(prepared.rows.exam.rows).tolist()
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "phi"])
def test_gradient_checkpointing_recomputes_every_layer(
    models: Models, tmp_path: Path, architecture: str
) -> None:
    """`--gradient_checkpointing True` recomputes each layer's activations in the backward pass,
    with the fast path and with the model's own layers; otherwise each layer is computed once.
    """
    passes: dict[bool, int] = {}
    for is_on in (False, True):
        settings = brisk(models.folder(architecture), gradient_checkpointing=is_on, max_steps=1)
        prepared = prepare(settings, Split(rows(4), (), ()))
        body = prepared.model.get_base_model().base_model
        norm = body.layers[1].input_layernorm
        seen: list[bool] = []
        norm.register_forward_pre_hook(
            lambda module, inputs, seen=seen: seen.append(torch.is_grad_enabled())
        )
        if prepared.fast.decoder:  # the full fast path bypasses the norm modules
            prepared.fast.decoder.pieces -= {"elementwise"}
        train(prepared, checkpoints_in(tmp_path), ignore)
        passes[is_on] = sum(seen)
    assert passes == {False: 1, True: 2}
