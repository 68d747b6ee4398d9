"""Specification of values: whatever settings may hold can be written as flags and as YAML."""

from __future__ import annotations

import math
import tempfile
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import pytest
import yaml
from annotated_types import Ge, Interval
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.cli.arguments import parse
from finetuning_exam.cli.registry import COMMANDS, Command
from finetuning_exam.errors import UsageError
from finetuning_exam.setting_values import Flag, expected, flags_of, full_name, validated
from finetuning_exam.settings import CommonSettings, TrainSettings

each_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
TEXTS = st.text("aZ0 -_=,.:'\"#[]{}&*!|>%@`\\\t\u00fc\u2028\U0001f600", max_size=12)
"""Characters that shells and YAML treat in a special way, and ordinary ones."""
WORDS = st.from_regex(r"[a-z_][a-z_.0-9]{0,9}", fullmatch=True).filter(lambda it: it != "none")


def _values(flag: Flag, kind: object) -> st.SearchStrategy[object]:
    """Every value of a type, as far as it can be written."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return st.sampled_from(parts)
    if get_origin(kind) is Annotated:
        limits = _limits(parts[1])
        return st.integers(**limits) if parts[0] is int else st.floats(**limits)
    if get_origin(kind) is tuple:
        items = TEXTS if flag.is_positional else _values(flag, parts[0])
        least = 0 if flag.default == () else 1
        return st.lists(items, min_size=least, max_size=3).map(tuple)
    if parts:
        return st.one_of([_values(flag, part) for part in parts])
    if kind is str:
        return WORDS if flag.is_list else TEXTS
    return st.booleans() if kind is bool else st.none()


def _limits(limit: Ge | Interval) -> dict[str, Any]:
    """The limits of annotated-types as Hypothesis takes them."""
    if isinstance(limit, Ge):
        return {"min_value": limit.ge}
    low = limit.gt if limit.ge is None else limit.ge
    high = limit.lt if limit.le is None else limit.le
    if isinstance(high, int) and high > 1:
        return {"min_value": low, "max_value": high - 1}
    return {
        "min_value": low,
        "max_value": None if high == math.inf else high,
        "exclude_min": limit.gt is not None,
        "exclude_max": limit.lt not in (None, math.inf),
        "allow_nan": False,
        "allow_infinity": False,
    }


@st.composite
def _settings(draw: st.DrawFn, command: Command) -> CommonSettings:
    """Any settings of a command; most of them as they are by default."""
    flags = flags_of(command.settings)
    names = draw(st.sets(st.sampled_from(sorted(flags.keys() - {"config"})), max_size=6))
    drawn = {name: draw(_values(flags[name], flags[name].type)) for name in sorted(names)}
    return replace(command.settings(), **cast("dict[str, Any]", drawn))


def _words(flag: Flag, value: object, style: str) -> list[str]:
    """A value on the command line."""
    name = f"--{flag.name}".replace("_", "-") if style == "hyphens" else f"--{flag.name}"
    if isinstance(value, tuple):
        words = [",".join(value)] if style == "hyphens" else list(value)
        return [name, *words] if value else [name, "None"]
    return (
        [f"{name}={value}"] if style == "hyphens" or isinstance(value, str) else [name, str(value)]
    )


@each_command
@given(data=st.data(), style=st.sampled_from(["underscores", "hyphens"]))
def test_settings_go_through_flags(command: Command, data: st.DataObject, style: str) -> None:
    """Settings written as flags, in either style, are read back the same."""
    settings = data.draw(_settings(command))
    words: list[str] = []
    last: list[str] = []
    for name, flag in flags_of(command.settings).items():
        value = getattr(settings, name)
        if flag.is_positional and value != flag.default:
            last = ["--", *(value if isinstance(value, tuple) else [value])]
        elif value != flag.default:
            words += _words(flag, value, style)
    assert parse(command.settings, command.name, [*words, *last]).settings == settings


@each_command
@given(data=st.data())
def test_settings_go_through_yaml(command: Command, data: st.DataObject) -> None:
    """Settings written to a YAML file are read back the same, also by their defaults."""
    settings = data.draw(_settings(command))
    content = {key: value for key, value in asdict(settings).items() if key != "config"}
    plain = {key: list(it) if isinstance(it, tuple) else it for key, it in content.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_text(yaml.safe_dump(plain, allow_unicode=True), encoding="utf-8")
        parsed = parse(command.settings, command.name, ["--config", str(path)])
    assert replace(parsed.settings, config=None) == settings
    assert parsed.unused_keys == ()


@each_command
def test_a_setting_is_found_by_its_names(command: Command) -> None:
    """A full name, an alias and a name with hyphens all mean the one setting."""
    flags = flags_of(command.settings)
    assert list(flags) == [field.name for field in fields(command.settings)]
    for name, flag in flags.items():
        assert full_name(flags, name) == full_name(flags, name.replace("_", "-")) == name
        if flag.alias:
            assert full_name(flags, flag.alias) == name


def test_an_alias_is_no_setting() -> None:
    """No alias is the name of a setting, and one alias means the same for every command."""
    meant = {
        (flag.alias, name)
        for command in COMMANDS.values()
        for name, flag in flags_of(command.settings).items()
        if flag.alias
    }
    assert meant == {("model", "model_name_or_path"), ("adapter", "adapter_name_or_path")}


@pytest.mark.parametrize(
    ("kind", "loose", "tight"),
    [
        (str, "text", "text"),
        (bool, "true or false", "true or false"),
        (str | None, "text or None", "text or None"),
        (Literal["a", "b", "c"], "a, b or c", "a, b or c"),
        (Annotated[int, Ge(1)], "an integer", "an integer of at least 1"),
        (Annotated[int, Interval(ge=0, lt=8)], "an integer", "an integer from 0 to 7"),
        (Annotated[float, Interval(ge=0, le=0.4)], "a number", "a number from 0 to 0.4"),
        (Annotated[float, Interval(gt=0, le=1)], "a number", "a number above 0 and at most 1"),
        (
            Annotated[float, Interval(ge=0, lt=1)],
            "a number",
            "a number of at least 0 and below 1",
        ),
        (Annotated[float, Interval(gt=0, lt=math.inf)], "a number", "a finite number above 0"),
        (
            Annotated[int, Ge(2)] | Literal["auto"],
            "an integer or auto",
            "an integer of at least 2 or auto",
        ),
        (tuple[Literal["a"] | Literal["all", "none"], ...], "a, all or none", "a, all or none"),
    ],
)
def test_types_are_described(kind: object, loose: str, tight: str) -> None:
    """A message names the type of a value, and its range where that is what is wrong."""
    assert expected(kind) == loose
    assert expected(kind, with_range=True) == tight


def test_settings_made_in_python_get_the_values_of_flags() -> None:
    """A word and a list become what a flag gives, defaults stay, and a wrong value is refused."""
    loose: dict[str, Any] = {"data": "my file.jsonl", "max_steps": "7", "report_to": ["mlflow"]}
    given = validated(TrainSettings(**loose))
    assert given == TrainSettings(data=("my file.jsonl",), max_steps=7, report_to=("mlflow",))
    assert validated(TrainSettings()) == TrainSettings()
    wrong: dict[str, Any] = {"max_steps": "many"}
    with pytest.raises(UsageError, match=r"^max_steps: expected an integer or None, got 'many'"):
        validated(TrainSettings(**wrong))


def test_properties_of_flags() -> None:
    """The type of a setting says what its flag can do."""
    flags = flags_of(TrainSettings)
    assert [name for name, it in flags.items() if it.is_boolean] == [
        "completion_only_loss",
        "enable_thinking",
        "skip_bad_rows",
        "gradient_checkpointing",
        "load_best_model_at_end",
        "overwrite_output_dir",
        "fail_if_worse",
    ]
    assert [name for name, it in flags.items() if it.is_list] == [
        "data",
        "lora_target_modules",
        "replay",
        "fast_path",
        "report_to",
    ]
    assert flags["max_steps"].is_optional
    assert NoneType not in get_args(flags["seed"].type)
    assert not flags["seed"].is_optional


@each_command
@given(data=st.data())
def test_no_command_line_is_a_crash(command: Command, data: st.DataObject) -> None:
    """Whatever is typed, it is either settings or a message for the user."""
    names = sorted(flags_of(command.settings).keys() - {"config"})
    flags = st.sampled_from(
        [f"{prefix}{name}" for name in names for prefix in ("--", "--no_", "-")]
    )
    words = st.sampled_from(
        ["", "-", "--", "--=", "---", "-1", "1", "auto", "None", "True", ",", "="]
    )
    line = data.draw(st.lists(flags | words | TEXTS | st.builds("{}={}".format, flags, TEXTS)))
    with suppress(UsageError):
        assert isinstance(parse(command.settings, command.name, line).settings, command.settings)
