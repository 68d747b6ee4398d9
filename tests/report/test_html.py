"""Specification of report.html."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning_exam.evaluation.exam import Exam, FoldFigures
from finetuning_exam.evaluation.results import ExamRow, Pair, Results
from finetuning_exam.evaluation.stats import Interval, PairedDifference
from finetuning_exam.model.generation.generate import Answer
from finetuning_exam.report.diff import compare_words
from finetuning_exam.report.headline import folds_words
from finetuning_exam.report.html import render_report
from finetuning_exam.report.page import N_CHARACTERS_SHOWN
from finetuning_exam.run_record import RunRecord
from finetuning_exam.settings import TrainSettings

Metrics = tuple[dict[str, float], ...]
MakeRow = Callable[..., ExamRow]
MakeResults = Callable[[int], Results]
VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = (
    "<script>alert(1)</script> </svg></dd></main> {{7*7}} {% raw %} \x1b[31mred\x1b[0m \x00 "
    "\u202eevil\u202c \ud800 \"'><img src=x onerror=alert(1)> " + "W" * 5000
)


class Outline(HTMLParser):
    """What a page is made of; unbalanced tags fail at once."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember a tag that will be closed."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember a tag that closes itself."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Tags close in the order in which they were opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Remember text outside the style sheet."""
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def names(self) -> list[str]:
        """Names of all tags."""
        return [tag for tag, _ in self.tags]

    def words(self) -> str:
        """All text, white space made even."""
        return " ".join(" ".join(self.text).split())


def test_page_is_self_contained(exam: Exam, run: RunRecord, metrics: Metrics) -> None:
    """No script, no resource, no link, no handler; the security policy comes before the style."""
    page = render_report(exam, run, metrics)
    outline = Outline(page)
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(outline.names())
    for _, attributes in outline.tags:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert all((attributes.get(name) or "#").startswith("#") for name in ("href", "xlink:href"))
    assert not re.search(r"@import|url\((?!#)", page)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_page_is_accessible(exam: Exam, run: RunRecord, metrics: Metrics) -> None:
    """Language, title, viewport, ordered headings, scoped headers, unique ids, named images."""
    outline = Outline(render_report(exam, run, metrics))
    assert ("html", {"lang": "en"}) in outline.tags
    assert outline.names().count("title") == 1
    assert any(a.get("name") == "viewport" for _, a in outline.tags)
    levels = [int(tag[1]) for tag in outline.names() if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(a.get("scope") in ("col", "row") for tag, a in outline.tags if tag == "th")
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert all(a.get("aria-label") for tag, a in outline.tags if tag == "svg")


def _luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_in_light_and_dark(exam: Exam, run: RunRecord) -> None:
    """Every text colour has at least 4.5 to 1 against every background it stands on (WCAG AA)."""
    style = render_report(exam, run, ()).partition("<style>")[2].partition("</style>")[0]
    schemes = [dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.split("@media", style)]
    schemes = [scheme for scheme in schemes if scheme]
    assert len(schemes) == 2
    for scheme in schemes:
        pairs = [
            (t, b) for t in ("ink", "quiet", "good", "bad", "unsure") for b in ("page", "panel")
        ]
        for text, background in [*pairs, ("ink", "mark")]:
            lighter, darker = sorted(
                (_luminance(scheme[text]), _luminance(scheme[background])), reverse=True
            )
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, background)


def test_hostile_text_is_shown_and_does_nothing(
    exam: Exam, run: RunRecord, metrics: Metrics, make_row: MakeRow, make_results: MakeResults
) -> None:
    """Nothing in data, answers, tags, paths or the command changes the page's structure."""
    row = make_row(0, -3.0, HOSTILE, HOSTILE)
    row = replace(row, base_answer=Answer(HOSTILE, True), tuned_answer=Answer(HOSTILE + "!", True))
    row = replace(row, example=replace(row.example, tag=HOSTILE, path=HOSTILE, input=HOSTILE))
    hostile = replace(exam, rows=(row, *exam.rows), by_tag=((HOSTILE, make_results(41)),))
    hostile_run = replace(
        run,
        command=HOSTILE,
        base=replace(run.base, name=HOSTILE),
        data=replace(run.data, paths=(HOSTILE,), exam_path=HOSTILE),
        settings=TrainSettings(output_dir=HOSTILE),
    )
    page = render_report(hostile, hostile_run, metrics)
    page.encode("utf-8")
    outline = Outline(page)
    assert not {"script", "img"} & set(outline.names())
    assert outline.names().count("svg") == 3
    assert "{{7*7}} {% raw %}" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "‹U+001B›[31mred" in page
    assert "‹U+202E›evil‹U+202C› ‹U+D800›" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)


