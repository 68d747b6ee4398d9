"""The text a model sees: one source for training, exam and compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from finetuning_exam.data.records import Example
from finetuning_exam.errors import ModelError
from finetuning_exam.settings import Template

_MARKER = "x"


class ChatTokenizer(Protocol):
    """The part of a Transformers tokenizer that renders a conversation."""

    chat_template: str | None

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """The text of a conversation."""
        ...


@dataclass(frozen=True, slots=True)
class Rendered:
    """A record as text: the prompt half is masked in training, the answer half is trained."""

    prompt: str
    answer: str


def prompt_func(example: Example) -> str:
    """The prompt half of `formatting_func`: all that the model is given at inference."""
    section = f"### Input:\n{example.input}\n\n" if example.input else ""
    return f"### Instruction:\n{example.instruction}\n\n{section}### Response:\n"


def formatting_func(example: Example) -> str:
    """The whole text of a record in the plain template, without the end token."""
    return prompt_func(example) + example.answer


def choose_template(wanted: Template, tokenizer: ChatTokenizer) -> Template:
    """`auto` becomes `chat` for a tokenizer with a chat template, else `plain`.

    Raises:
        ModelError: `chat` was asked for and there is no chat template.
    """
    has_chat = bool(tokenizer.chat_template)
    if wanted == "auto":
        return "chat" if has_chat else "plain"
    if wanted == "chat" and not has_chat:
        raise ModelError("The tokenizer has no chat template.", "Use --template plain.")
    return wanted


def render(example: Example, template: Template, tokenizer: ChatTokenizer) -> Rendered:
    """A record as prompt and answer text in the chosen template (`plain` or `chat`).

    Raises:
        ModelError: the chat template fails, or the prompt is no prefix of the whole text, so
            that training and inference would see different prompts.
    """
    if template == "plain":
        return Rendered(prompt_func(example), example.answer)
    question = f"{example.instruction}\n\n{example.input}" if example.input else example.instruction
    turns = [{"role": "user", "content": question}]
    prompt = _apply(tokenizer, turns, add_generation_prompt=True)
    whole = _apply(
        tokenizer,
        [*turns, {"role": "assistant", "content": example.answer or _MARKER}],
        add_generation_prompt=False,
    )
    if not whole.startswith(prompt):
        raise ModelError(
            "With this chat template the prompt is not a prefix of the whole conversation, so "
            "training and inference would see different prompts.",
            "Use --template plain.",
        )
    answer = whole[len(prompt) :]
    if (example.answer or _MARKER).strip() not in answer:
        raise ModelError(
            "This chat template does not show the assistant's answer as it is written.",
            "Use --template plain.",
        )
    return Rendered(prompt, answer if example.answer else "")


def _apply(
    tokenizer: ChatTokenizer, turns: list[dict[str, str]], *, add_generation_prompt: bool
) -> str:
    try:
        return tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except Exception as error:  # a template is foreign code and may raise anything
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ModelError(f"The chat template fails: {reason}.", "Use --template plain.") from error
