"""A failure after the last step costs the file that failed, and neither adapter nor exam."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_commands import Said
from safetensors.torch import load_file
from tiny import LEAN, Models, rows, save_tokenizer, write_rows
from transformers import PreTrainedTokenizerBase

from finetuning_exam import run_file
from finetuning_exam.api import late_steps
from finetuning_exam.durable import manifest_faults, write_text
from finetuning_exam.errors import DiskError
from finetuning_exam.report import card, html

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("folder")]

QUICK = (
    *("--device", "cpu", "--max_steps", "2", "--answered_examples", "2", "--max_new_tokens", "4"),
    *LEAN,
)
SHORT = ("--device", "cpu", "--answered_examples", "1", "--max_new_tokens", "4")
EXAM = (*SHORT, "--skills", "none")


def _failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def _full_disk(name: str) -> Callable[[Path, str], None]:
    def write(path: Path, text: str) -> None:
        if path.name == name:
            raise DiskError(f"{path}: no space left on the disk.", "Free some space.")
        write_text(path, text)

    return write


FAILURES: dict[str, tuple[object, str, Callable[..., None], str, str, int]] = {
    "tokenizer": (
        PreTrainedTokenizerBase,
        "save_pretrained",
        _failing(AttributeError("'dict' object has no attribute 'encode'")),
        "the tokenizer",
        "AttributeError: 'dict' object has no attribute 'encode'",
        9,
    ),
    "report": (
        html,
        "render_report",
        _failing(KeyError("loss")),
        "report.html",
        "KeyError: 'loss'",
        9,
    ),
    "plots": (
        html,
        "difference_plot",
        _failing(ImportError("no display")),
        "report.html",
        "ImportError: no display",
        9,
    ),
    "card": (card, "model_card", _failing(ValueError()), "README.md", "no reason given", 9),
    "report on a full disk": (
        late_steps,
        "write_text",
        _full_disk("report.html"),
        "report.html",
        "no space left on the disk",
        4,
    ),
    "card on a full disk": (
        late_steps,
        "write_text",
        _full_disk("README.md"),
        "README.md",
        "no space left on the disk",
        4,
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_late_failure_costs_one_file(
    said: Said, models: Models, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever fails after the exam, the adapter, exam.json, metrics and run.json are complete, the
    other files are written, the failure is reported with its reason and the exit code, and
    `fte exam` and `fte compare` take the folder.
    """
    place, attribute, failing, file, reason, code = FAILURES[name]
    data, model = str(write_rows(Path("rows.jsonl"), rows(12))), str(models.folder())
    with monkeypatch.context() as patch:
        patch.setattr(place, attribute, failing)
        assert said.fte("train", data, "--model", model, *QUICK) == code
    assert f"Warning: {file} could not be written: " in said.out
    assert reason in " ".join(said.out.split())
    assert f"complete, but without {file} (see the warnings above)" in said.err
    out = Path("output")
    assert load_file(out / "adapter_model.safetensors")
    assert json.loads((out / "exam.json").read_text(encoding="utf-8"))["verdict"]
    assert (out / "metrics.jsonl").read_text(encoding="utf-8").count("\n") >= 1
    run = run_file.read(out)
    assert run is not None
    assert run.record() is not None
    assert manifest_faults(out) == ()
    others = {"tokenizer.json", "report.html", "README.md"} - {file}
    if file == "the tokenizer":
        others -= {"tokenizer.json"}
        assert not (out / "tokenizer.json").exists()
    assert others <= {path.name for path in out.iterdir()}
    assert said.fte("exam", data, "--adapter", "output", *EXAM) == 0
    assert said.fte("compare", "--adapter", "output", "Who?", *SHORT[:2], *SHORT[4:]) == 0


def test_all_of_them_may_fail(said: Said, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several failures are all reported, on one last line."""
    data = str(write_rows(Path("rows.jsonl"), rows(12)))
    for place, attribute in ((html, "render_report"), (card, "model_card")):
        monkeypatch.setattr(place, attribute, _failing(RuntimeError("broken")))
    assert said.fte("train", data, "--model", str(models.folder()), *QUICK) == 9
    assert "without report.html, README.md (see the warnings above)" in said.err
    assert said.out.count("could not be written: RuntimeError: broken.") == 2


def test_an_exam_that_crashes_leaves_the_adapter(
    said: Said, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the exam itself says that the adapter is saved, and it can be examined later."""
    from finetuning_exam.training import run

    data = str(write_rows(Path("rows.jsonl"), rows(12)))
    with monkeypatch.context() as patch:
        patch.setattr(run, "take_exam", _failing(IndexError("out of bounds")))
        with pytest.raises(IndexError) as caught:
            said.fte("train", data, "--model", str(models.folder()), *QUICK)
    assert caught.value.__notes__ == ["The adapter is trained and saved in output."]
    assert said.fte("exam", data, "--adapter", "output", *EXAM) == 0


# Chat templates in files of their own

CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def _in_jinja(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(CHAT, encoding="utf-8")


def _in_json(folder: Path) -> None:
    content = json.dumps({"chat_template": CHAT})
    (folder / "chat_template.json").write_text(content, encoding="utf-8")


def _named(folder: Path) -> None:
    _in_jinja(folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(CHAT, encoding="utf-8")


def _named_in_config(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["chat_template"] = [{"name": it, "template": CHAT} for it in ("default", "rag")]
    path.write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize("place", [_in_jinja, _in_json, _named, _named_in_config])
def test_a_template_in_its_own_file_lasts_to_the_end(
    said: Said, models: Models, place: Callable[[Path], None]
) -> None:
    """A chat template in its own file, or several under names, is used, and the run ends with all
    of its files; a second run replaces them.
    """
    model = Path(shutil.copytree(models.folder(), "model"))
    save_tokenizer(model)
    place(model)
    data = str(write_rows(Path("rows.jsonl"), rows(12)))
    for _ in range(2):
        assert said.fte("train", data, "--model", "model", *QUICK) == 0
        assert "chat template" in said.out
    assert (Path("output") / "tokenizer.json").is_file()
    assert said.fte("exam", data, "--adapter", "output", *EXAM) == 0
    assert said.fte("compare", "--adapter", "output", "Who?", *SHORT[:2], *SHORT[4:]) == 0


def test_a_wrong_base_is_named_before_its_template_is_missed(said: Said, models: Models) -> None:
    """An adapter trained with a chat template, on a base that has none: the base is the fault."""
    data = str(write_rows(Path("rows.jsonl"), rows(12)))
    own, other = str(models.folder(text="chat")), str(models.folder(seed=1))
    assert said.fte("train", data, "--model", own, *QUICK) == 0
    for command in (("exam", data, *EXAM), ("compare", "Who?", "--device", "cpu")):
        assert said.fte(*command, "--adapter", "output", "--model", other) == 3
        (line,) = said.err.splitlines()
        assert f"trained on {own} (sha256 " in line
