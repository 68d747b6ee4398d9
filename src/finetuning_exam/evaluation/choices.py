"""Multiple choice: whether the right answer is likelier than others of the same kind."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from finetuning_exam.data.encoding.encode import Encoder
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import normalized
from finetuning_exam.model.likelihood import RowNll
from finetuning_exam.model.score import score_rows

N_DISTRACTORS = 3
LIKE_LENGTH = 8
"""Wrong answers are drawn from this many whose length is nearest to the right one's."""
PREMISE = "Answer."
"""A question that asks nothing: how likely an answer is whatever is asked."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A multiple-choice question: the example with its right answer first, then the wrong ones."""

    index: int
    options: tuple[Example, ...]


def make_choices(
    examples: Sequence[Example], seed: int, asked: Sequence[int] | None = None
) -> tuple[Choice, ...]:
    """Multiple-choice questions: the asked examples (absent: all) against three other answers.

    The wrong answers are drawn from those of the same tag, different from the right one and
    nearest to it in length, since a model may prefer short answers or long ones. An example whose
    tag has too few different answers is left out, and so is a plain text, which neither asks nor
    answers anything.
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
        wrong = [same_tag[key] for key in draw.sample(others[:LIKE_LENGTH], N_DISTRACTORS)]
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
    """Whether the question makes the right answer likelier, per token, than every wrong one.

    What counts is how much more likely an answer is after its question than after `PREMISE`
    (domain conditional PMI, Holtzman et al. 2021): else common answers would win. A tie is wrong.
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
    width = N_DISTRACTORS + 1
    return tuple(
        gains[start] < min(gains[start + 1 : start + width])
        for start in range(0, len(gains), width)
    )
