"""Text that spoils what is trained: escapes, HTML entities, missing values and placeholders."""

from __future__ import annotations

import re
from collections.abc import Iterator

from finetuning_exam.data.characters import named_texts
from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.fields import quoted
from finetuning_exam.data.records import Example

# A piece of code, in which a backslash or an entity means itself
_CODE = re.compile(
    r"(?<![`\\])(`{1,2})(?!`)[^`]+\1(?!`)"  # `code`, ``code``
    r'|(?<!\\)"(?:[^"\\\n]|\\.)*"'  # "a\nb"
    r"|(?<![\w\\])'(?:[^'\\\n]|\\.)*'(?!\w)"  # 'a\nb', but not don't … isn't
)
_LITERAL = re.compile(r"\\(?:[nrt\"]|u[0-9a-fA-F]{4})")
_OTHER_COMMAND = re.compile(r"\\(?![nrt\"\\/]|u[0-9a-fA-F]{4})\S")
"""A backslash that no JSON writer makes: of a regular expression, LaTeX or a Windows path."""
_BREAK = re.compile(
    r"(?P<before>[\w.!?:;,)\"'”’`%$ ]|\*\*)(?P<run>(?:\\[nrt])+)(?P<after>[a-z]+|[^a-z]|$)"
)
"""A run of escapes directly after a text, and what follows it."""
_DRIVE = re.compile(r"(?:^|[\s\"'(])[A-Za-z]:$")
_FILE_NAME = re.compile(r"\.\w{1,4}\W*$")
_LATEX = re.compile(
    r"n(?:u|abla|eq?|eg|i|ot|otin|ewline|ewcommand|ewpage|oindent|onumber|ode|um|ormalsize)"
    r"|t(?:imes|heta|au|ext(?:bf|it|tt)?|anh?|o|op|ilde|frac|ag|riangle)|r(?:ight|ho|ightarrow|angle)"
)
_FEWEST_WORDS = 4
"""In a text with fewer words, an escape before a lower-case letter may be a path."""
_QUOTED = re.compile(r'(?:^|[\s(\[{:,=])\\"[^"\n]*\\"(?=$|[\s.,;:!?)\]}\\])')
"""A quotation in escaped marks, but not LaTeX's accents (M\\"uller)."""
_CODE_POINT = re.compile(r"\\u[0-9a-fA-F]{4}")

