"""Faulty tokenizers, chat templates and bases, each through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fault_commands import GOOD, Said
from tiny import END, LEAN, Models, rows, write_rows

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("folder")]

# Tokenizers and chat templates


def _model(models: Models, template: str | None = None, **tokenizer: object) -> str:
    """Copy the tiny chat model with another chat template and tokenizer_config."""
    folder = Path(shutil.copytree(models.folder(text="chat"), "model"))
    config = folder / "tokenizer_config.json"
    value = json.loads(config.read_text(encoding="utf-8"))
    value.pop("chat_template", None)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    config.write_text(json.dumps(value | tokenizer), encoding="utf-8")
    return str(folder)


TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>\n{% endfor %}"
ASKS = "{% if add_generation_prompt %}assistant: {% endif %}"
LOOP = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "tokenizer",
    [{"pad_token": None}, {"pad_token": END}, {"pad_token": None, "bos_token": None}],
    ids=["no pad token", "pad is the end token", "no beginning token"],
)
@pytest.mark.parametrize("template", [None, TURNS + ASKS], ids=["plain", "chat"])
def test_tokenizers_without_some_tokens_are_handled(
    said: Said, models: Models, tokenizer: dict[str, object], template: str | None
) -> None:
    """Without a pad token, with pad equal to end, and without a beginning token, a model is
    checked, trained and examined, and the end of the answer is trained once.
    """
    model = _model(models, template, **tokenizer)
    path = str(write_rows(Path("d.jsonl"), rows(4)))
    assert said.fte("check", path, "--model", model, "--show", "1") == 0
    (last,) = [line for line in said.out.splitlines() if line.startswith("┃")]
    assert last == f"┃ {rows(1)[0].answer}{END}"
    quick = ("--max_steps", "1", "--device", "cpu", "--max_new_tokens", "4")
    assert said.fte("train", path, "--model", model, *quick) == 0


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('not today') }}", "The chat template failed: not today."),
        ("{{ messages | nothing }}", "The chat template failed: No filter named 'nothing'."),
        ("{% for %}", "The chat template failed: "),
        (LOOP + TURNS + ASKS, "The chat template did not finish within 2 seconds."),
        ("{{ 'x' * 50000000 }}" + TURNS + ASKS, "The chat template rendered 50,000,"),
        (
            "{{ messages[0].content }}",
            "The chat template does not render the answer verbatim.",
        ),
        (ASKS + TURNS, "With this chat template the prompt is not a prefix of the whole"),
        (
            "{{ ''.__class__.__mro__ }}" + TURNS + ASKS,
            "The chat template failed: access to attribute '__class__' of 'str' object is unsafe.",
        ),
    ],
    ids=["refuses", "no filter", "no syntax", "loops", "50 MB", "drops", "no prefix", "breaks out"],
)
@pytest.mark.parametrize("command", ["check", "train"])
def test_an_unusable_chat_template_is_reported(
    said: Said, models: Models, command: str, template: str, message: str
) -> None:
    """A template that fails, loops, renders 50 MB or drops the answer is reported on one line with
    a hint, within seconds; without the template, the same data are read.
    """
    model = _model(models, template)
    path = str(write_rows(Path("d.jsonl"), rows(4)))
    assert said.fte(command, path, "--model", model) == 2
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith(f"fte {command}: {message}")
    assert said.err.endswith("Use --template plain.\n")
    assert said.fte("check", path, "--model", model, "--template", "plain") == 0


def test_a_tokenizer_without_an_end_token_is_reported(said: Said, models: Models) -> None:
    """Without an end-of-text token, no answer could end."""
    model = _model(models, eos_token=None)
    path = str(write_rows(Path("d.jsonl"), rows(4)))
    assert said.fte("check", path, "--model", model) == 2
    assert said.err == (
        "fte check: The tokenizer has no end-of-text token, so answers could not end. "
        "Set eos_token in its tokenizer_config.json.\n"
    )


def test_system_turns_that_a_template_refuses_are_reported(said: Said, models: Models) -> None:
    """Each system turn that the template refuses is an error with its line and how to proceed."""
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    model = _model(models, refusal + TURNS + ASKS)
    record = b'{"system": "Be brief.", "instruction": "Who?", "output": "I."}\n'
    assert said.check(GOOD + record, "--model", model) == 2
    assert (
        "error: system turn that the chat template does not take (1)\n"
        "  d.jsonl:2: the chat template rejects system turns: no system.\n"
        "  → Use --system_turns fold, which puts it before the first question, or --template "
        "plain.\n"
    ) in said.out
    assert said.check(GOOD, "--model", model) == 0


# The wrong base


def test_an_adapter_of_another_base_is_refused(said: Said, models: Models) -> None:
    """A base with the same shape but other weights ends with exit code 3 and names both bases."""
    path = str(write_rows(Path("d.jsonl"), rows(4)))
    own, other = str(models.folder()), str(models.folder(seed=1))
    quick = ("--max_steps", "1", "--answered_examples", "0", "--device", "cpu", *LEAN)
    assert said.fte("train", path, "--model", own, *quick) == 0
    assert said.fte("exam", path, "--adapter", "output", "--model", other, "--device", "cpu") == 3
    (line,) = said.err.splitlines()
    assert f"trained on {own} (sha256 " in line
    assert f"not on {other} (sha256 " in line
