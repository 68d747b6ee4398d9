"""Texts on which tokenizers that are not quite the same disagree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PROBES = (
    "Hello, world! It's 2026-01-09; isn't it? I'LL we've you'RE",
    "numbers 1 12 123 1234 12345 3.14159 1,000,000 0x1F 10^9 ½ ² ٣ ৩",
    "   leading, inner   runs  and trailing blanks   ",
    "tabs\there\t\tand\nlines\n\nand\r\nmore\n\n\n\nend\n",
    "  \n  indented\n    code = f(x)  # ok\n\tif not y:\n\t\treturn {'a': [1, 2]}",
    "don't CAN'T O'Neill l'été d’accord “quoted” «così» …—–",
    "Straße, naïve café: é ñ ü å ø ł ğ ạ — decomposed: e\u0301 n\u0303 u\u0308",
    "Привет, мир! Ёлка. Γειά σου Κόσμε. שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดีชาวโลก",
    "東京は日本の首都です。 中文没有空格,对吗? 한국어 띄어쓰기 テスト",
    "🙂 👍🏽 👨‍👩‍👧‍👦 🇩🇪 ✓ ☃ a🙂b  🙂🙂",
    "zero\u200bwidth, no\u00a0break, ideographic\u3000space, narrow\u202fspace, bom\ufeff, x\u0085",
    "camelCaseWord snake_case_word kebab-case HTTPServer2Go ABCdef",
    "a@b.example https://example.org/a?b=c&d=%20 C:\\dir\\file ~/.x $HOME !@#$%^&*()[]{}<>|/\\",
    "!!! ??? ... ---- ==== **bold** `code` ```py\nx\n``` # Title\n- item\n1. one",
    "\x07control\x1b[0m and \U0001d49c\U0001d4b7 \U00020000 rare planes \u0e33\u0f77",
    "",
    " ",
    "\n",
    "a",
    " a",
    "''''s 's 'S 'T it's' 'tis",
)
"""Odd texts, without special tokens."""


def probes(special: Mapping[str, bool], questions: Iterable[str]) -> tuple[tuple[str, bool], ...]:
    """Return texts to tokenize, each with whether special tokens in it are read as such.

    `special` are the added tokens, with whether each of them marks something.
    """
    marks = [it for it, is_mark in special.items() if is_mark][:40]
    marked = [f"before{it}after {it} \n{it}\n" for it in marks]
    return (
        *((it, False) for it in (*PROBES, *questions) if not any(mark in it for mark in special)),
        *((it, True) for it in PROBES if it),
        *((it, True) for it in marked),
    )
