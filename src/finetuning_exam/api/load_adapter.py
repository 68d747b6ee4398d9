"""Load the adapter that settings name, on its base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_exam.api.heavy_imports import rare_collections
from finetuning_exam.model.folder import adapter_origin, check_adapter_folder, check_local_model
from finetuning_exam.settings import CompareSettings, ExamSettings

if TYPE_CHECKING:
    from finetuning_exam.model.session import Session


def load_session(settings: CompareSettings | ExamSettings) -> Session:
    """Load an adapter on its base; the folders are checked before torch is imported.

    Raises:
        ModelError, AdapterError, UsageError: the adapter or the base cannot be used.
    """
    folder = Path(settings.adapter_name_or_path)
    check_adapter_folder(folder)
    name = settings.model_name_or_path or adapter_origin(folder).base_name
    check_local_model(name)
    with rare_collections():
        from finetuning_exam.model.session import Session
    session = Session.load(
        folder,
        name,
        settings.device,
        settings.dtype,
        settings.template,
        settings.enable_thinking,
    )
    session = session.with_system_turns(settings.system_turns)
    if settings.threads == "auto":
        return session
    return replace(session, compute=session.compute.with_threads(settings.threads))