def test_verdict_comes_first_with_difference_and_interval(exam: Exam, run: RunRecord) -> None:
    """The page starts with the verdict, then the difference, its interval, and what it means."""
    words = Outline(render_report(exam, run, ())).words()
    assert (
        "tuned on train.jsonl Improved Held-out answers became significantly more likely. "
        "-1.500 nats per token (95% interval: -1.750 to -1.250); negative is better "
        "On average, a token of the right answers to 40 held-out questions became 4.48 times as "
        "likely (perplexity 148.41 → 33.12)."
    ) in words


def test_learning_only_the_form_is_reported(form_only_exam: Exam, run: RunRecord) -> None:
    """If likelihood rose and multiple choice did not, the page says that the form was learned."""
    page = render_report(form_only_exam, run, ())
    assert "The form was learned rather than the answers: multiple choice 30.0% → 30.0%" in page
    assert '<section class="verdict unsure"' in page


def test_an_exam_on_training_rows_is_reported(unmeasured_exam: Exam, run: RunRecord) -> None:
    """The page says that nothing was held out, nothing answered, and there is no interval."""
    run = replace(run, data=replace(run.data, exam_is_training=True, exam_rows_also_taught=4))
    words = Outline(render_report(unmeasured_exam, run, ())).words()
    assert "also in the training file" not in words
    assert "The exam was taken on the training rows: these figures show what was memorized" in words
    assert "There are too few examples for a confidence interval." in words
    assert "-1.000 nats per token (no interval: too few examples); negative is better" in words
    assert "McNemar" not in words
    assert (
        "There was no multiple choice (it needs --answered_examples and two different answers"
        in words
    )
    assert "(scored only; no answer was generated)" in words
    assert "too few paragraphs of general text to tell." in words
    assert "interval of" not in words
    assert "nan" not in words.lower().split()


def test_shared_questions_and_forgetting_are_reported(exam: Exam, run: RunRecord) -> None:
    """Notes under the verdict name whatever makes the result look better than it is."""
    forgetting = PairedDifference(3.0, 3.2, Interval(0.1, 0.3))
    shared = replace(run, data=replace(run.data, exam_rows_also_taught=3))
    words = Outline(render_report(replace(exam, forgetting=forgetting), shared, ())).words()
    assert "3 questions of the exam file also in the training file: excluded" in words
    assert "Forgetting: general text became less likely (perplexity +22%)." in words


def test_ten_best_and_ten_worst_examples_are_listed(exam: Exam, run: RunRecord) -> None:
    """Each list has at most ten examples with the right sign, the largest change first."""
    page = render_report(exam, run, ())
    improved, harmed = page.split("<h2>Most improved</h2>")[1].split("<h2>Most harmed</h2>")
    assert re.findall(r"Question (\d+)\?", improved) == [str(n) for n in range(10)]
    assert re.findall(r"Question (\d+)\?", harmed) == [str(n) for n in range(39, 30, -1)]


def test_a_long_answer_is_cut_and_says_so(exam: Exam, run: RunRecord, make_row: MakeRow) -> None:
    """The page counts the characters it leaves out, and names exam.json."""
    row = replace(make_row(0, -3.0), tuned_answer=Answer("x" * (N_CHARACTERS_SHOWN + 5), True))
    assert "… (5 more characters: see exam.json)" in render_report(
        replace(exam, rows=(row,)), run, ()
    )


def test_words_that_the_reference_lacks_are_marked() -> None:
    """Texts are compared word by word; white space between equal words is not marked."""
    spans = compare_words("list all  files\nhere", "list the files")
    assert [(span.text, span.is_new) for span in spans] == [
        ("list ", False),
        ("all", True),
        ("  ", False),
        ("files\n", False),
        ("here", True),
    ]


def test_what_is_left_out_is_not_marked(exam: Exam, run: RunRecord, make_row: MakeRow) -> None:
    """The note on how much was left out is not marked as the model's text."""
    answer = Answer("ls " * N_CHARACTERS_SHOWN, True)
    row = replace(make_row(0, -3.0, answer="ls " * N_CHARACTERS_SHOWN), tuned_answer=answer)
    page = render_report(replace(exam, rows=(row,)), run, ())
    tuned = page.split("Tuned · ")[1].split("</dd>")[0]
    assert "4,000 more characters" in tuned
    assert "<mark>" not in tuned


