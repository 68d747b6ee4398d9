"""Llama-style decoders, run on packed rows with the parameters of a model's modules.

A piece that is switched off, or does not apply, is computed by the model's own module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from finetuning_exam.model.fast.attention import Group, causal_attention
from finetuning_exam.model.fast.elementwise import GatedGelu, GatedSilu, RotateHeads, rms_norm
from finetuning_exam.model.fast.linear_loss import LinearLoss
from finetuning_exam.model.fast.lora import Projection, project
from finetuning_exam.model.fast.packing import PackedRows
from finetuning_exam.model.fast.shared_prompts import Questions, SharedRows, attend_to_prompts
from finetuning_exam.settings import FastPiece

_UNROTATED = "unrotated"
_GATES = {"silu": GatedSilu, "gelu_pytorch_tanh": GatedGelu}


@dataclass(frozen=True, slots=True)
class Rotation:
    """cos and sin of every token, times the scale of the rotated values: (tokens, 1, width / 2)."""

    cos: Tensor
    sin: Tensor


Groups = Sequence[Group] | Sequence[Questions]
Rotations = tuple[Rotation, Rotation]
"""The rotations of queries, which include the attention scale, and of keys."""


class Decoder:
    """The forward pass of a causal language model on packed rows.

    It uses the model's parameters in place; an adapter that is disabled there is skipped here.
    """

    def __init__(
        self,
        model: PeftModel | PreTrainedModel,
        pieces: frozenset[FastPiece],
        *,
        checkpointing: bool = False,
    ) -> None:
        self.model = model
        self.pieces = pieces
        self.checkpointing = checkpointing
        whole: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        self._config = whole.config
        self._body = whole.base_model
        self._embed = whole.get_input_embeddings()
        self._head = whole.get_output_embeddings()
        self._loss = LinearLoss(whole)

    @property
    def device(self) -> torch.device:
        """The model's device."""
        device: torch.device = self._embed.weight.device
        return device

    def head_nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Compute the NLL in nats of targets (supervised,) after hidden states (supervised, width).

        Returns (supervised,) float32.
        """
        if "loss" in self.pieces and type(self._head) is nn.Linear and self._head.bias is None:
            return self._loss(hidden, targets)
        logits = self._head(hidden).float() * self._loss.logit_scale
        return cross_entropy(logits, targets, reduction="none")

    def hidden(self, batch: PackedRows | SharedRows) -> Tensor:
        """Compute the last hidden states at the predicting positions: (supervised, width)."""
        x = self._embed(batch.ids) * getattr(self._config, "embedding_multiplier", 1.0)
        x = x.float()  # the residual stream stays float32 in a bfloat16 model
        rotations: dict[str, Rotations] = {}
        layers = self._body.layers
        for index, layer in enumerate(layers):
            kind = self._kind(index)
            if kind not in rotations:
                rotations[kind] = self._rotations(kind, x, batch.positions)
            wanted = batch.predicting if index == len(layers) - 1 else None
            arguments = (layer, x, rotations[kind], batch.groups, wanted)
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(self._layer, *arguments, use_reentrant=False)
            else:
                x = self._layer(*arguments)
        return self._norm(self._body.norm, x)

    def _layer(
        self,
        layer: Any,
        x: Tensor,
        rotations: Rotations,
        groups: Groups,
        wanted: Tensor | None,
    ) -> Tensor:
        """Run one layer on x (tokens, width); after attention, only on the wanted tokens."""
        attended = self._attention(
            layer.self_attn, self._norm(layer.input_layernorm, x), rotations, groups
        )
        if wanted is not None:
            x, attended = x[wanted], attended[wanted]
        (update,) = self._project(attended, [layer.self_attn.o_proj])
        share = getattr(layer, "residual_multiplier", 1.0)
        if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma: also a norm after each half
            x = x + self._norm(layer.post_attention_layernorm, update) * share
            update = self._mlp(layer.mlp, self._norm(layer.pre_feedforward_layernorm, x))
            return x + self._norm(layer.post_feedforward_layernorm, update) * share
        x = torch.add(x, update, alpha=share)
        update = self._mlp(layer.mlp, self._norm(layer.post_attention_layernorm, x))
        return torch.add(x, update, alpha=share)

    def _attention(self, attention: Any, x: Tensor, rotations: Rotations, groups: Groups) -> Tensor:
        """Run attention, without the output projection: (tokens, heads · width)."""
        q, k, v = self._project(x, [attention.q_proj, attention.k_proj, attention.v_proj])
        width = attention.head_dim
        n_keys = k.shape[1] // width
        if hasattr(attention, "q_norm"):
            q = self._norm(attention.q_norm, q.view(-1, width)).view_as(q)
            k = self._norm(attention.k_norm, k.view(-1, width)).view_as(k)
        q, k = self._rotate(q, rotations[0], n_keys), self._rotate(k, rotations[1], n_keys)
        v = v.view(len(v), n_keys, 1, width).transpose(0, 1).contiguous()
        attend: Any = causal_attention if "attention" in self.pieces else _stock_attention
        if isinstance(groups[0], Questions):
            attend = attend_to_prompts
        out: Tensor = attend(q, k, v, groups, window_of(attention, self._config))
        return out.transpose(0, 1).reshape(len(x), -1)

    def _rotate(self, x: Tensor, rotation: Rotation, groups: int) -> Tensor:
        """Rotate (tokens, heads · width) into (groups, tokens, heads per group, width)."""
        if "elementwise" in self.pieces:
            out: Tensor = RotateHeads.apply(x, rotation.cos, rotation.sin, groups)
            return out
        heads = x.view(len(x), groups, -1, 2 * rotation.cos.shape[-1]).transpose(0, 1)
        first, second = heads.chunk(2, dim=-1)
        cos, sin = rotation.cos, rotation.sin
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

    def _mlp(self, mlp: Any, x: Tensor) -> Tensor:
        gate, up = self._project(x, [mlp.gate_proj, mlp.up_proj])
        name = getattr(self._config, "hidden_activation", None) or self._config.hidden_act
        if "elementwise" in self.pieces and name in _GATES:
            inner = _GATES[name].apply(gate, up)
        else:
            inner = mlp.act_fn(gate) * up
        (out,) = self._project(inner, [mlp.down_proj])
        return out

    def _norm(self, norm: Any, x: Tensor) -> Tensor:
        if "elementwise" not in self.pieces:
            out: Tensor = norm(x)
            return out.to(norm.weight.dtype)
        return rms_norm(x, *norm_parameters(norm))

    def _project(self, x: Tensor, modules: Sequence[Any]) -> tuple[Tensor, ...]:
        if "lora" in self.pieces:
            found = [read_projection(module) for module in modules]
            known = [it for it in found if it is not None]
            if len(known) == len(modules):
                return project(x, known)
        return tuple(module(x) for module in modules)

    def _kind(self, index: int) -> str:
        """Key of the rotation of layer `index`: none, the model's only one, or one of several."""
        if not getattr(self._body.layers[index].self_attn, "use_rope", True):
            return _UNROTATED
        return self._config.layer_types[index] if self._config.model_type == "gemma3_text" else ""

    def _rotations(self, kind: str, x: Tensor, positions: Tensor) -> Rotations:
        """Compute the rotations of a kind of layer with the model's own module."""
        which = (kind,) if kind not in ("", _UNROTATED) else ()
        cos, sin = self._body.rotary_emb(x, positions.unsqueeze(0), *which)
        half = cos.shape[-1] // 2
        cos, sin = cos[0, :, None, :half], sin[0, :, None, :half]
        if kind == _UNROTATED:
            cos, sin = torch.ones_like(cos), torch.zeros_like(sin)
        scale = self._body.layers[0].self_attn.scaling
        return Rotation(cos * scale, sin * scale), Rotation(cos, sin)


