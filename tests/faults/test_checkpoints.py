"""Damaged and mismatched checkpoints, and checkpoints that contain pickles."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import Project, outcome, run
from tiny import Models, rows, write_rows

from finetuning_exam.cli import main
from finetuning_exam.durable import MANIFEST
from finetuning_exam.errors import AdapterError
from finetuning_exam.model.adapter import load_adapter
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.load import load_base
from finetuning_exam.training.checkpoint.find import find_checkpoint

CPU = choose_compute("cpu", "float32")


@pytest.fixture(scope="module")
def finished(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the undisturbed run."""
    return project.folder / "whole"


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run to damage."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


def _damages(path: Path, draw: random.Random, n_flips: int) -> Iterator[bytes | None]:
    """Yield a file's damaged contents: missing, empty, cut at each eighth, single bits flipped."""
    content = path.read_bytes()
    yield None
    yield b""
    for eighth in range(1, 8):
        yield content[: len(content) * eighth // 8]
    for _ in range(n_flips):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        yield bytes(flipped)


def _damage(path: Path, content: bytes | None) -> None:
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)


# The newest checkpoint is damaged


@pytest.mark.parametrize("n_flips", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_any_damage_to_the_newest_checkpoint_is_detected(out: Path, n_flips: int) -> None:
    """If any file of the newest checkpoint is damaged in any way, the one before is used, and the
    reason names the file.
    """
    draw = random.Random(6)
    newest = out / "checkpoint-12"
    files = sorted(newest.iterdir())
    n_damages = 0
    for path in files:
        whole = path.read_bytes()
        for content in _damages(path, draw, n_flips // len(files) + 1):
            _damage(path, content)
            if content == whole:
                continue
            n_damages += 1
            found = find_checkpoint(out, "latest")
            assert found.step == 8
            assert len(found.passed_over) == 1
            assert path.name in found.passed_over[0]
        path.write_bytes(whole)
    assert find_checkpoint(out, "latest").step == 12
    assert n_damages >= n_flips + 8 * len(files)


def test_a_resume_reports_a_damaged_checkpoint(project: Project, out: Path) -> None:
    """Resuming from the checkpoint before the damaged one prints a warning and ends the same."""
    (out / "checkpoint-12" / "state.json").write_text("{}", encoding="utf-8")
    assert project.resume(out) == 0
    said = out.with_suffix(".log").read_text(encoding="utf-8")
    assert "Warning: skipped a damaged checkpoint: " in said
    assert "checkpoint-12: state.json has 2 bytes, not " in said
    assert outcome(out) == project.expected


@pytest.mark.parametrize("n_flips", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_any_damage_to_a_finished_adapter_is_detected(
    models: Models, out: Path, n_flips: int
) -> None:
    """Damage to the manifest of a finished run or to any file it lists prevents loading."""
    base = load_base(str(models.folder()), CPU)
    load_adapter(base, out)
    names = [*json.loads((out / MANIFEST).read_text(encoding="utf-8"))["files"], MANIFEST]
    assert {"adapter_model.safetensors", "adapter_config.json", "run.json"} < set(names)
    draw = random.Random(3)
    for name in names:
        path = out / name
        whole = path.read_bytes()
        for content in _damages(path, draw, n_flips // len(names) + 1):
            if content == whole or (content is None and name.startswith("adapter_")):
                continue  # a missing adapter is reported earlier
            _damage(path, content)
            with pytest.raises(AdapterError, match=name):
                load_adapter(base, out)
        path.write_bytes(whole)


# All checkpoints are damaged


def test_without_an_intact_checkpoint_the_exit_code_is_3(project: Project, out: Path) -> None:
    """Every damaged checkpoint is listed with its reason, on one line."""
    for path in out.glob("checkpoint-*"):
        (path / "adapter_model.safetensors").write_bytes(b"")
    assert project.resume(out) == 3
    said = out.with_suffix(".log").read_text(encoding="utf-8").strip()
    assert len(said.splitlines()) == 1
    for step in (8, 12):
        assert f"checkpoint-{step}: adapter_model.safetensors has 0 bytes" in said


# An incomplete adapter


def test_an_incomplete_adapter_is_refused(models: Models, out: Path) -> None:
    """An adapter that lacks half of its tensors is refused even without a manifest."""
    from safetensors.torch import load_file, save_file

    for name in (MANIFEST, "run.json"):
        (out / name).unlink()
    path = out / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file(dict(list(tensors.items())[::2]), path)
    with pytest.raises(AdapterError, match=": 14 tensors of 28 are missing"):
        load_adapter(load_base(str(models.folder()), CPU), out)


# Other settings, data or base


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--learning_rate", "2e-2"), "learning_rate 0.01 → 0.02"),
        (("--seed", "7"), "seed 42 → 7"),
        (("--per_device_train_batch_size", "4"), "per_device_train_batch_size 2 → 4"),
        (("--template", "chat"), "template 'auto' → 'chat'"),
    ],
)
def test_other_settings_are_refused(
    project: Project, out: Path, flags: tuple[str, str], words: str
) -> None:
    """The difference is shown, the exit code is 2, and nothing in the folder is changed."""
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert project.resume(out, *flags) == 2
    said = out.with_suffix(".log").read_text(encoding="utf-8").strip()
    assert words in said
    assert "--fork" in said
    assert len(said.splitlines()) == 1
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_other_data_and_another_base_are_refused(
    models: Models, project: Project, out: Path, tmp_path: Path
) -> None:
    """Other rows under the same file name, and a base with other weights, are detected."""
    other = write_rows(tmp_path / "rows.jsonl", rows(59))
    log = tmp_path / "log"
    resume = ("--resume_from_checkpoint", "latest")
    command = project.command(out, *resume)
    assert run([command[0], str(other), *command[2:]], log) == 2
    assert "sha256" in log.read_text(encoding="utf-8")
    base = models.folder("llama", seed=1)
    assert run([*command, "--model", str(base)], log) == 2
    assert "model_name_or_path" in log.read_text(encoding="utf-8")


def test_a_checkpoint_without_its_run_json_is_refused(project: Project, out: Path) -> None:
    """Without run.json, the settings of the checkpoint are unknown."""
    (out / "run.json").write_text("{", encoding="utf-8")
    for path in out.iterdir():
        if path.is_file() and path.name != "run.json":
            path.unlink()
    assert project.resume(out) in (2, 3)
    assert "Traceback" not in out.with_suffix(".log").read_text(encoding="utf-8")


def test_a_fork_starts_from_the_weights(project: Project, out: Path, tmp_path: Path) -> None:
    """A fork with other settings starts from the checkpoint's adapter at step 0, and leaves the
    original folder unchanged.
    """
    forked = tmp_path / "forked"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    flags = ("--fork", str(out / "checkpoint-8"), "--learning_rate", "2e-2")
    log = tmp_path / "log"
    assert run(project.command(forked, *flags), log) == 0, log.read_text(encoding="utf-8")
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    first, second = outcome(forked).metrics[0], project.expected.metrics
    at_eight = next(row for row in second if row["step"] == 8 and "eval_loss" in row)
    assert first["step"] == 0
    assert first["eval_loss"] == pytest.approx(at_eight["eval_loss"])


def test_a_fork_into_its_own_folder_is_refused(project: Project, out: Path) -> None:
    """A new run would delete the checkpoint it starts from."""
    log = out.with_suffix(".log")
    assert run(project.command(out, "--fork", str(out / "checkpoint-8")), log) == 2
    assert "is inside the output folder" in log.read_text(encoding="utf-8")
    assert (out / "checkpoint-8").exists()


def test_a_fork_of_another_rank_is_refused(project: Project, out: Path, tmp_path: Path) -> None:
    """Weights that do not fit the adapter are an error with exit code 3."""
    log = tmp_path / "log"
    flags = ("--fork", str(out), "--lora_r", "8")
    assert run(project.command(tmp_path / "forked", *flags), log) == 3
    assert "tensors are of another size, such as " in log.read_text(encoding="utf-8")


# Another machine


def test_another_library_or_thread_count_is_reported(project: Project, out: Path) -> None:
    """The run continues, with a warning that the result may not be the same bit for bit."""
    (out / "exam.json").unlink()
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    record |= {"machine": {"torch": "2.0.0", "threads": "64"}}
    (out / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert project.resume(out) == 0
    said = out.with_suffix(".log").read_text(encoding="utf-8")
    assert "Warning: the last bits may differ: torch 2.0.0 → " in said
    assert ", threads 64 → " in said


# Pickles


class _Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._path,)


def test_planted_pickles_are_never_opened(project: Project, out: Path, tmp_path: Path) -> None:
    """Pickles under any name that Transformers or PEFT would load are ignored."""
    alarm = tmp_path / "alarm"
    for folder in (out, out / "checkpoint-8", out / "checkpoint-12"):
        for name in (
            "optimizer.pt",
            "scheduler.pt",
            "rng_state.pth",
            "training_args.bin",
            "adapter_model.bin",
            "pytorch_model.bin",
            "scaler.pt",
        ):
            (folder / name).write_bytes(pickle.dumps(_Bomb(alarm)))
    shutil.rmtree(out / "checkpoint-12")
    assert project.resume(out) == 0
    assert outcome(out) == project.expected
    assert main(["compare", "Why?", "--adapter", str(out), "--max_new_tokens", "2"]) == 0
    assert not alarm.exists()


def test_a_run_writes_no_pickles(finished: Path) -> None:
    """A run's folder contains only safetensors, JSON and text files."""
    files = [path for path in finished.rglob("*") if path.is_file() and path.name != ".lock"]
    suffixes = {path.suffix for path in files}
    assert suffixes <= {".safetensors", ".json", ".jsonl", ".md", ".html", ".jinja"}


def test_a_checkpoint_from_another_folder_does_not_mix_runs(
    project: Project, out: Path, tmp_path: Path
) -> None:
    """When resuming from another folder's checkpoint, an unfinished run in the output folder is an
    error, and a finished one is removed first.
    """
    other = Path(shutil.copytree(out, tmp_path / "other"))
    log = tmp_path / "log"
    flags = ("--resume_from_checkpoint", str(out / "checkpoint-8"))
    record = json.loads((other / "run.json").read_text(encoding="utf-8"))
    (other / "run.json").write_text(json.dumps({**record, "state": "unfinished"}))
    assert run(project.command(other, *flags), log) == 2
    assert "holds an unfinished run" in log.read_text(encoding="utf-8")
    (other / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (other / "checkpoint-90").mkdir()
    assert run(project.command(other, *flags), log) == 0, log.read_text(encoding="utf-8")
    assert not (other / "checkpoint-90").exists()
    assert outcome(other) == project.expected
    command = json.loads((other / "run.json").read_text(encoding="utf-8"))["command"]
    assert "resume" not in command
