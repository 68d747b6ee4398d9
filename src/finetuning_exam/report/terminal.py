"""The exam and side-by-side answers in the terminal, as rich renderables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from finetuning_exam.data.encoding.chat import question
from finetuning_exam.evaluation.calls import CallAccuracy
from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.evaluation.labels import LabelAccuracy
from finetuning_exam.evaluation.results import ExamRow, Pair, Results
from finetuning_exam.evaluation.skills import SkillReport
from finetuning_exam.report.calls import call_lines, calls_words
from finetuning_exam.report.comparison import Answered, Comparison, marked, score_note
from finetuning_exam.report.headline import (
    answered_words,
    difference_words,
    folds_words,
    forgetting_words,
    headline,
)
from finetuning_exam.report.labels import (
    accuracy_words,
    confusion,
    confusions_words,
    tests_words,
)
from finetuning_exam.report.skills import divergence_words, skill_table
from finetuning_exam.report.text import (
    BALANCED_ACCURACY,
    BITS_PER_BYTE,
    CHRF,
    EXACT_MATCH,
    NLL_PER_TOKEN,
    REPEATED,
    STOPPED,
    choice_name,
    has_loops,
    pieces_words,
    visible,
)

_COLOURS = {"improved": "green", "worse": "red"}
MAX_TAGS = 5
"""Tags with a column in the table of figures."""
N_SHOWN = 3
MOST_LABELS_SHOWN = 6
"""With more labels, the most frequent confusions are listed instead of a confusion table."""
N_CHARACTERS = 240
_NOTHING = "(empty)"


def exam_summary(exam: Exam) -> RenderableType:
    """Show the verdict, the figures overall and by tag, and a few examples."""
    overall = exam.overall
    colour = _COLOURS.get(exam.verdict, "yellow")
    saved = " (saved adapter)" if exam.folds else ""
    parts: list[RenderableType] = [
        Text(f"Verdict: {exam.verdict}", style=f"bold {colour}"),
        Text(headline(exam)),
        *([Text(folds_words(exam))] if exam.folds else []),
        Text(f"Exam: {pieces_words(overall.n_examples, overall.n_clusters)}"),
        *([Text(answered)] if (answered := answered_words(exam)) else []),
        Text(f"Difference: {difference_words(overall.nll_per_token)}"),
        Text(f"Forgetting{saved}: {forgetting_words(exam)}"),
        *([Text(f"Divergence: {divergence_words(exam.divergence)}")] if exam.divergence else []),
        _Figures(exam),
    ]
    if overall.labels:
        parts += _labels(overall.labels)
    if overall.calls:
        parts += _calls(overall.calls)
    if exam.skills:
        parts += _skills(exam.skills)
    shown = spread(exam.rows)
    if shown:
        parts.append(Text("Examples", style="bold"))
        parts.append(comparisons_table([_comparison(row) for row in shown], with_scores=False))
    return Group(*parts)


def _labels(found: LabelAccuracy) -> list[RenderableType]:
    """The accuracy in words, and the tuned model's confusions: a table if it is small."""
    parts: list[RenderableType] = [Text(f"Labels: {accuracy_words(found)} ({tests_words(found)})")]
    if len(found.labels) > MOST_LABELS_SHOWN:
        parts.append(Text(f"Most frequent confusions: {confusions_words(found, found.tuned)}"))
        return parts
    shown = confusion(found, found.tuned)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("right label / tuned picks", overflow="fold")
    for name in shown.labels:
        table.add_column(Text(name), justify="right", overflow="fold")
    for name, counts in shown.rows:
        table.add_row(Text(name), *(f"{count:,}" for count in counts))
    return [*parts, table]


def _calls(found: CallAccuracy) -> list[RenderableType]:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("calls of tools", overflow="fold")
    table.add_column("base → tuned", justify="right")
    table.add_column("change in points", justify="right")
    for line in call_lines(found):
        table.add_row(*line)
    return [Text(f"Tools: {calls_words(found)}"), table]


def _skills(report: SkillReport) -> list[RenderableType]:
    """The skills as base → tuned, with the change in percentage points; where none is measurable,
    only that.
    """
    found = skill_table(report)
    if all(line.status == "not measurable" for line in found.lines):
        return [Text(f"Skills: {found.summary}"), Text()]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("skill", overflow="fold")
    table.add_column("base → tuned", justify="right")
    table.add_column("change in points", justify="right")
    table.add_column("result")
    for line in found.lines:
        table.add_row(Text(line.name), line.shares, line.change, line.status)
    notes = [Text(note, style="dim") for note in found.notes]
    return [Text(f"Skills: {found.summary}"), table, *notes, Text()]


def comparisons_table(
    comparisons: Sequence[Comparison], *, with_scores: bool = True
) -> RenderableType:
    """Show questions with the answers of base and tuned model side by side."""
    table = Table(box=box.SIMPLE_HEAD, expand=False, pad_edge=False, show_lines=True)
    table.add_column("Question", ratio=3, overflow="fold")
    table.add_column("Base", ratio=4, style="dim", overflow="fold")
    table.add_column("Tuned", ratio=4, style="bold", overflow="fold")
    has_reference = any(comparison.reference for comparison in comparisons)
    if has_reference:
        table.add_column("Reference", ratio=4, overflow="fold")
    for it in comparisons:
        cells = [Text(visible(it.prompt))]
        cells += [_answer_cell(it, answered, with_scores) for answered in (it.base, it.tuned)]
        cells += [Text(visible(it.reference) or _NOTHING)] if has_reference else []
        table.add_row(*cells)
    return table


