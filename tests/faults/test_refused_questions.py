"""Questions that a chat template refuses: `fte compare` names each by its place."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fault_commands import Said
from tiny import CHAT_TEMPLATE, Models, save_noisy_adapter

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("folder")]

RAISES = "{{ raise_exception('%s') }}"
NO_SYSTEM = f"{{% if messages[0].role == 'system' %}}{RAISES % 'no system'}{{% endif %}}"
NO_SHOUTING = (
    "{% for m in messages %}{% if m.role == 'user' and m.content.isupper() %}"
    f"{RAISES % 'no shouting'}{{% endif %}}{{% endfor %}}"
)
NO_THOUGHTS = CHAT_TEMPLATE.replace(
    "{{ message.content }}", "{{ message.content.split('</think>')[-1] }}"
)

Compare = Callable[..., int]
"""Runs `fte compare` with a chat template and arguments."""


@pytest.fixture
def compare(models: Models, said: Said) -> Compare:
    """Return a function that runs `fte compare` with a model of some chat template."""

    def run(template: str, *arguments: str) -> int:
        model = Path(shutil.copytree(models.folder(text="chat"), "model"))
        (model / "chat_template.jinja").unlink(missing_ok=True)
        config = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
        config["chat_template"] = template
        (model / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        save_noisy_adapter(model, Path("output"))
        given = ("--model", str(model), "--device", "cpu", "--max_new_tokens", "2")
        return said.fte("compare", *given, *arguments)

    return run


def _write(rows: Sequence[dict[str, object]]) -> None:
    Path("d.jsonl").write_text("".join(f"{json.dumps(it)}\n" for it in rows), encoding="utf-8")


def test_a_typed_question_is_named_by_its_number(said: Said, compare: Compare) -> None:
    """Each question of the command line that is refused is named, and the others are not."""
    assert compare(NO_SHOUTING + CHAT_TEMPLATE, "Who?", "WHERE?", "When?", "WHY?") == 2
    assert said.err == (
        "fte compare:\n"
        "argument:2: the chat template failed: no shouting.\n"
        "argument:4: the chat template failed: no shouting.\n"
        "Change its turns to what the template expects, or use --template plain.\n"
    )


def test_a_record_is_named_by_its_line(said: Said, compare: Compare) -> None:
    """A system turn that the template refuses is named with its line, as `fte check` does."""
    _write([{"instruction": "Who?"}, {"instruction": "Where?", "system": "Be brief."}])
    assert compare(NO_SYSTEM + CHAT_TEMPLATE, "--prompts", "d.jsonl") == 2
    assert said.err == (
        "fte compare: d.jsonl:2: the chat template rejects system turns: no system. "
        "Use --system_turns fold, which puts it before the first question, or --template plain.\n"
    )


def test_a_refused_reference_is_named_before_the_work(said: Said, compare: Compare) -> None:
    """A reference that the template does not render cannot be scored: it is named, too."""
    _write(
        [
            {"instruction": "Who?", "output": "I."},
            {"instruction": "Why?", "output": "<think>So.</think>Thus."},
        ]
    )
    assert compare(NO_THOUGHTS, "--prompts", "d.jsonl") == 2
    assert said.err.startswith(
        "fte compare: d.jsonl:2: the answer has a thought, and this run is without thoughts. "
    )
    assert "Who?" not in said.out


def test_a_question_asked_in_turn_is_named_and_the_next_is_answered(
    said: Said,
    compare: Compare,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refused question does not end the conversation."""
    monkeypatch.setattr("sys.stdin", io.StringIO("WHO?\nwho?\n"))
    assert compare(NO_SHOUTING + CHAT_TEMPLATE) == 0
    assert "question:1: the chat template failed: no shouting." in said.out
    assert said.out.count("tuned: ") == 1