def read_projection(module: Any) -> Projection | None:
    """Read the matrices of a linear module and its adapter; None if it computes anything else."""
    if type(module) is nn.Linear:
        return Projection(module.weight, module.bias)
    if type(module) is not LoraLinear or type(module.base_layer) is not nn.Linear:
        return None
    base = module.base_layer
    if module.disable_adapters:
        return Projection(base.weight, base.bias)
    if len(module.active_adapters) != 1 or module.merged or module.lora_variant:
        return None
    name = module.active_adapters[0]
    dropout = module.lora_dropout[name]
    if module.lora_bias[name] or (module.training and not isinstance(dropout, nn.Identity)):
        return None
    return Projection(
        base.weight,
        base.bias,
        module.lora_A[name].weight,
        module.lora_B[name].weight,
        module.scaling[name],
    )


def norm_parameters(norm: Any) -> tuple[Tensor, float]:
    """Return the weight (width,) and the epsilon of a model's RMSNorm."""
    is_gemma = type(norm).__name__.startswith("Gemma")  # it stores its weight minus one
    weight = norm.weight + 1.0 if is_gemma else norm.weight
    return weight.detach(), norm.eps if hasattr(norm, "eps") else norm.variance_epsilon


def window_of(attention: Any, config: Any) -> int | None:
    """Size of the sliding window in tokens, including the token itself; None without one."""
    holder = config if config.model_type == "mistral" else attention
    window: int | None = getattr(holder, "sliding_window", None)
    return window


def _stock_attention(
    q: Tensor, k: Tensor, v: Tensor, groups: Sequence[Group], window: int | None
) -> Tensor:
    """Run PyTorch's attention, group by group; shapes as in `causal_attention`."""
    heads, _, per_key, width = q.shape
    parts: list[Tensor] = []
    where: list[Tensor] = []
    for group in groups:
        end = group.start + group.rows * group.length
        at = torch.arange(group.start, end) if group.filling is None else group.filling.token
        shape = (heads, group.rows, group.length, -1, width)
        # (rows, heads of queries, length, width)
        q_part, k_part, v_part = (
            x[:, at].view(shape).permute(1, 0, 3, 2, 4).flatten(1, 2) for x in (q, k, v)
        )
        k_part, v_part = (x.repeat_interleave(per_key, dim=1) for x in (k_part, v_part))
        is_seen = None
        if window is not None and group.length > window:
            is_seen = torch.ones(group.length, group.length, dtype=torch.bool).tril()
            is_seen = is_seen.triu(1 - window)
        answer = scaled_dot_product_attention(
            q_part, k_part, v_part, attn_mask=is_seen, is_causal=is_seen is None, scale=1.0
        )
        answer = answer.view(group.rows, heads, per_key, group.length, width)
        answer = answer.permute(1, 0, 3, 2, 4).flatten(1, 2)
        real = slice(None) if group.filling is None else group.filling.real
        parts.append(answer[:, real])
        where.append(at[real])
    return torch.empty_like(q).index_copy(1, torch.cat(where), torch.cat(parts, dim=1))
