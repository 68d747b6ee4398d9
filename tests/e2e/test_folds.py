"""`fte train --folds K`: K adapters are examined; the one that is saved is trained on all rows."""

from __future__ import annotations

import gc
import json
import shutil
import signal
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fault_commands import Said
from tiny import LEAN, LEAN_SETTINGS, Models, brisk, rows, write_rows

from finetuning_exam import ExamSettings, TrainSettings, exam, train
from finetuning_exam.api.events import Event, ExamStage, FoldBegun, FoldEnded, OnEvent, ignore
from finetuning_exam.api.train import TrainedRun
from finetuning_exam.errors import StoppedError, UserError
from finetuning_exam.training import prepare as preparing
from finetuning_exam.training.interrupt import Interrupts
from finetuning_exam.training.progress import Progress
from finetuning_exam.training.run_folder import clear_run

EXAMPLES = (*rows(11, "a"), *rows(22, "b")[11:])
N_FOLDS = 3
WEIGHTS = "adapter_model.safetensors"
SAME = (f"{WEIGHTS}", "exam.json")
"""Files of the whole that must not depend on interruptions."""


class _Killed(Exception):
    """Simulates whatever ends a process in the middle."""


def _settings(models: Models, out: Path, **changes: Any) -> TrainSettings:
    data = write_rows(out.parent / "rows.jsonl", EXAMPLES)
    small = {"max_steps": 4, "save_steps": 2, "answered_examples": 12, "max_new_tokens": 4}
    small |= LEAN_SETTINGS
    files = {"data": (str(data),), "output_dir": str(out), "general_file": str(general(out.parent))}
    return brisk(models.folder(), **(small | files | {"folds": N_FOLDS} | changes))


