"""Compare how an exported model reads and ends texts with how the trained one did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from finetuning_exam.data.encoding.chat_template import ChatTemplate
from finetuning_exam.data.encoding.template import render
from finetuning_exam.data.encoding.tokens import encode_texts
from finetuning_exam.exporting.questions import Question
from finetuning_exam.exporting.report import Check
from finetuning_exam.exporting.runtime import Runtime
from finetuning_exam.exporting.source import Source
from finetuning_exam.exporting.texts import probes

_SHOWN = 40


def text_checks(source: Source, questions: Sequence[Question], runtime: Runtime) -> Iterator[Check]:
    """Yield the checks of tokenizer, start, prompts and end token."""
    yield _tokenizer(source, questions, runtime)
    yield _start(source, runtime)
    yield _template(source, questions, runtime)
    yield _ends(source, runtime)


def _tokenizer(source: Source, questions: Sequence[Question], runtime: Runtime) -> Check:
    """Tokenize odd texts, the questions' prompts and every special token."""
    added = source.tokenizer.added_tokens_decoder.values()
    special = {it.content: bool(it.special) for it in added}
    texts = ["".join(part.text for part in render(it.example)) for it in questions]
    asked = probes(special, texts)
    backend = source.encoder.backend
    for text, has_marks in asked:
        (expected,) = encode_texts(
            source.encoder.tokenizer, backend, [text], split_special_tokens=not has_marks
        )
        found = runtime.tokenize(text, has_marks=has_marks)
        if tuple(expected) != found:
            return Check(
                "tokenizer", "other ids", f"the tokenizer {_difference(expected, found, source)}"
            )
    return Check("tokenizer", f"the same ids of {len(asked)} texts")


def _difference(expected: Sequence[int], found: Sequence[int], source: Source) -> str:
    """Say where two lists of ids part, with the text of the ids."""
    same = 0
    while same < min(len(expected), len(found)) and expected[same] == found[same]:
        same += 1
    start = max(0, same - 2)
    old, new = (
        [source.tokenizer.decode([it]) for it in ids[start : same + 3]] for ids in (expected, found)
    )
    return f"splits a text otherwise: {old} became {new} (its pre-tokenizer or vocabulary differs)"


def _start(source: Source, runtime: Runtime) -> Check:
    expected, found = source.encoder.start_ids, runtime.start_ids()
    shown = [source.tokenizer.decode([it]) for it in found] or "nothing"
    fault = ""
    if expected != found:
        before = [source.tokenizer.decode([it]) for it in expected] or "nothing"
        fault = f"texts begin with {shown}, and in training they began with {before}"
    return Check("start of a text", str(shown), fault)


def _template(source: Source, questions: Sequence[Question], runtime: Runtime) -> Check:
    """Render the prompts from messages, and compare their texts and ids with the trained ones."""
    asked = [it for it in questions if it.turns is not None]
    if not asked:
        return Check("chat template", _no_template(source))
    encoder = source.encoder
    own = ChatTemplate(encoder.tokenizer, None, source.chat_template)
    for it in asked:
        assert it.turns is not None
        prompt = it.row.ids[: it.row.prompt_length]
        text = runtime.render(it.turns)
        expected = own.render(it.turns, asks=True)
        start = encoder.start_text
        if start and not text.startswith(start) and expected.startswith(start):
            text = start + text  # a program that puts it there itself leaves it out
        if text != expected:
            fault = f"the chat template gives {_around(text, expected)}"
            return Check("chat template", "another prompt", fault)
        found = runtime.tokenize(text, has_marks=True)
        if found != prompt:
            fault = f"the ids of a prompt differ: it {_difference(prompt, found, source)}"
            return Check("chat template", "other ids of a prompt", fault)
    return Check("chat template", f"the same ids of {len(asked)} prompts")


def _no_template(source: Source) -> str:
    if source.chat_template is None:
        return "none: no template renders the trained prompts"
    if source.encoder.date is not None:
        return "not compared: it writes today's date"
    return "not compared: no question is a plain conversation"


def _around(found: str, expected: str) -> str:
    """Show two texts from shortly before they part."""
    same = 0
    while same < min(len(found), len(expected)) and found[same] == expected[same]:
        same += 1
    start = max(0, same - 10)
    shown = found[start : same + _SHOWN], expected[start : same + _SHOWN]
    return f"{shown[0]!r} where training had {shown[1]!r}"


def _ends(source: Source, runtime: Runtime) -> Check:
    names = {it: source.tokenizer.decode([it]) for it in source.end_ids}
    missed = [name for token, name in names.items() if not runtime.ends_at(token)]
    fault = f"an answer does not end at {' and '.join(missed)}" if missed else ""
    return Check("end token", " ".join(names.values()), fault)
