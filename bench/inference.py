# ruff: noqa: T201, TID251 - a benchmark prints its table, and compares with plain Transformers
"""Compare two ways to answer with base and tuned model: one prompt at a time, and side by side.

    uv run python bench/inference.py
    uv run python bench/inference.py --model path/to/model --adapter runs/mine --data mine.jsonl

The first way keeps two models in memory, the base and the base with its adapter, and calls
Transformers' `generate` for each prompt on one and then the other. The second is what `fte compare`
and the exam do. Both decode greedily and run alternately; the benchmark prints their median times.
Without --adapter the adapter is random (and changes most answers).

Exits with 1 if a text differs where the two likeliest tokens are not nearly tied.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import GenerationConfig, PreTrainedModel

from finetuning_exam.data.encoding.encoder import Encoder, make_encoder
from finetuning_exam.data.encoding.template import choose_template
from finetuning_exam.data.reading.read import read_sound_records
from finetuning_exam.model.adapter import add_adapter, load_adapter, lora_config
from finetuning_exam.model.device import choose_compute
from finetuning_exam.model.generation.decoding import Decoding
from finetuning_exam.model.generation.generate import Answer, answer_both
from finetuning_exam.model.load import Base, load_base
from finetuning_exam.settings import BUILTIN_MODEL, CompareSettings

DEFAULTS = CompareSettings()
NEAR_TIE = 1e-3
"""A difference of logits that the order of float32 additions can reverse."""

T = TypeVar("T")
Ids = tuple[int, ...]
Texts = tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """Two models, their prompts, and the decoding settings."""

    base: Base
    tuned: PeftModel
    encoder: Encoder
    prompts: list[Ids]
    decoding: Decoding


def load_task(given: argparse.Namespace) -> Task:
    """Load base and tuned model, with separate weights, and encode the prompts."""
    compute = choose_compute(given.device, given.dtype)
    base = load_base(given.model, compute)
    below = load_base(given.model, compute)
    if given.adapter:
        tuned = load_adapter(below, Path(given.adapter))
    else:
        tuned = add_adapter(below, lora_config(16, 32, 0.0, ("all-linear",)), seed=0)
        randomize(tuned, seed=0)
    tuned.eval()
    encoder = make_encoder(
        base.tokenizer, choose_template("auto", base.tokenizer), base_stop_ids=base.stop_ids
    )
    records = read_sound_records([given.data], DEFAULTS, answer_required=False)
    asked = [it for it in records.examples if not it.is_plain_text][: given.prompts]
    room = base.context - given.max_new_tokens
    prompts = [encoder.fit_prompt(it, room)[0] for it in asked]
    decoding = Decoding(
        given.max_new_tokens, encoder.stop_ids, encoder.eos_token_id, context=base.context
    )
    return Task(base, tuned, encoder, prompts, decoding)


def randomize(model: PeftModel, seed: int) -> None:
    """Draw B matrices so that each update has the same norm as the weight it adapts."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            b_weight = module.lora_B["default"].weight.data
            torch.nn.init.normal_(b_weight)
            change = module.get_delta_weight("default").norm()
            b_weight.mul_(module.get_base_layer().weight.norm() / change)


def one_by_one(task: Task) -> tuple[list[Ids], list[Ids]]:
    """Generate ids with base and tuned model, prompt by prompt."""
    return (
        [generated(task.base.model, prompt, task.decoding) for prompt in task.prompts],
        [generated(task.tuned, prompt, task.decoding) for prompt in task.prompts],
    )


def generated(model: PreTrainedModel | PeftModel, prompt: Ids, decoding: Decoding) -> Ids:
    """Generate ids for one prompt."""
    ids = torch.tensor([prompt], device=model.device)
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=GenerationConfig(
                max_new_tokens=decoding.room(len(prompt)),
                do_sample=False,
                eos_token_id=list(decoding.stop_ids),
                pad_token_id=decoding.pad_id,
            ),
        )
    return tuple(output[0, len(prompt) :].tolist())


def together(task: Task, batch_size: int) -> tuple[Texts, Texts]:
    """Answer all prompts with base and tuned model, as `fte compare` does."""
    return answer_both(task.tuned, task.base.tokenizer, task.prompts, task.decoding, batch_size)


