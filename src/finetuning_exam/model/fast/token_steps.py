"""Forward passes of one new token for each row, as generation makes them.

Through its own modules a small model's pass costs several times what its matrices cost: thousands
of small operations, and Python around each. Here are only the operations that are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from finetuning_exam.model.fast.decoder import (
    Decoder,
    Rotation,
    Rotations,
    norm_parameters,
    window_of,
)
from finetuning_exam.model.fast.elementwise import rotate
from finetuning_exam.model.fast.support import TOLERANCE, has_plain_head, why_unsupported
from finetuning_exam.model.generation.side_by_side import can_mix

MANY_ROWS = 64
"""From more rows on, `linear` is as fast."""
_TRUSTED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Models whose first fast pass was compared with their own."""


def token_steps(model: PeftModel | PreTrainedModel) -> TokenSteps | None:
    """Return the fast passes of a model; None if it, its adapter or its device needs its own."""
    if next(model.parameters()).device.type != "cpu" or why_unsupported(model):
        return None
    if not has_plain_head(model) or (isinstance(model, PeftModel) and not can_mix(model)):
        return None
    try:
        steps = TokenSteps(model)
    except (AttributeError, TypeError):
        return None  # the modules are not those of the named architecture
    return None if steps.is_trusted is False else steps


class TokenSteps(Decoder):
    """The next logits of a decoder with a cache, from its parameters in place.

    The first rows of a batch may be the tuned model's; the other ones are exactly the base's.
    """

    def __init__(self, model: PeftModel | PreTrainedModel) -> None:
        super().__init__(model, frozenset())
        adapter = model.active_adapter if isinstance(model, PeftModel) else ""
        self._steps = [_Layer(it, adapter, self._config) for it in self._body.layers]
        self._end = _Norm(self._body.norm)

    @property
    def is_trusted(self) -> bool | None:
        """Whether the logits are those of the model's own modules; None as long as nobody knows."""
        return _TRUSTED.get(self._body)

    def compare(self, found: Tensor, own: Tensor) -> bool:
        """Return whether logits are close to the model's own, and remember it for this model."""
        limit = TOLERANCE[self._embed.weight.dtype] * float(own.abs().max())
        _TRUSTED[self._body] = bool((found - own).abs().max() <= limit)
        return _TRUSTED[self._body]

    def next_logits(
        self,
        ids: Tensor,
        positions: Tensor,
        cache: DynamicCache,
        is_padding: Tensor | None,
        n_tuned: int,
    ) -> Tensor:
        """Append a token to every row of the cache; return the logits after it.

        ids, positions: (rows,); is_padding: (rows, cached + 1) bool, None if nothing is. The layers
        of the cache must keep every position. Returns (rows, vocabulary) float32.
        """
        x = self._embed(ids) * getattr(self._config, "embedding_multiplier", 1.0)
        x = x.float()  # the residual stream stays float32 in a bfloat16 model
        rotations: dict[str, Rotations] = {}
        masks: dict[int | None, Tensor | None] = {}
        for index, (layer, cached) in enumerate(zip(self._steps, cache.layers, strict=True)):
            kind = self._kind(index)
            if kind not in rotations:
                rotations[kind] = self._rotations(kind, x, positions)
            if layer.window not in masks:
                n_keys = cached.get_seq_length() + 1
                masks[layer.window] = _mask(is_padding, layer.window, n_keys, x)
            x = layer(x, rotations[kind], cached, masks[layer.window], n_tuned)
        return few_rows(self._end(x), self._head.weight).float() * self._loss.logit_scale