def test_two_thousand_examples_with_long_answers_make_a_small_page(
    exam: Exam, run: RunRecord, metrics: Metrics, make_row: MakeRow
) -> None:
    """The page stays below 3 MB with any number of examples and long answers."""
    answer = Answer("word " * 2000, True)
    rows = tuple(
        replace(make_row(n, n / 1000 - 1, answer=answer.text), base_answer=answer)
        for n in range(2000)
    )
    assert len(render_report(replace(exam, rows=rows), run, metrics).encode()) <= 3_000_000


def test_a_very_long_name_keeps_its_beginning_and_its_end(exam: Exam, run: RunRecord) -> None:
    """A very long name is shortened in the title, and shown in full in the details."""
    path = "begin/" + "x" * 5000 + "/end.jsonl"
    page = render_report(exam, replace(run, data=replace(run.data, paths=(path,))), ())
    heading = page.split("<h1>")[1].split("</h1>")[0]
    assert len(heading) < 200
    assert "begin/x" in heading
    assert heading.endswith("/end.jsonl")
    assert page.count(path) == 1


@pytest.mark.parametrize(
    ("n_tags", "expected"),
    [
        (1, "The interval has a confidence of 95%."),
        (
            4,
            "Each interval has a confidence of 98.75%, so that all of them hold jointly in 95% of "
            "exams.",
        ),
    ],
)
def test_the_confidence_of_the_tags_intervals_is_shown(
    exam: Exam, run: RunRecord, make_results: MakeResults, n_tags: int, expected: str
) -> None:
    """With several tags the intervals are wider (Bonferroni), and the page gives their level."""
    by_tag = tuple((f"tag-{n}", make_results(10)) for n in range(n_tags))
    assert expected in Outline(render_report(replace(exam, by_tag=by_tag), run, ())).words()


@given(st.text(), st.text())
def test_marking_changes_no_text(text: str, reference: str) -> None:
    """The pieces put together are the answer."""
    assert "".join(span.text for span in compare_words(text, reference)) == text


def test_the_page_has_everything_needed_to_reproduce_the_run(exam: Exam, run: RunRecord) -> None:
    """The page has hashes, every setting, versions, times, speed and the command."""
    words = Outline(render_report(exam, run, ())).words()
    for expected in ("a1" * 32, "b2" * 32, "c3" * 32, "d4" * 32, "e5" * 32, run.command):
        assert expected in words
    for expected in ("lora_alpha 32", "seed 7", "Time: train 93.2 s", "Validation loss, best –"):
        assert expected in words
    assert "Speed (tokens per second) 3,754" in words
    assert re.search(r"torch \d+\.\d+", words)


@pytest.mark.parametrize("n_tags", [50, 51])
def test_many_tags_are_counted_when_not_shown(
    exam: Exam, run: RunRecord, n_tags: int, make_results: MakeResults
) -> None:
    """The fifty largest tags are shown, with the total number of tags."""
    by_tag = tuple((f"tag-{n}", make_results(n + 1)) for n in range(n_tags))
    words = Outline(render_report(replace(exam, by_tag=by_tag), run, ())).words()
    assert ("The 50 largest of 51 tags; exam.json has all of them." in words) == (n_tags > 50)
    assert ("tag-0 " in words) == (n_tags == 50)


def test_a_cross_validation_is_the_first_note(exam: Exam, run: RunRecord) -> None:
    """Whose figures they are comes before all other notes, with the difference of each fold."""
    folds = (FoldFigures(24, 6, Pair(5.0, 3.5)), FoldFigures(25, 5, Pair(4.0, 4.25)))
    crossed = replace(exam, folds=folds)
    page = render_report(crossed, run, ())
    first, second, third = re.findall("<li>(.*?)</li>", page, flags=re.DOTALL)[:3]
    assert first.startswith(folds_words(crossed))
    assert "The training curve is that of the saved adapter" in first
    assert "the verdict takes a side only at p ≤ 0.01" in second
    assert third.endswith("-1.500 (6 examples), +0.250 (5 examples).")
    assert "Cross-validation" not in render_report(exam, run, ())
