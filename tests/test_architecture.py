"""Specification of how the modules hang together."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import finetuning_exam

PACKAGE = "finetuning_exam"
ROOT = Path(finetuning_exam.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 300
BEYOND_THE_BORDER = ("model", "objectives", "training", "evaluation", "exporting")
HEAVY = {"torch", "transformers", "trl", "peft", "datasets"}

LAYERS = {
    "": 9,
    "answer_limit": 0,
    "errors": 0,
    "durable": 0,
    "heap": 0,
    "cache": 0,
    "machine": 0,
    "launch": 0,
    "setting": 0,
    "settings": 0,
    "setting_values": 0,
    "run_record": 0,
    "run_file": 0,
    "run_settings": 0,
    "data": 1,
    "model": 2,
    "objectives": 3,
    "evaluation": 3,
    "training": 4,
    "exporting": 4,
    "report": 5,
    "api": 6,
    "cli": 7,
    "__main__": 8,
}
"""What stands lower is imported by what stands higher, never the other way round."""


def _dotted(path: Path) -> str:
    """`finetuning_exam.data.split` for its file; a package is named without `__init__`."""
    parts = (PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Every module that a source imports, in functions and under TYPE_CHECKING too."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = [*above, node.module] if node.level and node.module else above
            name = ".".join(base) if node.level else node.module or ""
            yield from (f"{name}.{alias.name}" for alias in node.names)


def _layer(dotted: str) -> str:
    """The part of the package a name belongs to: `data` for `finetuning_exam.data.split`."""
    return dotted.removeprefix(PACKAGE).lstrip(".").split(".")[0]


def _upward(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Imports of a module that go up in the layers, or into a layer nobody placed."""
    own = LAYERS[_layer(module)]
    found = []
    for name in _imports(source, module, is_package=is_package):
        if name.split(".")[0] != PACKAGE:
            continue
        part = _layer(name)
        if part in LAYERS and part and LAYERS[part] > own:  # else a name of the package itself
            found.append(name)
    return found


def _libraries(source: str, module: str, *, is_package: bool = False) -> set[str]:
    return {name.split(".")[0] for name in _imports(source, module, is_package=is_package)}


def _read(path: Path) -> tuple[str, str, bool]:
    return path.read_text(encoding="utf-8"), _dotted(path), path.name == "__init__.py"


def test_every_part_has_its_place() -> None:
    """The layers are all the parts there are; a new one must be placed here first."""
    assert {_layer(_dotted(path)) for path in SOURCES} == set(LAYERS)


@pytest.mark.parametrize("path", SOURCES, ids=_dotted)
def test_imports_point_one_way(path: Path) -> None:
    """A module imports from its own layer and from lower ones; the package itself has all names."""
    source, module, is_package = _read(path)
    assert _upward(source, module, is_package=is_package) == []


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from finetuning_exam.model.load import Base", "finetuning_exam.data.split"),
        ("from finetuning_exam import cli", "finetuning_exam.report.html"),
        ("def f():\n    import finetuning_exam.training.trl", "finetuning_exam.evaluation.exam"),
        ("from ..training import sft", "finetuning_exam.evaluation.exam"),
        ("from .. import report", "finetuning_exam.training.run"),
        (
            "if TYPE_CHECKING:\n    from finetuning_exam.data.encoding.rows import E",
            "finetuning_exam.errors",
        ),
    ],
)
def test_an_import_that_goes_up_is_found(source: str, module: str) -> None:
    """The check sees absolute, relative, function-level and type-only imports."""
    assert len(_upward(source, module)) == 1


@pytest.mark.parametrize(
    ("library", "modules"),
    [("trl", {"training.trl"}), ("datasets", {"training.trl", "data.reading.hub"})],
)
def test_trl_and_datasets_are_known_to_few(library: str, modules: set[str]) -> None:
    """Only training/trl.py imports TRL; Datasets, that and data/reading/hub.py."""
    knowing = {
        _dotted(path)
        for path in SOURCES
        for source, module, is_package in [_read(path)]
        if library in _libraries(source, module, is_package=is_package)
    }
    assert knowing == {f"{PACKAGE}.{module}" for module in modules}


def test_only_the_choice_knows_which_objectives_there_are() -> None:
    """objectives/choose.py alone imports an objective; training/ asks what it was given."""
    knowing = {
        _dotted(path)
        for path in SOURCES
        for source, module, is_package in [_read(path)]
        for name in _imports(source, module, is_package=is_package)
        if name.startswith(f"{PACKAGE}.objectives.sft")
    }
    assert knowing == {f"{PACKAGE}.objectives.choose"}


def test_the_hub_is_asked_only_for_its_datasets() -> None:
    """data/reading/hub.py imports Datasets inside a function: reading a file never loads it."""
    tree = ast.parse((ROOT / "data" / "reading" / "hub.py").read_text(encoding="utf-8"))
    imported = {
        alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    }
    assert "datasets" not in imported


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if _layer(_dotted(path)) not in BEYOND_THE_BORDER],
    ids=_dotted,
)
def test_torch_stays_behind_the_border(path: Path) -> None:
    """Outside model/, objectives/, training/, evaluation/ and exporting/ nothing imports torch or
    its friends, except data/reading/hub.py, which asks the hub for datasets.
    """
    source, module, is_package = _read(path)
    allowed = {"datasets"} if module == f"{PACKAGE}.data.reading.hub" else set()
    assert not _libraries(source, module, is_package=is_package) & HEAVY - allowed


LIGHT = [
    _dotted(path)
    for path in SOURCES
    if LAYERS[_layer(_dotted(path))] == 0 or _layer(_dotted(path)) in ("", "data", "api", "cli")
] + [
    f"{PACKAGE}.model.folder",
    f"{PACKAGE}.training.progress",
    f"{PACKAGE}.training.run_folder",
    f"{PACKAGE}.evaluation.exam_file",
]


def _loaded_by(modules: list[str], *, before: str = "") -> set[str]:
    """Which heavy libraries a fresh Python holds after importing these modules."""
    code = (
        f"import sys, types, importlib\n{before}\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        f"print(*({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *modules], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_command_line_loads_no_torch() -> None:
    """The cli, data/, the settings and the readers of a run's files load no heavy library."""
    assert f"{PACKAGE}.cli.arguments" in LIGHT
    assert f"{PACKAGE}.data.encoding.rows" in LIGHT
    assert _loaded_by(LIGHT) == set()


def test_a_heavy_import_is_seen() -> None:
    """The check above would notice: the same fresh Python sees a library that was imported."""
    stand_in = "sys.modules['trl'] = types.ModuleType('trl')"
    assert _loaded_by([f"{PACKAGE}.errors"], before=stand_in) == {"trl"}


@pytest.mark.parametrize("path", SOURCES, ids=_dotted)
def test_no_module_is_long(path: Path) -> None:
    """A module has at most 300 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
