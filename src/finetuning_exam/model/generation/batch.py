"""One batch of answers, written token by token with a cache; rows leave it as they end."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, cache_utils
from transformers.cache_utils import DynamicLayer

from finetuning_exam.model.fast.token_steps import token_steps
from finetuning_exam.model.generation.cache import roomy_cache
from finetuning_exam.model.generation.decoding import Decoding, choose_tokens, random_numbers
from finetuning_exam.model.generation.loops import LoopWatch
from finetuning_exam.model.generation.side_by_side import TunedRows, has_adapter_on

_POSITIONS_FROM_MASK = ("bloom", "mpt", "biogpt")
"""Model types that take no position ids, yet count a row's positions from behind its padding."""
_STATE_IN_MODULES = ("recurrent_gemma",)
"""Model types whose modules keep a state outside the cache, from which no row can be dropped."""


@dataclass(frozen=True, slots=True)
class Row:
    """An answer to be written: the ids of its prompt, the number of its question, and the side."""

    prompt: tuple[int, ...]
    question: int
    is_tuned: bool = False


def can_batch(model: PreTrainedModel | PeftModel) -> bool:
    """Return whether rows of unequal length can share a batch of this model and leave it singly.

    They cannot in models without Transformers' common cache, or with layers of their own kind in
    it (which compress what they hold in blocks, including padding); in models that count positions
    from the start of the padding; and with adapters outside the model's modules, as in prompt
    tuning.
    """
    if isinstance(model, PeftModel):
        config = model.active_peft_config
        if config.is_prompt_learning or getattr(config, "alora_invocation_tokens", None):
            return False
    inner = _inner(model)
    kind = inner.config.model_type
    if (
        not inner._supports_default_dynamic_cache()
        or not _accepts(inner, "past_key_values")
        or not (_accepts(inner, "position_ids") or kind in _POSITIONS_FROM_MASK)
        or kind in _STATE_IN_MODULES
    ):
        return False
    layers = DynamicCache(config=inner.config.get_text_config(decoder=True)).layers
    return all(type(layer).__module__ == cache_utils.__name__ for layer in layers)


def write_answers(
    model: PreTrainedModel | PeftModel,
    rows: Sequence[Row],
    decoding: Decoding,
    tuned: TunedRows | None = None,
) -> list[list[int]]:
    """Return the new ids of every row, the stop id included where one was reached; a row that
    repeats itself ends, if `decoding` says so.

    With `tuned`, the rows of the tuned model must come first; before every pass, the number of
    them that are left is announced to it.
    """
    written: list[list[int]] = [[] for _ in rows]
    for step in write_steps(model, rows, decoding, tuned):
        for index, token in step.items():
            written[index].append(token)
    return written


@torch.inference_mode()  # of a generator: while it runs, not while it waits
def write_steps(
    model: PreTrainedModel | PeftModel,
    rows: Sequence[Row],
    decoding: Decoding,
    tuned: TunedRows | None = None,
) -> Iterator[dict[int, int]]:
    """Yield the next id of every unfinished row, by the row's index, one forward pass at a time.

    The arguments are those of `write_answers`.
    """
    width = max(len(row.prompt) for row in rows)
    n_new = decoding.room(width)
    batch = RowBatch(model, rows, decoding.pad_id, width + n_new)
    n_adapted = int(has_adapter_on(model))
    numbers = random_numbers(decoding.seed, [row.question for row in rows], n_new)
    numbers = numbers.to(batch.ids.device)
    live = list(range(len(rows)))
    watches = [decoding.new_watch() for _ in rows]
    for place in range(n_new):
        n_tuned = sum(rows[index].is_tuned for index in live) if tuned else n_adapted * len(live)
        if tuned is not None:
            tuned.announce(n_tuned, len(live), batch.length - batch.n_cached)
        chosen = choose_tokens(batch.next_logits(n_tuned), numbers[live, place], decoding)
        batch.append(chosen)
        tokens = chosen.tolist()
        yield dict(zip(live, tokens, strict=True))
        kept = [
            at
            for at, token in enumerate(tokens)
            if token not in decoding.stop_ids and not _loops(watches[live[at]], token)
        ]
        if len(kept) < len(live):
            order = _closed_up([rows[index].is_tuned for index in live], kept)
            live = [live[at] for at in order]
            if not live:
                break
            batch.keep(order)


def _loops(watch: LoopWatch | None, token: int) -> bool:
    return watch is not None and watch.add(token)