def timed(run: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds a run took, and its result."""
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def text_of(task: Task, ids: Ids) -> str:
    """Decode an answer."""
    stopped = bool(ids) and ids[-1] in task.decoding.stop_ids
    kept = ids[:-1] if stopped else ids
    text: str = task.base.tokenizer.decode(kept, skip_special_tokens=True)
    return text.strip()


def gap_where_they_differ(
    task: Task, model: PreTrainedModel | PeftModel, prompt: Ids, ids: Ids, text: str
) -> float:
    """Return the gap between the top two logits at the point where `text` departs from `ids`."""
    fit = [n for n in range(len(ids)) if text.startswith(text_of(task, ids[:n]))]
    row = torch.tensor([[*prompt, *ids[: max(fit)]]], device=model.device)
    with torch.inference_mode():
        first, second = model(input_ids=row).logits[0, -1].float().topk(2).values.tolist()
    return float(first - second)


def compare_texts(
    task: Task, expected: tuple[list[Ids], list[Ids]], found: tuple[Texts, Texts]
) -> bool:
    """Print how many texts are identical, and list the others; True if near ties explain them."""
    gaps: list[float] = []
    for side, model, ids, answers in zip(
        ("base", "tuned"), (task.base.model, task.tuned), expected, found, strict=True
    ):
        for number, (prompt, new, answer) in enumerate(
            zip(task.prompts, ids, answers, strict=True)
        ):
            if text_of(task, new) == answer.text:
                continue
            gaps.append(gap_where_they_differ(task, model, prompt, new, answer.text))
            print(f"  {side} answer {number + 1} differs where two logits are {gaps[-1]:.2g} apart")
    n_texts = 2 * len(task.prompts)
    n_others = sum(a != b for a, b in zip(*found, strict=True))
    print(
        f"{n_texts - len(gaps)} of {n_texts} texts identical; "
        f"base and tuned differ in {n_others} of {len(task.prompts)} answers"
    )
    return all(gap < NEAR_TIE for gap in gaps)


def measure(task: Task, batch_sizes: Sequence[int], repeats: int) -> bool:
    """Run all ways alternately, print their medians, and compare the texts of the last round."""
    seconds: dict[int, list[float]] = {size: [] for size in (0, *batch_sizes)}
    texts: dict[int, tuple[Texts, Texts]] = {}
    together(task, batch_sizes[0])  # warmup: the first pass of a process allocates memory
    for _ in range(repeats):
        taken, expected = timed(lambda: one_by_one(task))
        seconds[0].append(taken)
        for size in batch_sizes:
            taken, texts[size] = timed(partial(together, task, size))
            seconds[size].append(taken)
    alone = statistics.median(seconds[0])
    print("| way | median s | all s | times as fast |\n| --- | --- | --- | --- |")
    for size, all_seconds in seconds.items():
        name = (
            f"side by side, {size} prompts a pass" if size else "one prompt at a time, two models"
        )
        median = statistics.median(all_seconds)
        shown = " ".join(f"{it:.2f}" for it in all_seconds)
        print(f"| {name} | {median:.2f} | {shown} | {alone / median:.1f} |")
    n_new = [sum(map(len, side)) for side in expected]
    print(f"\n{n_new[0]:,} new tokens by the base, {n_new[1]:,} by the tuned model")
    explained = [compare_texts(task, expected, texts[size]) for size in batch_sizes]
    return all(explained)


def main() -> int:
    """Load, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", default=BUILTIN_MODEL, help="builtin, or a model folder")
    parser.add_argument("--adapter", help="adapter folder (default: a random adapter)")
    parser.add_argument("--data", default="exam.jsonl", help="file with questions")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--max_new_tokens", type=int, default=64)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[DEFAULTS.eval_batch_size])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    task = load_task(given)
    lengths = [len(it) for it in task.prompts]
    print(
        f"{task.base.name}, {task.base.n_parameters / 1e6:.1f} M parameters, "
        f"{given.adapter or 'a random adapter'}; {len(lengths)} prompts of {min(lengths)} to "
        f"{max(lengths)} tokens, up to {given.max_new_tokens} new ones; {given.device}, "
        f"{given.dtype}, {torch.get_num_threads()} threads\n"
    )
    return 0 if measure(task, given.batch_sizes, given.repeats) else 1


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
