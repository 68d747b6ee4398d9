"""`fte compare`: the answers of base and tuned model side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from finetuning_exam.cli.arguments import Parsed
from finetuning_exam.cli.console import load_with_words, make_console, say, say_unused
from finetuning_exam.data.reading.read import read_sound_records, refuse_errors
from finetuning_exam.data.records import Example
from finetuning_exam.errors import DataError
from finetuning_exam.settings import CompareSettings

if TYPE_CHECKING:
    from finetuning_exam.model.tuned import Tuned
    from finetuning_exam.report.terminal import Comparison


def run(parsed: Parsed[CompareSettings]) -> int:
    """Run the command; returns its exit code.

    Raises:
        UserError: anything the user can mend.
    """
    settings = parsed.settings
    console = make_console()
    say_unused(console, settings.config, parsed.unused_keys, "compare")
    if not settings.do_sample and (settings.temperature != 1.0 or settings.top_p != 1.0):
        say(console, "temperature and top_p have no effect without --do_sample.")
    examples = _asked(settings)
    tuned = load_with_words(
        console, settings, settings.adapter_name_or_path, settings.model_name_or_path
    )
    if examples:
        _show(console, _answer(console, tuned, examples, settings))
    else:
        _converse(console, tuned, settings)
    return 0


def _asked(settings: CompareSettings) -> tuple[Example, ...]:
    """Questions from the arguments, then those of the file."""
    typed = tuple(
        _typed(text, "argument", number) for number, text in enumerate(settings.prompt, 1)
    )
    if settings.prompts is None:
        return typed
    records = read_sound_records([settings.prompts], settings, answer_required=False)
    return typed + records.examples


def _typed(text: str, path: str, number: int) -> Example:
    """A question that was typed.

    Raises:
        DataError: it is empty or no Unicode text.
    """
    where = f"{path}:{number}"
    if not text.strip():
        raise DataError([f"{where}: the question is empty."])
    if not text.isprintable() and any("\ud800" <= char <= "\udfff" for char in text):
        raise DataError([f"{where}: the question is not UTF-8."])
    return Example(instruction=text, answer="", line=number, path=path)


def _answer(
    console: Console, tuned: Tuned, examples: Sequence[Example], settings: CompareSettings
) -> list[Comparison]:
    """Both models' answers to the same prompts with the same seed."""
    from finetuning_exam.evaluation.decoding import Decoding
    from finetuning_exam.evaluation.exam import pad_token_id
    from finetuning_exam.evaluation.generate import answer_both
    from finetuning_exam.report.terminal import Comparison

    prompts = _prompts(console, tuned, examples, settings.max_new_tokens)
    decoding = Decoding(
        max_new_tokens=settings.max_new_tokens,
        context=tuned.base.context,
        stop_ids=tuned.encoder.stop_ids(),
        pad_id=pad_token_id(tuned.base.tokenizer, tuned.encoder),
        do_sample=settings.do_sample,
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=settings.seed,
    )
    before, after = answer_both(
        tuned.model, tuned.base.tokenizer, prompts, decoding, settings.eval_batch_size
    )
    return [
        Comparison(example.instruction, old.text, new.text, example.answer)
        for example, old, new in zip(examples, before, after, strict=True)
    ]


def _prompts(
    console: Console, tuned: Tuned, examples: Sequence[Example], max_new_tokens: int
) -> list[tuple[int, ...]]:
    """Ids of what is asked; a prompt that leaves no room for an answer is cut, and that is said.

    However long answers may be, a prompt keeps half of the model's context.

    Raises:
        DataError: a record asks nothing, or holds a special token which a template would obey.
    """
    from finetuning_exam.data.encoding.encode import special_token_findings

    texts = [
        f"{it.where}: a plain text, which asks nothing." for it in examples if it.is_plain_text
    ]
    if texts:
        raise DataError(texts, "Give questions.")
    refuse_errors(special_token_findings(tuned.encoder, examples))
    context = tuned.base.context
    room = max(context - max_new_tokens, context // 2)
    prompts: list[tuple[int, ...]] = []
    for example in examples:
        ids, n_cut = tuned.encoder.fit_prompt(example, room)
        if n_cut:
            before = len(ids) + n_cut
            say(
                console,
                f"{example.where}: the prompt is cut from {before} to {len(ids)} tokens, "
                "so that the model has room for an answer.",
            )
        prompts.append(ids)
    return prompts


def _show(console: Console, comparisons: Sequence[Comparison]) -> None:
    from finetuning_exam.report.terminal import comparisons_table

    console.print(comparisons_table(comparisons))


def _converse(console: Console, tuned: Tuned, settings: CompareSettings) -> None:
    """Ask for questions until there are no more (an empty line or the end of input)."""
    say(console, "Type a question; an empty line ends.")
    number = 0
    while True:
        try:
            text = console.input("> ").strip()
        except EOFError:
            return
        if not text:
            return
        number += 1
        try:
            asked = [_typed(text, "question", number)]
            _show(console, _answer(console, tuned, asked, settings))
        except DataError as error:
            say(console, str(error))
