"""What a file of no known format holds, and how to have it read.

A remedy never names a field of ids, of numbers, or of text in JSON: training would run on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from finetuning_exam.data.reading.fields import as_argument, listed, quoted
from finetuning_exam.data.reading.files import RawRecord
from finetuning_exam.data.reading.layouts import SAMPLE, Layout
from finetuning_exam.data.reading.natural import METADATA, NATURAL, Content, content_of
from finetuning_exam.data.reading.packed import python_hint
from finetuning_exam.data.reading.packed_text import are_turns
from finetuning_exam.errors import UsageError

QUESTIONS = (
    *("question", "prompt", "input", "query", "instruction", "user", "human", "ask", "request"),
    *("task", "frage", "eingabe", "aufgabe", "anfrage", "pregunta", "domanda", "pergunta"),
    *("vraag", "pytanie", "q"),
)
ANSWERS = (
    *("answer", "response", "output", "completion", "assistant", "reply", "solution", "target"),
    *("label", "antwort", "ausgabe", "lösung", "réponse", "reponse", "respuesta", "risposta"),
    *("resposta", "antwoord", "odpowiedź", "a"),
)
"""Common names of the two fields, in several languages."""
_PAIR_HINT = 'Write records such as {"instruction": "…", "output": "…"}.'
_TURNS_HINT = (
    'Write records such as {"messages": [{"role": "user", "content": "…"}, '
    '{"role": "assistant", "content": "…"}]}.'
)


def refuse_columns(records: Sequence[RawRecord], path: str) -> None:
    """Refuse a file that is one object of columns, as data frames write them.

    Raises:
        UsageError: its only record holds lists or objects of values, all alike.
    """
    if len(records) == 1 and _are_columns(records[0].value):
        raise UsageError(
            f"{path} is one object with the data by column (or by row label), not a list of "
            "records.",
            'Write one record per line: df.to_json("new.jsonl", orient="records", lines=True).',
        )


def unrecognised(records: Sequence[RawRecord], present: Sequence[str], path: str) -> UsageError:
    """Return the error for records that have none of the known fields."""
    sample = [record.value for record in islice(records, SAMPLE)]
    for name in present:
        values = [it[name] for it in sample if it.get(name) is not None]
        if values and (found := _held(name, values)):
            what, hint = found
            return UsageError(f"{path}: {what} (fields: {listed(present)}).", hint)
    what = f"{path}: unrecognised record format (fields: {listed(present)})."
    return UsageError(what, _flags(sample, present) or _hint_for_none(sample, present))


def hint_for_field(
    absent: str, records: Sequence[RawRecord], layout: Layout, present: Iterable[str]
) -> str:
    """Return how to go on if no record has one of the two fields of its format."""
    is_prompt = absent == layout.prompt
    flag, usual = ("prompt", QUESTIONS) if is_prompt else ("answer", ANSWERS)
    sample = [record.value for record in islice(records, SAMPLE)]
    others = [name for name in present if name not in (layout.prompt, layout.answer)]
    texts = _named(sample, others, ("text",) if is_prompt else NATURAL) or _named(
        sample, others, NATURAL
    )
    if not texts:
        return f"Add the field, or name your own with --{flag}_field."
    name = like(texts, usual)
    words = "Name the field" if name else "Name the field, for example"
    return f"{words}: --{flag}_field {as_argument(name or texts[0])}."


def like(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """Return the first name that equals, else contains, a usual word; short words must be equal."""

    def contains(word: str, name: str) -> bool:
        return len(word) > 2 and word in name

    tests: tuple[Callable[[str, str], bool], ...] = (str.__eq__, contains)
    for test in tests:
        for word in usual:
            for name in names:
                if test(word, name.strip().casefold()):
                    return name
    return None


def _flags(sample: Sequence[Mapping[str, object]], present: Iterable[str]) -> str:
    """Return the flags that name the fields of text; "" if there are none."""
    names = list(present)
    texts, words = _named(sample, names, ("text",)), _named(sample, names, NATURAL)
    if len(words) == 1:
        if not texts:
            return ""
        return f"If this is plain text, use --format text --prompt_field {as_argument(texts[0])}."
    if not words:
        return ""
    question, answer = like(words, QUESTIONS), like(words, ANSWERS)
    intro = "Name the fields" if question and answer else "Name the fields, for example"
    question = question or next(name for name in [*texts, *words] if name != answer)
    answer = answer or next(name for name in words if name != question)
    flags = f"--prompt_field {as_argument(question)} --answer_field {as_argument(answer)}"
    return f"{intro}: {flags}."


def _named(
    sample: Sequence[Mapping[str, object]], names: Iterable[str], contents: Sequence[Content]
) -> list[str]:
    """Return the fields of such contents whose names can be shown and do not mark metadata."""
    return [
        name
        for name in names
        if quoted(name) == repr(name)
        and name.strip().casefold() not in METADATA
        and content_of(it.get(name) for it in sample) in contents
    ]


def _hint_for_none(sample: Sequence[Mapping[str, object]], present: Iterable[str]) -> str:
    """Name what the fields hold instead of text."""
    held = [
        f"{quoted(name)} holds {content}"
        for name in islice(present, 5)
        if (content := content_of(it.get(name) for it in sample)) and content != "text"
    ]
    return f"No field holds natural text ({', '.join(held)}). {_PAIR_HINT}" if held else _PAIR_HINT


def _held(name: str, values: Sequence[object]) -> tuple[str, str] | None:
    """Return what a field holds that is nearly a conversation or a record, and the remedy."""
    field, flag = f"field {quoted(name)}", as_argument(name)
    if all(are_turns(it) and _have_texts(it) for it in values):
        return f"{field} holds turns", f"Read them with --format messages --prompt_field {flag}."
    if all(_are_bare_texts(it) for it in values):
        return f"{field} holds texts without roles", _TURNS_HINT
    if keys := _keys_of_turns(values):
        what = f"{field} holds turns with the fields {listed(keys)}; expected 'role' and 'content'"
        return what, _TURNS_HINT
    match content_of(values):
        case "JSON as text":
            call = f"json.loads(record[{name!r}])" if len(name) < 40 else "json.loads"
            hint = f"Write the value itself, which {call} returns, not its text."
            return f"{field} holds JSON as text", hint
        case "Python's notation as text":
            return f"{field} holds Python's notation as text", python_hint(name, values)
    return None


def _are_bare_texts(value: object) -> bool:
    """Return whether a value is a list of several natural texts, or of lists of them."""
    if not isinstance(value, list) or not value:
        return False
    flat = [text for it in value for text in (it if isinstance(it, list) else [it])]
    return len(flat) > 1 and content_of(flat) == "text"


def _have_texts(turns: object) -> bool:
    keys = {"content", "value", "human"}
    return isinstance(turns, list) and all(
        isinstance(it, dict) and keys & it.keys() for it in turns
    )


def _keys_of_turns(values: Sequence[object]) -> list[str]:
    """Return the fields of lists of objects that have at least one text or list each."""
    keys: dict[str, None] = {}
    for value in values:
        if not isinstance(value, list) or not value:
            return []
        for item in value:
            if not isinstance(item, Mapping) or not item:
                return []
            keys |= dict.fromkeys(item)
    return list(keys)


def _are_columns(value: Mapping[str, object]) -> bool:
    """Return whether an object holds columns of values, or rows by their labels."""
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        return True
    inner = value.get("data") if len(value) == 1 else None
    if isinstance(inner, Mapping):
        return _are_columns(inner)
    columns = list(value.values())
    if len(columns) < 2:
        return False
    if all(isinstance(it, Mapping) and it for it in columns):
        return len({frozenset(it) for it in columns if isinstance(it, Mapping)}) == 1
    lists = [it for it in columns if isinstance(it, list) and it]
    cells = [cell for it in lists for cell in it]
    return (
        len(lists) == len(columns)
        and len({len(it) for it in lists}) == 1
        and not any(isinstance(cell, list | dict) for cell in cells)
        and any(isinstance(cell, str) for cell in cells)
    )
