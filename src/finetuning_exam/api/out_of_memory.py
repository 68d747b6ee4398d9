"""Turn running out of memory into an error that says which settings to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from finetuning_exam.errors import UsageError, is_out_of_memory
from finetuning_exam.report.text import size

LESS_IN_TRAINING = (
    "Lower --micro_batch_tokens or --max_length, or give --gradient_checkpointing True."
)
LESS_IN_EXAM = "Lower --eval_batch_size or --max_new_tokens."
LESS_ANYWHERE = "Close other programs, lower --eval_batch_size, or take a smaller model."
"""Where nothing tells which part of a command ran out of memory."""


@contextmanager
def out_of_memory_hint(expected: int, hint: str) -> Iterator[None]:
    """Turn running out of memory into an error with a hint; `expected` is the estimate, in bytes.

    Raises:
        UsageError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UsageError(
            f"out of memory; the run was expected to need {size(expected)}.", hint
        ) from error
