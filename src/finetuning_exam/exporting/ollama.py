"""A Modelfile for Ollama: the prompts of training in Ollama's template language."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from finetuning_exam.data.encoding.chat_template import ChatTemplate
from finetuning_exam.data.records import Turn
from finetuning_exam.errors import ModelError
from finetuning_exam.exporting import go_template
from finetuning_exam.exporting.go_template import START, literal
from finetuning_exam.exporting.source import Source

MODELFILE = "Modelfile"
_MOST_CONTEXT = 8192
"""Positions that Ollama is told to hold in memory, at most."""
_SYSTEM, _USER, _ANSWER, _LAST = "Sys7qZ", "Use7qZ", "Ans7qZ", "Las7qZ"
"""Words that occur in no template."""


@dataclass(frozen=True, slots=True)
class _Pieces:
    """What a chat template writes between the turns of a conversation.

    `before_system` and `after_system` are None if it takes no system turn.
    """

    before_user: str
    before_answer: str
    before_next: str
    end: str
    before_system: str | None
    after_system: str | None


def modelfile(file: str, source: Source, system: str, template: str | None) -> str:
    """Return a Modelfile.

    Args:
        file: Name of the GGUF file beside it.
        source: The adapter and its base.
        system: The system turn that all examples of the training share, or "".
        template: The prompt as `ollama_template` gives it; None leaves it to the GGUF file.
    """
    stops = [source.tokenizer.decode([it]) for it in source.end_ids]
    stops += [source.encoder.stop_text] if source.encoder.stop_text else []
    lines = [
        f"# {source.title}, exported by finetuning-exam",
        f"FROM ./{file}",
        *([f'TEMPLATE """{template}"""'] if template is not None else []),
        *([f'SYSTEM """{system}"""'] if system and '"""' not in system else []),
        *(f'PARAMETER stop "{_quoted(it)}"' for it in stops),
        f"PARAMETER num_ctx {min(source.context, _MOST_CONTEXT)}",
        "# Answers as in the exam: always the most likely token.",
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1",
    ]
    return "\n".join(lines) + "\n"


def read_template(modelfile: str) -> str | None:
    """Return the template in a Modelfile, or None."""
    found = re.search(r'^TEMPLATE """(.*?)"""', modelfile, re.DOTALL | re.MULTILINE)
    return found[1] if found else None


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def ollama_template(source: Source) -> str | None:
    """Return the chat template of training in Ollama's language; None if it cannot be said there.

    It is read off what the template writes around turns, and kept only if it renders every kind of
    conversation as the template does.
    """
    if source.chat_template is None or source.encoder.date is not None:
        return None
    try:
        pieces = _pieces(source)
    except (ModelError, ValueError):
        return None
    template = _template(pieces)
    if '"""' in template:
        return None
    return template if not template_fault(source, template) else None


def template_fault(source: Source, template: str) -> str:
    """Return how a template renders a conversation otherwise than training did; else ""."""
    for turns in conversations(takes_system='"system"' in template):
        try:
            expected = _rendered(source, turns)
        except ModelError:
            continue
        found = go_template.render(template, turns)
        if found != expected:
            return f"Ollama's template gives {found!r} where training had {expected!r}"
    return ""


def conversations(*, takes_system: bool) -> tuple[tuple[Turn, ...], ...]:
    """Return conversations of every kind that Ollama hands to a template."""
    first = Turn("user", "What is a fork?\nOne line.")
    talk = (first, Turn("assistant", "A tool {{ }} \"'<>&"), Turn("user", "And a spoon?"))
    more = (*talk, Turn("assistant", "Another."), Turn("user", "日本 🙂"))
    system = Turn("system", "Be brief.")
    found: list[tuple[Turn, ...]] = [(first,), talk, more]
    if takes_system:
        found += [(system, *it) for it in found]
    return tuple(found)


def _rendered(source: Source, turns: Sequence[Turn]) -> str:
    """Render a prompt without the token that llama.cpp puts first by itself."""
    text = ChatTemplate(source.encoder.tokenizer, None, source.chat_template).render(
        turns, asks=True
    )
    return text.removeprefix(source.encoder.start_text)


def _pieces(source: Source) -> _Pieces:
    user, answer, last = Turn("user", _USER), Turn("assistant", _ANSWER), Turn("user", _LAST)
    whole = _rendered(source, (user, answer, last))
    before_user, before_answer, before_next, end = _between(whole, (_USER, _ANSWER, _LAST))
    before_system = after_system = None
    try:
        with_system = _rendered(source, (Turn("system", _SYSTEM), user))
        before_system, after_system, _ = _between(with_system, (_SYSTEM, _USER))
    except (ModelError, ValueError):
        pass  # the template takes no system turn
    return _Pieces(before_user, before_answer, before_next, end, before_system, after_system)


def _between(text: str, words: Sequence[str]) -> list[str]:
    """Return what stands before, between and after words that each occur once, in this order."""
    parts: list[str] = []
    for word in words:
        if text.count(word) != 1:
            raise ValueError(word)
        part, _, text = text.partition(word)
        parts.append(part)
    return [*parts, text]


def _template(it: _Pieces) -> str:
    users = f"{{{{ if eq $i 0 }}}}{literal(it.before_user)}"
    system = ""
    if it.before_system is not None and it.after_system is not None:
        system = (
            f'{{{{ if eq .Role "system" }}}}{literal(it.before_system)}{{{{ .Content }}}}'
            "{{ else if "
        )
        # A second turn is a user's only after a system turn.
        users += f"{{{{ else if eq $i 1 }}}}{literal(it.after_system)}"
    users += f"{{{{ else }}}}{literal(it.before_next)}{{{{ end }}}}{{{{ .Content }}}}"
    return (
        START
        + (system or "{{ if ")
        + f'eq .Role "user" }}}}{users}'
        + f'{{{{ else if eq .Role "assistant" }}}}{literal(it.before_answer)}{{{{ .Content }}}}'
        + "{{ end }}{{ end }}"
        + literal(it.end)
    )
