# ruff: noqa: T201, TID251 - an experiment that loads models and prints a table
"""Measure how often real exams take a side between two models when neither is better.

    uv run python bench/exam_null.py
    uv run python bench/exam_null.py --data more.jsonl --exams 100

The built-in base is examined with untrained adapters. Each exam has a different seed, adapter and
sample of facts, drawn from a pool of rows (exam.jsonl, train.jsonl and --data); all wordings of a
fact stay together. There are three kinds of adapter:

- zero: a fresh adapter, which changes nothing. Every difference has to be exactly zero.
- random: B is drawn at random. This makes the pool's answers slightly more or less likely overall,
  so a verdict is wrong if it takes the opposite side.
- balanced: a mixture of two random updates that changes single rows but leaves the likelihood of
  the whole pool unchanged. Every verdict that takes a side is wrong.

"covered" is how often the 95% interval contains the difference of the whole pool.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from peft import PeftModel

from finetuning_exam.data.encoding.encoder import Encoded, make_encoder
from finetuning_exam.data.encoding.rows import EncodedRows, encode_all
from finetuning_exam.data.encoding.template import choose_template
from finetuning_exam.data.evidence import pieces_of_evidence
from finetuning_exam.data.reading.read import read_sound_records
from finetuning_exam.evaluation.exam import Exam, take_exam
from finetuning_exam.evaluation.exam_plan import ExamPlan
from finetuning_exam.model.adapter import add_adapter, lora_config
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.fast.path import FastPath, choose_fast_path, wanted_pieces
from finetuning_exam.model.load import Base, load_base
from finetuning_exam.model.score import score_rows
from finetuning_exam.model.session import Session
from finetuning_exam.model.tokenizer import pad_token_id
from finetuning_exam.settings import BUILTIN_MODEL, FieldSettings

ROWS = ("exam.jsonl", "train.jsonl")
BATCH = 64
SIDES = ("improved", "worse")
Arm = Literal["zero", "random", "balanced"]
ARMS: tuple[Arm, ...] = ("zero", "random", "balanced")
Update = dict[str, torch.Tensor]
"""The B matrix of every adapted module, by the parameter's name."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The base with an adapter that can be replaced, and the pool of rows to examine it on.

    `facts` are the indices of the rows of each piece of evidence.
    """

    base: Base
    fast: FastPath
    session: Session
    pool: EncodedRows[Encoded]
    facts: tuple[tuple[int, ...], ...]

    @property
    def model(self) -> PeftModel:
        """The base with its adapter."""
        return self.fast.model

    def pool_nll(self) -> float:
        """Compute the NLL per token of the whole pool, in nats."""
        scores = score_rows(self.model, self.pool.rows, self.fast.row_nll, BATCH)
        return math.fsum(it.nll for it in scores) / sum(it.n_tokens for it in scores)


@dataclass(frozen=True, slots=True)
class Taken:
    """One exam and the difference of the whole pool, in nats per token."""

    arm: Arm
    exam: Exam
    of_pool: float

    @property
    def is_wrong(self) -> bool:
        """True if the verdict takes a side that the whole pool does not support."""
        side = "improved" if self.of_pool < 0 else "worse"
        has_side = self.arm == "random"
        return self.exam.verdict in SIDES and not (has_side and self.exam.verdict == side)

    @property
    def is_covered(self) -> bool:
        """True if the interval contains the difference of the whole pool."""
        interval = self.exam.overall.nll_per_token.interval
        return interval.low <= self.of_pool <= interval.high


def make_subject(paths: Sequence[str]) -> Subject:
    """Load the built-in base with a fresh adapter, and the rows of the pool."""
    compute = choose_compute("cpu", "float32")
    base = load_base(BUILTIN_MODEL, compute)
    template = choose_template("auto", base.tokenizer)
    encoder = make_encoder(base.tokenizer, template, base_stop_ids=base.stop_ids)
    model = add_adapter(base, lora_config(16, 32, 0.0, ("all-linear",)), seed=0)
    fast = choose_fast_path(model, pad_token_id(base.tokenizer), wanted_pieces(("all",)))
    pool = encode_all(encoder, read_sound_records(paths, FieldSettings()).examples, base.context)
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(pieces_of_evidence(pool.examples)):
        places[name].append(place)
    session = Session(base, model, encoder, compute, fast)
    return Subject(base, fast, session, pool, tuple(tuple(it) for it in places.values()))


def draw_update(model: PeftModel, seed: int, scale: float) -> Update:
    """Draw B matrices from a normal distribution with standard deviation `scale`."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: scale * torch.randn(it.shape, generator=draw)
        for name, it in model.named_parameters()
        if ".lora_B." in name
    }


