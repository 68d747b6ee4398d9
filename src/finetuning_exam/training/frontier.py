"""The frontier of an adapter: what it learned against what it lost, at several scales."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.evaluation.general import general_rows, read_validation_text
from finetuning_exam.evaluation.stats import PairedDifference, family_confidence, paired_difference
from finetuning_exam.model.adapter import scale_adapter, scaled_adapter
from finetuning_exam.model.score import Score, mean_nll, score_rows
from finetuning_exam.objectives.base import sequences_of
from finetuning_exam.run_record import ScalePoint
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.prepare import Prepared

SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Scale 0 is the base."""
MAX_VALIDATION_ROWS = 100
MAX_PARAGRAPHS = 36
"""Paragraphs of general text: a few of each kind, since every scale scores them."""
KEPT_GAIN = 0.98
"""Share of the gain on the validation rows that a smaller scale must keep."""
SERIOUS_RISE = math.log(1.05)
"""Rise of the general text's loss, in nats per token, below which nothing is traded for less."""


@dataclass(frozen=True, slots=True)
class Scores:
    """An adapter's scores at one scale, row by row."""

    validation: tuple[Score, ...]
    general: tuple[Score, ...]

    @property
    def point(self) -> tuple[float, float]:
        """The loss on validation rows and on general text, in nats per token."""
        return mean_nll(self.validation), mean_nll(self.general)


def apply_scale(prepared: Prepared) -> tuple[float, tuple[ScalePoint, ...]]:
    """Leave the trained adapter at the scale that is wanted or best; return it and the frontier.

    A number in `adapter_scale` is applied without measuring; then, and without validation rows,
    the frontier is empty.
    """
    settings: TrainSettings = prepared.settings
    chosen, scores = settings.adapter_scale, {}
    if chosen == "auto":
        validation, general = frontier_rows(prepared)
        if validation:
            scores = {it: _scores(prepared, (validation, general), it) for it in SCALES}
        chosen = best_scale(scores, settings.seed) if scores else 1.0
    if chosen != 1.0:
        scale_adapter(prepared.model, chosen)
    return chosen, tuple(ScalePoint(scale, *it.point) for scale, it in scores.items())


def frontier_rows(prepared: Prepared) -> tuple[tuple[Encoded, ...], tuple[Encoded, ...]]:
    """Return the validation rows and the general text that each scale scores.

    The text is not that of the exam. There are none of either where nothing is measured.
    """
    rows, settings = prepared.rows, prepared.settings
    validation = sequences_of(rows.objective, rows.validation)
    if not validation or settings.adapter_scale != "auto":
        return (), ()
    if len(validation) > MAX_VALIDATION_ROWS:
        drawn = random.Random(settings.seed).sample(range(len(validation)), MAX_VALIDATION_ROWS)
        validation = tuple(validation[index] for index in sorted(drawn))
    context = prepared.base.context
    text = read_validation_text()[:MAX_PARAGRAPHS]
    return validation, general_rows(rows.encoder, text, context)


def best_scale(scores: dict[float, Scores], seed: int) -> float:
    """Return 1, unless a smaller scale is clearly better; of those, the one that loses the least.

    It is clearly better if it keeps `KEPT_GAIN` of the gain on the validation rows, loses no more
    on the general text, and either certainly learned more, or certainly lost less: by half at
    least, where the loss is a serious one. "Certainly" is an interval that excludes zero; all
    intervals hold together in 95% of runs.
    """
    base, whole = scores[0.0], scores[1.0]
    (base_loss, base_general), (loss, general) = base.point, whole.point
    smaller = [scale for scale in scores if 0 < scale < 1]
    confidence = family_confidence(2 * len(smaller))
    better: list[float] = []
    for scale in smaller:
        its = scores[scale]
        its_loss, its_general = its.point
        keeps = base_loss - its_loss >= KEPT_GAIN * (base_loss - loss)
        if not keeps or its_general > general:
            continue
        learned = _change(whole.validation, its.validation, seed, confidence)
        lost = _change(whole.general, its.general, seed, confidence)
        rise, its_rise = general - base_general, its_general - base_general
        is_worth_it = rise >= SERIOUS_RISE and its_rise <= rise / 2
        if learned.interval.high < 0 or (lost.interval.high < 0 and is_worth_it):
            better.append(scale)
    return min(better, key=lambda scale: scores[scale].point[1], default=1.0)


def _scores(
    prepared: Prepared, rows: tuple[Sequence[Encoded], Sequence[Encoded]], scale: float
) -> Scores:
    size = prepared.settings.eval_batch_size
    with scaled_adapter(prepared.model, scale):
        validation, general = (
            score_rows(prepared.model, part, prepared.fast.row_nll, size) for part in rows
        )
    return Scores(validation, general)


def _change(
    before: Sequence[Score], after: Sequence[Score], seed: int, confidence: float
) -> PairedDifference:
    return paired_difference(
        [it.nll for it in before],
        [it.nll for it in after],
        [it.n_tokens for it in before],
        seed,
        confidence=confidence,
    )
