"""How a setting is declared: its default, and what flags and help show of it."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, TypeVar

Group = Literal[
    "Prompts",
    "Data",
    "Model",
    "LoRA",
    "Training",
    "Generation",
    "Exam",
    "Speed and memory",
    "Checkpoints",
    "Output",
    "Run",
]
"""Groups of flags, in the order in which `--help` shows them."""
T = TypeVar("T")


def setting(
    default: T,
    group: Group,
    metavar: str = "",
    *,
    changes_training: bool = True,
    alias: str = "",
    positional: bool = False,
    before: object = None,
) -> T:
    """Declare a setting: its default, its group and its value's name in `--help`.

    A resumed run may change a setting only where `changes_training` is false. `alias` is a shorter
    name for its flag and YAML key. A positional setting is given without a flag. Without a
    `metavar`, the name of a value follows from its type. `before` is what runs did before they had
    the setting.
    """
    metadata = {
        "group": group,
        "metavar": metavar,
        "changes_training": changes_training,
        "flag_alias": alias,  # pydantic would take "alias" for one of its own
        "positional": positional,
        "before": before,
    }
    return field(default=default, metadata=metadata)
