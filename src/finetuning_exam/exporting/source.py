"""The adapter that is exported: its base's folder, its text, and its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from transformers import AutoConfig, PreTrainedConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from finetuning_exam.data.encoding.encoder import SHORT, Encoder, make_encoder
from finetuning_exam.data.encoding.saved_template import saved_template
from finetuning_exam.data.encoding.template import choose_template
from finetuning_exam.durable import read_object
from finetuning_exam.exporting.weights import NotByTensor, Weights, base_weights, merged_weights
from finetuning_exam.exporting.whole import write_merged
from finetuning_exam.model.embeddings import load_checked_tokenizer
from finetuning_exam.model.folder import Origin, adapter_origin, find_model_folder, public_name
from finetuning_exam.model.tokenizer import base_stop_ids, context_of
from finetuning_exam.settings import ExportSettings

MERGED_FIRST = ".merged"
"""Folder beside the export in which a whole model is merged, where tensors are not enough."""


@dataclass(frozen=True, slots=True)
class Source:
    """An adapter with its base on disk, and the text that it was trained with.

    `name` is that of the base. `config` is its config; `chat_template` renders a question as
    training did, None if no template does. `end_id` is the token that ends a trained answer.
    """

    adapter: Path
    base: Path
    name: str
    origin: Origin
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    encoder: Encoder
    chat_template: str | None
    end_id: int

    @property
    def public_base(self) -> str:
        """A name of the base that reveals nothing of this machine."""
        return public_name(self.name).rstrip("/").rpartition("/")[2]

    @property
    def title(self) -> str:
        """A name for the export: that of the adapter's folder."""
        return self.adapter.resolve().name

    @property
    def context(self) -> int:
        """Positions of the model."""
        return context_of(self.config)

    @property
    def is_tied(self) -> bool:
        """True if the base's head has the weights of its input embedding."""
        return bool(self.config.get_text_config().tie_word_embeddings)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """All tokens that end an answer, the trained one first."""
        return (self.end_id, *(it for it in self.encoder.stop_ids if it != self.end_id))

    @contextmanager
    def weights(self, beside: Path) -> Iterator[Weights]:
        """Yield the merged weights; a whole model is merged `beside` the export if need be."""
        from shutil import rmtree

        try:
            yield merged_weights(self.base, self.name, self.adapter, is_tied=self.is_tied)
        except NotByTensor:
            place = beside / MERGED_FIRST
            try:
                write_merged(self.name, self.adapter, place)
                tied = read_object(place / "config.json").get("tie_word_embeddings")
                merged = base_weights(place, str(place))
                is_untied = self.is_tied and tied is False
                yield Weights(merged.places, {}, is_untied=is_untied)
            finally:
                rmtree(place, ignore_errors=True)


def open_source(settings: ExportSettings) -> Source:
    """Read everything of an adapter and its base but the weights.

    Raises:
        ModelError, AdapterError, UsageError: the base or the adapter cannot be used.
    """
    adapter = Path(settings.adapter_name_or_path)
    origin = adapter_origin(adapter)
    name = settings.model_name_or_path or origin.base_name
    folder = find_model_folder(name)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer = load_checked_tokenizer(folder, name)
    template = settings.template
    if template == "auto" and origin.template:
        template = origin.template
    thinking = settings.enable_thinking
    encoder = make_encoder(
        tokenizer,
        choose_template(template, tokenizer),
        base_stop_ids=base_stop_ids(folder),
        date=origin.template_date,
        is_thinking=origin.thinking if thinking == "auto" else thinking,
    )
    system = settings.system_turns
    folds_system = origin.folds_system if system == "auto" else system == "fold"
    encoder = replace(encoder, folds_system=folds_system)
    return Source(
        adapter,
        folder,
        name,
        origin,
        config,
        cast(PreTrainedTokenizerBase, tokenizer),
        encoder,
        saved_template(encoder),
        encoder.encode(SHORT).ids[-1],
    )
