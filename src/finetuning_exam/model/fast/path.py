"""Choice of the fast path's pieces for a model, tested against the stock forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.errors import UsageError
from finetuning_exam.model.fast.decoder import Decoder
from finetuning_exam.model.fast.linear_kl import linear_kl, log_probabilities
from finetuning_exam.model.fast.linear_loss import LinearLoss
from finetuning_exam.model.fast.packing import pack
from finetuning_exam.model.fast.shared_prompts import SharedRows, share_prompts
from finetuning_exam.model.fast.support import TOLERANCE, has_plain_head, why_unsupported
from finetuning_exam.model.likelihood import collate, supervised_nll
from finetuning_exam.model.mode import evaluating
from finetuning_exam.model.replay_row import ReplayRow
from finetuning_exam.settings import FastPiece

ALL_PIECES: tuple[FastPiece, ...] = ("rows", "attention", "lora", "elementwise", "loss")
_INSIDE: frozenset[FastPiece] = frozenset({"attention", "lora", "elementwise"})
"""Pieces inside the decoder, which need an architecture that `Decoder` supports."""


class _Hidden(NamedTuple):
    """Hidden states before supervised tokens, (supervised, width), and these tokens' rows, ids and
    weights, each (supervised,).
    """

    states: Tensor
    row_of: Tensor
    targets: Tensor
    weights: Tensor | None

    def weighted(self, losses: Tensor, which: Tensor | None = None) -> Tensor:
        """Multiply the losses of the tokens, or of those `which` selects, by their weights."""
        if self.weights is None:
            return losses
        return losses * (self.weights if which is None else self.weights[which])


class FastPath:
    """A model's likelihood, computed with some pieces; `notes` say why the others are off."""

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
        """Compute each row's summed NLL over its supervised tokens: (rows,) float32."""
        if not self.decoder and "loss" not in self.pieces:
            device = next(self.model.parameters()).device
            return supervised_nll(self.model, collate(rows, self._pad_id).to(device))
        found = self._hidden(rows)
        nll = found.weighted(self._head_nll(found.states, found.targets))
        return nll.new_zeros(len(rows)).index_add(0, found.row_of, nll)

    def option_nll(self, rows: Sequence[Encoded]) -> Tensor:
        """Compute the same as `row_nll`; on the decoder, each prompt that rows share only once.

        Every supervised token must come after its row's prompt.
        """
        if not self.decoder:
            return self.row_nll(rows)
        return shared_nll(self.decoder, share_prompts(rows, self.decoder.device))

    @property
    def has_shared_head(self) -> bool:
        """True if logits are the last hidden states times one matrix, as replay needs them."""
        if not has_plain_head(self.model):
            return False
        rows = _probes(self.model)
        with evaluating(self.model), torch.no_grad():
            expected = supervised_nll(self.model, collate(rows, self._pad_id).to(self.model.device))
            found = self._hidden(rows)
            nll = self._loss(found.states, found.targets)
        total = nll.new_zeros(len(rows)).index_add(0, found.row_of, nll)
        return _is_close(total, expected, self.model)

    def row_losses(self, rows: Sequence[Encoded]) -> Tensor:
        """Compute each row's summed NLL, or KL from the base for a replay row: (rows,) float32.

        On the decoder, rows of both kinds share their forward pass.
        """
        if not any(isinstance(row, ReplayRow) for row in rows):
            return self.row_nll(rows)
        found = self._hidden(rows)
        hidden, row_of = found.states, found.row_of
        is_replay = torch.tensor([isinstance(row, ReplayRow) for row in rows], device=hidden.device)
        replayed = is_replay[row_of]
        base = [
            row.base
            for row in (rows[index] for index in row_of.unique_consecutive().tolist())
            if isinstance(row, ReplayRow)
        ]
        kl = self._head_kl(hidden[replayed], torch.cat(base).to(hidden.device))
        nll = self._head_nll(hidden[~replayed], found.targets[~replayed])
        nll = found.weighted(nll, ~replayed)
        losses = kl.new_zeros(len(rows))
        losses = losses.index_add(0, row_of[replayed], kl)
        return losses.index_add(0, row_of[~replayed], nll)

    def hidden_states(self, rows: Sequence[Encoded]) -> list[Tensor]:
        """Compute the last hidden states before each supervised token of each row.

        Returns one tensor (supervised, width) for each row, in the order given.
        """
        found = self._hidden(rows)
        return [found.states[found.row_of == index] for index in range(len(rows))]

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        """Compute what a model with `has_shared_head` predicts: (rows, vocabulary) float32."""
        weight = self._whole.get_output_embeddings().weight
        return log_probabilities(hidden, weight, self._loss.logit_scale)

    def _hidden(self, rows: Sequence[Encoded]) -> _Hidden:
        """Return the hidden states before supervised tokens, and what belongs to them."""
        if self.decoder:
            batch = pack(rows, self.decoder.device)
            states = self.decoder.hidden(batch)
            return _Hidden(states, batch.row_of_target, batch.targets, batch.weights)
        padded = collate(rows, self._pad_id).to(next(self.model.parameters()).device)
        body = self._whole.base_model(
            input_ids=padded.ids, attention_mask=padded.attention, use_cache=False
        )
        row, at = (padded.labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
        weights = None if padded.weights is None else padded.weights[row, at + 1]
        return _Hidden(body.last_hidden_state[row, at], row, padded.ids[row, at + 1], weights)

    def _head_nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        if self.decoder:
            return self.decoder.head_nll(hidden, targets)
        return self._loss(hidden, targets)

    def _head_kl(self, hidden: Tensor, base: Tensor) -> Tensor:
        weight = self._whole.get_output_embeddings().weight
        return linear_kl(hidden, base, weight, self._loss.logit_scale)


def shared_nll(decoder: Decoder, batch: SharedRows) -> Tensor:
    """Compute the summed NLL of each row of a batch that shares prompts: (rows,) float32."""
    nll = decoder.head_nll(decoder.hidden(batch), batch.targets)
    return nll.new_zeros(batch.n_rows).index_add(0, batch.row_of_target, nll)


def wanted_pieces(names: Sequence[str]) -> frozenset[FastPiece]:
    """Return the pieces requested by `--fast_path`.

    Raises:
        UsageError: `all` or `none` is combined with other names.
    """
    if len(names) != 1 and {"all", "none"} & set(names):
        raise UsageError(
            f"--fast_path {' '.join(names)}: all and none cannot be combined with other names.",
            f"Use all, none, or some of: {', '.join(ALL_PIECES)}.",
        )
    return frozenset(it for it in ALL_PIECES if it in names or "all" in names)


def choose_fast_path(
    model: PeftModel, pad_id: int, wanted: frozenset[FastPiece], *, checkpointing: bool = False
) -> FastPath:
    """Build the fast path from the wanted pieces that reproduce this model's likelihoods.

    A piece is switched off, with a note, on devices other than the CPU, for unsupported
    architectures, and if the NLL of two short rows differs from the stock forward pass.
    """
    if not wanted:
        return FastPath(model, pad_id, frozenset())
    device = next(model.parameters()).device.type
    if device != "cpu":
        return FastPath(model, pad_id, frozenset(), (f"off: only for CPUs, not {device}",))
    pieces = wanted
    notes: list[str] = []
    reason = why_unsupported(model)
    if reason and pieces & _INSIDE:
        notes.append(f"without {_names(pieces & _INSIDE)}: {reason}")
        pieces -= _INSIDE
    if "loss" in pieces and not has_plain_head(model):
        notes.append("without loss: the output head is not a plain linear layer")
        pieces -= {"loss"}
    config = model.peft_config[model.active_adapter]
    if "lora" in pieces and config.lora_dropout:
        notes.append("without lora: the adapter has dropout")
        pieces -= {"lora"}
    while pieces - {"rows"}:
        path = FastPath(model, pad_id, pieces, tuple(notes), checkpointing=checkpointing)
        if _agrees(path):
            return path
        suspects = pieces & _INSIDE or pieces & {"loss"}
        notes.append(f"without {_names(suspects)}: results differ from this model's own")
        pieces -= suspects
    return FastPath(model, pad_id, pieces, tuple(notes))


def _names(pieces: frozenset[FastPiece]) -> str:
    return ", ".join(name for name in ALL_PIECES if name in pieces)


def _agrees(path: FastPath) -> bool:
    """Return True if two short rows have the same NLL as in the stock forward pass."""
    rows = _probes(path.model)
    was_training = path.model.training
    path.model.eval()
    try:
        with torch.no_grad():
            expected = supervised_nll(path.model, collate(rows, path._pad_id))
            found = path.row_nll(rows)
    except (AttributeError, RuntimeError, TypeError, ValueError, IndexError):
        return False  # the modules are not those of the named architecture
    finally:
        path.model.train(was_training)
    return _is_close(found, expected, path.model)


def _probes(model: PeftModel) -> list[Encoded]:
    """Return two short rows."""
    vocabulary = model.get_input_embeddings().num_embeddings
    return [
        Encoded(ids, (IGNORED, IGNORED, *ids[2:]), 2, 0)
        for ids in (
            tuple((7 * place + 3) % vocabulary for place in range(length)) for length in (5, 12)
        )
    ]


def _is_close(found: Tensor, expected: Tensor, model: PeftModel) -> bool:
    tolerance = TOLERANCE[model.dtype]
    return bool(((found - expected).abs() <= tolerance * expected.abs().clamp(min=1)).all())
