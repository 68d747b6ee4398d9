"""The commands as a user runs them, from a file of rows to the report."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import LEAN, Models, rows, write_rows

from finetuning_exam.cli import main
from finetuning_exam.training.run_folder import seal

ROOT = Path(__file__).parents[2]
CONTRACT = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    "run.json",
    "metrics.jsonl",
    "exam.json",
    "report.html",
)
QUICK = (
    *("--device", "cpu", "--max_new_tokens", "6", "--answered_examples", "4", "--lora_r", "4"),
    *LEAN,
)


def _script(
    name: str, arguments: Sequence[str], folder: Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a script of the root in a fresh process, as `uv run` does."""
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, str(ROOT / name), *arguments],
        cwd=folder,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines in the output are as long as they need to be."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def project(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with 60 rows in train.jsonl, and a run of six steps in ./output."""
    folder = tmp_path_factory.mktemp("project")
    write_rows(folder / "train.jsonl", (*rows(30, "a"), *rows(60, "b")[30:]))
    arguments = ["--model", str(models.folder()), "--max_steps", "6", "--learning_rate", "1e-2"]
    done = _script("train_model.py", [*arguments, *QUICK], folder)
    assert done.returncode == 0, done.stderr[-2000:]
    (folder / "said.txt").write_text(done.stdout, encoding="utf-8")
    (folder / "complained.txt").write_text(done.stderr, encoding="utf-8")
    return folder


def _exam(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "exam.json").read_text(encoding="utf-8"))
    return found


# train_model.py


def test_training_writes_every_file_of_the_contract(project: Path) -> None:
    """`train_model.py` exits with 0 and leaves adapter, tokenizer, card, record, metrics, exam and
    report in ./output, none of them empty.
    """
    output = project / "output"
    assert [name for name in CONTRACT if not (output / name).is_file()] == []
    assert [name for name in CONTRACT if (output / name).stat().st_size == 0] == []
    assert not list(output.glob(".*.partial"))


def test_training_says_what_it_does(project: Path, models: Models) -> None:
    """The output names rows, split, base, adapter, plan and verdict, and no traceback."""
    said = (project / "said.txt").read_text(encoding="utf-8")
    assert "train.jsonl: 60 records (JSON lines, instruction → output)" in said
    assert "Split: 48 examples to train on, 6 to choose the best step, 6 for the exam" in said
    assert f"{models.folder()}: 0.1 M parameters on cpu (float32" in said
    assert "LoRA of rank 4 on 14 modules" in said
    assert "6 steps of 16 rows" in said
    assert f"Verdict: {_exam(project / 'output')['verdict']}" in said
    assert "Traceback" not in said + (project / "complained.txt").read_text(encoding="utf-8")


def test_training_complains_of_nothing(project: Path) -> None:
    """A good run writes nothing to standard error: no warnings of libraries."""
    assert (project / "complained.txt").read_text(encoding="utf-8") == ""


def test_run_json_tells_how_to_repeat_the_run(project: Path, models: Models) -> None:
    """run.json holds resolved settings, versions, hashes of data and base, device and threads."""
    run = json.loads((project / "output" / "run.json").read_text(encoding="utf-8"))
    assert run["base"]["name"] == str(models.folder())
    assert len(run["base"]["sha256"]) == len(run["data"]["sha256"]) == 64
    assert run["settings"]["max_steps"] == 6
    assert run["plan"]["total_steps"] == 6
    assert run["plan"]["learning_rate"] == 1e-2
    assert (run["device"], run["dtype"]) == ("cpu", "float32")
    assert run["threads"] >= 1
    assert {"torch", "transformers", "peft", "trl", "python"} <= run["versions"].keys()
    assert (run["data"]["n_train"], run["data"]["n_validation"], run["data"]["n_exam"]) == (
        48,
        6,
        6,
    )


def test_exam_json_of_a_run_is_the_contracts(project: Path) -> None:
    """exam.json has one of the four verdicts and the figures of the six held-out examples."""
    exam = _exam(project / "output")
    verdicts = {"improved", "no measurable difference", "worse", "too few examples to tell"}
    assert exam["verdict"] in verdicts
    assert exam["n_examples"] == len(exam["examples"]) == 6
    held_out = {row["prompt"] for row in exam["examples"]}
    assert held_out <= {example.instruction for example in rows(60)}


