"""README.md of an export: what it is, what was proven of it, and how to use it."""

from __future__ import annotations

import re

import yaml

from finetuning_exam.exporting.report import Exported, Verification
from finetuning_exam.exporting.source import Source
from finetuning_exam.exporting.use import how_to_use
from finetuning_exam.settings import BUILTIN_MODEL

CARD = "README.md"
_KEPT = ("Exam", "Data", "Recipe")
"""Sections of the adapter's card that are true of the export, too."""


def export_card(source: Source, exported: Exported) -> str:
    """Render the card of an export; what the adapter's own card says of the training is kept."""
    what = "The LoRA adapter" if exported.format == "gguf-adapter" else "A model"
    base = "the built-in base of finetuning-exam" if source.name == BUILTIN_MODEL else None
    sections = [
        f"---\n{_front_matter(source, exported)}---",
        f"# {source.title}",
        f"{what} fine-tuned with finetuning-exam, exported as {exported.format} "
        f"({exported.number_format}).\n\n"
        f"- Base: {base or f'`{exported.base_name}`'}, weights SHA-256 "
        f"`{exported.base_sha256}`\n"
        f"- Adapter: weights SHA-256 `{exported.adapter_sha256}`\n"
        f"- Template: {exported.template}; answers end at "
        + ", ".join(f"`{it}`" for it in exported.end_tokens),
        *(f"Note: {note}." for note in exported.notes),
        f"## Verification\n\n{_proof(exported.verification)}",
        "## Use\n\n```sh\n" + "\n".join(_commands(exported)) + "\n```",
        *_of_training(source),
    ]
    return "\n\n".join(sections) + "\n"


def _commands(exported: Exported) -> list[str]:
    return [line.partition(": ")[2] for line in how_to_use(exported, "path/to/this/folder")]


def _front_matter(source: Source, exported: Exported) -> str:
    is_merged = exported.format == "merged"
    hub = source.name if "/" in source.name and not source.name.startswith(("/", ".", "~")) else ""
    front = {
        "library_name": "transformers" if is_merged else "gguf",
        **({"base_model": hub} if hub else {}),
        "pipeline_tag": "text-generation",
        "tags": ["finetuning-exam", *([] if is_merged else ["gguf"])],
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True)


def _proof(found: Verification | None) -> str:
    if found is None:
        return "Nothing was proven: the export was made with `--no_verify`."
    lines = ["| Compared | Found | |", "| --- | --- | --- |"]
    lines += [
        f"| {it.name} | {_cell(it.found)} | {'same' if it.is_passed else 'differs'} |"
        for it in found.checks
    ]
    figures = found.figures
    return (
        f"Run in {found.runtime} on {found.n_questions} exam questions "
        f"({found.n_tokens:,} answer tokens), beside base and adapter in float32.\n\n"
        + "\n".join(lines)
        + f"\n\nNLL per token: {figures.nll_base:.4f} (base), {figures.nll_tuned:.4f} (tuned), "
        f"{figures.nll_exported:.4f} (exported). Verdict: {found.verdict_exported}."
    )


def _cell(text: str) -> str:
    return re.sub(r"([|\\<>`*_])", r"\\\1", text.replace("\n", "↵"))


def _of_training(source: Source) -> list[str]:
    """Return the sections of the adapter's card about its exam, data and recipe."""
    try:
        text = (source.adapter / CARD).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return []
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return [f"## {name}\n\n{found[name].strip()}" for name in _KEPT if name in found]
