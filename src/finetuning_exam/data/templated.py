"""Texts that already have the marks of a chat template: trained whole, or inside another one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from finetuning_exam.data.findings import Finding
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example

_TEMPLATES = (
    ("ChatML", "<|im_start|>", r"<\|im_start\|>(?:system|user|assistant)\b"),
    ("Llama 2's and Mistral's template", "[INST]", r"(?:<s>)?\s*\[INST\]"),
    ("Llama 3's template", "<|start_header_id|>", r"(?:<\|begin_of_text\|>)?<\|start_header_id\|>"),
    ("Gemma's template", "<start_of_turn>", r"(?:<bos>)?<start_of_turn>(?:user|model)\b"),
    ("Phi's or Zephyr's template", "<|user|>", r"(?:<s>)?<\|(?:system|user)\|>"),
    (
        "the form of Human and Assistant",
        "### Human:",
        r"(?:### (?:Human|User):|Human:)(?s:.+?)\n+(?:### )?Assistant:",
    ),
    (
        "Alpaca's template",
        "### Instruction:",
        r"(?:Below is an instruction[^#]{0,400}\n+)?### Instruction:(?s:.+?)\n+### Response:",
    ),
)
"""Names, the mark that messages show, and how a text in it begins."""
_BEGINNINGS = tuple((name, mark, re.compile(begin)) for name, mark, begin in _TEMPLATES)
_MARKS = re.compile(r"<\||\[INST\]|<start_of_turn>|### |Human:|Below is an instruction")


def templated_findings(example: Example) -> Iterator[Finding]:
    """Yield a finding if a plain text, or a prompt, begins as a conversation in a template does."""
    text = example.answer if example.is_plain_text else example.instruction
    if not _MARKS.search(text, 0, 600):
        return
    start = text.lstrip()
    for name, mark, begin in _BEGINNINGS:
        if begin.match(start):
            what = (
                f"the text is a conversation in {name} ({mark}); all of it is trained as it is "
                "written, questions and marks too"
                if example.is_plain_text
                else f"the prompt is in {name} ({mark}), which is put inside the model's own"
            )
            place = (example.path, example.line, example.column)
            yield Finding(Kind.TEMPLATED_TEXT, what, *place)
            return
