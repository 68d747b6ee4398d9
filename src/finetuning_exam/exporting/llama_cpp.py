"""llama.cpp as a runtime, through xllamacpp's embedded server on the loopback address."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, TypeVar, cast

import torch

from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.records import Turn
from finetuning_exam.exporting.gguf_files.vocabulary import Vocabulary
from finetuning_exam.exporting.gguf_files.write import write_vocabulary
from finetuning_exam.exporting.measure import TokenNlls, supervised
from finetuning_exam.exporting.runtime import CannotLoadError, Written

T = TypeVar("T")
R = TypeVar("R")
_AT_ONCE = 8
"""Rows that are computed together."""
_ROOM = 16
_TIMEOUT_S = 600.0


class LlamaCpp:
    """A GGUF file, and perhaps an adapter for it, in llama.cpp; close it after use.

    Keys and values are kept in float32, so that what differs is the model.
    """

    def __init__(self, model: Path, context: int, lora: Path | None = None) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.n_parallel = _AT_ONCE
        params.n_ctx = _AT_ONCE * (context + _ROOM)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.warmup = False
        params.swa_full = True
        params.verbosity = -1
        params.port = 0
        if lora is not None:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora), 1.0)]
        try:
            self._server: Any = xllamacpp.Server(params)
        except RuntimeError as error:
            raise CannotLoadError(f"llama.cpp does not load {model.name}") from error
        self._address = str(self._server.listening_address)
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server = None

    @property
    def name(self) -> str:
        """The program and its version."""
        return f"llama.cpp (xllamacpp {version('xllamacpp')})"

    def tokenize(self, text: str, *, has_marks: bool) -> tuple[int, ...]:
        """Return the ids of a text, without those that are put before it."""
        body = {"content": text, "add_special": False, "parse_special": has_marks}
        return tuple(self._ask("tokenize", body)["tokens"])

    def render(self, turns: Sequence[Turn]) -> str:
        """Return the prompt that the file's chat template makes of a conversation."""
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        return str(self._ask("apply-template", {"messages": messages})["prompt"])

    def start_ids(self) -> tuple[int, ...]:
        """Return the ids that are put before a text."""
        whole = self._ask("tokenize", {"content": "a", "add_special": True})["tokens"]
        bare = self._ask("tokenize", {"content": "a", "add_special": False})["tokens"]
        return tuple(whole[: len(whole) - len(bare)])

    def score(self, rows: Sequence[Encoded]) -> list[TokenNlls]:
        """Return the likelihood of each supervised token."""
        return _on_slots(self._score, rows)

    def _score(self, slot: int, row: Encoded) -> TokenNlls:
        """Have the model write the row's own tokens, and read how likely each of them was.

        The slot keeps what it has computed, so that each request computes one token.
        """
        return tuple(self._token_nll(slot, row.ids[:at], row.ids[at]) for at in supervised(row))

    def _token_nll(self, slot: int, before: Sequence[int], token: int) -> float:
        body = {
            "id_slot": slot,
            "prompt": list(before),
            "n_predict": 1,
            "n_probs": 1,
            "temperature": 0.0,
            "cache_prompt": True,
            "logit_bias": [[token, 1e9]],
        }
        first = self._ask("completion", body)["completion_probabilities"][0]
        assert first["id"] == token
        return -float(first["logprob"])

    def answer(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Written]:
        """Return the greedy answers, which end where the file says that answers end."""
        return _on_slots(lambda slot, it: self._answer(slot, it, max_new_tokens), prompts)

    def _answer(self, slot: int, prompt: Sequence[int], max_new_tokens: int) -> Written:
        body = {
            "id_slot": slot,
            "prompt": list(prompt),
            "n_predict": max_new_tokens,
            "temperature": 0.0,
            "top_k": 1,
            "return_tokens": True,
            "cache_prompt": False,
        }
        found = self._ask("completion", body)
        is_ended = found["stop_type"] == "eos"
        tokens = tuple(found["tokens"])
        return tokens[:-1] if is_ended else tokens, is_ended

    def ends_at(self, token: int) -> bool:
        """Return whether an answer ends when the model writes this token."""
        body = {
            "prompt": [token],
            "n_predict": 2,
            "temperature": 0.0,
            "logit_bias": [[token, 1e9]],
            "cache_prompt": False,
        }
        return bool(self._ask("completion", body)["stop_type"] == "eos")

    def _ask(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._address}/{path}",
            json.dumps(body).encode("utf-8"),
            {"Content-Type": "application/json"},
        )
        with self._open(request, timeout=_TIMEOUT_S) as answer:
            return cast("dict[str, Any]", json.load(answer))


def _on_slots(compute: Callable[[int, T], R], items: Sequence[T]) -> list[R]:
    """Compute items on the server's slots, each on one that is free."""
    free: SimpleQueue[int] = SimpleQueue()
    for slot in range(_AT_ONCE):
        free.put(slot)

    def one(item: T) -> R:
        slot = free.get()
        try:
            return compute(slot, item)
        finally:
            free.put(slot)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(one, items))


def is_installed() -> bool:
    """Return whether llama.cpp can be run here."""
    return find_spec("xllamacpp") is not None


def tokenize_with(vocabulary: Vocabulary, texts: Sequence[str]) -> list[tuple[int, ...]] | None:
    """Tokenize texts with a vocabulary in a model of one tiny layer; None if it cannot be loaded.

    Special tokens in the texts are ordinary text.
    """
    with TemporaryDirectory(prefix="fte-") as folder:
        file = Path(folder) / "vocabulary.gguf"
        write_vocabulary(file, vocabulary)
        try:
            with LlamaCpp(file, context=64) as runtime:
                return [runtime.tokenize(it, has_marks=False) for it in texts]
        except CannotLoadError:
            return None
