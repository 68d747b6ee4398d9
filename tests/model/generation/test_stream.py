"""A streamed answer: the text of a batch, piece by piece, from a model that is left as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from itertools import islice

import pytest
import torch
from passes import count_passes
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from tiny import ARCHITECTURES, adapted
from transformers import AutoModelForCausalLM, MambaConfig

from finetuning_exam.model.adapter import base_and_tuned
from finetuning_exam.model.generation import stream
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import Answer, generate_answers
from finetuning_exam.model.generation.stream import stream_answer
from finetuning_exam.model.mode import Side

PROMPT = (31, 45, 99, 120)
GREEDY = Decoding(12, tuple(range(20)), 0)
DRAWN = Decoding(12, tuple(range(20)), 0, do_sample=True, temperature=0.9, top_p=0.9, seed=3)


class Numbers:
    """A tokenizer whose text is the ids."""

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """The ids in decimal, with spaces between."""
        assert skip_special_tokens
        return " ".join(map(str, ids))


def _mamba() -> PeftModel:
    """A recurrent model, which cannot be batched."""
    config = MambaConfig(vocab_size=512, hidden_size=32, num_hidden_layers=2, initializer_range=0.3)
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(config)
    model = get_peft_model(base, LoraConfig(target_modules=["in_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    return model.train()


def _prompt_tuned() -> PeftModel:
    """A llama with an adapter outside its modules, which cannot be batched."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(ARCHITECTURES["llama"].config())
    config = PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    return get_peft_model(base, config).train()


def _stream(
    model: PeftModel, decoding: Decoding = GREEDY, side: Side = "tuned"
) -> Generator[str, None, Answer]:
    return stream_answer(model, Numbers(), PROMPT, decoding, side)


def _consume(pieces: Generator[str, None, Answer]) -> tuple[str, Answer]:
    """The pieces joined, and what the generator returns."""
    text = ""
    while True:
        try:
            text += next(pieces)
        except StopIteration as end:
            return text, end.value


def _assert_as_before(model: PeftModel) -> None:
    """The adapter is on, dropout too, and no thread is left."""
    assert model.training
    if not model.active_peft_config.is_prompt_learning:
        assert model.get_model_status().enabled is True
    assert not [it for it in threading.enumerate() if it.name == stream.THREAD_NAME]


MODELS = pytest.mark.parametrize("make", [adapted, _mamba], ids=["batched", "in a thread"])


@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # PEFT, of its own generate
@pytest.mark.parametrize("make", [adapted, _mamba, _prompt_tuned])
@pytest.mark.parametrize("decoding", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_the_pieces_are_the_answer_of_a_batch(
    make: Callable[[], PeftModel], decoding: Decoding
) -> None:
    """For base and tuned, greedy and drawn, the pieces joined are the text of the answer, which
    the generator returns.
    """
    model = make()
    expected = base_and_tuned(
        model, lambda: generate_answers(model, Numbers(), [PROMPT], decoding, 1)[0]
    )
    sides: tuple[Side, ...] = ("base", "tuned")
    for side, answer in zip(sides, expected, strict=True):
        text, returned = _consume(_stream(model, decoding, side))
        assert (text.strip(), returned) == (answer.text, answer)
        _assert_as_before(model)
    assert expected[0] != expected[1]


@MODELS
def test_a_piece_comes_before_the_answer_is_whole(make: Callable[[], PeftModel]) -> None:
    """There are several pieces, and they end with words."""
    pieces = list(_stream(make()))
    assert len(pieces) > 3
    assert all(piece.endswith(" ") for piece in pieces[:-1])


def test_the_model_runs_only_when_it_is_asked() -> None:
    """Nothing is computed before the first piece, and nothing between two pieces."""
    model = adapted()
    passes = count_passes(model)
    pieces = _stream(model)
    assert passes == []
    next(pieces)
    n_passes = len(passes)
    assert 0 < n_passes <= 3
    next(pieces)
    assert n_passes < len(passes) <= n_passes + 2
    pieces.close()


@MODELS
@pytest.mark.parametrize("side", ["base", "tuned"])
def test_closing_stops_the_model(make: Callable[[], PeftModel], side: Side) -> None:
    """A stream that is closed early computes nothing more and leaves the model as it was."""
    model = make()
    passes = count_passes(model)
    pieces = _stream(model, Decoding(500, (511,), 0), side)
    assert len(list(islice(pieces, 2))) == 2
    pieces.close()
    _assert_as_before(model)
    n_passes = len(passes)
    assert n_passes < 500
    assert list(pieces) == []
    assert len(passes) == n_passes


@MODELS
def test_a_stream_that_is_dropped_is_closed(make: Callable[[], PeftModel]) -> None:
    """Leaving a loop over it early is enough."""
    model = make()
    for _ in _stream(model, Decoding(500, (511,), 0), "base"):
        break
    _assert_as_before(model)


@MODELS
@pytest.mark.parametrize("error", [ValueError("no memory"), KeyboardInterrupt()])
def test_an_error_in_the_model_reaches_the_consumer(
    make: Callable[[], PeftModel], error: BaseException
) -> None:
    """It is raised where the next piece is asked for, and the model is left as it was."""
    model = make()
    is_broken = True

    def fail(n_passes: int) -> None:
        if is_broken and n_passes == 4:
            raise error

    count_passes(model, fail)
    pieces = _stream(model, side="base")
    next(pieces)
    with pytest.raises(type(error)) as caught:
        list(pieces)
    assert caught.value is error
    is_broken = False
    _assert_as_before(model)


@MODELS
def test_an_error_of_the_consumer_stops_the_stream(make: Callable[[], PeftModel]) -> None:
    """Ctrl-C while a piece is shown: the model is left as it was."""
    model = make()
    pieces = _stream(model, side="base")
    next(pieces)
    with pytest.raises(KeyboardInterrupt):
        pieces.throw(KeyboardInterrupt)
    _assert_as_before(model)


@MODELS
def test_one_stream_after_the_other(make: Callable[[], PeftModel]) -> None:
    """A second stream, after one that was closed and one that ended, has its own answer."""
    model = make()
    first = _stream(model, side="base")
    next(first)
    first.close()
    base = _consume(_stream(model, side="base"))
    tuned = _consume(_stream(model, side="tuned"))
    assert base != tuned
    assert _consume(_stream(model, side="base")) == base


def test_no_gradients_are_kept_and_no_mode_leaks() -> None:
    """Between two pieces the consumer's own computations have gradients as ever."""
    pieces = _stream(adapted())
    next(pieces)
    weight = torch.ones(2, requires_grad=True)
    torch.autograd.backward((weight * 2).sum())
    assert not weight.is_inference()
    assert weight.grad is not None
    pieces.close()
