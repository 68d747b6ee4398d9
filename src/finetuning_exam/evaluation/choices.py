"""Multiple choice: the right answer against other answers of the same kind."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetuning_exam.data.encoding.encoder import Encoded, Encoder
from finetuning_exam.data.evidence import LabelSets
from finetuning_exam.data.records import Example
from finetuning_exam.data.split import normalized
from finetuning_exam.model.score import Score

N_DISTRACTORS = 3
"""Wrong answers of a question, or as many as there are."""
N_NEAREST = 8
"""Number of candidates, closest in length to the right answer, to draw wrong answers from."""
PREMISE = "Answer."
"""A prompt that asks nothing, to measure how likely an answer is regardless of the question."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A multiple-choice question: the example with its right answer, then with the wrong ones.

    `index` is the example's position in the exam. If `is_label`, the options are all labels of a
    classification.
    """

    index: int
    options: tuple[Example, ...]
    is_label: bool = False


def make_choices(
    examples: Sequence[Example],
    seed: int,
    asked: Sequence[int] | None = None,
    labels: LabelSets | None = None,
) -> tuple[Choice, ...]:
    """Turn examples into multiple-choice questions, each with up to three wrong answers.

    Wrong answers are other answers of the same tag, and close in length to the right one, because
    a model may prefer short or long answers. In a classification they are all other labels. A tag
    with a single answer has no questions, and neither have plain texts, which ask nothing.

    Args:
        examples: All examples of the exam; wrong answers are drawn from all of them.
        seed: Seed of the draw.
        asked: Indices of the examples to turn into questions; None means all.
        labels: The labels of each tag that is a classification.
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
        if of_tag := (labels or {}).get(example.tag):
            choices.append(_label_choice(index, example, of_tag))
            continue
        same_tag = answers[example.tag]
        others = [key for key in same_tag if key != normalized(example.answer)]
        if not others:
            continue
        others.sort(key=lambda key: abs(len(same_tag[key]) - len(example.answer)))
        nearest = others[:N_NEAREST]
        n_wrong = min(N_DISTRACTORS, len(nearest))
        wrong = [same_tag[key] for key in draw.sample(nearest, n_wrong)]
        options = (replace(example, answer=text) for text in wrong)
        choices.append(Choice(index, (example, *options)))
    return tuple(choices)


def _label_choice(index: int, example: Example, labels: Sequence[str]) -> Choice:
    """Offer every label, each in its usual spelling, so that none is less likely for its own."""
    right = normalized(example.answer)
    ordered = sorted(labels, key=lambda label: normalized(label) != right)  # stable: right first
    return Choice(index, tuple(replace(example, answer=label) for label in ordered), is_label=True)


@dataclass(frozen=True, slots=True)
class Ballot:
    """Questions with the rows whose scores decide them.

    Labels are compared by their likelihood, end token included: the likeliest is what the model
    would answer if it had to name a label. Other options are compared by how much more likely they
    are, per token, after the question than after `PREMISE` (domain conditional PMI, Holtzman et
    al. 2021); otherwise common answers would win.
    """

    choices: tuple[Choice, ...]
    rows: tuple[Encoded, ...]
    """The options of all questions in order, then the answers in `unasked` after the premise."""
    unasked: tuple[str, ...]

    @classmethod
    def of(cls, encoder: Encoder, choices: Sequence[Choice], context: int) -> Ballot:
        """Encode the options of questions; those that do not fit into `context` are left out."""
        options = [option for choice in choices for option in choice.options]
        encoded = iter(encoder.encode_batch(options))
        each = [(choice, [next(encoded) for _ in choice.options]) for choice in choices]
        fitting = [(choice, rows) for choice, rows in each if _longest(rows) <= context]
        prior = {
            option.answer: Example(PREMISE, option.answer, option.line, option.path)
            for choice, _ in fitting
            if not choice.is_label
            for option in choice.options
        }
        unasked = encoder.encode_batch(list(prior.values()))
        too_long = {it for it, row in zip(prior, unasked, strict=True) if len(row.ids) > context}
        if too_long:
            short = [it for it, _ in fitting if not {o.answer for o in it.options} & too_long]
            return cls.of(encoder, short, context)
        rows = [row for _, rows in fitting for row in rows]
        return cls(tuple(choice for choice, _ in fitting), (*rows, *unasked), tuple(prior))

    def preferred(self, scores: Sequence[Score]) -> tuple[int, ...]:
        """Return, for each question, the index of the option that the model with these scores of
        `rows` prefers; 0 is right. A tie counts as wrong.
        """
        n_options = len(self.rows) - len(self.unasked)
        unasked = dict(zip(self.unasked, scores[n_options:], strict=True))
        preferred: list[int] = []
        start = 0
        for choice in self.choices:
            asked = scores[start : start + len(choice.options)]
            start += len(choice.options)
            if choice.is_label:
                preferred.append(_lowest([score.nll for score in asked]))
            else:
                pairs = zip(choice.options, asked, strict=True)
                preferred.append(
                    _lowest([it.nll_per_token - unasked[o.answer].nll_per_token for o, it in pairs])
                )
        return tuple(preferred)


def _longest(rows: Sequence[Encoded]) -> int:
    return max(len(row.ids) for row in rows)


def _lowest(values: Sequence[float]) -> int:
    """Return the index of the lowest value; 0 only if it is lower than every other."""
    best = min(range(1, len(values)), key=values.__getitem__)
    return 0 if values[0] < values[best] else best
