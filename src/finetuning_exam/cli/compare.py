"""`fte compare`: the answers of base and tuned model side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import (
    load_session_for_command,
    make_console,
    print_line,
    print_unused_keys,
)
from finetuning_exam.cli.interactive import ask_interactively
from finetuning_exam.data.reading.read import read_sound_records, refuse_errors
from finetuning_exam.data.records import Example
from finetuning_exam.durable import write_text
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.settings import CompareSettings

if TYPE_CHECKING:
    from finetuning_exam.model.generation.decoding import Decoding
    from finetuning_exam.model.tuned import Tuned
    from finetuning_exam.report.comparison import Comparison


def run(parsed: Parsed[CompareSettings]) -> int:
    """Run the command; returns its exit code.

    Raises:
        UserError: anything the user can hint.
    """
    settings = parsed.settings
    console = make_console()
    print_unused_keys(console, settings.config, parsed.unused_keys, "compare")
    if not settings.do_sample and (settings.temperature != 1.0 or settings.top_p != 1.0):
        print_line(console, "temperature and top_p have no effect without --do_sample.")
    examples = _asked(settings)
    if settings.html and not examples:
        raise UsageError("--html: needs questions.", "Give some, or --prompts FILE.")
    _check_page(settings.html)
    tuned = load_session_for_command(
        console, settings, settings.adapter_name_or_path, settings.model_name_or_path
    )
    if not examples:
        ask_interactively(
            console,
            tuned,
            _decoding(tuned, settings),
            lambda text, n: _prompts(
                console, tuned, [_typed(text, "question", n)], settings.max_new_tokens
            )[0],
        )
        return 0
    comparisons = _answer(console, tuned, examples, settings)
    _show(console, comparisons)
    if settings.html:
        _write_page(settings, tuned, comparisons, parsed.command_line)
        print_line(console, f"The comparison is in {settings.html}.")
    return 0


def _asked(settings: CompareSettings) -> tuple[Example, ...]:
    """Questions from the arguments, then those of the file."""
    typed = tuple(
        _typed(text, "argument", number) for number, text in enumerate(settings.prompt, 1)
    )
    if settings.prompts is None:
        return typed
    records = read_sound_records([settings.prompts], settings, answer_required=False)
    return typed + records.examples


def _typed(text: str, path: str, number: int) -> Example:
    """A question that was typed.

    Raises:
        DataError: it is empty or no Unicode text.
    """
    where = f"{path}:{number}"
    if not text.strip():
        raise DataError([f"{where}: the question is empty."])
    if not text.isprintable() and any("\ud800" <= char <= "\udfff" for char in text):
        raise DataError([f"{where}: the question is not UTF-8."])
    return Example(instruction=text, answer="", line=number, path=path)


def _answer(
    console: Console, tuned: Tuned, examples: Sequence[Example], settings: CompareSettings
) -> list[Comparison]:
    """Both models' answers to the same prompts with the same seed."""
    from finetuning_exam.model.generation.generate import answer_both
    from finetuning_exam.report.comparison import Answered, Comparison

    prompts = _prompts(console, tuned, examples, settings.max_new_tokens)
    before, after = answer_both(
        tuned.model,
        tuned.base.tokenizer,
        prompts,
        _decoding(tuned, settings),
        settings.eval_batch_size,
    )
    nlls = _score(tuned, examples, settings.eval_batch_size)
    return [
        Comparison(
            example.instruction,
            Answered(old.text, old.stopped, old_nll),
            Answered(new.text, new.stopped, new_nll),
            example.answer,
        )
        for example, old, new, (old_nll, new_nll) in zip(examples, before, after, nlls, strict=True)
    ]


def _decoding(tuned: Tuned, settings: CompareSettings) -> Decoding:
    from finetuning_exam.evaluation.exam import pad_token_id
    from finetuning_exam.model.generation.decoding import Decoding

    return Decoding(
        max_new_tokens=settings.max_new_tokens,
        context=tuned.base.context,
        stop_ids=tuned.encoder.stop_ids(),
        pad_id=pad_token_id(tuned.base.tokenizer, tuned.encoder),
        do_sample=settings.do_sample,
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=settings.seed,
    )


def _score(
    tuned: Tuned, examples: Sequence[Example], batch_size: int
) -> list[tuple[float | None, float | None]]:
    """NLL per token of each reference by base and by tuned; None where there is none, or where it
    does not fit beside its question.
    """
    from finetuning_exam.evaluation.exam import pad_token_id
    from finetuning_exam.model.adapter import base_and_tuned
    from finetuning_exam.model.likelihood import stock_nll
    from finetuning_exam.model.score import score_rows

    rows = {
        index: row
        for index, example in enumerate(examples)
        if example.answer and len((row := tuned.encoder.encode(example)).ids) <= tuned.base.context
    }
    row_nll = stock_nll(tuned.model, pad_token_id(tuned.base.tokenizer, tuned.encoder))
    base, after = base_and_tuned(
        tuned.model, lambda: score_rows(tuned.model, tuple(rows.values()), row_nll, batch_size)
    )
    found: dict[int, tuple[float, float]] = {
        index: (old.nll_per_token, new.nll_per_token)
        for index, old, new in zip(rows, base, after, strict=True)
    }
    return [found.get(index, (None, None)) for index in range(len(examples))]


def _prompts(
    console: Console, tuned: Tuned, examples: Sequence[Example], max_new_tokens: int
) -> list[tuple[int, ...]]:
    """Ids of what is asked; a prompt that leaves no room for an answer is cut, and that is said.

    However long answers may be, a prompt keeps half of the model's context.

    Raises:
        DataError: a record asks nothing, or holds a special token which a template would obey.
    """
    from finetuning_exam.data.encoding.encode import special_token_findings

    texts = [
        f"{it.where}: a plain text, which asks nothing." for it in examples if it.is_plain_text
    ]
    if texts:
        raise DataError(texts, "Give questions.")
    refuse_errors(special_token_findings(tuned.encoder, examples))
    context = tuned.base.context
    room = max(context - max_new_tokens, context // 2)
    prompts: list[tuple[int, ...]] = []
    for example in examples:
        ids, n_cut = tuned.encoder.fit_prompt(example, room)
        if n_cut:
            before = len(ids) + n_cut
            print_line(
                console,
                f"{example.where}: the prompt is cut from {before} to {len(ids)} tokens, "
                "so that the model has room for an answer.",
            )
        prompts.append(ids)
    return prompts


def _show(console: Console, comparisons: Sequence[Comparison]) -> None:
    from finetuning_exam.report.comparison import summary
    from finetuning_exam.report.terminal import comparisons_table

    console.print(comparisons_table(comparisons))
    figures = summary(comparisons)
    if figures:
        print_line(console, figures)


def _check_page(html: str | None) -> None:
    """Refuse, before the work, a page that could not be written.

    Raises:
        UsageError: its path is a folder, in none, or a file that is no page.
    """
    if html is None:
        return
    path = Path(html)
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--html {html}: is a folder or in none.", "Give a file's path.")
    if path.exists() and "<html" not in path.read_text(encoding="utf-8", errors="replace")[:200]:
        raise UsageError(
            f"--html {html}: is there and is no page.", "Give another path, or remove it."
        )


def _write_page(
    settings: CompareSettings, tuned: Tuned, comparisons: Sequence[Comparison], command: str
) -> None:
    from finetuning_exam.report.comparison import render_comparison

    assert settings.html is not None
    page = render_comparison(comparisons, settings.adapter_name_or_path, tuned.base.name, command)
    write_text(Path(settings.html), page)
