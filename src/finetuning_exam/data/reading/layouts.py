"""Layouts of records: which of the common forms a file has, and which fields it is read from.

The forms are those documented by TRL, Axolotl, LlamaFactory, mlx-lm and ms-swift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from finetuning_exam.data.reading.conversation import is_pair
from finetuning_exam.data.reading.fields import Record
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import Format

SAMPLE = 1000
"""How many records decide the layout."""
CONVERSATION_FIELDS = ("messages", "conversations", "conversation")
_ALWAYS = frozenset({"tag", "group"})


@dataclass(frozen=True, slots=True)
class Layout:
    """The form of a file's records; `answer` is "" where the answer has no field of its own."""

    format: Format
    prompt: str
    answer: str

    @property
    def words(self) -> str:
        """The layout in one line, such as `instruction → output` or `plain text (text)`."""
        if self.format == "text":
            return f"plain text ({self.prompt})"
        if self.format == "messages":
            return f"{self.prompt} (role, content)"
        if self.format == "sharegpt":
            keys = "human, assistant" if self.prompt == "conversation" else "from, value"
            return f"{self.prompt} ({keys})"
        return f"{self.prompt} → {self.answer}"

    @property
    def used_fields(self) -> frozenset[str]:
        """The fields that are read where they stand; a record may lack all but its own two."""
        return _used_fields(self)

    @property
    def input_fields(self) -> tuple[str, ...]:
        """Where the text that a question is about may stand (Dolly and context_qa: `context`)."""
        has_context = self.prompt == "question" or self.answer == "response"
        return self._beside("input", "context") if has_context else self._beside("input")

    @property
    def system_fields(self) -> tuple[str, ...]:
        """Where a system text may stand (Open-Orca: `system_prompt`)."""
        return self._beside("system", "system_prompt")

    def _beside(self, *names: str) -> tuple[str, ...]:
        """Those that are not the prompt or the answer itself."""
        return tuple(name for name in names if name not in (self.prompt, self.answer))


PAIRS = (
    Layout("instruction", "instruction", "output"),
    Layout("instruction", "instruction", "response"),
    Layout("instruction", "instruction", "instances"),
    Layout("instruction", "query", "response"),
    Layout("prompt_completion", "prompt", "completion"),
    Layout("prompt_completion", "prompt", "response"),
    Layout("question_answer", "question", "answer"),
    Layout("question_answer", "question", "response"),
)
"""Layouts of a prompt and an answer; where a record fits several, the first."""


@lru_cache(maxsize=64)
def _used_fields(layout: Layout) -> frozenset[str]:
    own = frozenset({layout.prompt, layout.answer} - {""}) | _ALWAYS
    if layout.format == "text":
        return own
    if not layout.answer or layout.answer == "instances":
        return own | {*layout.system_fields}
    return own | {*layout.system_fields, "history", *layout.input_fields}


def find_layout(
    values: Iterable[Record], wanted: Format, prompt_field: str | None, answer_field: str | None
) -> Layout:
    """The layout that most of the first thousand records have; formats and fields named win.

    A file without any known field is taken for instruction and output, so that each record's
    fault says what is missing.

    Raises:
        UsageError: prompt and answer would be the same field, or an answer field is named for a
            format that has none.
    """
    sample = list(islice(values, SAMPLE))
    if wanted in ("messages", "sharegpt", "text"):
        if answer_field is not None:
            raise UsageError(
                f"--format {wanted} has no field for the answer alone.",
                "Leave --answer_field out; --prompt_field names the field.",
            )
        return Layout(wanted, prompt_field or _only_field(sample, wanted), "")
    found = _majority(sample)
    if wanted == "auto" and prompt_field is answer_field is None:
        return found
    pairs = [pair for pair in PAIRS if wanted in ("auto", pair.format)]
    pair = _best_pair(sample, pairs, prompt_field is None, answer_field is None)
    prompt = prompt_field or (
        found.prompt if wanted == "auto" and found.format == "text" else pair.prompt
    )
    answer = answer_field or pair.answer
    if prompt == answer:
        raise _one_field_for_both(prompt, prompt_field, answer_field)
    named = Layout("instruction" if wanted == "auto" else wanted, prompt, answer)
    return next((it for it in pairs if (it.prompt, it.answer) == (prompt, answer)), named)


def _one_field_for_both(
    name: str, prompt_field: str | None, answer_field: str | None
) -> UsageError:
    if prompt_field and answer_field:
        return UsageError(
            f"--prompt_field and --answer_field are both {name!r}.", "Give two fields."
        )
    given, other = ("prompt", "answer") if prompt_field else ("answer", "prompt")
    return UsageError(
        f"--{given}_field is {name!r}, which is also the field with the {other}.",
        f"Give --{other}_field too.",
    )


def _majority(sample: Sequence[Record]) -> Layout:
    """The layout most records have whole, else the one most have a part of."""
    whole: Counter[Layout] = Counter()
    partial: Counter[Layout] = Counter()
    for value in sample:
        layout, is_whole = _guess(value)
        if layout is not None:
            (whole if is_whole else partial)[layout] += 1
    votes = whole or partial
    return votes.most_common(1)[0][0] if votes else PAIRS[0]


def _guess(value: Record) -> tuple[Layout | None, bool]:
    """A record's own layout, and whether it has all fields of it.

    A list of turns says most and goes before a pair; a pair goes before `text`, in which Alpaca
    shows the same record as one text.
    """
    there = {name for name, it in value.items() if it is not None}
    turns = [name for name in CONVERSATION_FIELDS if isinstance(value.get(name), list)]
    for name in turns:
        if value[name]:
            return Layout(_turn_format(value[name]), name, ""), True
    pair = max(PAIRS, key=lambda it: (it.prompt in there) + (it.answer in there))
    names = (pair.prompt in there) + (pair.answer in there)
    if names:
        return pair, names == 2
    if "text" in there:
        return Layout("text", "text", ""), True
    return (Layout("messages", turns[0], ""), False) if turns else (None, False)


def _turn_format(turns: object) -> Format:
    first = turns[0] if isinstance(turns, list) and turns else None
    is_sharegpt = isinstance(first, Mapping) and ("from" in first or is_pair(first))
    return "sharegpt" if is_sharegpt else "messages"


def _only_field(sample: Sequence[Record], wanted: Format) -> str:
    """The field of a layout that has one only, for a format asked for."""
    if wanted == "text":
        return "text"
    usual = "messages" if wanted == "messages" else "conversations"
    names = (usual, *(name for name in CONVERSATION_FIELDS if name != usual))
    return max(names, key=lambda name: sum(isinstance(it.get(name), list) for it in sample))


def _best_pair(
    sample: Sequence[Record], pairs: Sequence[Layout], by_prompt: bool, by_answer: bool
) -> Layout:
    """The pair of which most records have the fields that were not named by the user."""

    def names(pair: Layout) -> int:
        looked_for = [pair.prompt] * by_prompt + [pair.answer] * by_answer
        return sum(value.get(name) is not None for value in sample for name in looked_for)

    return max(pairs, key=names)
