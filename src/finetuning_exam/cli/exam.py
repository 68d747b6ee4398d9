"""`fte exam`: the exam alone, for any base, adapter and held-out file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import load_with_words, make_console, say, say_unused
from finetuning_exam.data.records import Records, read_records
from finetuning_exam.errors import UsageError, WorseError
from finetuning_exam.settings import ExamCommandSettings
from finetuning_exam.training.run_folder import write_json

if TYPE_CHECKING:
    from finetuning_exam.evaluation.exam import Exam
    from finetuning_exam.model.tuned import Tuned


def run(parsed: Parsed[ExamCommandSettings]) -> int:
    """Run the command; returns its exit code.

    Raises:
        UserError: anything the user can mend.
    """
    settings = parsed.settings
    console = make_console()
    say_unused(console, settings.config, parsed.unused_keys, "exam")
    records = read_records(settings.data, settings.prompt_field, settings.answer_field)
    output = Path(settings.output_file) if settings.output_file else None
    if output and not output.parent.is_dir():
        raise UsageError(f"--output_file {output}: no such folder.", "Make it first.")
    say(console, f"{records.path}: {len(records.examples)} records")
    tuned = load_with_words(
        console, settings, settings.adapter_name_or_path, settings.model_name_or_path
    )
    with console.status("exam"):
        exam = _take(settings, records, tuned)
    if output:
        from finetuning_exam.report.exam_json import exam_to_json

        write_json(output, exam_to_json(exam))
    from finetuning_exam.report.terminal import exam_summary

    console.print(exam_summary(exam))
    if settings.fail_if_worse and exam.verdict == "worse":
        raise WorseError("The exam found the tuned model worse than its base.")
    return 0


def _take(settings: ExamCommandSettings, records: Records, tuned: Tuned) -> Exam:
    from finetuning_exam.data.encode import encode_all
    from finetuning_exam.evaluation.exam import ExamPlan, take_exam

    encode_all(tuned.encoder, records.examples, tuned.base.context)
    plan = ExamPlan(
        seed=settings.seed,
        batch_size=settings.eval_batch_size,
        answered_examples=settings.answered_examples,
        max_new_tokens=settings.max_new_tokens,
        context=tuned.base.context,
    )
    return take_exam(tuned.model, tuned.base.tokenizer, tuned.encoder, records.examples, plan)
