"""The plan of an exam: its settings and texts, and the choice of the examples that are asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from finetuning_exam.answer_limit import MOST, WITHOUT_LIMIT, AnswerLimit, AnswerReason
from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.evidence import label_sets
from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.general import read_general_text
from finetuning_exam.evaluation.results import N_OPTIONS
from finetuning_exam.evaluation.skills import SkillItem, chosen_skills
from finetuning_exam.settings import ExamSettings, TrainSettings


@dataclass(frozen=True, slots=True)
class ExamPlan:
    """Settings and texts of an exam, which do not depend on its questions."""

    seed: int
    batch_size: int
    answered_examples: int
    """Most examples that are answered."""
    max_new_tokens: int | None
    context: int
    """Positions of the model, which no row exceeds."""
    is_held_out: bool = True
    general: tuple[str, ...] = field(default_factory=lambda: read_general_text(None), repr=False)
    """Paragraphs by which forgetting is measured; by default the package's sample."""
    skills: tuple[SkillItem, ...] = field(default=(), repr=False)
    """Questions that show what else the tuned model can still do."""
    known: tuple[Example, ...] = field(default=(), repr=False)
    """Examples that were trained on, which show with the exam's own what its labels are."""
    posed_examples: int | None = None
    """Most examples that are posed as multiple choice; None: those that are answered.

    In a classification the verdict depends on them, so they do not depend on a machine's speed.
    """
    answer_reason: AnswerReason = "requested"
    """Why no more examples are answered."""

    @classmethod
    def from_settings(
        cls,
        settings: TrainSettings | ExamSettings,
        context: int,
        *,
        is_held_out: bool,
        known: tuple[Example, ...] = (),
        answers: AnswerLimit = WITHOUT_LIMIT,
    ) -> ExamPlan:
        """Return the plan that a command's settings ask for, with general text and skills read.

        `answers` is the limit where `answered_examples` is auto.

        Raises:
            UsageError, DataError: `--general_file` or `--skills` cannot be used.
        """
        is_auto = settings.answered_examples == "auto"
        if settings.answered_examples != "auto":
            answers = AnswerLimit(settings.answered_examples, "requested")
        return cls(
            seed=settings.seed,
            batch_size=settings.eval_batch_size,
            answered_examples=answers.n,
            max_new_tokens=settings.max_new_tokens,
            context=context,
            is_held_out=is_held_out,
            general=read_general_text(settings.general_file),
            skills=chosen_skills(settings.skills),
            known=known if is_held_out else (),
            posed_examples=MOST if is_auto else None,
            answer_reason=answers.reason,
        )

    @property
    def answers(self) -> AnswerLimit:
        """The most examples that are answered, and why."""
        return AnswerLimit(self.answered_examples, self.answer_reason)

    def with_answers(self, limit: AnswerLimit) -> ExamPlan:
        """Return the plan with another limit of answers."""
        return replace(self, answered_examples=limit.n, answer_reason=limit.reason)

    def for_fold(self, number: int, n_folds: int) -> ExamPlan:
        """Return the plan of a fold, which poses its share of the examples.

        With the same seed, every fold would ask the rows at the same places.
        """
        posed = self.posed_examples
        return replace(
            self,
            seed=self.seed + number,
            posed_examples=None if posed is None else -(-posed // n_folds),
        )

    def draw(self, examples: Sequence[Example]) -> tuple[list[int], list[int]]:
        """Return the indices of the examples that are posed as multiple choice, and of those that
        are answered: a sample of them, drawn from the seed.
        """
        asking = [index for index, example in enumerate(examples) if not example.is_plain_text]
        posed = self.answered_examples if self.posed_examples is None else self.posed_examples
        n_asked = min(len(asking), max(posed, self.answered_examples))
        asked = random.Random(self.seed).sample(asking, n_asked)
        answered = asked[: self.answered_examples]
        return sorted(asked), sorted(answered)

    @property
    def most_options(self) -> int:
        """Most options of a question, as far as the examples that were trained on show it."""
        return max([N_OPTIONS, *map(len, label_sets(self.known).values())])

    def longest_answer(self, rows: Sequence[Encoded]) -> int:
        """Return how many tokens an answer to these rows may have: `max_new_tokens`, or without
        it the longest reference and a quarter more.
        """
        longest = max(len(row.ids) - row.prompt_length for row in rows)
        return self.max_new_tokens or longest + longest // 4 + 1