def general(folder: Path) -> Path:
    """Write a few short paragraphs of general text, which take less time than the built-in ones."""
    path = folder / "general.txt"
    path.write_text("\n\n".join(f"Some words about {it}." for it in "abcdefgh"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(models: Models, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """Return an undisturbed cross-validation of three folds."""
    return train(_settings(models, tmp_path_factory.mktemp("whole") / "out"))


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _when(is_then: Callable[[Event, int], bool], act: Callable[[], None]) -> OnEvent:
    """Return a callback that acts at the first event of its kind, given the fold that is trained:
    0 before the first fold, and one more than there are after the last.
    """
    fold, acted = 0, False

    def on_event(event: Event) -> None:
        nonlocal fold, acted
        if isinstance(event, FoldBegun):
            fold = event.fold.number
        if isinstance(event, FoldEnded) and event.fold.number == N_FOLDS:
            fold = N_FOLDS + 1
        if not acted and is_then(event, fold):
            acted = True
            act()

    return on_event


def _kill() -> None:
    raise _Killed


def _resumed(settings: TrainSettings, on_event: OnEvent = ignore) -> TrainedRun:
    return train(replace(settings, resume_from_checkpoint="latest"), on_event=on_event)


def _assert_same(found: Path, expected: Path) -> None:
    for name in SAME:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


# What is examined


def test_every_row_is_examined_once_by_an_adapter_that_has_not_seen_it(whole: TrainedRun) -> None:
    """The exam has all rows in the order of the file; those of a fold are not in its training."""
    exam = _json(whole.folder / "exam.json")
    assert [row["prompt"] for row in exam["examples"]] == [it.instruction for it in EXAMPLES]
    assert (exam["n_examples"], exam["n_answered"], exam["is_held_out"]) == (22, 12, True)
    examined: list[str] = []
    for number in range(1, N_FOLDS + 1):
        fold = _json(whole.folder / f"fold-{number}" / "exam.json")
        examined += [row["prompt"] for row in fold["examples"]]
        data = _json(whole.folder / f"fold-{number}" / "run.json")["data"]
        assert data["n_train"] + data["n_exam"] == 22
        assert data["n_exam"] == len(fold["examples"])
    assert sorted(examined) == sorted(it.instruction for it in EXAMPLES)


def test_the_figures_are_those_of_the_folds(whole: TrainedRun) -> None:
    """The pooled rows have the scores that each fold's own exam gave them."""
    pooled = {row["prompt"]: row for row in _json(whole.folder / "exam.json")["examples"]}
    for number in range(1, N_FOLDS + 1):
        for row in _json(whole.folder / f"fold-{number}" / "exam.json")["examples"]:
            assert pooled[row["prompt"]] == row


def test_the_folds_are_other_adapters_than_the_saved_one(whole: TrainedRun) -> None:
    """Each fold has an adapter of its own; run.json of the whole says all rows were trained on."""
    adapters = {
        path.read_bytes()
        for path in [*whole.folder.glob(f"fold-*/{WEIGHTS}"), whole.folder / WEIGHTS]
    }
    assert len(adapters) == N_FOLDS + 1
    run = _json(whole.folder / "run.json")
    assert (run["data"]["n_train"], run["data"]["n_exam"], run["fold"]) == (22, 22, None)
    assert run["settings"]["folds"] == N_FOLDS
    fold = _json(whole.folder / "fold-2" / "run.json")["fold"]
    assert fold == {"number": 2, "n_folds": N_FOLDS}


def test_the_adapter_is_that_of_a_training_on_all_rows(
    whole: TrainedRun, models: Models, tmp_path: Path
) -> None:
    """The saved adapter is, byte for byte, that of the same training with an exam file."""
    exam = write_rows(tmp_path / "exam.jsonl", rows(40)[30:])
    settings = _settings(models, tmp_path / "out", folds=None, eval_file=str(exam))
    train(settings)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (whole.folder / WEIGHTS).read_bytes()


def test_exam_json_report_and_card_say_what_was_examined(whole: TrainedRun) -> None:
    """All three say that other adapters were examined than the one that was saved."""
    folds = _json(whole.folder / "exam.json")["folds"]
    assert folds["n_adapters_examined"] == N_FOLDS
    assert folds["saved_adapter_was_examined"] is False
    assert sum(fold["n_exam"] for fold in folds["each"]) == 22
    words = "3 adapters were examined, each on rows that it was not trained on. The saved adapter"
    assert words in (whole.folder / "report.html").read_text(encoding="utf-8")
    card = (whole.folder / "README.md").read_text(encoding="utf-8")
    assert words in card
    assert "in 3 folds; each was examined by an adapter trained on the others" in card
    assert "cross-validation: 3 other adapters" in card.partition("---\n\n")[0]


def test_forgetting_is_that_of_the_saved_adapter(whole: TrainedRun, tmp_path: Path) -> None:
    """`fte exam` of the saved adapter finds the same forgetting; each fold has another."""
    found = _json(whole.folder / "exam.json")["forgetting"]
    others = [_json(path)["forgetting"] for path in whole.folder.glob("fold-*/exam.json")]
    assert found not in others
    data, output = write_rows(tmp_path / "new.jsonl", rows(40)[30:]), tmp_path / "exam.json"
    exam(
        ExamSettings(
            data=str(data),
            adapter_name_or_path=str(whole.folder),
            output_file=str(output),
            device="cpu",
            answered_examples=0,
            general_file=str(general(tmp_path)),
        )
    )
    again = _json(output)
    for name in ("base", "tuned", "difference", "ci_low", "ci_high"):
        assert again["forgetting"][name] == pytest.approx(found[name], rel=1e-4), name
    assert again["folds"] is None


def test_validation_rows_choose_the_step_in_each_training(models: Models, tmp_path: Path) -> None:
    """With enough rows, each fold and the last training hold out validation rows of their own."""
    data = write_rows(tmp_path / "many.jsonl", rows(60))
    train(_settings(models, tmp_path / "out", data=(str(data),), max_steps=2, answered_examples=0))
    found = {
        path.parent.name: tuple(_json(path)["data"][f"n_{it}"] for it in ("train", "validation"))
        for path in [*tmp_path.glob("out/*/run.json"), tmp_path / "out" / "run.json"]
    }
    assert found == {"fold-1": (36, 4), "fold-2": (36, 4), "fold-3": (36, 4), "out": (54, 6)}


# What is printed


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Said:
    """Return an object that runs commands in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Said(capsys)


def _command(models: Models, data: str, *more: str) -> Sequence[str]:
    quick = ("--device", "cpu", "--answered_examples", "3", "--max_new_tokens", "4", *LEAN)
    files = ("--model", str(models.folder()), "--general_file", str(general(Path())))
    return ("train", data, *files, *quick, "--max_steps", "2", *more)


def test_a_fold_is_one_line(said: Said, models: Models) -> None:
    """The plan, the cost and the verdict are printed once, and a line for each fold."""
    data = str(write_rows(Path("rows.jsonl"), EXAMPLES))
    assert said.fte(*_command(models, data, "--folds", "3")) == 0
    lines = said.out.splitlines()
    folds = [line for line in lines if line.startswith("Fold ")]
    assert [line[:13] for line in folds] == ["Fold 1 of 3: ", "Fold 2 of 3: ", "Fold 3 of 3: "]
    assert "Fold 1 of 3: trained on 14 examples, examined on 8: NLL per token " in folds[0]
    assert (
        "Cross-validation: 3 folds of 7 to 8 examples, each examined by an adapter trained on the "
        "other 14 to 15; then the saved adapter is trained on all 22." in lines
    )
    for once in ("Estimated for 4 trainings: ", "LoRA of rank ", "2 steps of 16 rows", "Verdict: "):
        assert said.out.count(once) == 1, once
    words = "is not one of them, so the verdict is about this way of training."
    assert words in " ".join(said.out.split())
    assert "Forgetting (saved adapter): " in said.out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--folds", "1"), "--folds: expected an integer of at least 2 or None, got 1."),
        (
            ("--folds", "9"),
            "--folds 9: the 8 rows form only 8 groups that must stay together (rows with the same "
            "question, the same group, or nearly the same text), and each fold needs at least one. "
            "Give at most --folds 8, or add rows with other questions.",
        ),
        (
            ("--folds", "2", "--eval_file", "new.jsonl"),
            "--folds 2 with --eval_file new.jsonl: in a cross-validation, the rows of the training "
            "file are the exam. Remove one of the two.",
        ),
        (
            ("--folds", "2", "--fork", "other"),
            "--folds 2 with --fork other: the weights of the fork may have been trained on rows "
            "that a fold must not have seen. Remove one of the two.",
        ),
        (
            ("--folds", "2", "--resume_from_checkpoint", "output/fold-1/checkpoint-2"),
            "--resume_from_checkpoint output/fold-1/checkpoint-2: a cross-validation has the "
            'checkpoints of several trainings. Pass "latest" to resume all of it.',
        ),
        (
            ("--folds", "2", "--resume_from_checkpoint", "latest"),
            "output: no checkpoint to resume from. Remove --resume_from_checkpoint to start from "
            "the beginning.",
        ),
    ],
    ids=["one", "too many", "an exam file", "a fork", "one checkpoint", "nothing to resume"],
)
def test_what_cannot_be_cross_validated_is_refused(
    said: Said, models: Models, flags: tuple[str, ...], words: str
) -> None:
    """The message says why, and what to do; nothing is trained."""
    data = str(write_rows(Path("rows.jsonl"), rows(8)))
    write_rows(Path("new.jsonl"), rows(20)[10:])
    assert said.fte(*_command(models, data, *flags)) == 2
    assert said.err == f"fte train: {words}\n"
    assert not list(Path().glob("output/*.json"))


def test_an_exam_file_found_by_its_name_is_refused(said: Said, models: Models) -> None:
    """Nobody gave it, so the message says where it comes from."""
    data = str(write_rows(Path("train.jsonl"), rows(8)))
    write_rows(Path("exam.jsonl"), rows(20)[10:])
    assert said.fte(*_command(models, data, "--folds", "2")) == 2
    assert said.err == (
        "fte train: --folds 2: there is an exam file, exam.jsonl, which is found by its name; in a "
        "cross-validation, the rows of the training file are the exam. Remove --folds to use the "
        "exam file, or rename it to leave it out.\n"
    )


def test_too_few_rows_for_a_verdict_are_reported_before(said: Said, models: Models) -> None:
    """Five rows are five pieces of evidence, however they are dealt."""
    data = str(write_rows(Path("rows.jsonl"), rows(5)))
    assert said.fte(*_command(models, data, "--folds", "5")) == 0
    assert (
        "Warning: even all folds together have only 5 examples, 5 pieces of evidence, so the "
        'verdict can only be "too few examples to tell". To change that, add rows with other '
        "questions." in said.out
    )
    assert "Verdict: too few examples to tell" in said.out


# Resume


KILLED = {
    "before fold 1 has a checkpoint": lambda event, fold: isinstance(event, Progress) and fold == 1,
    "in fold 2": lambda event, fold: isinstance(event, Progress) and fold == 2 and event.step == 3,
    "in the exam of fold 2": lambda event, fold: isinstance(event, ExamStage) and fold == 2,
    "between folds": lambda event, fold: isinstance(event, FoldEnded) and fold == 2,
    "before the last training": lambda event, fold: isinstance(event, Progress) and fold > N_FOLDS,
    "in the last training": lambda event, fold: (
        isinstance(event, Progress) and fold > N_FOLDS and event.step == 3
    ),
    "in the last exam": lambda event, fold: isinstance(event, ExamStage) and fold > N_FOLDS,
}


QUICK = ("in fold 2", "between folds", "in the last exam")


@pytest.mark.parametrize(
    "moment",
    [it if it in QUICK else pytest.param(it, marks=pytest.mark.slow) for it in list(KILLED)[1:]],
)
def test_a_resumed_cross_validation_is_that_of_an_undisturbed_one(
    whole: TrainedRun, models: Models, tmp_path: Path, moment: str
) -> None:
    """Killed at any moment and resumed, it has the same adapter and exam, byte for byte; folds that
    were finished are not trained again.
    """
    settings = _settings(models, tmp_path / "out")
    with pytest.raises(_Killed):
        train(settings, on_event=_when(KILLED[moment], _kill))
    finished = {
        path.parent.name: path.stat().st_mtime_ns
        for path in (tmp_path / "out").glob("fold-*/run.json")
        if "state" not in _json(path)
    }
    ended: list[FoldEnded] = []
    _resumed(settings, lambda event: ended.append(event) if isinstance(event, FoldEnded) else None)
    _assert_same(tmp_path / "out", whole.folder)
    assert [event.is_earlier for event in ended].count(True) == len(finished)
    for name, written in finished.items():
        assert (tmp_path / "out" / name / "run.json").stat().st_mtime_ns == written


def test_nothing_is_resumed_before_the_first_checkpoint(
    whole: TrainedRun, models: Models, tmp_path: Path
) -> None:
    """Killed before the first checkpoint, the same command starts again."""
    settings = _settings(models, tmp_path / "out")
    moment = KILLED["before fold 1 has a checkpoint"]
    with pytest.raises(_Killed):
        train(settings, on_event=_when(moment, _kill))
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        _resumed(settings)
    train(settings)
    _assert_same(tmp_path / "out", whole.folder)


def test_a_damaged_fold_is_examined_again(
    whole: TrainedRun, models: Models, tmp_path: Path
) -> None:
    """If the rows of a finished fold cannot be read, its exam is taken again."""
    out = tmp_path / "out"
    settings = _settings(models, out)
    shutil.copytree(whole.folder, out)
    (out / "fold-2" / "exam_rows.json").write_text('{"rows": [', encoding="utf-8")
    (out / "exam.json").unlink()
    _resumed(settings)
    _assert_same(out, whole.folder)


def test_a_signal_names_the_fold_and_how_to_resume(
    whole: TrainedRun, models: Models, tmp_path: Path
) -> None:
    """Ctrl-C in fold 2: the step is saved, and the hint is the command of the whole."""
    settings = _settings(models, tmp_path / "out")
    interrupts = Interrupts()

    def press() -> None:
        interrupts.received = signal.SIGINT

    with pytest.raises(StoppedError) as caught:
        train(settings, on_event=_when(KILLED["in fold 2"], press), interrupts=interrupts)
    said = str(caught.value)
    assert said.startswith("fold 2 of 3: stopped after step 4 of 4 (checkpoint saved). To resume: ")
    assert f"--output_dir {tmp_path / 'out'}" in said
    assert "--folds 3" in said
    assert said.endswith("--resume_from_checkpoint latest")
    assert caught.value.exit_code == 130
    _resumed(settings)
    _assert_same(tmp_path / "out", whole.folder)


def test_ctrl_c_between_folds_says_how_to_resume(models: Models, tmp_path: Path) -> None:
    """A KeyboardInterrupt outside a training ends with the same hint."""
    settings = _settings(models, tmp_path / "out")

    def press() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        train(settings, on_event=_when(KILLED["between folds"], press))
    assert str(caught.value).startswith("To resume: ")
    assert str(caught.value).endswith("--resume_from_checkpoint latest")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"folds": 2}, "folds 3 → 2"),
        ({"folds": None}, "folds 3 → None"),
        ({"seed": 7}, "seed 42 → 7"),
        ({"eval_fraction": 0.2}, "eval_fraction 0.1 → 0.2"),
        ({}, "sha256 '"),
    ],
    ids=["fewer folds", "no folds", "seed", "fraction", "data"],
)
def test_other_inputs_are_refused(
    whole: TrainedRun, models: Models, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    """A cross-validation with other folds, another seed or other data is not resumed."""
    out = tmp_path / "out"
    shutil.copytree(whole.folder, out)
    settings = _settings(models, out, **changes)
    if not changes:
        write_rows(tmp_path / "rows.jsonl", EXAMPLES[1:])
    for path in out.glob("checkpoint-*"):
        shutil.rmtree(path)
    with pytest.raises(UserError) as caught:
        _resumed(settings)
    assert f"{out}: cannot be resumed with other inputs: {words}" in str(caught.value)


def test_an_unfinished_cross_validation_is_not_overwritten(models: Models, tmp_path: Path) -> None:
    """The same command again is refused and says what is there; so is one without folds."""
    settings = _settings(models, tmp_path / "out")
    with pytest.raises(_Killed):
        train(settings, on_event=_when(KILLED["between folds"], _kill))
    for again in (settings, replace(settings, folds=None)):
        with pytest.raises(UserError) as caught:
            train(again)
        assert "holds an unfinished run (fold 2 is finished). To resume: " in str(caught.value)


# The folder afterwards


def test_another_run_removes_the_folds(models: Models, whole: TrainedRun, tmp_path: Path) -> None:
    """A run without folds in the same folder replaces all of them; files of others stay."""
    out = tmp_path / "out"
    shutil.copytree(whole.folder, out)
    (out / "fold-1" / "notes.txt").write_text("mine", encoding="utf-8")
    (out / "fold-9").mkdir()
    (out / "fold-9" / "notes.txt").write_text("mine", encoding="utf-8")
    clear_run(out)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*") if path.is_file()) == [
        ".lock",
        "fold-1/notes.txt",
        "fold-9/notes.txt",
    ]


def test_later_commands_know_that_all_rows_were_trained_on(
    said: Said, models: Models, whole: TrainedRun
) -> None:
    """`fte exam` on the training file cannot tell anything; `fte compare` answers as ever."""
    adapter = ("--adapter", str(whole.folder), "--device", "cpu")
    data = str(write_rows(Path("again.jsonl"), EXAMPLES))
    assert said.fte("exam", data, *adapter, "--answered_examples", "0", "--skills", "none") == 0
    assert "Warning: 22 exam questions also in the training file: all there is" in said.out
    assert "Verdict: too few examples to tell" in said.out
    assert said.fte("compare", "What now?", *adapter, "--max_new_tokens", "4") == 0
    assert "Tuned" in said.out
    fold = ("--adapter", str(whole.folder / "fold-2"), "--device", "cpu")
    assert said.fte("compare", "What now?", *fold, "--max_new_tokens", "4") == 0


def test_models_are_not_kept_from_fold_to_fold(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a training is prepared, the models of those before it are gone."""
    alive: list[weakref.ref[object]] = []
    kept: list[int] = []
    original = preparing.prepare

    def prepare(*arguments: Any) -> preparing.Prepared:
        kept.append(sum(reference() is not None for reference in alive))
        prepared = original(*arguments)
        alive.append(weakref.ref(prepared.model))
        return prepared

    monkeypatch.setattr(preparing, "prepare", prepare)
    train(_settings(models, tmp_path / "out", max_steps=1, answered_examples=0))
    assert kept == [0] * (N_FOLDS + 2)
    gc.collect()
