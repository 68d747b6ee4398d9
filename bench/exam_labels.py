# ruff: noqa: T201 - an experiment that loads models and prints tables
"""Measure how often the exam is right about labels that were learned, guessed or shuffled.

    uv run python bench/exam_labels.py
    uv run python bench/exam_labels.py --seeds 200
    uv run python bench/exam_labels.py --train --seeds 1

A file of 2, 3, 4 or 10 labels is examined in three situations:

- learned: the tuned model knows the labels of most questions.
- guessed: the questions say nothing about their labels, so the tuned model can only learn how
  often each label occurs.
- shuffled: the tuned model is sure of its labels, which have nothing to do with the right ones.

In all of them it learned the names of the labels, so the right answers become much more likely.
Learned labels have to be "improved"; the others must not be, and the headline has to say "no
better than guessing". By default the models are simulated: likelihoods of labels are drawn, and
everything from the choice of an option to the headline is the program's own. In odd seeds the
labels are unbalanced (one has half of the examples). With --train, the built-in base is trained
on files of short notes, of which the exam holds out a fifth.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, cast, get_args

from finetuning_exam import TrainSettings, train
from finetuning_exam.data.encoding.encoder import Encoded, Encoder
from finetuning_exam.data.evidence import label_sets
from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.choices import Ballot, Choice, make_choices
from finetuning_exam.evaluation.exam import Exam, conclude
from finetuning_exam.evaluation.exam_plan import ExamPlan
from finetuning_exam.evaluation.results import ExamRow
from finetuning_exam.evaluation.stats import Interval, PairedDifference
from finetuning_exam.model.score import Score
from finetuning_exam.report.headline import headline

Situation = Literal["learned", "guessed", "shuffled"]
SITUATIONS: tuple[Situation, ...] = get_args(Situation)
N_LABELS = (2, 3, 4, 10)
N_TRAINED = 200
TOPICS = {
    "sport": "match goal team coach",
    "food": "soup bread kitchen recipe",
    "weather": "rain storm cloud wind",
    "music": "song guitar drum choir",
    "travel": "train airport hotel ticket",
    "health": "doctor nurse fever clinic",
    "money": "bank loan salary tax",
    "garden": "rose soil shovel hedge",
    "school": "teacher lesson exam homework",
    "computers": "keyboard screen server code",
}


def draw_labels(n: int, n_labels: int, draw: random.Random, *, unbalanced: bool) -> list[int]:
    """Draw the labels of `n` examples: all as often, or the first for half of them."""
    if unbalanced:
        return [0 if draw.random() < 0.5 else draw.randrange(n_labels) for _ in range(n)]
    return [index % n_labels for index in range(n)]


# Simulated models


def simulate(situation: Situation, n_labels: int, n: int, seed: int) -> Exam:
    """Examine a simulated base against a simulated tuned model."""
    draw = random.Random(f"{situation} {n_labels} {seed}")
    names = list(TOPICS)[:n_labels]
    labels = draw_labels(n + N_TRAINED, n_labels, draw, unbalanced=bool(seed % 2))
    share = [labels.count(label) / len(labels) + 1e-6 for label in range(n_labels)]
    examples = [
        Example(f"Note {index}?", names[label], index, "exam.jsonl")
        for index, label in enumerate(labels)
    ]
    asked, known = examples[:n], tuple(examples[n:])
    signal, spread = {"learned": (3.0, 1.0), "guessed": (0.0, 0.3), "shuffled": (0.0, 3.0)}[
        situation
    ]
    base: list[list[float]] = []
    tuned: list[list[float]] = []
    for label in labels[:n]:
        # The base spreads its likelihood over everything but the labels, and prefers one of them.
        base.append([5.0 + draw.gauss(0.2 * other, 1.0) for other in range(n_labels)])
        logits = [
            math.log(share[other]) + draw.gauss(0.0, spread) + signal * (other == label)
            for other in range(n_labels)
        ]
        total = math.log(math.fsum(map(math.exp, logits)))
        tuned.append([total - logit for logit in logits])
    sets = label_sets((*known, *asked))
    choices = make_choices(asked, seed, labels=sets)
    picks = [_choose(choices, nll, names) for nll in (base, tuned)]
    rows = []
    for index, (example, label) in enumerate(zip(asked, labels, strict=False)):
        options = choices[index].options
        rows.append(
            ExamRow(
                example,
                Score(base[index][label], 2, len(example.answer)),
                Score(tuned[index][label], 2, len(example.answer)),
                base_chose_right=picks[0][index] == 0,
                tuned_chose_right=picks[1][index] == 0,
                n_options=len(options),
                labels=sets[example.tag],
                base_label=options[picks[0][index]].answer,
                tuned_label=options[picks[1][index]].answer,
            )
        )
    plan = ExamPlan(seed, 16, n, None, 1024, general=(), known=known)
    return conclude(rows, PairedDifference(3.0, 3.0, Interval(-0.1, 0.1)), plan)


class _Numbered:
    """An encoder that keeps the number of the question and of the label, instead of tokens."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def encode_batch(self, examples: Sequence[Example]) -> list[Encoded]:
        """Encode each example as its line and its label."""
        return [
            Encoded((it.line, self._names.index(it.answer)), (-100, 0), 1, len(it.answer))
            for it in examples
        ]


