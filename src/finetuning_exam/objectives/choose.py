"""The one place that knows which objectives there are."""

from __future__ import annotations

from dataclasses import replace

from finetuning_exam.data.encoding.encoder import Encoded, Encoder
from finetuning_exam.data.encoding.labels import training_loss_on
from finetuning_exam.objectives.base import Objective
from finetuning_exam.objectives.sft import SupervisedFineTuning
from finetuning_exam.settings import TrainSettings


def choose_objective(settings: TrainSettings, encoder: Encoder) -> Objective[Encoded]:
    """Return the objective that the settings ask for.

    `encoder` is that of the exam, with the tokenizer and template of the run.
    """
    loss_on = training_loss_on(completion_only=settings.completion_only_loss)
    return SupervisedFineTuning(replace(encoder, loss_on=loss_on), encoder)
