# ruff: noqa: T201 - an experiment that loads a model and prints lines
"""Count the tokens, and time, of multiple choice: prompts shared, against each option alone.

uv run python bench/exam_choices.py --model builtin --data exam.jsonl --questions 40
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from finetuning_exam.data.reading.read import read_records
from finetuning_exam.data.split import Split
from finetuning_exam.evaluation.ask_skills import skill_choices
from finetuning_exam.evaluation.choices import Ballot, make_choices
from finetuning_exam.evaluation.skills import read_skills
from finetuning_exam.model.adapter import base_and_tuned
from finetuning_exam.model.score import Score, option_tokens, score_options_of_both, score_rows
from finetuning_exam.settings import TrainSettings
from finetuning_exam.training.prepare import Prepared, prepare

Both = tuple[tuple[Score, ...], tuple[Score, ...]]


def main() -> None:
    """Print a line for the questions of a file, and one for those of skills."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--data", default="exam.jsonl")
    parser.add_argument("--questions", type=int, default=40)
    arguments = parser.parse_args()
    settings = TrainSettings(
        model_name_or_path=arguments.model, device="cpu", dtype="float32", replay=("none",)
    )
    examples = read_records([arguments.data], settings).examples[: arguments.questions]
    prepared = prepare(settings, Split(examples[:8], (), examples))
    encoder = prepared.rows.encoder
    skills = skill_choices(encoder, read_skills(None)[:: -(-200 // arguments.questions)])
    for name, choices in (("file", make_choices(examples, 0)), ("skills", skills)):
        _show(name, prepared, Ballot.of(encoder, choices, prepared.base.context))


def _show(name: str, prepared: Prepared, ballot: Ballot) -> None:
    fast, rows, size = prepared.fast, ballot.rows, prepared.settings.eval_batch_size
    shared, shared_s = _timed(lambda: score_options_of_both(fast, rows, size))
    alone, alone_s = _timed(
        lambda: base_and_tuned(fast.model, lambda: score_rows(fast.model, rows, fast.row_nll, size))
    )
    difference = max(
        abs(new.nll - old.nll) / old.nll
        for side in (0, 1)
        for new, old in zip(shared[side], alone[side], strict=True)
    )
    same = [ballot.preferred(shared[it]) == ballot.preferred(alone[it]) for it in (0, 1)]
    once = sum(len(row.ids) for row in rows)
    print(
        f"{name}: {len(ballot.choices)} questions, {len(rows)} rows; tokens per model "
        f"{once:,} alone, {option_tokens(fast, rows, size):,} shared; "
        f"{alone_s:.2f} s alone, {shared_s:.2f} s shared (both models); "
        f"largest relative difference {difference:.1e}; same choices: {all(same)}"
    )


def _timed(score: Callable[[], Both]) -> tuple[Both, float]:
    score()
    started = time.perf_counter()
    found = score()
    return found, time.perf_counter() - started


if __name__ == "__main__":
    main()