def _choose(choices: Sequence[Choice], nll: list[list[float]], names: Sequence[str]) -> list[int]:
    """Choose by the simulated likelihoods, with the program's own code."""
    ballot = Ballot.of(cast(Encoder, _Numbered(names)), choices, 1024)
    scores = [Score(nll[row.ids[0]][row.ids[1]], 1, row.answer_bytes) for row in ballot.rows]
    return list(ballot.preferred(scores))


# Trainings of the built-in base


def train_and_examine(
    situation: Situation, n_labels: int, n: int, seed: int, max_steps: int | None = None
) -> Exam:
    """Train the built-in base on a file of `n` notes, a fifth of which are the exam."""
    draw = random.Random(f"{situation} {n_labels} {seed}")
    labels = draw_labels(n, n_labels, draw, unbalanced=bool(seed % 2))
    draw.shuffle(labels)
    n_exam = n // 5
    answers = list(labels)
    if situation == "shuffled":
        trained = answers[n_exam:]
        draw.shuffle(trained)
        answers[n_exam:] = trained
    about = labels if situation != "guessed" else [draw.randrange(10) for _ in labels]
    notes = _notes(about, draw)
    names = list(TOPICS)
    rows = [
        {"instruction": note, "output": names[answer]}
        for note, answer in zip(notes, answers, strict=True)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = folder / "train.jsonl", folder / "held.jsonl"
        for path, part in zip(paths, (rows[n_exam:], rows[:n_exam]), strict=True):
            path.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
        settings = TrainSettings(
            data=(str(paths[0]),),
            eval_file=str(paths[1]),
            output_dir=str(folder / "out"),
            seed=seed,
            max_steps=max_steps,
            max_new_tokens=4,
            eval_fraction=0.0,
        )
        return train(settings).exam


def _notes(topics: Sequence[int], draw: random.Random) -> list[str]:
    """Write a note for each topic, one of its words and a number; no note occurs twice."""
    words = [text.split() for text in TOPICS.values()]
    numbers = draw.sample(range(10_000), len(topics))
    return [
        f"{draw.choice(words[topic])} {number}"
        for topic, number in zip(topics, numbers, strict=True)
    ]


# Tables


def is_right(situation: Situation, exam: Exam) -> tuple[bool, bool]:
    """Return whether the verdict and the headline are right."""
    said = headline(exam)
    if situation == "learned":
        says_so = said.startswith("Improved") and "the form, not the answers" not in said
        return exam.verdict == "improved", says_so
    return exam.verdict == "no measurable difference", said.startswith("No better than guessing:")


def main() -> None:
    """Take the exams and print a line for each number of labels and situation."""
    parser = argparse.ArgumentParser(description="Exams of classifications.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--labels", type=int, nargs="*", default=N_LABELS)
    parser.add_argument("--rows", type=int, default=0, help="rows of the exam, or of a training")
    parser.add_argument("--train", action="store_true", help="train the built-in base")
    parser.add_argument("--max_steps", type=int, help="steps of a training")
    flags = parser.parse_args()
    take: Callable[[Situation, int, int, int], Exam] = (
        partial(train_and_examine, max_steps=flags.max_steps) if flags.train else simulate
    )
    n = flags.rows or (400 if flags.train else 60)
    print(f"{flags.seeds} seeds, {n} rows{' in all' if flags.train else ' in the exam'}")
    print(
        f"{'labels':>6} {'situation':<10}{'verdict right':>15}{'headline right':>16}"
        f"{'better by NLL':>15}{'base':>7}{'tuned':>7}{'commonest':>11}{'pieces':>8}"
    )
    for n_labels in flags.labels:
        for situation in SITUATIONS:
            exams = [take(situation, n_labels, n, seed) for seed in range(flags.seeds)]
            print(_line(n_labels, situation, exams), flush=True)


def _line(n_labels: int, situation: Situation, exams: Sequence[Exam]) -> str:
    right = [is_right(situation, exam) for exam in exams]
    labels = [exam.overall.labels for exam in exams if exam.overall.labels]
    if len(labels) < len(exams):
        raise SystemExit("An exam was not taken for a classification.")
    better = sum(exam.overall.nll_per_token.interval.high < 0 for exam in exams)

    def mean(values: Sequence[float]) -> float:
        return math.fsum(values) / len(values)

    return (
        f"{n_labels:6} {situation:<10}{sum(it[0] for it in right):>8} of {len(exams):<3}"
        f"{sum(it[1] for it in right):>9} of {len(exams):<3}{better:>8} of {len(exams):<3}"
        f"{mean([it.base.accuracy for it in labels]):>8.0%}"
        f"{mean([it.tuned.accuracy for it in labels]):>7.0%}"
        f"{mean([it.majority for it in labels]):>11.0%}"
        f"{mean([exam.overall.n_clusters for exam in exams]):>8.0f}"
    )


if __name__ == "__main__":
    main()
