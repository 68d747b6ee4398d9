"""Hostile model folders, adapters and data files cannot execute code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from children import Project
from tiny import Models, rows, write_rows

from finetuning_exam.cli import main
from finetuning_exam.errors import AdapterError, ModelError
from finetuning_exam.model.folder import check_adapter_folder, check_model_folder
from finetuning_exam.model.preflight import code_in_adapter, code_in_model


@pytest.fixture
def model(models: Models, tmp_path: Path) -> Path:
    """Return a copy of a valid model folder to make hostile."""
    return Path(shutil.copytree(models.folder(), tmp_path / "model"))


def _change(path: Path, change: dict[str, object]) -> None:
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(config | change), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}),
        ("config.json", {"text_config": {"auto_map": {"AutoConfig": "evil.C"}}}),
        ("config.json", {"layers": [{"auto_map": {"AutoConfig": "someone/else--evil.C"}}]}),
        ("config.json", {"_attn_implementation": "someone/kernel"}),
        ("config.json", {"attn_implementation": "someone/kernel:forward"}),
        ("config.json", {"text_config": {"_experts_implementation": "someone/kernel"}}),
        ("config.json", {"use_kernels": True}),
        ("config.json", {"kernel_config": {"RMSNorm": "someone/kernel:RMSNorm"}}),
        ("generation_config.json", {"custom_generate": "someone/else"}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}}),
        ("processor_config.json", {"auto_map": {"AutoProcessor": "evil.P"}}),
    ],
)
def test_a_model_with_code_is_refused(
    model: Path, name: str, change: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each way of including code is reported with its file before anything is loaded."""
    check_model_folder(model, "m")
    _change(model / name, change)
    found = code_in_model(model)
    assert found is not None
    assert name in found
    with pytest.raises(ModelError, match="which is never allowed"):
        check_model_folder(model, "m")
    data = write_rows(model.parent / "rows.jsonl", rows(4))
    for command in ("check", "train"):
        out = ("--output_dir", str(model.parent / "out")) if command == "train" else ()
        assert main([command, str(data), "--model", str(model), *out]) == 2
        said = capsys.readouterr().err
        assert found in said
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize("place", ["modeling_evil.py", "custom_generate/generate.py"])
def test_a_python_file_is_refused(model: Path, place: str) -> None:
    """A Python file in a model folder is refused, whether or not a config refers to it."""
    (model / place).parent.mkdir(exist_ok=True)
    (model / place).write_text("raise SystemExit('code ran')", encoding="utf-8")
    with pytest.raises(ModelError, match=f"a Python file, {place}"):
        check_model_folder(model, "m")


@pytest.mark.parametrize(
    "change", [{"use_kernels": False}, {"kernel_config": None}, {"_attn_implementation": "sdpa"}]
)
def test_a_harmless_setting_is_accepted(model: Path, change: dict[str, object]) -> None:
    """The same keys with a harmless value are accepted."""
    _change(model / "config.json", change)
    check_model_folder(model, "m")


@pytest.mark.parametrize(
    "change",
    [
        {"auto_mapping": {"base_model_class": "system", "parent_library": "os"}},
        {"megatron_config": {"x": 1}, "megatron_core": "evil"},
        {"megatron_core": "evil"},
        {"auto_map": {"AutoModel": "evil.M"}},
    ],
)
def test_an_adapter_with_code_is_refused(
    project: Project, tmp_path: Path, change: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings whose value PEFT would import are an error before anything is loaded."""
    adapter = Path(shutil.copytree(project.folder / "whole", tmp_path / "adapter"))
    for name in ("run.json", "manifest.json"):
        (adapter / name).unlink()  # a foreign adapter
    check_adapter_folder(adapter)
    _change(adapter / "adapter_config.json", change)
    assert code_in_adapter(adapter / "adapter_config.json") is not None
    with pytest.raises(AdapterError, match="which is never allowed"):
        check_adapter_folder(adapter)
    arguments = ["compare", "Why?", "--adapter", str(adapter), "--model", str(project.model)]
    assert main(arguments) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_path_is_never_looked_up_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing path is reported as such, without a request to any server."""
    requests: list[str] = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **_: requests.append(name)
    )
    data = write_rows(tmp_path / "rows.jsonl", rows(4))
    for name in ("./gone", "/gone/model", "~/gone", "a/b/c", str(tmp_path / "gone")):
        assert main(["check", str(data), "--model", name]) == 2
        assert "no such model folder" in capsys.readouterr().err
    assert requests == []


def test_a_hostile_data_file_is_only_text(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts, terminal escapes and templates in the data appear as text in report and terminal."""
    hostile = (
        "<script>alert(1)</script>",
        "\x1b]0;title\x07\x1b[2J",
        "{{ ''.__class__.__mro__ }}{% for x in y %}",
        "\u202egnp.exe",
        "![x](javascript:alert(1))<img src=x onerror=alert(1)>",
    )
    data = tmp_path / "rows.jsonl"
    lines = [
        json.dumps({"instruction": f"{hostile[i % 5]} {i}?", "output": f"{hostile[i % 5]} {i}"})
        for i in range(30)
    ]
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = tmp_path / "out"
    arguments = project.command(out, "--max_steps", "1", "--answered_examples", "3")
    assert main([arguments[0], str(data), *arguments[2:]]) == 0
    said = capsys.readouterr().out
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "\x1b]" not in said
    assert "\u202e" not in said + page
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