def _closed_up(is_tuned: Sequence[bool], kept: Sequence[int]) -> list[int]:
    """Return the places of the kept rows, tuned rows first, in an order that moves few of them."""
    tuned = [at for at in kept if is_tuned[at]]
    base = [at for at in kept if not is_tuned[at]]
    order: list[int] = []
    for members in (tuned, base):
        places = range(len(order), len(order) + len(members))
        moving = iter([at for at in members if at not in places])
        staying = set(members) & set(places)
        order += [at if at in staying else next(moving) for at in places]
    return order


class RowBatch:
    """The unfinished rows: their ids, and the model's cache of them.

    `ids`, and the mask and positions beside it, have shape (rows, longest prompt + new tokens) and
    are filled up to `length`; the model has seen the first `n_cached` of these.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        rows: Sequence[Row],
        pad_id: int,
        capacity: int,
    ) -> None:
        self.length = max(len(row.prompt) for row in rows)
        self.n_cached = 0
        self.ids = torch.full((len(rows), capacity), pad_id)
        is_real = torch.ones_like(self.ids)
        for at, row in enumerate(rows):
            n_pads = self.length - len(row.prompt)
            self.ids[at, n_pads : self.length] = torch.tensor(row.prompt)
            is_real[at, :n_pads] = 0
        self.ids = self.ids.to(model.device)
        self._is_real = is_real.to(model.device)
        self._positions = (self._is_real.cumsum(dim=1) - 1).clamp(min=0)
        self._is_padded = bool((is_real == 0).any())
        self._model = inner = _inner(model)
        self._steps = token_steps(model)
        config = inner.config.get_text_config(decoder=True)
        self._cache = roomy_cache(config, keeps_all=self._steps is not None)
        self._takes_positions = _accepts(inner, "position_ids")
        self._options = {"logits_to_keep": 1} if _accepts(inner, "logits_to_keep") else {}

    def next_logits(self, n_tuned: int) -> Tensor:
        """Return the logits of the token after the last: (rows, vocabulary) float32.

        The first `n_tuned` rows are the tuned model's.
        """
        if not self.n_cached or self._steps is None:
            return self._own_logits()
        end = self.length
        found = self._steps.next_logits(
            self.ids[:, end - 1],
            self._positions[:, end - 1],
            self._cache,
            self._is_real[:, :end] == 0 if self._is_padded else None,
            n_tuned,
        )
        if self._steps.is_trusted is None:
            self._cache.crop(-1)
            own = self._own_logits()
            if not self._steps.compare(found, own):
                self._steps = None
                return own
        self.n_cached = end
        return found

    def _own_logits(self) -> Tensor:
        """Return the next logits as the model's own modules compute them."""
        end = self.length
        options: dict[str, object] = {**self._options}
        if self._takes_positions:
            options["position_ids"] = self._positions[:, :end]
        inputs = self._model.prepare_inputs_for_generation(
            self.ids[:, :end],
            next_sequence_length=end - self.n_cached,
            is_first_iteration=self.n_cached == 0,
            past_key_values=self._cache,
            attention_mask=self._is_real[:, :end] if self._is_padded else None,
            use_cache=True,
            **options,
        )
        output = self._model(**inputs)
        self._cache = output.get("past_key_values", self._cache)  # a model may begin a new one
        self.n_cached = end
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def append(self, tokens: Tensor) -> None:
        """Add a token, (rows,), to every row."""
        self.ids[:, self.length] = tokens
        self.length += 1

    def lengthen(self, n: int) -> None:
        """Add `n` positions to every row as if the model had seen them, by repeating its cache.

        What the rows say then means nothing; it is for timing.
        """
        assert self.n_cached == self.length, "a token is waiting for its pass"
        for layer in self._cache.layers:
            if n and isinstance(layer, DynamicLayer):
                places = torch.arange(n, device=self.ids.device) % layer.keys.shape[-2]
                layer.update(layer.keys[..., places, :], layer.values[..., places, :])
        self.length += n
        self.n_cached = self.length

    def keep(self, order: Sequence[int]) -> None:
        """Keep the rows of these places, in this order."""
        places = torch.tensor(order, device=self.ids.device)
        self.ids = self.ids[places]
        self._is_real = self._is_real[places]
        self._positions = self._positions[places]
        self._cache.reorder_cache(places)


def _inner(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Return the model inside a `PeftModel`; an adapter in its modules works there too."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _accepts(model: PreTrainedModel, name: str) -> bool:
    return name in inspect.signature(model.forward).parameters
