"""Specification: whatever keeps `train` from starting is an error of `check`, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny import CHAT_TEMPLATE, LEAN_SETTINGS, Models

from finetuning_exam import CheckSettings, TrainSettings, check, train
from finetuning_exam.errors import DataError, UserError
from finetuning_exam.settings import SystemTurns, Template


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty folder."""
    monkeypatch.chdir(tmp_path)


Row = dict[str, object]
RAISES = "{{ raise_exception('%s') }}"
NO_SYSTEM = f"{{% if messages[0].role == 'system' %}}{RAISES % 'no system'}{{% endif %}}"
ALTERNATE = (
    "{% for message in messages %}"
    "{% if loop.index0 > 1 and message.content == messages[loop.index0 - 2].content %}"
    f"{RAISES % 'turns must differ'}{{% endif %}}{{% endfor %}}"
)
DROPS_SYSTEM = CHAT_TEMPLATE.replace("in messages", "in messages if message.role != 'system'")


def _row(number: int, **more: object) -> Row:
    row: Row = {"instruction": f"What is thing {number}?", "output": f"It is number {number}."}
    return row | more


def _talk(*texts: str) -> Row:
    roles = ("user", "assistant") * len(texts)
    return {"messages": [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]}


ROWS = [_row(number) for number in range(1, 5)]
USER_FIRST = f"{{% if messages[0].role == 'assistant' %}}{RAISES % 'user first'}{{% endif %}}"
GREETED: Row = {
    "messages": [
        {"role": role, "content": text}
        for role, text in (("assistant", "Hello!"), ("user", "Who?"), ("assistant", "You."))
    ]
}
LONG = "word " * 200


@dataclass(frozen=True)
class Situation:
    """Data and a model; `stops` are the places of what stops a run, or the start of its error."""

    rows: Sequence[Row]
    stops: Sequence[str] = ()
    error: str = ""
    template: str | None = None
    choice: Template = "auto"
    max_length: int = 1000
    vocabulary: int = 512
    exam: Sequence[Row] = ()
    system_turns: SystemTurns = "auto"


SITUATIONS = {
    "sound": Situation(ROWS),
    "sound conversation": Situation([_talk("a", "b", "c", "d")] * 2, template=CHAT_TEMPLATE),
    "some rows too long": Situation([*ROWS, _row(5, output=LONG)], max_length=100),
    "all rows too long": Situation(
        [_row(n, output=LONG) for n in range(3)], ["d.jsonl"], max_length=100
    ),
    "one row, too long": Situation([_row(1, output=LONG)], ["d.jsonl"], max_length=100),
    "the exam too long": Situation(
        ROWS, ["e.jsonl"], max_length=100, exam=[_row(9, output=LONG), _row(8, output=LONG)]
    ),
    "all plain texts too long": Situation([{"text": LONG}], ["d.jsonl"], max_length=100),
    "tokens without embeddings": Situation(ROWS, error="a tokenizer", vocabulary=480),
    "one token without an embedding": Situation(ROWS, error="a tokenizer", vocabulary=499),
    "embeddings to spare": Situation(ROWS, vocabulary=640),
    "one system turn refused": Situation(
        [*ROWS, _row(5, system="Be brief.")], ["d.jsonl:5"], template=NO_SYSTEM + CHAT_TEMPLATE
    ),
    "every system turn refused": Situation(
        [_row(n, system="Be brief.") for n in range(3)],
        ["d.jsonl:1", "d.jsonl:2", "d.jsonl:3"],
        template=NO_SYSTEM + CHAT_TEMPLATE,
    ),
    "empty system texts": Situation(
        [_row(n, system="") for n in range(3)], template=NO_SYSTEM + CHAT_TEMPLATE
    ),
    "system turns refused, plain": Situation(
        [_row(n, system="Be brief.") for n in range(3)],
        template=NO_SYSTEM + CHAT_TEMPLATE,
        choice="plain",
    ),
    "system turns refused, folded": Situation(
        [_row(n, system="Be brief.") for n in range(3)],
        template=NO_SYSTEM + CHAT_TEMPLATE,
        exam=[_row(8), _row(9, system="Be brief.")],
        system_turns="fold",
    ),
    "a greeting": Situation([GREETED, _talk("a", "b")], template=CHAT_TEMPLATE),
    "a greeting, plain": Situation([GREETED, _talk("a", "b")], choice="plain"),
    "a greeting refused": Situation(
        [_talk("a", "b"), GREETED], ["d.jsonl:2"], template=USER_FIRST + CHAT_TEMPLATE
    ),
    "a system turn dropped": Situation(
        [*ROWS, _row(5, system="Be brief.")], ["d.jsonl:5"], template=DROPS_SYSTEM
    ),
    "a system turn of the exam refused": Situation(
        ROWS,
        ["e.jsonl:2"],
        template=NO_SYSTEM + CHAT_TEMPLATE,
        exam=[_row(8), _row(9, system="Be brief.")],
    ),
    "a conversation refused": Situation(
        [_talk("a", "b", "c", "d"), _talk("a", "b", "a", "c"), _talk("a", "b")],
        ["d.jsonl:2"],
        template=ALTERNATE + CHAT_TEMPLATE,
    ),
    "too long and refused": Situation(
        [_row(1, output=LONG), _row(2, system="Be brief.")],
        ["d.jsonl", "d.jsonl:2"],
        template=NO_SYSTEM + CHAT_TEMPLATE,
        max_length=100,
    ),
    "a special token": Situation(
        [*ROWS, _row(5, output="It is <|end|>.")], ["d.jsonl:5"], template=CHAT_TEMPLATE
    ),
    "a special token, plain": Situation(
        [*ROWS, _row(5, output="It is <|end|>.")], template=CHAT_TEMPLATE, choice="plain"
    ),
    "no template": Situation(ROWS, error="The tokenizer has no chat template", choice="chat"),
    "a template that always fails": Situation(
        ROWS, error="The chat template failed: never", template=RAISES % "never"
    ),
    "a faulty record": Situation([*ROWS, _row(5, output=None)], ["d.jsonl:5"]),
}


