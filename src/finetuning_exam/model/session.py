"""A base and its adapter in memory: one object that encodes, answers, streams and scores."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Literal

from peft import PeftModel

from finetuning_exam.data.encoding.chat_template import TurnsRefusedError
from finetuning_exam.data.encoding.encoder import Encoded, Encoder, make_encoder
from finetuning_exam.data.encoding.rows import refused, special_token_findings
from finetuning_exam.data.encoding.template import choose_template
from finetuning_exam.data.findings import Finding
from finetuning_exam.data.question import make_question
from finetuning_exam.data.reading.read import refuse_errors
from finetuning_exam.data.records import Example
from finetuning_exam.errors import DataError
from finetuning_exam.model.adapter import base_and_tuned, load_adapter
from finetuning_exam.model.device import Compute, choose_compute, layer_size
from finetuning_exam.model.divergence import TextScores, compare_texts
from finetuning_exam.model.fast.path import FastPath, choose_fast_path, wanted_pieces
from finetuning_exam.model.folder import adapter_origin, find_model_folder
from finetuning_exam.model.generation import generate
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import Answer, generate_answers
from finetuning_exam.model.generation.loops import FEWEST_TOKENS
from finetuning_exam.model.generation.stream import stream_answer
from finetuning_exam.model.load import Base, load_base
from finetuning_exam.model.mode import Side, on_side
from finetuning_exam.model.score import Score, check_finite, score_options_of_both, score_rows
from finetuning_exam.model.tokenizer import pad_token_id
from finetuning_exam.settings import CompareSettings, Device, Dtype, SystemTurns, Template


@dataclass(frozen=True, slots=True)
class Prompt:
    """The ids of a question, ready to be answered, and how many were cut to make them fit."""

    ids: tuple[int, ...]
    n_cut: int = 0


Question = str | Example | Prompt
"""A text that was typed; a record, which may have earlier turns; or what `prompts` made of one."""


@dataclass(frozen=True, slots=True)
class Session:
    """One model in memory that serves as two: tuned with its adapter, and base without it.

    Nothing is printed, and no method changes the session. Base and adapter share their weights, so
    a session does one thing at a time: a call from another thread, or while a stream is open,
    raises `RuntimeError` rather than answer as the wrong side.

        session = Session.load("output")
        print(session.answer("What does ls do?").text)
    """

    base: Base
    model: PeftModel
    encoder: Encoder
    compute: Compute
    fast: FastPath
    """The model's likelihood: the fast path, or without any pieces its stock forward pass."""
    in_use: Lock = field(default_factory=Lock, repr=False, compare=False)

    @classmethod
    def load(
        cls,
        adapter: Path | str,
        model: str | None = None,
        device: Device = "auto",
        dtype: Dtype = "auto",
        template: Template = "auto",
        enable_thinking: bool | Literal["auto"] = "auto",
    ) -> Session:
        """Load an adapter's folder on its base; without `model`, on the base it was trained on.

        The template `auto` is the one the adapter was trained with, where its folder names it. The
        likelihood is the stock one; see `with_fast_path`.

        Raises:
            ModelError, AdapterError, UsageError: the base or the adapter cannot be used.
        """
        folder = Path(adapter)
        origin = adapter_origin(folder)
        name = model or origin.base_name
        layer = layer_size(find_model_folder(name))
        compute = choose_compute(device, dtype, layer, origin.cpu_dtype)
        base = load_base(name, compute)
        tuned = load_adapter(base, folder)  # a wrong base is named before its template is missed
        if template == "auto" and origin.template:
            template = origin.template
        encoder = make_encoder(
            base.tokenizer,
            choose_template(template, base.tokenizer),
            base_stop_ids=base.stop_ids,
            date=origin.template_date,
            is_thinking=origin.thinking if enable_thinking == "auto" else enable_thinking,
        )
        stock = FastPath(tuned, pad_token_id(base.tokenizer), frozenset())
        encoder = replace(encoder, folds_system=origin.folds_system)
        return cls(base, tuned, encoder, compute, stock)

    def with_system_turns(self, wanted: SystemTurns) -> Session:
        """Return this session with system texts as `--system_turns` says."""
        folds = self.encoder.folds_system if wanted == "auto" else wanted == "fold"
        return replace(self, encoder=replace(self.encoder, folds_system=folds))

    def with_fast_path(self) -> Session:
        """Return this session with the fastest likelihood that agrees with the stock one."""
        pad_id = pad_token_id(self.base.tokenizer)
        fast = choose_fast_path(self.model, pad_id, wanted_pieces(("all",)))
        return replace(self, fast=fast)

    def encode(self, example: Example) -> Encoded:
        """Return the ids and labels of a question with its answer, however long they are."""
        return self.encoder.encode(example)

    def prompts(self, questions: Sequence[Question], max_new_tokens: int) -> list[Prompt]:
        """Return the prompts of questions, each cut so that its answer has room.

        A prompt keeps half of the model's context however large `max_new_tokens` is. A
        conversation loses its oldest exchanges first, then the middle of what is left. A question
        that is already a `Prompt` stays as it is.

        Raises:
            DataError: some ask nothing, hold a special token that the chat template would obey, or
                have turns that it refuses; all of these are named.
        """
        asked = [
            make_question(it, number=number) if isinstance(it, str) else it
            for number, it in enumerate(questions, 1)
        ]
        examples = [it for it in asked if isinstance(it, Example)]
        texts = [it.where for it in examples if it.is_plain_text]
        if texts:
            faults = [f"{where}: a plain text, which asks nothing." for where in texts]
            raise DataError(faults, "Give questions.")
        refuse_errors(special_token_findings(self.encoder, examples))
        context = self.base.context
        room = max(context - max_new_tokens, context // 2)
        prompts = [it if isinstance(it, Prompt) else self._fitted(it, room) for it in asked]
        refuse_errors(it for it in prompts if isinstance(it, Finding))
        return [it for it in prompts if isinstance(it, Prompt)]

    def _fitted(self, example: Example, room: int) -> Prompt | Finding:
        """Return the prompt of a question, or the reason why the chat template refuses it."""
        try:
            return Prompt(*self.encoder.fit_prompt(example, room))
        except TurnsRefusedError as refusal:
            return refused(refusal, example)

    def decoding(
        self,
        max_new_tokens: int = CompareSettings.max_new_tokens,
        *,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        loop_tokens: int = FEWEST_TOKENS,
    ) -> Decoding:
        """Return settings of decoding, with the stop ids and the context of this model.

        A greedy answer ends where `loop_tokens` of it repeat themselves, see `loops`.
        """
        return Decoding(
            max_new_tokens=max_new_tokens,
            stop_ids=self.encoder.stop_ids,
            stop_text=self.encoder.stop_text,
            pad_id=pad_token_id(self.base.tokenizer),
            do_sample=do_sample,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            context=self.base.context,
            loop_tokens=loop_tokens,
        )

    def answer(
        self, question: Question, decoding: Decoding | None = None, side: Side = "tuned"
    ) -> Answer:
        """Return one side's answer to a question.

        Raises:
            DataError: as `prompts`.
        """
        decoding = decoding or self.decoding()
        prompt = self._prompt(question, decoding)
        with self._alone(), on_side(self.model, side):
            tokenizer = self.base.tokenizer
            (answer,) = generate_answers(self.model, tokenizer, [prompt.ids], decoding, 1)
        return answer

    def answer_both(
        self,
        questions: Sequence[Question],
        decoding: Decoding | None = None,
        batch_size: int = CompareSettings.eval_batch_size,
    ) -> tuple[tuple[Answer, ...], tuple[Answer, ...]]:
        """Return the answers of base and of tuned model to every question, in the order given.

        Both draw with the same random numbers; where model and adapter allow it they share their
        forward passes, of at most `batch_size` questions.

        Raises:
            DataError: as `prompts`.
        """
        decoding = decoding or self.decoding()
        prompts = [it.ids for it in self.prompts(questions, decoding.max_new_tokens)]
        with self._alone():
            tokenizer = self.base.tokenizer
            return generate.answer_both(self.model, tokenizer, prompts, decoding, batch_size)

    def stream(
        self, question: Question, decoding: Decoding | None = None, side: Side = "tuned"
    ) -> Generator[str, None, Answer]:
        """Yield one side's answer to a question, piece by piece as soon as each is certain.

        The pieces joined and stripped are the text of the answer that `answer` gives, which is also
        the generator's return value. Closing the iterator stops the model and frees the session;
        so does an error, and so does the end.

        Raises:
            DataError: as `prompts`, when the first piece is asked for.
        """
        decoding = decoding or self.decoding()
        prompt = self._prompt(question, decoding)
        with self._alone():
            tokenizer = self.base.tokenizer
            return (yield from stream_answer(self.model, tokenizer, prompt.ids, decoding, side))

    def _prompt(self, question: Question, decoding: Decoding) -> Prompt:
        return self.prompts([question], decoding.max_new_tokens)[0]

    def score(
        self, rows: Sequence[Encoded], batch_size: int = CompareSettings.eval_batch_size
    ) -> tuple[tuple[Score, ...], tuple[Score, ...]]:
        """Return the scores of base and of tuned model for every row, in the order given.

        Raises:
            ModelError: a likelihood is NaN or infinite, so that no score means anything.
        """
        with self._alone():
            found = base_and_tuned(
                self.model, lambda: score_rows(self.model, rows, self.fast.row_nll, batch_size)
            )
        check_finite(*found)
        return found

    def score_options(
        self, rows: Sequence[Encoded], batch_size: int = CompareSettings.eval_batch_size
    ) -> tuple[tuple[Score, ...], tuple[Score, ...]]:
        """Return what `score` does; a prompt that several rows have is computed only once.

        Raises:
            ModelError: as `score`.
        """
        with self._alone():
            found = score_options_of_both(self.fast, rows, batch_size)
        check_finite(*found)
        return found

    def compare_texts(
        self, rows: Sequence[Encoded], batch_size: int = CompareSettings.eval_batch_size
    ) -> tuple[TextScores, ...]:
        """Return the scores of both models on every text, in the order given, and how far apart
        their predictions are.

        Raises:
            ModelError: as `score`.
        """
        with self._alone():
            found = compare_texts(self.fast, rows, batch_size)
        check_finite([it.base for it in found], [it.tuned for it in found])
        return found

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self.in_use.acquire(blocking=False):
            raise RuntimeError(
                "The session is in use: wait for the other call, or close the stream that is open."
            )
        try:
            yield
        finally:
            self.in_use.release()