def few_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x Wᵀ + bias for a few rows, x (rows, in), weight (out, in): (rows, out).

    In float32, W xᵀ of two or more rows reads the weights as fast as the memory allows; `linear`
    takes up to four times as long, since it lays them out anew (docs/experiments.md).
    """
    if x.dtype != torch.float32 or len(x) > MANY_ROWS:
        return linear(x, weight, bias)
    columns = torch.mm(weight, (x if len(x) > 1 else x.repeat(2, 1)).t())
    y = columns.t()[: len(x)].contiguous()
    return y if bias is None else y.add_(bias)


def _mask(is_padding: Tensor | None, window: int | None, n_keys: int, x: Tensor) -> Tensor | None:
    """Return -inf for each key that is not seen, else 0: (rows or 1, 1, 1, keys)."""
    is_hidden = is_padding
    if window is not None and n_keys > window:
        is_old = torch.arange(n_keys, device=x.device)[None] < n_keys - window
        is_hidden = is_old if is_hidden is None else is_hidden | is_old
    if is_hidden is None:
        return None
    mask = torch.zeros(is_hidden.shape, device=x.device)
    return mask.masked_fill_(is_hidden, -torch.inf)[:, None, None]


def _rotated(x: Tensor, rotation: Rotation) -> Tensor:
    out = torch.empty_like(x)
    rotate(x, rotation.cos, rotation.sin, out)
    return out


class _Norm:
    """RMSNorm with its weight read once."""

    def __init__(self, norm: Any) -> None:
        self._dtype = norm.weight.dtype
        weight, eps = norm_parameters(norm)
        self._weight = weight.float()
        self._eps = self._weight.new_tensor(eps)
        self._share = 1.0 / len(weight)  # of the square norm, in the mean square

    def __call__(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = torch.addcmul(self._eps, norm, norm, value=self._share).rsqrt_()
        return (x * scale).mul_(self._weight).to(self._dtype)


@dataclass(frozen=True, slots=True)
class _Linear:
    """A projection; `up` (rank, out), scaled, float32, takes its `part` of the inner states."""

    weight: Tensor
    bias: Tensor | None
    up: Tensor | None
    part: slice


class _Joint:
    """Projections of one input, whose results lie side by side: (rows, sum of widths)."""

    def __init__(self, modules: Sequence[Any], adapter: str) -> None:
        self._linears: list[_Linear] = []
        downs: list[Tensor] = []
        start = 0
        for module in modules:
            base = module.base_layer if isinstance(module, LoraLinear) else module
            if type(base) is not nn.Linear:
                raise TypeError(f"{type(base).__name__} is no linear module")
            up, rank = None, 0
            if isinstance(module, LoraLinear) and adapter in module.lora_A:
                down = module.lora_A[adapter].weight.detach().float()
                scaled = module.lora_B[adapter].weight.detach().float() * module.scaling[adapter]
                up, rank = scaled.t().contiguous(), len(down)
                downs.append(down)
            part = slice(start, start + rank)
            self._linears.append(_Linear(base.weight, base.bias, up, part))
            start += rank
        self._down = torch.cat(downs) if downs else None

    def __call__(self, x: Tensor, n_tuned: int) -> list[Tensor]:
        found = [few_rows(x, it.weight, it.bias) for it in self._linears]
        if n_tuned and self._down is not None:
            # In float32 for any model: products this small are three times as fast as in bfloat16.
            inner = linear(x[:n_tuned].float(), self._down)
            for y, it in zip(found, self._linears, strict=True):
                if it.up is not None:
                    y[:n_tuned] += torch.mm(inner[:, it.part], it.up)
        return found


class _Layer:
    """One layer: attention to the cache, then the feed-forward network."""

    def __init__(self, layer: Any, adapter: str, config: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.window = window_of(attention, config)
        self._width: int = attention.head_dim
        self._share = getattr(layer, "residual_multiplier", 1.0)
        self._qkv = _Joint([attention.q_proj, attention.k_proj, attention.v_proj], adapter)
        self._out = _Joint([attention.o_proj], adapter)
        self._gate_up = _Joint([mlp.gate_proj, mlp.up_proj], adapter)
        self._down = _Joint([mlp.down_proj], adapter)
        self._act = mlp.act_fn
        self._before = _Norm(layer.input_layernorm)
        has_norms = hasattr(attention, "q_norm")
        self._qk_norms = (_Norm(attention.q_norm), _Norm(attention.k_norm)) if has_norms else None
        after = _Norm(layer.post_attention_layernorm)
        self._after_attention = self._after_mlp = None
        self._before_mlp = after
        if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma: also a norm after each half
            self._after_attention = after
            self._before_mlp = _Norm(layer.pre_feedforward_layernorm)
            self._after_mlp = _Norm(layer.post_feedforward_layernorm)

    def __call__(
        self,
        x: Tensor,
        rotations: Rotations,
        cached: CacheLayerMixin,
        mask: Tensor | None,
        n_tuned: int,
    ) -> Tensor:
        attended = self._attend(self._before(x), rotations, cached, mask, n_tuned)
        (update,) = self._out(attended, n_tuned)
        if self._after_attention is not None:
            update = self._after_attention(update)
        x = torch.add(x, update, alpha=self._share)
        gate, up = self._gate_up(self._before_mlp(x), n_tuned)
        (update,) = self._down(self._act(gate).mul_(up), n_tuned)
        if self._after_mlp is not None:
            update = self._after_mlp(update)
        return torch.add(x, update, alpha=self._share)

    def _attend(
        self,
        x: Tensor,
        rotations: Rotations,
        cached: CacheLayerMixin,
        mask: Tensor | None,
        n_tuned: int,
    ) -> Tensor:
        q, k, v = (it.view(len(x), -1, self._width) for it in self._qkv(x, n_tuned))
        if self._qk_norms is not None:
            q, k = self._qk_norms[0](q), self._qk_norms[1](k)
        q, k = _rotated(q, rotations[0]), _rotated(k, rotations[1])
        keys, values = cached.update(k[:, :, None], v[:, :, None])
        # (rows, key heads, query heads per key head, width or keys)
        q = q.view(len(x), keys.shape[1], -1, self._width)
        scores = torch.matmul(q.float(), keys.float().transpose(2, 3))
        if mask is not None:
            scores += mask
        attended = torch.matmul(scores.softmax(dim=-1), values.float())
        return attended.to(values.dtype).view(len(x), -1)
