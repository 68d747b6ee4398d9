"""Which pieces of the fast path a model can have, found by comparing it with the stock one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from finetuning_exam.data.encoding.encode import IGNORED, Encoded
from finetuning_exam.errors import UsageError
from finetuning_exam.model.fast.decoder import MODEL_TYPES, Decoder
from finetuning_exam.model.fast.linear_loss import LinearLoss
from finetuning_exam.model.fast.packing import pack
from finetuning_exam.model.likelihood import collate, supervised_nll
from finetuning_exam.settings import FastPiece

ALL_PIECES: tuple[FastPiece, ...] = ("rows", "attention", "lora", "elementwise", "loss")
_INSIDE: frozenset[FastPiece] = frozenset({"attention", "lora", "elementwise"})
"""Pieces that need the decoder to be taken apart."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""Largest relative difference of a row's likelihood from the stock forward pass."""


class FastPath:
    """A model's likelihood by the pieces that are on. `notes` say which are not, and why."""

    def __init__(
        self,
        model: PeftModel,
        pad_id: int,
        pieces: frozenset[FastPiece],
        notes: tuple[str, ...] = (),
        *,
        checkpointing: bool = False,
    ) -> None:
        self.model = model
        self.pieces = pieces
        self.notes = notes
        self._pad_id = pad_id
        self._whole = model.get_base_model()
        self._loss = LinearLoss(self._whole)
        self.decoder = (
            Decoder(model, pieces, checkpointing=checkpointing) if pieces & _INSIDE else None
        )

    def row_nll(self, rows: Sequence[Encoded]) -> Tensor:
        """Summed negative log-likelihood of each row's supervised tokens: (rows,) float32."""
        if self.decoder:
            batch = pack(rows, self.decoder.device)
            nll = self.decoder.token_nll(batch)
            return nll.new_zeros(batch.n_rows).index_add(0, batch.row_of_target, nll)
        padded = collate(rows, self._pad_id).to(next(self.model.parameters()).device)
        if "loss" not in self.pieces:
            return supervised_nll(self.model, padded)
        body = self._whole.base_model(
            input_ids=padded.ids, attention_mask=padded.attention, use_cache=False
        )
        row, at = (padded.labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
        nll = self._loss(body.last_hidden_state[row, at], padded.ids[row, at + 1])
        return nll.new_zeros(len(rows)).index_add(0, row, nll)


def wanted_pieces(names: Sequence[str]) -> frozenset[FastPiece]:
    """What `--fast_path` asks for.

    Raises:
        UsageError: `all` or `none` beside other names.
    """
    if len(names) != 1 and {"all", "none"} & set(names):
        raise UsageError(
            f"--fast_path {' '.join(names)}: all and none stand alone.",
            f"Give all, none, or some of: {', '.join(ALL_PIECES)}.",
        )
    return frozenset(it for it in ALL_PIECES if it in names or "all" in names)


def choose_fast_path(
    model: PeftModel, pad_id: int, wanted: frozenset[FastPiece], *, checkpointing: bool = False
) -> FastPath:
    """The pieces that are wanted and that give this model's own likelihoods.

    A piece steps aside, with a note, on devices other than the CPU, where the architecture is not
    known, and wherever two short rows come out otherwise than in the stock forward pass.
    """
    if not wanted:
        return FastPath(model, pad_id, frozenset())
    device = next(model.parameters()).device.type
    if device != "cpu":
        return FastPath(model, pad_id, frozenset(), (f"off: it is for CPUs, not for {device}",))
    pieces = wanted
    notes: list[str] = []
    reason = _unknown_inside(model)
    if reason and pieces & _INSIDE:
        notes.append(f"without {_names(pieces & _INSIDE)}: {reason}")
        pieces -= _INSIDE
    if "loss" in pieces and not _has_plain_head(model):
        notes.append("without loss: the output head is not a plain linear one")
        pieces -= {"loss"}
    config = model.peft_config[model.active_adapter]
    if "lora" in pieces and config.lora_dropout:
        notes.append("without lora: adapters have dropout")
        pieces -= {"lora"}
    while pieces - {"rows"}:
        path = FastPath(model, pad_id, pieces, tuple(notes), checkpointing=checkpointing)
        if _agrees(path):
            return path
        doubtful = pieces & _INSIDE or pieces & {"loss"}
        notes.append(f"without {_names(doubtful)}: this model computes otherwise")
        pieces -= doubtful
    return FastPath(model, pad_id, pieces, tuple(notes))


def _names(pieces: frozenset[FastPiece]) -> str:
    return ", ".join(name for name in ALL_PIECES if name in pieces)


def _unknown_inside(model: PeftModel) -> str | None:
    """Why the decoder cannot be taken apart; None: it can."""
    config: Any = model.get_base_model().config
    if config.model_type not in MODEL_TYPES:
        return f"architecture {config.model_type} is not known"
    if getattr(config, "attention_dropout", 0.0):
        return "attention has dropout"
    if getattr(config, "attn_logit_softcapping", None):
        return "attention scores are capped"
    if getattr(config, "use_bidirectional_attention", False):
        return "attention is not causal"
    return None


def _has_plain_head(model: PeftModel) -> bool:
    """Whether logits are hidden states times a frozen matrix."""
    whole = model.get_base_model()
    head = whole.get_output_embeddings()
    is_capped = bool(getattr(whole.config, "final_logit_softcapping", None))
    return type(head) is torch.nn.Linear and head.bias is None and not is_capped


def _agrees(path: FastPath) -> bool:
    """Whether two short rows are as likely as in the stock forward pass."""
    vocabulary = path.model.get_input_embeddings().num_embeddings
    rows = [
        Encoded(ids, (IGNORED, IGNORED, *ids[2:]), 2, 0)
        for ids in (
            tuple((7 * place + 3) % vocabulary for place in range(length)) for length in (5, 12)
        )
    ]
    was_training = path.model.training
    path.model.eval()
    try:
        with torch.no_grad():
            expected = supervised_nll(path.model, collate(rows, path._pad_id))
            found = path.row_nll(rows)
    except (AttributeError, RuntimeError, TypeError, ValueError, IndexError):
        return False  # its modules are not what the architecture's name says
    finally:
        path.model.train(was_training)
    tolerance = TOLERANCE[path.model.dtype]
    return bool(((found - expected).abs() <= tolerance * expected.abs().clamp(min=1)).all())
