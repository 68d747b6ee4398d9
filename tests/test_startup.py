"""Start-up: a command imports only what it needs, and only when it needs it."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from finetuning_exam.api.heavy_imports import rare_collections

if TYPE_CHECKING:
    from tiny import Models

BENCH = Path(__file__).parents[1] / "bench" / "startup.py"
RECORD = '{"instruction": "What is ls?", "output": "It lists files."}\n'
REPORTS = ("matplotlib", "finetuning_exam.report.html", "finetuning_exam.report.plots")
STATISTICS = ("scipy.stats", "sacrebleu")
TRAINING = ("trl", "datasets", "pandas", "pyarrow", "transformers.trainer")
MODELS = ("torch", "transformers", "peft")


def _loaded(code: str, folder: Path) -> frozenset[str]:
    """Run code in a fresh Python in a folder, and return the modules it has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return frozenset(json.loads(done.stdout.splitlines()[-1]))


def _after(folder: Path, *arguments: str) -> frozenset[str]:
    """Run a command successfully, and return the modules it has loaded."""
    code = f"from finetuning_exam.cli import main\nassert main({list(arguments)!r}) == 0"
    return _loaded(code, folder)


@pytest.fixture(scope="module")
def adapter(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an untrained adapter for a tiny model, next to a file of records."""
    from finetuning_exam.model.adapter import add_adapter, lora_config, save_adapter
    from finetuning_exam.model.device import choose_compute
    from finetuning_exam.model.load import load_base

    folder = tmp_path_factory.mktemp("startup")
    base = load_base(str(models.folder()), choose_compute("cpu", "float32"))
    save_adapter(add_adapter(base, lora_config(4, 8, 0.0, ["all-linear"]), 0), folder / "adapter")
    (folder / "rows.jsonl").write_text(RECORD, encoding="utf-8")
    return folder / "adapter"


def test_the_list_of_commands_needs_no_settings(tmp_path: Path) -> None:
    """`fte --help` reads no flags, so it loads no settings."""
    loaded = _after(tmp_path, "--help")
    assert "finetuning_exam.cli" in loaded
    others = {"dataclasses", "inspect", "rich", "numpy", "pydantic"}
    assert not loaded & {"finetuning_exam.settings", *others, *MODELS}


@pytest.mark.parametrize("command", ["check", "train", "compare", "exam"])
def test_help_needs_only_the_settings(command: str, tmp_path: Path) -> None:
    """`fte COMMAND --help` loads the settings, and no library that computes, checks or draws."""
    code = (
        "from contextlib import suppress\nfrom finetuning_exam.cli import main\n"
        f"with suppress(SystemExit): main([{command!r}, '--help'])"
    )
    loaded = _loaded(code, tmp_path)
    assert "finetuning_exam.settings" in loaded
    assert f"finetuning_exam.cli.{command}" not in loaded
    others = {"numpy", "scipy", "pydantic", "yaml", "jinja2", "huggingface_hub"}
    assert not loaded & {*MODELS, *TRAINING, *REPORTS, *others}


def test_a_check_loads_no_torch(tmp_path: Path) -> None:
    """`fte check` of JSON lines needs the tokenizers of Transformers, but not torch."""
    (tmp_path / "rows.jsonl").write_text(RECORD, encoding="utf-8")
    loaded = _after(tmp_path, "check", "rows.jsonl")
    assert "transformers" in loaded
    assert not loaded & {"torch", "peft", "scipy", "rich.progress", *TRAINING, *REPORTS}


def _flags(adapter: Path, models: Models) -> tuple[str, ...]:
    """Return the flags of a short command with an adapter and its base."""
    chosen = ("--adapter", str(adapter), "--model", str(models.folder()))
    return (*chosen, "--max_new_tokens", "2", "--device", "cpu")


def test_comparing_loads_no_training(adapter: Path, models: Models) -> None:
    """`fte compare` does not load TRL, Datasets, statistics or plots."""
    loaded = _after(adapter.parent, "compare", *_flags(adapter, models), "Why?")
    assert loaded >= {*MODELS}
    assert not loaded & {"rich.progress", *TRAINING, *STATISTICS, *REPORTS}


def test_an_exam_loads_no_training(adapter: Path, models: Models) -> None:
    """`fte exam` does not load TRL, Datasets or plots."""
    loaded = _after(adapter.parent, "exam", "rows.jsonl", *_flags(adapter, models))
    assert loaded >= {*MODELS, "sacrebleu"}
    assert not loaded & {*TRAINING, *REPORTS}


def test_statistics_and_plots_wait_until_after_the_training(tmp_path: Path) -> None:
    """Before its first step, `fte train` loads TRL, but nothing for the exam or the report."""
    loaded = _loaded("import finetuning_exam.cli.train, finetuning_exam.training.run", tmp_path)
    assert loaded >= {*MODELS, "trl", "datasets"}
    assert not loaded & {*STATISTICS, *REPORTS}


def test_garbage_collection_is_rare_during_imports() -> None:
    """Within the context, 10,000 new objects are created between two collections."""
    before = gc.get_threshold()
    with rare_collections():
        assert gc.get_threshold() == (10_000, *before[1:])
    assert gc.get_threshold() == before


def test_garbage_collection_is_restored_after_a_failed_import() -> None:
    """The thresholds are restored if an import fails."""
    before = gc.get_threshold()
    with pytest.raises(ImportError), rare_collections():
        raise ImportError
    assert gc.get_threshold() == before


@pytest.mark.parametrize("threshold", [0, 50_000])
def test_rarer_garbage_collection_is_kept(threshold: int) -> None:
    """A collector that is off (0), or that already runs more rarely, is left unchanged."""
    before = gc.get_threshold()
    try:
        gc.set_threshold(threshold)
        with rare_collections():
            assert gc.get_threshold()[0] == threshold
    finally:
        gc.set_threshold(*before)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """Return bench/startup.py as a module."""
    spec = spec_from_file_location("startup_bench", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _child(bench: ModuleType, code: str, until: object) -> float:
    elapsed: float = bench.seconds(bench.Case("child", (sys.executable, "-c", code), until))
    return elapsed


def test_a_case_is_timed_to_its_line(bench: ModuleType) -> None:
    """The clock stops at the expected line, without waiting for the process to end."""
    code = (
        "import time\nprint('first', flush=True)\ntime.sleep(0.5)\n"
        "print('the answer', flush=True)\ntime.sleep(100)"
    )
    assert 0.5 < _child(bench, code, bench.printed("answer")) < 50


def test_a_case_is_timed_to_its_end(bench: ModuleType) -> None:
    """Without an expected line, the clock stops when the process ends."""
    assert _child(bench, "import time; print('x'); time.sleep(0.5)", bench.ended) > 0.5


def test_a_case_is_timed_to_its_first_step(bench: ModuleType, tmp_path: Path) -> None:
    """The clock stops at the first metrics row with a loss, not at the validation before it."""
    metrics = tmp_path / "metrics.jsonl"
    code = (
        f"import time\nfile = open({str(metrics)!r}, 'w')\n"
        'print(\'{"step": 0, "eval_loss": 2.0}\', file=file, flush=True)\ntime.sleep(0.5)\n'
        'print(\'{"step": 1, "loss": 2.0}\', file=file, flush=True)\ntime.sleep(100)'
    )
    assert 0.5 < _child(bench, code, bench.stepped(metrics)) < 50


@pytest.mark.parametrize("until", ["ended", "printed", "stepped"])
def test_a_case_that_fails_ends_the_measurement(
    bench: ModuleType, tmp_path: Path, until: str
) -> None:
    """A process that fails too early is not a measurement, and its output is shown."""
    wait = {
        "ended": bench.ended,
        "printed": bench.printed("answer"),
        "stepped": bench.stepped(tmp_path / "metrics.jsonl"),
    }[until]
    with pytest.raises(SystemExit) as caught:
        _child(bench, "import sys; sys.exit('no such adapter')", wait)
    assert caught.value.code == "child: failed.\nno such adapter\n"


def test_the_table_fits_a_terminal(bench: ModuleType, tmp_path: Path) -> None:
    """The table has one line per case with median, lowest, highest and goal, in 80 columns."""
    data = tmp_path / "rows.jsonl"
    data.write_text(RECORD * 6000, encoding="utf-8")
    cases = bench.make_cases(data, tmp_path, tmp_path / "run")
    found = {case.name: [2.0, 1.0, 6.0] for case in cases} | {bench.COMPARE: [2.3]}
    lines = bench.table(cases, found)
    assert max(map(len, lines)) <= 80
    assert len(lines) == len(cases) + 3
    assert "fte check, 6,000 rows                      2.00     1.00     6.00    ≤ 3.0" in lines
    assert "import torch                               2.00     1.00     6.00" in lines
    assert lines[-1].split() == ["fte", "compare", "/", "plain", "load", "1.15", "≤", "1.2"]