def _answer_cell(comparison: Comparison, answered: Answered, with_scores: bool) -> Text:
    """An answer with its new words underlined, and its scores on a separate line."""
    cell = Text()
    for span in marked(comparison, answered):
        cell.append(visible(span.text), style="underline" if span.is_new else "")
    if not answered.text:
        cell.append(_NOTHING)
    note = score_note(answered, comparison.reference)
    if with_scores and note:
        cell.append(f"\n{note}", style="not bold dim italic")
    return cell


def spread(rows: Sequence[ExamRow]) -> list[ExamRow]:
    """Pick up to `N_SHOWN` answered rows, evenly spaced, regardless of their results."""
    answered = [row for row in rows if row.tuned_answer is not None]
    n_shown = min(N_SHOWN, len(answered))
    return [answered[index * len(answered) // n_shown] for index in range(n_shown)]


def _comparison(row: ExamRow) -> Comparison:
    base, tuned = (
        Answered(_beginning(answer.text) if answer else "")
        for answer in (row.base_answer, row.tuned_answer)
    )
    example = row.example
    return Comparison(_beginning(question(example)), base, tuned, _beginning(example.answer))


def _beginning(text: str) -> str:
    """Cut a text to `N_CHARACTERS`."""
    return text if len(text) <= N_CHARACTERS else f"{text[:N_CHARACTERS].rstrip()} …"


@dataclass(frozen=True, slots=True)
class _Figures:
    """The figures as base → tuned: one column for all examples, and one for each of five tags.

    A terminal that is too narrow shows fewer tags; those that are left out are named.
    """

    exam: Exam

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        by_tag = self.exam.by_tag if len(self.exam.by_tag) > 1 else ()
        columns = [("all", self.exam.overall), *by_tag]
        n_shown = min(len(columns), 1 + MAX_TAGS)
        while n_shown > 1 and not _fits(_figures_table(columns[:n_shown]), console, options):
            n_shown -= 1
        yield _figures_table(columns[:n_shown])
        if left_out := columns[n_shown:]:
            names = ", ".join(visible(name) for name, _ in left_out)
            yield Text(
                f"Tags left out for lack of space: {names}. A wider terminal shows up to "
                f"{MAX_TAGS}, exam.json all of them.",
                style="dim",
            )


def _figures_table(columns: Sequence[tuple[str, Results]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("base → tuned")
    for name, results in columns:
        table.add_column(f"{visible(name)} ({results.n_examples})", justify="right")
    for label, cells in _figure_rows([results for _, results in columns]):
        table.add_row(label, *cells)
    return table


def _fits(table: Table, console: Console, options: ConsoleOptions) -> bool:
    """Return whether a table is as narrow as the terminal without wrapping its cells."""
    unlimited = options.update(max_width=10_000)
    return Measurement.get(console, unlimited, table).maximum <= options.max_width


def _figure_rows(columns: Sequence[Results]) -> list[tuple[str, list[str]]]:
    """The name of each figure and its text in each column."""
    overall = columns[0]
    choice = f"{choice_name(overall)} (chance {overall.choice_accuracy.chance:.0%})"
    rows = [
        (
            NLL_PER_TOKEN,
            [
                _base_to_tuned(Pair(r.nll_per_token.base, r.nll_per_token.tuned), ".3f")
                for r in columns
            ],
        ),
        (BITS_PER_BYTE, [_base_to_tuned(r.bits_per_byte, ".3f") for r in columns]),
        (
            choice,
            [
                _base_to_tuned(Pair(r.choice_accuracy.base, r.choice_accuracy.tuned), ".0%")
                for r in columns
            ],
        ),
        (EXACT_MATCH, [_base_to_tuned(r.exact_match, ".0%") for r in columns]),
        (CHRF, [_base_to_tuned(Pair(r.chrf.base, r.chrf.tuned), ".1f") for r in columns]),
        (STOPPED, [_base_to_tuned(r.stopped, ".0%") for r in columns]),
    ]
    if has_loops(overall):
        rows.append((REPEATED, [_base_to_tuned(r.repeated, ".0%") for r in columns]))
    if overall.labels:
        rows.insert(3, (BALANCED_ACCURACY, [_base_to_tuned(_balanced(r), ".0%") for r in columns]))
    return rows


def _balanced(results: Results) -> Pair:
    labels = results.labels
    if labels is None:
        return Pair(math.nan, math.nan)
    return Pair(labels.base.balanced_accuracy, labels.tuned.balanced_accuracy)


def _base_to_tuned(pair: Pair, form: str) -> str:
    return " → ".join(
        "–" if math.isnan(value) else format(value, form) for value in (pair.base, pair.tuned)
    )
