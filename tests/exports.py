"""Exports of adapters of noise on tiny random models."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny import Models, rows, save_noisy_adapter, write_rows

from finetuning_exam.api.export import Export, export
from finetuning_exam.settings import ExportSettings


@dataclass
class Exports:
    """Bases with adapters, each made once, and exports of them."""

    models: Models
    root: Path
    _adapters: dict[Path, Path] = field(default_factory=dict)

    @property
    def questions(self) -> Path:
        """A file of questions."""
        path = self.root / "rows.jsonl"
        return path if path.exists() else write_rows(path, rows(12))

    def base(self, architecture: str = "llama", *, end: str = "", **options: Any) -> Path:
        """Return a model's folder; `end` is the text of its end token, if not the usual one."""
        folder = self.models.folder(architecture, **({"text": "chat"} | options))
        if not end:
            return folder
        other = self.root / f"{folder.name}-other-end"
        if not other.exists():
            shutil.copytree(folder, other)
            for path in (*other.glob("*.json"), *other.glob("*.jinja")):
                text = path.read_text(encoding="utf-8")
                path.write_text(text.replace("<|end|>", end), encoding="utf-8")
        return other

    def adapter(self, base: Path) -> Path:
        """Return a folder with an adapter of noise for a base."""
        if base not in self._adapters:
            place = self.root / f"adapter-{len(self._adapters)}"
            save_noisy_adapter(base, place)
            self._adapters[base] = place
        return self._adapters[base]

    def settings(self, base: Path, kind: str, out: Path, **more: Any) -> ExportSettings:
        """Return the settings of an export that is quick to verify."""
        settings: dict[str, Any] = {
            "target": (kind, str(out)),
            "adapter_name_or_path": str(self.adapter(base)),
            "model_name_or_path": str(base),
            "eval_file": str(self.questions),
            "max_new_tokens": 6,
        }
        return ExportSettings(**(settings | more))

    def export(self, base: Path, kind: str, out: Path, **more: Any) -> Export:
        """Export the adapter of a base."""
        return export(self.settings(base, kind, out, **more))
