"""`fte compare`: the answers of base and tuned model side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import make_console, print_line, print_unused_keys
from finetuning_exam.cli.interactive import ask_interactively
from finetuning_exam.cli.load_adapter import load_session
from finetuning_exam.cli.output_file import check_can_write, check_overwrites
from finetuning_exam.data.question import make_question
from finetuning_exam.data.reading.read import read_sound_records
from finetuning_exam.data.records import Example
from finetuning_exam.durable import write_text
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import CompareSettings

if TYPE_CHECKING:
    from finetuning_exam.model.generation.decoding import Decoding
    from finetuning_exam.model.session import Prompt, Session
    from finetuning_exam.report.comparison import Comparison


def run(parsed: Parsed[CompareSettings]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: a mistake that the user can fix.
    """
    settings = parsed.settings
    console = make_console()
    print_unused_keys(console, settings.config, parsed.unused_keys, "compare")
    if not settings.do_sample and (settings.temperature != 1.0 or settings.top_p != 1.0):
        print_line(console, "temperature and top_p have no effect without --do_sample.")
    examples = _asked(settings)
    if settings.html and not examples:
        raise UsageError("--html: there are no questions.", "Give some, or --prompts FILE.")
    if settings.html is not None:
        check_can_write("--html", Path(settings.html))
        check_overwrites("--html", Path(settings.html), "<html", "a page")
    session = load_session(console, settings)
    if not examples:

        def to_prompt(text: str, number: int) -> Prompt:
            question = make_question(text, "question", number)
            return _prompts(console, session, [question], settings.max_new_tokens)[0]

        ask_interactively(console, session, _decoding(session, settings), to_prompt)
        return 0
    comparisons = _compare(console, session, examples, settings)
    _show(console, comparisons)
    if settings.html:
        _write_page(settings, session, comparisons, parsed.command_line)
        print_line(console, f"The comparison is in {settings.html}.")
    return 0


def _asked(settings: CompareSettings) -> tuple[Example, ...]:
    """Return the questions of the arguments, then those of the file."""
    typed = tuple(
        make_question(text, "argument", number) for number, text in enumerate(settings.prompt, 1)
    )
    if settings.prompts is None:
        return typed
    records = read_sound_records([settings.prompts], settings, answer_required=False)
    return typed + records.examples


def _compare(
    console: Console, session: Session, examples: Sequence[Example], settings: CompareSettings
) -> list[Comparison]:
    """Return both models' answers to the same prompts with the same seed."""
    from finetuning_exam.report.comparison import Answered, Comparison

    prompts = _prompts(console, session, examples, settings.max_new_tokens)
    decoding, batch_size = _decoding(session, settings), settings.eval_batch_size
    base, tuned = session.answer_both(prompts, decoding, batch_size)
    nlls = _score_references(session, examples, batch_size)
    return [
        Comparison(
            example.instruction,
            Answered(old.text, old.stopped, old_nll),
            Answered(new.text, new.stopped, new_nll),
            example.answer,
        )
        for example, old, new, (old_nll, new_nll) in zip(examples, base, tuned, nlls, strict=True)
    ]


def _decoding(session: Session, settings: CompareSettings) -> Decoding:
    return session.decoding(
        settings.max_new_tokens,
        do_sample=settings.do_sample,
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=settings.seed,
    )


def _score_references(
    session: Session, examples: Sequence[Example], batch_size: int
) -> list[tuple[float | None, float | None]]:
    """Return the NLL per token of each reference by base and by tuned; None where there is no
    reference, or where it does not fit beside its question.
    """
    rows = {
        index: row
        for index, example in enumerate(examples)
        if example.answer and len((row := session.encode(example)).ids) <= session.base.context
    }
    base, tuned = session.score(tuple(rows.values()), batch_size)
    found: dict[int, tuple[float, float]] = {
        index: (old.nll_per_token, new.nll_per_token)
        for index, old, new in zip(rows, base, tuned, strict=True)
    }
    return [found.get(index, (None, None)) for index in range(len(examples))]


def _prompts(
    console: Console, session: Session, examples: Sequence[Example], max_new_tokens: int
) -> list[Prompt]:
    """Return the prompts of what is asked, and print which are cut to leave room for an answer.

    Raises:
        DataError: a record asks nothing, or holds a special token that the template would obey.
    """
    prompts = session.prompts(examples, max_new_tokens)
    for example, prompt in zip(examples, prompts, strict=True):
        if prompt.n_cut:
            n_kept = len(prompt.ids)
            print_line(
                console,
                f"{example.where}: the prompt is cut from {n_kept + prompt.n_cut} to {n_kept} "
                "tokens, so that the model has room for an answer.",
            )
    return prompts


def _show(console: Console, comparisons: Sequence[Comparison]) -> None:
    from finetuning_exam.report.comparison import summary
    from finetuning_exam.report.terminal import comparisons_table

    console.print(comparisons_table(comparisons))
    figures = summary(comparisons)
    if figures:
        print_line(console, figures)


def _write_page(
    settings: CompareSettings, session: Session, comparisons: Sequence[Comparison], command: str
) -> None:
    from finetuning_exam.report.comparison import render_comparison

    assert settings.html is not None
    page = render_comparison(comparisons, settings.adapter_name_or_path, session.base.name, command)
    write_text(Path(settings.html), page)
