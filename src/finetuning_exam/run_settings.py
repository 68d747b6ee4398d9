"""The settings of a run as run.json records them, and what a resumed run makes of them."""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import asdict, fields, replace
from typing import cast

from finetuning_exam.durable import Json
from finetuning_exam.settings import TrainSettings


def settings_by_name(settings: TrainSettings) -> dict[str, Json]:
    """Return every setting by name, with its value as JSON gives it back."""
    return cast("dict[str, Json]", json.loads(json.dumps(asdict(settings))))


def free_to_change() -> frozenset[str]:
    """Return the names of the training settings that a resumed run may change."""
    return frozenset(it.name for it in fields(TrainSettings) if not it.metadata["changes_training"])


def as_before(settings: TrainSettings, known: Container[str]) -> TrainSettings:
    """Return the settings of a run that has only the `known` ones, as it was without the others."""
    values = {it.name: it.metadata["before"] for it in fields(settings) if it.name not in known}
    return replace(settings, **{name: it for name, it in values.items() if it is not None})