def mixed(one: Update, other: Update, angle: float) -> Update:
    """Mix two updates with weights cos and sin, which preserves their scale."""
    return {name: math.cos(angle) * it + math.sin(angle) * other[name] for name, it in one.items()}


def put(model: PeftModel, update: Update) -> None:
    """Set the adapter's B matrices."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, it in update.items():
            parameters[name].copy_(it)


def balanced(
    subject: Subject, one: Update, other: Update, base_nll: float, of_one: float
) -> Update:
    """Find the mixture of two updates that leaves the NLL of the whole pool unchanged.

    The first update alone changes it by `of_one`. The search assumes changes proportional to the
    updates, and corrects the result with one Newton step.
    """

    def of_pool(angle: float) -> float:
        put(subject.model, mixed(one, other, angle))
        return subject.pool_nll() - base_nll

    of_other = of_pool(math.pi / 2)
    angle = math.atan2(-of_one, of_other)
    slope = of_other * math.cos(angle) - of_one * math.sin(angle)
    return mixed(one, other, angle - of_pool(angle) / slope)


def take(subject: Subject, seed: int, n_facts: int, answered: int) -> Exam:
    """Examine the current adapter on a sample of facts drawn from the seed."""
    facts = random.Random(seed).sample(subject.facts, n_facts)
    places = sorted(place for fact in facts for place in fact)
    questions = EncodedRows(
        tuple(subject.pool.rows[it] for it in places),
        tuple(subject.pool.examples[it] for it in places),
        (),
    )
    plan = ExamPlan(seed, BATCH, answered, max_new_tokens=8, context=subject.base.context)
    return take_exam(subject.session, questions, plan)


def take_all(subject: Subject, flags: argparse.Namespace) -> dict[Arm, list[Taken]]:
    """Take every exam of every arm."""
    taken: dict[Arm, list[Taken]] = {arm: [] for arm in ARMS}
    base_nll = subject.pool_nll()  # the adapter is fresh

    def examine(arm: Arm, seed: int, update: Update) -> Taken:
        put(subject.model, update)
        of_pool = subject.pool_nll() - base_nll
        exam = take(subject, seed, flags.facts, flags.answered_examples)
        taken[arm].append(Taken(arm, exam, of_pool))
        return taken[arm][-1]

    for seed in range(flags.exams):
        one, other = (draw_update(subject.model, 2 * seed + it, flags.scale) for it in (0, 1))
        examine("zero", seed, {name: torch.zeros_like(it) for name, it in one.items()})
        of_one = examine("random", seed, one).of_pool
        examine("balanced", seed, balanced(subject, one, other, base_nll, of_one))
    return taken


def line(arm: Arm, taken: Sequence[Taken]) -> str:
    """Format a table line: verdicts, wrong verdicts, coverage, and the spread of the rows."""
    verdicts = Counter(it.exam.verdict for it in taken)
    spreads = [
        statistics.pstdev(
            row.tuned_score.nll_per_token - row.base_score.nll_per_token for row in it.exam.rows
        )
        for it in taken
    ]
    pools = [abs(it.of_pool) for it in taken]
    return (
        f"{arm:>10}{verdicts['improved']:>10}{verdicts['worse']:>8}"
        f"{verdicts['no measurable difference']:>15}{sum(it.is_wrong for it in taken):>8}"
        f"{sum(it.is_covered for it in taken):>8}{statistics.median(spreads):>12.4f}"
        f"{statistics.median(pools):>12.4f}"
    )


def main() -> None:
    """Take the exams and print the table."""
    parser = argparse.ArgumentParser(description="Take real exams of equal models.")
    parser.add_argument("--data", nargs="*", default=[], help="more rows for the pool")
    parser.add_argument("--exams", type=int, default=20, help="exams per kind of adapter")
    parser.add_argument("--facts", type=int, default=40, help="pieces of evidence per exam")
    parser.add_argument("--scale", type=float, default=1e-3, help="standard deviation of B")
    parser.add_argument("--answered_examples", type=int, default=0)
    flags = parser.parse_args()
    subject = make_subject([*ROWS, *flags.data])
    print(
        f"{len(subject.pool.rows)} rows, {len(subject.facts)} facts; exams of {flags.facts} facts"
    )
    taken = take_all(subject, flags)
    print(
        f"{'update':>10}{'improved':>10}{'worse':>8}{'no difference':>15}{'wrong':>8}{'covered':>8}"
        f"{'spread':>12}{'of pool':>12}"
    )
    for arm in ARMS:
        print(line(arm, taken[arm]))
    changed = sum(row.tuned_score != row.base_score for it in taken["zero"] for row in it.exam.rows)
    print(f"scores changed by the zero update: {changed}")


if __name__ == "__main__":
    main()
