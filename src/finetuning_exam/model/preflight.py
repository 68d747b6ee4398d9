"""A look at a folder's own settings before a library reads them: none of them may bring code.

Closed lists: every way by which Transformers or PEFT take code from a model's or an adapter's
folder, or from a place that the folder names, is refused, whatever else the setting would do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

CODE_KEYS = frozenset(
    {
        "auto_map",  # classes in Python files of the folder, or of another repository
        "custom_generate",  # a generation loop from a repository
        "custom_pipelines",
        "kernel_config",  # compiled kernels from the hub
        "use_kernels",
    }
)
"""Keys of a model's or a tokenizer's JSON files, at any depth."""
KERNEL_KEYS = ("attn_implementation", "experts_implementation")
"""A value with a slash under a key that ends like this names a kernel on the hub."""
ADAPTER_KEYS = frozenset({"auto_mapping", "megatron_config", "megatron_core"})
"""Keys of adapter_config.json whose value PEFT may import as a module."""
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)
_HARMLESS = {"megatron_core": "megatron.core"}
"""What PEFT itself writes; without a megatron_config nothing is imported."""


def code_in_model(folder: Path) -> str | None:
    """The first thing in a model's folder that brings code, in words; None: nothing does."""
    for name in MODEL_FILES:
        for key, value in _items(_content(folder / name)):
            if key in CODE_KEYS and value:
                return f"{key} in {name}"
            if key.endswith(KERNEL_KEYS) and isinstance(value, str) and "/" in value:
                return f"{key} {value!r} in {name}"
    code = sorted(folder.glob("**/*.py"))
    return f"a Python file, {code[0].relative_to(folder)}" if code else None


def code_in_adapter(config: Path) -> str | None:
    """The first setting of an adapter_config.json that makes PEFT import something, in words."""
    for key, value in _items(_content(config)):
        if key in ADAPTER_KEYS | CODE_KEYS and value and value != _HARMLESS.get(key):
            return f"{key} in {config.name}"
    return None


def _content(path: Path) -> object:
    """What a JSON file holds; None where it cannot be read, which its reader will tell."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _items(value: object) -> Iterator[tuple[str, object]]:
    """Every key with its value, at any depth; without recursion, however deep it goes."""
    left = [value]
    while left:
        found = left.pop()
        if isinstance(found, dict):
            yield from ((str(key), item) for key, item in found.items())
            left.extend(found.values())
        elif isinstance(found, list):
            left.extend(found)
