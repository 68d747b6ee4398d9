"""Answers cut off at a number of tokens, the same for `fte check` and `fte train`."""

from __future__ import annotations

from finetuning_exam.data.answers import cut_answers, length_units
from finetuning_exam.data.encoding.encoder import SHORT, Encoded, Encoder
from finetuning_exam.data.encoding.rows import EncodedRows
from finetuning_exam.data.findings import Finding
from finetuning_exam.data.split import Split


def cut_by_tokens(
    encoder: Encoder, split: Split, parts: tuple[EncodedRows[Encoded], ...]
) -> tuple[Finding, ...]:
    """Find answers cut off at a number of tokens, in files for which no other unit is found.

    `parts` hold the rows of the examples of a split, and may hold others.
    """
    used = {*split.train, *split.validation, *split.exam}
    rows = {
        example: row
        for part in parts
        for example, row in zip(part.examples, part.rows, strict=True)
        if example in used
    }
    examples = sorted(rows, key=lambda it: (it.line, it.column))
    known = {it.path for it in cut_answers(examples, length_units())}
    examples = [example for example in examples if example.path not in known]
    short = encoder.encode(SHORT)
    n_end = len(short.ids) - short.prompt_length - 1
    sizes = {
        it.answer.strip(): len(rows[it].ids) - rows[it].prompt_length - n_end for it in examples
    }
    return cut_answers(examples, {"tokens": sizes.__getitem__})