def test_the_report_is_one_file_without_network(project: Path) -> None:
    """report.html has no script and loads nothing from anywhere."""
    html = (project / "output" / "report.html").read_text(encoding="utf-8")
    assert html.lstrip().lower().startswith("<!doctype html>")
    assert html.rstrip().endswith("</html>")
    for forbidden in ("<script", 'src="http', "<link", "@import", "url(http"):
        assert forbidden not in html


def test_metrics_are_lines_of_json(project: Path) -> None:
    """metrics.jsonl holds every fifth and the last step, and the validations from step 0 on."""
    lines = (project / "output" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    parsed = [json.loads(line) for line in lines]
    assert [row["step"] for row in parsed if "eval_loss" in row] == [0, 1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in parsed if "loss" in row] == [5, 6]


# infer_compare.py


def test_compare_asks_through_standard_input(project: Path) -> None:
    """Without a prompt `infer_compare.py` asks; every line is answered, an empty one ends it."""
    done = _script(
        "infer_compare.py",
        ["--device", "cpu", "--max_new_tokens", "4"],
        project,
        "Where is the barn?\nWho sings?\n\nNever asked\n",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Type a question." in done.stdout
    assert "Where is the barn?" in done.stdout
    assert "Who sings?" in done.stdout
    assert "Never asked" not in done.stdout
    assert done.stdout.count("tuned: ") == 2
    assert done.stderr == ""


def test_a_question_too_long_does_not_end_the_conversation(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A question too long for the model is cut, which is told by its number; the next follows."""
    monkeypatch.setattr("sys.stdin", io.StringIO("why? " * 1200 + "\nWho sings?\n\n"))
    assert _fte(project, "compare", "--max_new_tokens", "4") == 0
    said = capsys.readouterr().out
    assert re.search(r"question:1: the prompt is cut from \d+ to 1020 tokens", said)
    assert said.count("tuned: ") == 2
    assert "Who sings?" in said


def _fte(project: Path, *arguments: str) -> int:
    return main([*arguments, "--adapter", str(project / "output"), "--device", "cpu"])


def test_compare_answers_its_arguments(
    project: Path, models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompts given as arguments are answered by both models, in the order given."""
    assert _fte(project, "compare", "Second things?", "First things?", "--max_new_tokens", "4") == 0
    said = capsys.readouterr().out
    assert f"base {models.folder()}, adapter {project / 'output'}, plain template, cpu" in said
    assert 0 < said.index("Second things?") < said.index("First things?")
    assert "Base" in said
    assert "Reference" not in said


def test_compare_reads_a_file_of_prompts(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--prompts FILE` takes instructions, and shows references where there are some."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"instruction": "With a reference?", "output": "This is it."}\n'
        '{"instruction": "Without one?"}\n',
        encoding="utf-8",
    )
    assert _fte(project, "compare", "--prompts", str(path), "--max_new_tokens", "4") == 0
    said = capsys.readouterr().out
    assert "With a reference?" in said
    assert "Without one?" in said
    assert "Reference" in said
    assert "This is it." in said


def test_compare_samples_from_a_seed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--do_sample` the same seed shows the same answers, another seed others."""
    said = []
    for seed in ("1", "1", "2"):
        arguments = ("compare", "What now?", "--do_sample", "True", "--seed", seed)
        assert _fte(project, *arguments, "--max_new_tokens", "8") == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[0] != said[2]


def test_compare_cuts_a_prompt_longer_than_the_context(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A question for which the model has no room is cut in its middle, said, and answered."""
    model = models.folder("gpt2", n_positions=512)
    data = write_rows(tmp_path / "rows.jsonl", rows(4))
    run = tmp_path / "run"
    arguments = ["--model", str(model), "--output_dir", str(run), "--max_steps", "1", *QUICK]
    assert main(["train", str(data), *arguments]) == 0
    code = main(["compare", "why? " * 600, "--adapter", str(run), "--device", "cpu"])
    assert code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"argument:1: the prompt is cut from \d+ to 432 tokens", said)


# fte exam


@pytest.mark.parametrize("n", [5, 24])
def test_the_exam_can_be_taken_alone(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], n: int
) -> None:
    """`fte exam` examines on any file; below six examples the verdict cannot but be too few."""
    data = write_rows(tmp_path / "held_out.jsonl", rows(60 + n)[60:])
    output = tmp_path / "exam.json"
    arguments = ("--output_file", str(output), "--max_new_tokens", "4", "--answered_examples", "3")
    assert _fte(project, "exam", str(data), *arguments) == 0
    found = json.loads(output.read_text(encoding="utf-8"))
    assert found["n_examples"] == n
    assert (found["verdict"] == "too few examples to tell") == (n == 5)
    said = capsys.readouterr().out
    assert f"held_out.jsonl: {n} records" in said
    assert f"Verdict: {found['verdict']}" in said


def test_the_exam_repeats_the_runs_figures(models: Models, tmp_path: Path) -> None:
    """The exam of a run, taken again from its folder on the same file, gives the same figures."""
    data = write_rows(tmp_path / "held_out.jsonl", (*rows(70, "a")[60:], *rows(74, "b")[70:]))
    arguments = ("--eval_file", str(data), "--max_steps", "6", "--learning_rate", "1e-2")
    assert _train(models, tmp_path, 24, *arguments) == 0
    exam, output = _exam(tmp_path / "run"), tmp_path / "again.json"
    again = ("--adapter", str(tmp_path / "run"), "--output_file", str(output))
    quick = [*("--device", "cpu", "--max_new_tokens", "6"), *("--skills", "none")]
    quick += ["--answered_examples", "4"]
    for _ in range(2):  # an exam may replace an exam
        assert main(["exam", str(data), *again, *quick]) == 0
        assert json.loads(output.read_text(encoding="utf-8")) == exam
    assert (exam["n_examples"], exam["is_held_out"]) == (14, True)


def test_taught_questions_do_not_sit_the_exam(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Questions that stand in the adapter's training file are left out of `fte exam`, and said."""
    data = write_rows(tmp_path / "mixed.jsonl", rows(84)[55:])
    output = tmp_path / "exam.json"
    arguments = ("--output_file", str(output), "--max_new_tokens", "4", "--answered_examples", "0")
    assert _fte(project, "exam", str(data), *arguments) == 0
    found = json.loads(output.read_text(encoding="utf-8"))
    assert (found["n_examples"], found["is_held_out"]) == (24, True)
    assert {row["prompt"] for row in found["examples"]} == {e.instruction for e in rows(84)[60:]}
    said = capsys.readouterr().out
    assert "Warning: 5 exam questions also in the training file: left out." in said


def test_an_exam_of_taught_questions_tells_nothing(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where all questions were taught, `fte exam` examines them but cannot tell anything."""
    data = write_rows(tmp_path / "taught.jsonl", rows(24))
    output = tmp_path / "exam.json"
    arguments = ("--output_file", str(output), "--max_new_tokens", "4", "--answered_examples", "0")
    assert _fte(project, "exam", str(data), *arguments) == 0
    found = json.loads(output.read_text(encoding="utf-8"))
    assert (found["n_examples"], found["is_held_out"]) == (24, False)
    assert found["verdict"] == "too few examples to tell"
    assert "this exam cannot tell anything" in capsys.readouterr().out


def test_an_exam_without_its_training_file_says_so(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the training file has gone, the exam is taken whole and the doubt is said."""
    folder = Path(shutil.copytree(project / "output", tmp_path / "output"))
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    run["data"]["paths"] = [str(tmp_path / "gone.jsonl")]
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    seal(folder)
    data = write_rows(tmp_path / "taught.jsonl", rows(6))
    quick = ("--device", "cpu", "--answered_examples", "0", "--skills", "none")
    assert main(["exam", str(data), "--adapter", str(folder), *quick]) == 0
    said = capsys.readouterr().out
    assert "The training file cannot be read here, so overlap with it is unknown." in said
    assert "in the training file" not in said


def test_another_base_is_refused(
    project: Path, models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    """An adapter on another base of the same shape: code 3 and one line with both names."""
    other = models.folder(seed=1)
    assert _fte(project, "compare", "Hello?", "--model", str(other)) == 3
    complained = capsys.readouterr().err
    assert len(complained.splitlines()) == 1
    assert f"trained on {models.folder()} (sha256 " in complained
    assert f"not on {other} (sha256 " in complained


def test_a_damaged_adapter_ends_with_code_3(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A truncated adapter is named in one line."""
    folder = Path(shutil.copytree(project / "output", tmp_path / "output"))
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    assert main(["compare", "Hello?", "--adapter", str(folder), "--device", "cpu"]) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"fte compare: {folder}: the adapter is damaged (adapter_model.")
    assert len(said.splitlines()) == 1


# Small files, other ways


def _train(models: Models, folder: Path, n: int, *more: str) -> int:
    data = write_rows(folder / "rows.jsonl", rows(n))
    arguments = ["--model", str(models.folder()), "--output_dir", str(folder / "run"), *QUICK]
    return main(["train", str(data), *arguments, *more])


@pytest.mark.parametrize("n", [1, 4, 19])
def test_a_tiny_file_trains_and_proves_nothing(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str], n: int
) -> None:
    """Below 20 rows the exam is taken on the training rows, says so, and cannot tell."""
    assert _train(models, tmp_path, n, "--max_steps", "3") == 0
    exam = _exam(tmp_path / "run")
    assert exam["verdict"] == "too few examples to tell"
    assert (exam["n_examples"], exam["is_held_out"]) == (n, False)
    said = capsys.readouterr().out
    assert "for the exam (the training examples themselves, because fewer than 20 " in said
    assert "Verdict: too few examples to tell" in said


def test_divergence_ends_with_code_5(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A learning rate out of all reason ends with code 5 and one line, not with a good report."""
    assert _train(models, tmp_path, 24, "--max_steps", "3", "--learning_rate", "1e30") == 5
    complained = capsys.readouterr().err
    assert complained.startswith("fte train: The training loss at step ")
    assert not (tmp_path / "run" / "exam.json").exists()


def test_divergence_in_the_last_step_ends_with_code_5(models: Models, tmp_path: Path) -> None:
    """An overflow in the only step is divergence too."""
    arguments = ("--max_steps", "1", "--warmup_ratio", "0", "--learning_rate", "1e30")
    assert _train(models, tmp_path, 24, *arguments) == 5
    assert not (tmp_path / "run" / "exam.json").exists()


def test_a_second_run_replaces_the_first(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command again gives the same adapter, and says that the earlier run is replaced."""
    weights = tmp_path / "run" / "adapter_model.safetensors"
    assert _train(models, tmp_path, 8, "--max_steps", "2") == 0
    first = weights.read_bytes()
    capsys.readouterr()
    assert _train(models, tmp_path, 8, "--max_steps", "2") == 0
    assert weights.read_bytes() == first
    assert "replacing the earlier run" in capsys.readouterr().out


def test_a_run_goes_on_from_its_latest_checkpoint(models: Models, tmp_path: Path) -> None:
    """`--resume_from_checkpoint latest` continues to the same adapter as one unbroken run."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    steps = ("--max_steps", "4", "--save_steps", "2", "--lr_scheduler_type", "constant")
    assert _train(models, whole, 40, *steps) == 0
    assert _train(models, cut, 40, *steps) == 0
    shutil.rmtree(cut / "run" / "checkpoint-4")
    (cut / "run" / "adapter_model.safetensors").unlink()
    assert _train(models, cut, 40, *steps, "--resume_from_checkpoint", "latest") == 0
    name = "run/adapter_model.safetensors"
    assert (cut / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("n", [40, 41])
def test_another_run_is_not_resumed(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str], n: int
) -> None:
    """Resuming with another learning rate or other data: code 2, one line that names them, and
    nothing in the folder is touched.
    """
    steps = ("--max_steps", "2", "--save_steps", "1")
    assert _train(models, tmp_path, 40, *steps, "--learning_rate", "1e-2") == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    capsys.readouterr()
    resume = ("--resume_from_checkpoint", "latest", "--learning_rate", "2e-2")
    assert _train(models, tmp_path, n, *steps, *resume) == 2
    complained = capsys.readouterr().err
    assert len(complained.splitlines()) == 1
    assert "cannot be resumed with other inputs: learning_rate 0.01 → 0.02" in complained
    assert (", sha256 '" in complained) == (n == 41)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_a_chat_model_is_trained_in_its_own_template(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tokenizer's chat template is used, named, and remembered by compare."""
    data = write_rows(tmp_path / "rows.jsonl", rows(8))
    model, run = models.folder(text="chat"), tmp_path / "run"
    arguments = ["--model", str(model), "--output_dir", str(run), "--max_steps", "2", *QUICK]
    assert main(["train", str(data), *arguments]) == 0
    assert "chat template" in capsys.readouterr().out
    assert main(["compare", "Hi?", "--adapter", str(run), "--device", "cpu"]) == 0
    assert "chat template" in capsys.readouterr().out
