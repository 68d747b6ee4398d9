"""The part of Go's text templates that exported Modelfiles use, rendered as Ollama does.

An action is written without white space around it, so that all other text is literal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from finetuning_exam.data.records import Turn

_ACTION = re.compile(r"\{\{ (.+?) \}\}", re.DOTALL)
_TEST = re.compile(r'(?:else )?if (?:eq \.Role "(?P<role>\w+)"|eq \$i (?P<place>\d+))')
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
START = "{{ range $i, $m := .Messages }}"


def literal(text: str) -> str:
    """Return text as a template writes it; braces are written by an action."""
    return text.replace("{{", '{{ "{{" }}')


def render(template: str, turns: Sequence[Turn]) -> str:
    """Render a template for a conversation that waits for an answer.

    Raises:
        ValueError: the template has an action that is not known here.
    """
    head, found, rest = template.partition(START)
    if not found:
        raise ValueError("no range over the messages")
    body, tail = _split_at_end(rest)
    written = [_plain(head)]
    for place, turn in enumerate(turns):
        written.append(_turn(body, place, turn))
    return "".join([*written, _plain(tail)])


def _split_at_end(text: str) -> tuple[str, str]:
    """Split the text after the beginning of a block at the end of that block."""
    depth = 1
    for found in _ACTION.finditer(text):
        action = found[1]
        depth += action.startswith(("if ", "range ")) - (action == "end")
        if depth == 0:
            return text[: found.start()], text[found.end() :]
    raise ValueError("a block without an end")


def _turn(body: str, place: int, turn: Turn) -> str:
    """Render the body of the range for one turn."""
    written: list[str] = []
    at = 0
    shown = [True]
    done = [True]
    for found in _ACTION.finditer(body):
        if all(shown):
            written.append(body[at : found.start()])
        at = found.end()
        action = found[1]
        if action == "end":
            shown.pop()
            done.pop()
        elif action == "else" or action.startswith(("if ", "else if ")):
            holds = action == "else" or _holds(action, place, turn)
            if action.startswith("if "):
                shown.append(holds)
                done.append(holds)
            else:
                shown[-1] = holds and not done[-1]
                done[-1] = done[-1] or holds
        elif all(shown):
            written.append(turn.text if action == ".Content" else _string(action))
    return "".join([*written, body[at:]])


def _holds(action: str, place: int, turn: Turn) -> bool:
    found = _TEST.fullmatch(action)
    if found is None:
        raise ValueError(f"unknown action {action}")
    return turn.role == found["role"] if found["role"] else place == int(found["place"])


def _string(action: str) -> str:
    found = _TEXT.fullmatch(action)
    if found is None:
        raise ValueError(f"unknown action {action}")
    return found[1]


def _plain(text: str) -> str:
    return _ACTION.sub(lambda found: _string(found[1]), text)
