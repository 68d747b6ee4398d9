"""Specification of the settings: each stated once, explained, shown, and read by somebody."""

from __future__ import annotations

import ast
import dataclasses
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

import pytest
import yaml

import finetuning_exam
from finetuning_exam import settings as settings_module
from finetuning_exam.cli.arguments import parse
from finetuning_exam.cli.help import help_texts
from finetuning_exam.cli.registry import COMMANDS
from finetuning_exam.setting import Group
from finetuning_exam.setting_values import flags_of, value_of
from finetuning_exam.settings import CommonSettings, CompareSettings, TrainSettings

ROOT = Path(finetuning_exam.__file__).parent
CONFIGS = Path(__file__).parents[1] / "configs"
each_command = pytest.mark.parametrize(
    ("command", "kind"), [(it.name, it.settings) for it in COMMANDS.values()], ids=COMMANDS
)


def _names(kind: type[CommonSettings]) -> set[str]:
    return {field.name for field in fields(kind)}


def _own_settings() -> set[str]:
    """The classes that settings.py defines."""
    tree = ast.parse(Path(settings_module.__file__).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def _is_settings(node: ast.expr) -> bool:
    """Whether an expression is called settings: `settings`, `run.settings`, `self._settings`; the
    part of them that says how records are read is called `fields`.
    """
    name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
    return name in ("settings", "_settings", "fields")


def _reads(source: str) -> set[str]:
    """The names NAME that a source reads as `settings.NAME`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and _is_settings(node.value)
    }


def _unread(kind: type[CommonSettings], sources: list[str]) -> set[str]:
    """Fields that no module reads which knows this class of settings or one it is made from."""
    makers = {base.__name__ for base in kind.__mro__} & _own_settings() | {kind.__name__}
    read: set[str] = set()
    for source in sources:
        tree = ast.parse(source)
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        if imported & makers:
            read |= _reads(source)
    return _names(kind) - read


def _sources() -> list[str]:
    return [
        path.read_text(encoding="utf-8")
        for path in sorted(ROOT.rglob("*.py"))
        if path.name != "settings.py"
    ]


@each_command
def test_every_setting_is_read(command: str, kind: type[CommonSettings]) -> None:
    """A flag that nothing reads is a defect: a command's own modules read all its settings."""
    assert _unread(kind, _sources()) == set()


def test_a_setting_that_nothing_reads_is_found() -> None:
    """The check would notice: an added setting is unread until a module of its command reads it."""

    @dataclass(frozen=True, kw_only=True)
    class Extra(TrainSettings):
        inert: int = 0

    used = "from finetuning_exam.settings import TrainSettings\nprint(run.settings.inert)"
    foreign = "from finetuning_exam.settings import CompareSettings\nprint(settings.inert)"
    written = "from finetuning_exam.settings import TrainSettings\nsettings.inert = 1"
    assert _unread(Extra, _sources()) == {"inert"}
    assert _unread(Extra, [*_sources(), foreign, written]) == {"inert"}
    assert _unread(Extra, [*_sources(), used]) == set()


def _helps() -> dict[str, str]:
    """The text under every field of settings.py, as `Class.field`; empty where there is none."""
    tree = ast.parse(Path(settings_module.__file__).read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        for statement, below in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = (
                    below.value.value
                    if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                    else ""
                )
                found[f"{node.name}.{statement.target.id}"] = str(text)
    return found


@pytest.mark.parametrize(("field", "text"), _helps().items(), ids=_helps())
def test_every_setting_has_its_help(field: str, text: str) -> None:
    """The text under a field is its help: a sentence with a capital and a full stop."""
    assert text[:1].isupper(), field
    assert text.endswith("."), field


@each_command
def test_every_setting_has_a_group(command: str, kind: type[CommonSettings]) -> None:
    """A setting's group is one of those that `--help` shows."""
    for field in fields(kind):
        assert field.metadata["group"] in get_args(Group), field.name


@each_command
def test_no_text_repeats_a_default(command: str, kind: type[CommonSettings]) -> None:
    """`--help` adds the default; a text says what the default means only where it is None."""
    texts = help_texts(kind)
    for field in fields(kind):
        if field.default not in (None, ()):
            assert "Default:" not in texts[field.name], field.name


@each_command
def test_settings_are_frozen(command: str, kind: type[CommonSettings]) -> None:
    """A setting is never changed after it was parsed."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().seed = 1  # type: ignore[misc]


@each_command
def test_the_defaults_pass_their_own_checks(command: str, kind: type[CommonSettings]) -> None:
    """A command without arguments has exactly the defaults."""
    parsed = parse(kind, command, [])
    assert parsed.settings == kind()
    assert parsed.unused_keys == ()
    for name, flag in flags_of(kind).items():
        default = list(flag.default) if isinstance(flag.default, tuple) else flag.default
        assert value_of(flag, default, name) == flag.default


def test_the_default_recipe_is_the_defaults() -> None:
    """configs/default.yaml states defaults of `fte train`, and nothing else."""
    path = str(CONFIGS / "default.yaml")
    parsed = parse(TrainSettings, "train", ["--config", path])
    assert parsed.settings == TrainSettings(config=path)
    assert parsed.unused_keys == ()
    assert len(yaml.safe_load(Path(path).read_text(encoding="utf-8"))) >= 10


def test_the_classic_recipe_is_the_plain_one() -> None:
    """configs/classic.yaml is r 4 on the attention projections, one epoch, as it is described."""
    path = str(CONFIGS / "classic.yaml")
    train = parse(TrainSettings, "train", ["--config", path])
    found = train.settings
    assert (found.lora_r, found.lora_alpha, found.lora_dropout) == (4, 8, 0.1)
    assert found.lora_target_modules == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert (found.per_device_train_batch_size, found.gradient_accumulation_steps) == (1, 2)
    assert (found.learning_rate, found.num_train_epochs) == (2e-4, 1)
    assert (found.logging_steps, found.save_steps) == (1, 20)
    assert found.dtype in ("auto", "float32")
    assert set(train.unused_keys) == {"do_sample", "temperature", "top_p"}
    asked = parse(CompareSettings, "compare", ["--config", path]).settings
    assert (asked.do_sample, asked.temperature, asked.top_p) == (True, 0.8, 0.9)
    assert asked.max_new_tokens == 80
