"""Layouts of records: the common format that a file has, and the fields that it uses.

The formats are those documented by TRL, Axolotl, LlamaFactory, mlx-lm and ms-swift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from finetuning_exam.data.reading.conversation import is_pair
from finetuning_exam.data.reading.fields import Record
from finetuning_exam.data.reading.packed_text import are_turns
from finetuning_exam.data.reading.turn_forms import are_texts
from finetuning_exam.errors import UsageError
from finetuning_exam.settings import Format

SAMPLE = 1000
"""The number of records that decide the layout."""
CONVERSATION_FIELDS = ("messages", "conversations", "conversation")
_ALWAYS = frozenset({"tag", "group"})
_OTHER_WORDS = {"contents": "role, parts", "data": "texts in turn"}
_GEMINI_SYSTEM = ("systemInstruction", "system_instruction")


@dataclass(frozen=True, slots=True)
class Layout:
    """The format of a file's records; `answer` is "" if the answer has no field of its own."""

    format: Format
    prompt: str
    answer: str

    @property
    def words(self) -> str:
        """The layout in one line, for example `instruction → output` or `plain text (text)`."""
        if self.format == "text":
            return f"plain text ({self.prompt})"
        if self.format == "messages" and self.prompt in _OTHER_WORDS:
            return f"{self.prompt} ({_OTHER_WORDS[self.prompt]})"
        if self.format == "messages":
            return f"{self.prompt} (role, content)"
        if self.format == "sharegpt":
            keys = "human, assistant" if self.prompt == "conversation" else "from, value"
            return f"{self.prompt} ({keys})"
        return f"{self.prompt} → {self.answer}"

    @property
    def used_fields(self) -> frozenset[str]:
        """The fields that are read; a record may lack all but the prompt and the answer."""
        return _used_fields(self)

    @property
    def input_fields(self) -> tuple[str, ...]:
        """The fields for the input of a question (`context` in Dolly and context_qa)."""
        has_context = self.prompt == "question" or self.answer == "response"
        return self._beside("input", "context") if has_context else self._beside("input")

    @property
    def system_fields(self) -> tuple[str, ...]:
        """The fields for a system text (`system_prompt` in Open-Orca)."""
        names = self._beside("system", "system_prompt")
        return (*names, *_GEMINI_SYSTEM) if self.prompt == "contents" else names

    def _beside(self, *names: str) -> tuple[str, ...]:
        """Return the names that are not those of the prompt or the answer."""
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
"""Layouts of a prompt and an answer; if a record fits several, the first is used."""


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
    """Return the layout of most of the first thousand records; given formats and fields win.

    A file without any known field is taken for instruction and output, so that each record's
    fault names what is missing.

    Raises:
        UsageError: prompt and answer would be the same field, or an answer field is given for a
            format that has none.
    """
    sample = list(islice(values, SAMPLE))
    if wanted in ("messages", "sharegpt", "text"):
        if answer_field is not None:
            raise UsageError(
                f"--format {wanted} has no separate answer field.",
                "Remove --answer_field; --prompt_field names the field.",
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
            f"--prompt_field and --answer_field are both {name!r}.", "Name two different fields."
        )
    given, other = ("prompt", "answer") if prompt_field else ("answer", "prompt")
    return UsageError(
        f"--{given}_field is {name!r}, which is also the {other} field.",
        f"Set --{other}_field too.",
    )


def _majority(sample: Sequence[Record]) -> Layout:
    """Return the layout that most records have in full, else the one that most have in part."""
    whole: Counter[Layout] = Counter()
    partial: Counter[Layout] = Counter()
    for value in sample:
        layout, is_whole = _guess(value)
        if layout is not None:
            (whole if is_whole else partial)[layout] += 1
    votes = whole or partial
    return votes.most_common(1)[0][0] if votes else PAIRS[0]


def _guess(value: Record) -> tuple[Layout | None, bool]:
    """Return a record's own layout, and whether it has all of its fields.

    A list of turns takes precedence over a pair, and a pair over `text`, in which Alpaca repeats
    the record as one text.
    """
    present = {name for name, it in value.items() if it is not None}
    turns = [name for name in CONVERSATION_FIELDS if isinstance(value.get(name), list)]
    for name in turns:
        if value[name]:
            return Layout(_turn_format(value[name]), name, ""), True
    if _are_contents(value.get("contents")):
        return Layout("messages", "contents", ""), True
    pair = max(PAIRS, key=lambda it: (it.prompt in present) + (it.answer in present))
    names = (pair.prompt in present) + (pair.answer in present)
    if names:
        return pair, names == 2
    if "text" in present:
        return Layout("messages" if are_turns(value["text"]) else "text", "text", ""), True
    if are_texts(value.get("data")):
        return Layout("messages", "data", ""), True
    return (Layout("messages", turns[0], ""), False) if turns else (None, False)


def _turn_format(turns: object) -> Format:
    first = turns[0] if isinstance(turns, list) and turns else None
    is_sharegpt = isinstance(first, Mapping) and ("from" in first or is_pair(first))
    return "sharegpt" if is_sharegpt else "messages"


def _are_contents(value: object) -> bool:
    """Return whether a value is a list of Gemini's turns."""
    return isinstance(value, list) and any(
        isinstance(turn, Mapping) and "parts" in turn for turn in value
    )


def _only_field(sample: Sequence[Record], wanted: Format) -> str:
    """Return the field of a format that has only one."""
    if wanted == "text":
        return "text"
    usual = "messages" if wanted == "messages" else "conversations"
    others: tuple[str, ...] = (
        *CONVERSATION_FIELDS,
        *(_OTHER_WORDS if wanted == "messages" else ()),
    )
    names = (usual, *(name for name in others if name != usual))
    return max(names, key=lambda name: sum(isinstance(it.get(name), list) for it in sample))


def _best_pair(
    sample: Sequence[Record], pairs: Sequence[Layout], by_prompt: bool, by_answer: bool
) -> Layout:
    """Return the pair whose fields, except those given by the user, most records have."""

    def names(pair: Layout) -> int:
        looked_for = [pair.prompt] * by_prompt + [pair.answer] * by_answer
        return sum(value.get(name) is not None for value in sample for name in looked_for)

    return max(pairs, key=names)
