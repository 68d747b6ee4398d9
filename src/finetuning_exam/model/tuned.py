"""A base with a saved adapter on it, ready to answer and to be scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel

from finetuning_exam.data.encoding.encode import Encoder, make_encoder
from finetuning_exam.data.encoding.template import choose_template
from finetuning_exam.model.adapter import load_adapter
from finetuning_exam.model.device import Compute, choose_compute, layer_size
from finetuning_exam.model.folder import adapter_origin, find_model_folder
from finetuning_exam.model.load import Base, load_base
from finetuning_exam.settings import Device, Dtype, Template


@dataclass(frozen=True, slots=True)
class Tuned:
    """One model in memory: with its adapter it is the tuned one, with the adapter off the base."""

    base: Base
    model: PeftModel
    encoder: Encoder
    compute: Compute


def load_tuned(
    adapter: Path, base_name: str | None, device: Device, dtype: Dtype, template: Template
) -> Tuned:
    """Load an adapter on its base; an absent name is the base it was trained on.

    The template `auto` is the one of the training, where the adapter's folder tells it.

    Raises:
        ModelError, AdapterError, UsageError: as the parts do.
    """
    origin = adapter_origin(adapter)
    name = base_name or origin.base_name
    layer = layer_size(find_model_folder(name))
    compute = choose_compute(device, dtype, layer, origin.cpu_dtype)
    base = load_base(name, compute)
    wanted = origin.template if template == "auto" and origin.template else template
    encoder = make_encoder(
        base.tokenizer,
        choose_template(wanted, base.tokenizer),
        base_stop_ids=base.stop_ids,
    )
    return Tuned(base, load_adapter(base, adapter), encoder, compute)
