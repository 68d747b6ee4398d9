"""Checks that a model or adapter folder brings no code, before any library reads it.

The lists are complete: they name every setting through which Transformers or PEFT load code from
the folder, or from a place that it names. Such a setting is refused, even if it has other uses.
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
"""Keys in the JSON files of a model or tokenizer, at any depth."""
KERNEL_KEYS = ("attn_implementation", "experts_implementation")
"""Endings of keys whose value names a kernel on the Hub if it contains a slash."""
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
"""Values that PEFT itself writes; without a megatron_config nothing is imported."""


def code_in_model(folder: Path) -> str | None:
    """Describe the first thing in a model folder that brings code; None if nothing does."""
    for name in MODEL_FILES:
        for key, value in _items(_content(folder / name)):
            if key in CODE_KEYS and value:
                return f"{key} in {name}"
            if key.endswith(KERNEL_KEYS) and isinstance(value, str) and "/" in value:
                return f"{key} {value!r} in {name}"
    code = sorted(folder.glob("**/*.py"))
    return f"a Python file, {code[0].relative_to(folder)}" if code else None


def code_in_adapter(config: Path) -> str | None:
    """Describe the first setting in adapter_config.json that makes PEFT import code, or None."""
    for key, value in _items(_content(config)):
        if key in ADAPTER_KEYS | CODE_KEYS and value and value != _HARMLESS.get(key):
            return f"{key} in {config.name}"
    return None


def _content(path: Path) -> object:
    """Content of a JSON file; None if unreadable, which is reported when the file is loaded."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _items(value: object) -> Iterator[tuple[str, object]]:
    """Yield every key with its value, at any depth; iterative, so that no depth overflows."""
    pending = [value]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            yield from ((str(key), item) for key, item in found.items())
            pending.extend(found.values())
        elif isinstance(found, list):
            pending.extend(found)


def reason_of(error: Exception) -> str:
    """Return why a JSON file cannot be read, in a few words."""
    if isinstance(error, json.JSONDecodeError):
        if error.pos >= len(error.doc.rstrip()):
            return "it is empty" if not error.doc.strip() else "it ends too early"
        return f"not valid JSON at line {error.lineno}, column {error.colno}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return getattr(error, "strerror", None) or "not a JSON object"
