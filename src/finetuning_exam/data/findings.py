"""What can be found in data: each kind once, with its severity, plain name and hint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, get_args

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""The most serious first: an error keeps a record from being used, a warning is worth a look, a
note is only said.
"""


class Kind(Enum):
    """A kind of finding. Its name in lower case is its name in JSON."""

    def __init__(self, severity: Severity, title: str, hint: str) -> None:
        self.severity: Severity = severity
        self.title = title
        self.hint = hint

    NOT_UTF8 = (
        "error",
        "not UTF-8",
        "Save the file as UTF-8 (from Windows: iconv -f CP1252 -t UTF-8 FILE > NEW).",
    )
    NOT_JSON = ("error", "not valid JSON", "Mend the line.")
    SEVERAL_OBJECTS = ("error", "several objects on one line", "Write one object a line.")
    NOT_FINITE = ("error", "NaN or Infinity", "JSON has neither; use a number, text or null.")
    TOO_DEEP = ("error", "nested too deeply", "Write a flat object.")
    TOO_LONG_LINE = ("error", "line too long to be read", "Break the record up.")
    NOT_AN_OBJECT = ("error", "not an object", 'Write {"instruction": "…", "output": "…"}.')
    DUPLICATE_KEY = ("error", "field given twice", "Keep one of the two.")
    MISSING_FIELD = (
        "error",
        "field missing",
        "Add it, or name the fields with --prompt_field and --answer_field.",
    )
    MISSPELT_FIELD = ("error", "field name misspelt", "Rename the field.")
    WRONG_TYPE = ("error", "not text where text belongs", "Write the value as text.")
    EMPTY_PROMPT = ("error", "empty prompt", "Write the question, or remove the record.")
    EMPTY_ANSWER = ("error", "empty answer", "Write the answer, or remove the record.")
    LONE_SURROGATE = ("error", "half of a surrogate pair", "Write the whole character.")
    WRONG_COLUMNS = ("error", "wrong number of columns", "Quote text that holds the separator.")
    BAD_QUOTES = ("error", "quotation marks that do not match", 'Write " inside a field as "".')
    CUT_FILE = ("error", "file cut off or damaged", "Get the file again.")
    BAD_TURNS = ("error", "conversation out of order", "Let user and assistant take turns.")
    TOOL_TURN = (
        "error",
        "tool calls",
        "Tool calls are not supported: --skip_bad_rows goes on without these records, "
        "fte check FILE --fix NEW.jsonl writes a copy without them.",
    )
    UNSUPPORTED = ("error", "something that is not supported", "Take it out of the records.")
    NOT_INSTRUCTIONS = (
        "error",
        "records for another kind of training",
        "Give each record one answer: an instruction and an output.",
    )
    SPECIAL_TOKEN = (
        "error",
        "special token in the text, which the chat template would obey",
        "Take it out, or use --template plain, where it is only text.",
    )
    ANSWER_TOO_LONG = (
        "warning",
        "answer alone too long: the record is left out",
        "Shorten the answer; the limit is --max_length, at most the model's context.",
    )
    PROMPT_CUT = (
        "warning",
        "prompt too long: cut in its middle",
        "Shorten the prompt; the limit is --max_length, at most the model's context.",
    )
    EXACT_DUPLICATE = (
        "warning",
        "exact duplicate",
        "fte check FILE --fix NEW.jsonl writes a copy without them.",
    )
    NEAR_DUPLICATE = ("warning", "near duplicate", "Keep one of them, unless both are meant.")
    CONFLICTING_ANSWERS = (
        "warning",
        "one prompt, different answers",
        "Keep the right one; a model cannot learn both.",
    )
    OVERLAP = (
        "warning",
        "exam question that is also trained on",
        "It is left out of the exam; remove it from one of the two files.",
    )
    NEAR_OVERLAP = (
        "warning",
        "exam question almost the same as a trained one",
        "Look whether it asks anything new.",
    )
    CONTROL_CHARACTER = ("warning", "control characters", "Remove them, unless they are meant.")
    BIDI_CONTROL = (
        "warning",
        "characters that turn the direction of text",
        "Remove them, unless they are meant.",
    )
    INVISIBLE_CHARACTER = ("warning", "invisible characters", "Remove them, unless they are meant.")
    REPLACEMENT_CHARACTER = (
        "warning",
        "replacement characters, where text was lost",
        "Restore the text from its source.",
    )
    MOJIBAKE = (
        "warning",
        "text decoded with the wrong encoding",
        "Restore the text from its source.",
    )
    SPECIAL_TOKEN_TEXT = (
        "warning",
        "text that looks like a special token; it is trained as plain text",
        "Remove it, unless it is meant.",
    )
    ANSWER_IS_PROMPT = ("warning", "answer repeats the prompt", "Write the answer.")
    OUTER_SPACE = ("note", "white space around an answer", "It is trained as it is.")
    SIMILAR_TAGS = ("warning", "tags that differ only in case or space", "Write them alike.")
    RARE_TAG = ("note", "tag of fewer than five records", "Its results will say little.")
    UNBALANCED = ("warning", "one answer far more often than others", "Add records of the others.")
    FIELD_NAME = ("note", "field name read as a known one", "Rename it to be sure.")
    UNUSED_FIELD = (
        "note",
        "field that is not used",
        "Rename it, or name it with --prompt_field or --answer_field, if it is meant to be read.",
    )
    NAMED_TWICE = ("note", "file named more than once", "It is read once; name it once.")


class Fault(ValueError):
    """What is wrong with one record, raised while it is read; the reader adds the place."""

    def __init__(self, kind: Kind, detail: str, column: int = 0) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.column = column


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found, at a place; `line` 0 is the whole file, `column` 0 the whole line.

    For Parquet files and hub datasets `line` is the number of the row, from 1.
    """

    kind: Kind
    detail: str
    path: str
    line: int = 0
    column: int = 0

    @property
    def where(self) -> str:
        """`path`, `path:line` or `path:line:column`."""
        return place(self.path, self.line, self.column)

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}{'' if self.detail.endswith('?') else '.'}"


def place(path: str, line: int, column: int = 0) -> str:
    """A place in a file as compilers write it; 0 stands for the whole file or line."""
    return ":".join([path, *(str(number) for number in (line, column) if number)])


def errors(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that keep a record from being used."""
    return tuple(finding for finding in findings if finding.kind.severity == "error")


def by_kind(findings: Sequence[Finding]) -> tuple[tuple[Kind, tuple[Finding, ...]], ...]:
    """Findings grouped, the most serious kinds first (the order of `Kind`), each in file order."""
    grouped: dict[Kind, list[Finding]] = {}
    for finding in findings:
        grouped.setdefault(finding.kind, []).append(finding)
    order = list(Kind)
    kinds = sorted(grouped, key=lambda it: (SEVERITIES.index(it.severity), order.index(it)))
    return tuple((kind, tuple(grouped[kind])) for kind in kinds)
