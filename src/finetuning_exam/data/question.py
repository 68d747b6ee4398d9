"""Turn a typed question into an example, like a record of a file."""

from __future__ import annotations

from finetuning_exam.data.records import Example
from finetuning_exam.errors import DataError


def make_question(text: str, path: str = "question", number: int = 1) -> Example:
    """Return a question without a reference answer; errors name it `path:number`.

    Raises:
        DataError: it is empty or not valid Unicode.
    """
    where = f"{path}:{number}"
    if not text.strip():
        raise DataError([f"{where}: the question is empty."])
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise DataError([f"{where}: the question is not UTF-8."])
    return Example(instruction=text, answer="", line=number, path=path)
