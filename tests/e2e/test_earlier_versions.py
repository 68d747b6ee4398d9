"""Runs that an earlier version wrote, before run.json and exam.json had a `schema_version`.

The folders in fixtures/before_schema_version are as version 0.1.0 wrote them (built-in base, r 1 on
q_proj, 6 steps), less what no command needs, and with another name for the processor.
"""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from finetuning_exam import run_file
from finetuning_exam.cli import main
from finetuning_exam.evaluation.exam_file import read_exam_file
from finetuning_exam.run_record import RunRecord

FIXTURE = Path(__file__).parents[1] / "fixtures" / "before_schema_version"
TRAIN = shlex.split(
    "train facts.jsonl --lora_r 1 --lora_alpha 2 --lora_target_modules q_proj --max_steps 6 "
    "--save_steps 2 --per_device_train_batch_size 4 --answered_examples 4 --max_new_tokens 8 "
    "--device cpu --logging_steps 1 --output_dir unfinished"
)
RESUME = [*TRAIN, "--resume_from_checkpoint", "latest"]
EXAM = shlex.split(
    "exam new.jsonl --adapter finished --device cpu --answered_examples 2 --max_new_tokens 4 "
    "--output_file new_exam.json"
)
COMPARE = shlex.split("compare 'Where is it?' --adapter finished --device cpu --max_new_tokens 4")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the earlier runs and their data file, which is the working directory."""
    shutil.copytree(FIXTURE, tmp_path, dirs_exist_ok=True)
    rows = [{"instruction": f"Is {n} a number?", "output": f"{n} is one."} for n in range(6)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "new.jsonl").write_text(lines, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _record(folder: Path) -> RunRecord:
    run = run_file.read(folder)
    record = run.record() if run else None
    assert record is not None
    return record


def test_an_unfinished_run_is_resumed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It goes on from its checkpoint, names what has changed on the machine, and ends like the run
    that was not interrupted, whose figures may differ by rounding on another machine.
    """
    assert main(RESUME) == 0
    printed = capsys.readouterr().out
    assert "Warning: the last bits may differ: " in printed
    assert "processor Some Processor → " in printed
    assert f"Resuming from {Path('unfinished') / 'checkpoint-4'}" in printed
    resumed, whole = _record(folder / "unfinished"), _record(folder / "finished")
    content = json.loads((folder / "unfinished" / "run.json").read_text(encoding="utf-8"))
    assert list(content)[:3] == ["tool", "schema_version", "command"]
    assert whole.plan.answers is None  # an earlier version did not record it
    assert (replace(resumed.plan, answers=None), resumed.base, resumed.template) == (
        whole.plan,
        whole.base,
        whole.template,
    )
    assert resumed.data.rows_sha256 == whole.data.rows_sha256
    assert (resumed.result.steps, resumed.result.tokens) == (6, whole.result.tokens)
    assert (resumed.settings.replay, resumed.settings.adapter_scale) == (("none",), 1.0)
    losses = [it.result.best_validation_loss for it in (resumed, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    exams = [read_exam_file(folder / name / "exam.json") for name in ("unfinished", "finished")]
    assert exams[0].overall.n_examples == exams[1].overall.n_examples == 5
    figures = [exam.overall.nll_per_token.tuned for exam in exams]
    assert figures[0] == pytest.approx(figures[1], rel=1e-3)


def test_a_finished_run_is_examined(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its base, its template and its training file are known to `fte exam`."""
    assert main(EXAM) == 0
    printed = capsys.readouterr().out
    assert "base builtin, adapter finished, plain template, cpu" in printed
    assert "training file" not in printed
    exam = read_exam_file(folder / "new_exam.json")
    assert (exam.is_held_out, exam.overall.n_examples) == (True, 6)


def test_a_finished_run_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    """`fte compare` answers with its adapter."""
    assert main(COMPARE) == 0
    printed = capsys.readouterr().out
    assert "base builtin, adapter finished, plain template, cpu" in printed
    assert "Where is it?" in printed


def test_a_finished_run_is_read_whole(folder: Path) -> None:
    """All that its run.json and exam.json hold is read."""
    record = _record(folder / "finished")
    assert record.settings.lora_target_modules == ("q_proj",)
    assert record.data.paths == ("facts.jsonl",)
    assert record.machine.items() >= record.versions.items()
    exam = read_exam_file(folder / "finished" / "exam.json")
    assert exam.verdict == "too few examples to tell"
    assert [example.line for example in exam.examples if example.tuned is None] == [24]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (RESUME, "unfinished"),
        (TRAIN, "unfinished"),
        ([*TRAIN[:-1], "forked", "--fork", "finished"], "finished"),
        (EXAM, "finished"),
        (COMPARE, "finished"),
    ],
    ids=["resume", "train", "fork", "exam", "compare"],
)
def test_a_run_of_a_newer_version_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], name: str
) -> None:
    """A command that needs to read it says so in one line, and changes nothing."""
    path = folder / name / "run.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "schema_version": 2}), encoding="utf-8")
    before = sorted(folder.rglob("*.json"))
    assert main(command) == 2
    complained = capsys.readouterr().err
    assert complained == (
        f"fte {command[0]}: {Path(name) / 'run.json'} was written by a newer version of "
        "fine-tuning-exam (schema 2; this one reads up to 1). Update fine-tuning-exam.\n"
    )
    assert sorted(folder.rglob("*.json")) == before