_ENTITY = re.compile(
    r"&(?:amp|lt|gt|quot|apos|nbsp|[lr][sd]quo|[mn]dash|hellip|bull|middot|copy|reg|trade|deg"
    r"|eacute|egrave|agrave|ccedil|[aouAOU]uml|szlig|euro|pound|times"
    r"|#[0-9]{2,6}|#[xX][0-9a-fA-F]{2,5});"
)
_ABOUT_MARKUP = re.compile(
    r"\b(?:x|dx|sg)?html\d?\b|\b(?:xml|xhtml|svg|jsx|css|rss|markup|mathml|jinja|ampersands?)\b"
    r"|\bentit(?:y|ies)\b|\bunescap|\bescap(?:e|ed|es|ing) (?:char|sequence|string|text)"
    r"|<!|</?(?!(?:br|p|b|i|em|strong|u)\b)[a-z][a-z0-9-]*(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
"""Words and tags of a record that is about HTML or XML, where an entity may be meant."""

_ELEMENT = re.compile(r"\b(?:tag|element)s?\b", re.IGNORECASE)
_ROMAN = re.compile(r"\broman\b", re.IGNORECASE)

_TRAINED = ("answer", "text")
"""Endings of the names of texts that a model learns to write."""
_LONGEST_MARK = 80
"""Missing values and placeholders are short, so longer answers are not searched for them."""
_MISSING = re.compile(
    r"[-+]?nan|none|null|nil|n/a|n\.a\.?|<na>|<null>|<none>|undefined|(?-i:NaT)"
    r"|#(?:n/a|value!|ref!|name\?|null!|num!|div/0!)",
    re.IGNORECASE,
)
_NOUN = r"(?:answers?|outputs?|responses?|completions?|reply|result|solution|label|text|content)"
_SLOT = rf"(?:{_NOUN}|assistant|placeholder|todo|tbd|fill[ _-]?(?:in|me))\b[\w '\".!?-]*"
_ASKED = (
    rf"(?:insert|add|write|enter|put|type|your|the)\b[\w '\".,!?-]*\b(?:{_NOUN}|here)\b[\w .!-]*"
)
_PLACEHOLDERS = (
    # <output>, {answer}, {{ row.answer }}, ${output}, [insert the answer here], __answer__
    re.compile(
        rf"(?:<|\$?\{{+|\[+|%|__)\s*(?:[\w.]+[.\['\"]+)?"
        rf"(?:{_ASKED}|(?:expected|model|correct|gold)?[\s_-]*{_SLOT})\s*(?:>|\}}+|\]+|%|__)\.?",
        re.IGNORECASE,
    ),
    re.compile(r"(?:todo|tbd|tba|fixme)(?:\s*[:.!\-\u2013\u2014][^\n]*)?", re.IGNORECASE),
    re.compile(
        r"to be (?:done|added|written|filled in|completed|determined|defined)[.…]*", re.IGNORECASE
    ),
    re.compile(r"(?:insert|add|write|enter|put|type)\b.{0,30}\bhere[.!…]*", re.IGNORECASE),
    re.compile(rf"(?:your |the )?{_NOUN} (?:goes )?here[.!…]*", re.IGNORECASE),
    re.compile(rf"placeholder(?: {_NOUN})?[.!]?", re.IGNORECASE),
    re.compile(r"\.{3,}|…+|\?{3,}|_{3,}|x{3,}", re.IGNORECASE),
)
_LOREM = re.compile(r"lorem ipsum\b", re.IGNORECASE)


def content_findings(example: Example) -> Iterator[Finding]:
    """Yield the findings about what the texts of an example contain.

    An escape or an entity that may be meant, because the text is code or about HTML, is none.
    """
    about_markup: bool | None = None
    for name, text in named_texts(example):
        if "\\" in text and (found := _escape(text)):
            detail = f"{name} contains {found[0]} as characters, at character {found[1] + 1}"
            yield _at(example, Kind.ESCAPED_TEXT, detail)
        if "&" in text and (entity := _ENTITY.search(_without_code(text))):
            if about_markup is None:
                about_markup = _is_about_markup(example)
            if not about_markup:
                place = text.index(entity[0]) + 1
                detail = f"{name} contains {entity[0]} at character {place}"
                yield _at(example, Kind.HTML_ENTITY, detail)
        if len(text) <= _LONGEST_MARK and (kind := _stand_in(name, text)):
            if not _is_asked_for(example, name, text.strip()):
                yield _at(example, kind, f"{name} is {quoted(text.strip())}")
        elif name.endswith(_TRAINED) and _LOREM.match(text.lstrip()):
            yield _at(example, Kind.PLACEHOLDER, f"{name} is filler text (lorem ipsum)")


def _escape(text: str) -> tuple[str, int] | None:
    """Return the first escape in a text that was escaped twice, and its place; else None.

    Such a text has no real newline, because that was escaped too, and no other backslash.
    """
    if "\n" in text.strip():
        return None
    bare = _without_code(text)
    if not _LITERAL.search(bare) or _OTHER_COMMAND.search(bare):
        return None
    for found in _BREAK.finditer(bare):
        if _is_line_break(bare, found):
            return found["run"][:2], found.start("run")
    if point := _CODE_POINT.search(bare):
        return point[0], point.start()
    quotation = _QUOTED.search(bare)
    if quotation and bare.count('"') == bare.count('\\"'):
        return '\\"', bare.index('\\"')
    return None


def _is_line_break(text: str, found: re.Match[str]) -> bool:
    """Return whether a run of escapes stands between two pieces of prose."""
    before, run, after = found["before"], found["run"], found["after"]
    start = found.start("run")
    if before == " ":
        return after[:1].isalnum() and not after[:1].islower()
    if not after[:1].isalpha() or not after[:1].islower():
        # After a word, a run before a blank or a mark is rather mentioned than meant.
        return not before.isalpha() or (after[:1].isalnum() or len(run) > 2)
    is_path = _DRIVE.search(text[:start][-3:]) or len(text.split()) < _FEWEST_WORDS
    if is_path or _LATEX.fullmatch(run[-1] + after):
        return False
    token = text[: found.end()].rsplit(maxsplit=1)[-1] + text[found.end() :].partition(" ")[0]
    return not _FILE_NAME.search(token.rstrip(".")) and not token.startswith((".", "/", "~"))


def _without_code(text: str) -> str:
    """Return a text with its code and its quotations blanked; places stay the same."""
    return _CODE.sub(lambda found: " " * len(found[0]), text)


def _is_about_markup(example: Example) -> bool:
    return any(_ABOUT_MARKUP.search(text) for _, text in named_texts(example))


def _stand_in(name: str, text: str) -> Kind | None:
    """Return the kind of a text that stands for an absent one; None if it is a text."""
    text = text.strip()
    if not text:
        return None
    if _MISSING.fullmatch(text):
        return Kind.MISSING_VALUE
    if name.endswith(_TRAINED) and any(pattern.fullmatch(text) for pattern in _PLACEHOLDERS):
        return Kind.PLACEHOLDER
    return None


def _is_asked_for(example: Example, name: str, text: str) -> bool:
    """Return whether the rest of the record suggests that such a short answer is meant."""
    if name.endswith("prompt"):
        return False
    others = " ".join(other for where, other in named_texts(example) if where != name)
    if text.startswith("<"):
        return bool(_ABOUT_MARKUP.search(others) or _ELEMENT.search(others))
    if text.upper() == "XXX" and _ROMAN.search(others):
        return True
    word = rf"(?<!\w){re.escape(text)}(?!\w)"
    return any(map(str.isalnum, text)) and bool(re.search(word, others, re.IGNORECASE))


def _at(example: Example, kind: Kind, detail: str) -> Finding:
    return Finding(kind, detail, example.path, example.line, example.column)
