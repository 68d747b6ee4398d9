"""Multiple choice: the right answer against other answers of the same kind."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from finetuning_exam.data.encoding.encoder import Encoder
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import normalized
from finetuning_exam.model.likelihood import RowNll
from finetuning_exam.model.score import score_rows

N_DISTRACTORS = 3
N_NEAREST = 8
"""Number of candidates, closest in length to the right answer, to draw wrong answers from."""
PREMISE = "Answer."
"""A prompt that asks nothing, to measure how likely an answer is regardless of the question."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A multiple-choice question: the example with its right answer, then with the wrong ones.

    `index` is the example's position in the exam.
    """

    index: int
    options: tuple[Example, ...]


def make_choices(
    examples: Sequence[Example], seed: int, asked: Sequence[int] | None = None
) -> tuple[Choice, ...]:
    """Turn examples into multiple-choice questions, each with three wrong answers.

    Wrong answers are other answers of the same tag, and close in length to the right one, because
    a model may prefer short or long answers. Examples whose tag has too few different answers are
    left out, and so are plain texts, which ask nothing.

    Args:
        examples: All examples of the exam; wrong answers are drawn from all of them.
        seed: Seed of the draw.
        asked: Indices of the examples to turn into questions; None means all.
    """
    answers: dict[str, dict[str, str]] = {}
    for example in examples:
        if example.is_plain_text:
            continue
        answers.setdefault(example.tag, {}).setdefault(normalized(example.answer), example.answer)
    draw = random.Random(seed)
    choices: list[Choice] = []
    for index in range(len(examples)) if asked is None else asked:
        example = examples[index]
        if example.is_plain_text:
            continue
        same_tag = answers[example.tag]
        others = [key for key in same_tag if key != normalized(example.answer)]
        if len(others) < N_DISTRACTORS:
            continue
        others.sort(key=lambda key: abs(len(same_tag[key]) - len(example.answer)))
        wrong = [same_tag[key] for key in draw.sample(others[:N_NEAREST], N_DISTRACTORS)]
        options = (replace(example, answer=text) for text in wrong)
        choices.append(Choice(index, (example, *options)))
    return tuple(choices)


def choose(
    model: torch.nn.Module,
    encoder: Encoder,
    choices: Sequence[Choice],
    row_nll: RowNll,
    batch_size: int,
) -> tuple[bool, ...]:
    """Return, for each question, whether the model prefers the right answer to every wrong one.

    Options are compared by how much more likely they are, per token, after the question than after
    `PREMISE` (domain conditional PMI, Holtzman et al. 2021); otherwise common answers would win.
    A tie counts as wrong.
    """
    options = [option for choice in choices for option in choice.options]
    prior = {
        option.answer: Example(PREMISE, option.answer, option.line, option.path)
        for option in options
    }
    rows = encoder.encode_batch([*options, *prior.values()])
    scores = score_rows(model, rows, row_nll, batch_size)
    unasked = dict(zip(prior, scores[len(options) :], strict=True))
    gains = [
        score.nll_per_token - unasked[option.answer].nll_per_token
        for option, score in zip(options, scores, strict=False)
    ]
    found: list[bool] = []
    for choice in choices:
        (right, *wrong), gains = gains[: len(choice.options)], gains[len(choice.options) :]
        found.append(right < min(wrong))
    return tuple(found)