def _write(name: str, rows: Sequence[Row]) -> str:
    Path(name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return name


def _model(models: Models, situation: Situation) -> str:
    folder = models.folder(vocab_size=situation.vocabulary)
    if situation.template is None:
        return str(folder)
    copy = Path("model")
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["chat_template"] = situation.template
    (copy / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(copy)


@pytest.mark.parametrize("name", SITUATIONS)
def test_check_and_train_agree_on_what_stops_a_run(models: Models, name: str) -> None:
    """The same places stop both, or the same error; where nothing does, a step is trained."""
    situation = SITUATIONS[name]
    data = (_write("d.jsonl", situation.rows),)
    exam = _write("e.jsonl", situation.exam) if situation.exam else None
    model = _model(models, situation)
    shared: dict[str, Any] = {
        "data": data,
        "eval_file": exam,
        "model_name_or_path": model,
        "template": situation.choice,
        "system_turns": situation.system_turns,
        "max_length": situation.max_length,
    }
    asked = CheckSettings(**shared)
    run = TrainSettings(
        **shared, max_steps=1, device="cpu", lora_r=2, answered_examples=0, **LEAN_SETTINGS
    )
    if situation.error:
        for refuse in (lambda: check(asked), lambda: train(run)):
            with pytest.raises(UserError) as caught:
                refuse()
            expected = situation.error.replace("a tokenizer", f"{model}: the tokenizer has ")
            assert str(caught.value).startswith(expected)
    elif situation.stops:
        assert {it.where for it in check(asked).errors} == set(situation.stops)
        with pytest.raises(DataError) as refused:
            train(run)
        listed = [fault.partition(": ")[0] for fault in refused.value.faults]
        assert set(situation.stops) <= set(listed)
    else:
        assert check(asked).errors == ()
        assert train(run).record.result.steps == 1


def test_the_rows_that_are_left_are_trained(models: Models) -> None:
    """With `skip_bad_rows`, all rows but those that the template refuses are trained."""
    situation = SITUATIONS["one system turn refused"]
    data = (_write("d.jsonl", situation.rows),)
    model = _model(models, situation)
    run = TrainSettings(
        data=data,
        model_name_or_path=model,
        max_steps=1,
        device="cpu",
        skip_bad_rows=True,
        **LEAN_SETTINGS,
    )
    assert train(run).record.data.n_train == 4


def test_a_refusal_of_every_row_is_one_line(models: Models) -> None:
    """Rows that are refused for one reason share a line; nothing would be left to go on with."""
    rows = [_row(n, system="Be brief.") for n in range(40)]
    data = (_write("d.jsonl", rows),)
    model = _model(models, Situation(rows, template=NO_SYSTEM + CHAT_TEMPLATE))
    with pytest.raises(DataError) as refused:
        train(TrainSettings(data=data, model_name_or_path=model, device="cpu"))
    assert str(refused.value) == (
        "d.jsonl:1: the chat template rejects system turns: no system. "
        "Also in lines 2, 3, 4, 5 and 35 more. "
        "Use --system_turns fold, which puts it before the first question, or --template plain."
    )
    assert len(check(CheckSettings(data=data, model_name_or_path=model)).errors) == 40


def test_a_copy_without_greetings_is_trained(models: Models) -> None:
    """`--fix` drops the greeting of each record whose template takes none, and only there."""
    rows = [_talk("a", "b"), GREETED]
    data = (_write("d.jsonl", rows),)
    model = _model(models, Situation(rows, template=USER_FIRST + CHAT_TEMPLATE))
    kept = check(CheckSettings(data=data, fix="kept.jsonl"))
    assert (kept.errors, Path("kept.jsonl").read_text()) == ((), Path("d.jsonl").read_text())
    fixed = check(CheckSettings(data=data, model_name_or_path=model, fix="fixed.jsonl"))
    assert fixed.copy is not None
    assert [it.line for it in fixed.copy.changed] == [2]
    again = check(CheckSettings(data=("fixed.jsonl",), model_name_or_path=model))
    assert again.errors == ()
    assert [it.instruction for it in again.check.train.examples] == ["a", "Who?"]


def test_only_what_was_left_out_is_named(models: Models) -> None:
    """Where no row is left, notes and warnings about the rows are no reasons for that."""
    rows = [_row(n, output=f"<|end|> {LONG}") for n in range(2)]
    data = (_write("d.jsonl", rows),)
    model = str(models.folder())
    with pytest.raises(DataError) as refused:
        train(TrainSettings(data=data, model_name_or_path=model, device="cpu", max_length=100))
    where = [fault.partition(": ")[0] for fault in refused.value.faults]
    assert where == ["d.jsonl", "d.jsonl", "d.jsonl:1", "d.jsonl:2"]
