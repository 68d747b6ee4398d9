"""Names of roles beside the usual ones, and what a misspelt name is probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Literal

Role = Literal["system", "user", "assistant"]

OTHER_NAMES: dict[str, Role] = {
    **dict.fromkeys(("system_prompt", "system prompt", "system_message"), "system"),
    **dict.fromkeys(("prompter", "human_user", "human user", "end_user", "end user"), "user"),
    **dict.fromkeys(("model", "bot", "chatbot", "chat bot", "ai", "llm"), "assistant"),
    **dict.fromkeys(("ai_assistant", "ai assistant", "claude", "gemini"), "assistant"),
}
"""Roles as OpenAssistant, Gemini, LangChain and others write them, in lower case."""
_NEAR = 0.75
"""The least similarity, from 0 to 1, of a misspelt role to the known one."""
_LONGEST = 40


def meant(role: str, known: Collection[str]) -> str:
    """Say which of the known roles an unknown one is probably meant to be, or which there are."""
    near = difflib.get_close_matches(role, known, n=1, cutoff=_NEAR) if len(role) < _LONGEST else []
    return f"did you mean {near[0]!r}?" if near else "expected system, user or assistant"
