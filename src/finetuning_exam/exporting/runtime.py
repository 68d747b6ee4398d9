"""The program that an export is for, seen from the outside; and Transformers as one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.records import Turn
from finetuning_exam.exporting.measure import TokenNlls, token_nlls
from finetuning_exam.model.tokenizer import end_tokens

Written = tuple[tuple[int, ...], bool]
"""The ids of an answer without the token that ended it, and whether one did."""


class CannotLoadError(Exception):
    """A program that does not load an export."""


class Runtime(Protocol):
    """A program that runs an exported model, as its users would run it."""

    @property
    def name(self) -> str:
        """The program and its version."""
        ...

    def tokenize(self, text: str, *, has_marks: bool) -> tuple[int, ...]:
        """Return the ids of a text; special tokens in it are read as such if it `has_marks`."""
        ...

    def render(self, turns: Sequence[Turn]) -> str:
        """Return the prompt that the exported chat template makes of a conversation."""
        ...

    def start_ids(self) -> tuple[int, ...]:
        """Return the ids that the program puts before a text."""
        ...

    def score(self, rows: Sequence[Encoded]) -> list[TokenNlls]:
        """Return the likelihood of each supervised token."""
        ...

    def answer(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Written]:
        """Return the greedy answers to prompts, with the model's own rules of when to stop."""
        ...

    def ends_at(self, token: int) -> bool:
        """Return whether an answer ends when the model writes this token."""
        ...


class TransformersRuntime:
    """A merged folder, loaded in float32 without any of this program's settings."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
        ).eval()

    @property
    def name(self) -> str:
        """The program and its version."""
        return f"Transformers {transformers.__version__}"

    def tokenize(self, text: str, *, has_marks: bool) -> tuple[int, ...]:
        """Return the ids of a text."""
        return tuple(
            self._tokenizer.encode(
                text, add_special_tokens=False, split_special_tokens=not has_marks
            )
        )

    def render(self, turns: Sequence[Turn]) -> str:
        """Return the prompt that the exported chat template makes of a conversation."""
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        )

    def start_ids(self) -> tuple[int, ...]:
        """Return the ids that the tokenizer puts before a text."""
        with_start = self._tokenizer.encode("a", add_special_tokens=True)
        bare = self._tokenizer.encode("a", add_special_tokens=False)
        return tuple(with_start[: len(with_start) - len(bare)])

    def score(self, rows: Sequence[Encoded]) -> list[TokenNlls]:
        """Return the likelihood of each supervised token."""
        return token_nlls(self._model, rows)

    def answer(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Written]:
        """Return the answers of `generate` with the folder's own generation config."""
        return [self._answer(prompt, max_new_tokens) for prompt in prompts]

    def _answer(self, prompt: Sequence[int], max_new_tokens: int) -> Written:
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            output = self._model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens
            )
        new = output[0, len(prompt) :].tolist()
        is_ended = bool(new) and self.ends_at(new[-1])
        return tuple(new[:-1] if is_ended else new), is_ended

    def ends_at(self, token: int) -> bool:
        """Return whether the generation config ends an answer at this token."""
        return token in end_tokens(self._model.generation_config.eos_token_id)
