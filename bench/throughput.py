# ruff: noqa: T201 - a benchmark prints its table
"""Measure tokens per second of `fte train` against plain TRL and the machine's matrix rate.

    uv run bench/throughput.py
    uv run bench/throughput.py --models builtin --max_steps 6 --repeat 1
    uv run bench/throughput.py --models smollm2-135m qwen3-0.6b --json out.json --plot out.svg

Each repetition runs five arms in turn, each in a separate process with one thread per usable core:
plain TRL (bench/plain_trl.py) with 1 row × 2 accumulated and with 8 rows × 1, `fte train` with
optimizer batches of 2 and of 8 rows, and the matrix rate (bench/roofline.py). Both trainers load
the same folder and get the same rows, seed and recipe (LoRA, AdamW, constant learning rate, no
dropout). TRL's encoding of the rows is compared with the project's, id by id and label by label.

Speed counts real tokens, without padding, over all steps but the first two (but the first, if there
are only two). The time to the first step is the wall time from the start of the process to the end
of the first optimizer step. The memory peak covers loading and training (outside Linux also the
short exam of `fte train`).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import shapes
from runs import (
    ARMS,
    BENCH,
    Arm,
    Place,
    Recipe,
    Run,
    common_flags,
    count_threads,
    prepare,
    recipe_of,
    run_child,
    run_fte,
    run_trl,
)
from throughput_report import Measured, cpu_name, figure, plot, table, to_json

STEPS = {
    "builtin": {2: 60, 8: 15},
    "smollm2-135m": {2: 12, 8: 3},
    "qwen3-0.6b": {2: 6, 8: 2},
}
"""Optimizer steps by rows in a batch. On two cores plain TRL takes at most a minute with batches of
2, and a few minutes with batches of 8 of the larger models, whose steps are that long."""
IDLE = 0.5


def run_roofline(place: Place, threads: int) -> dict[str, Any]:
    """Run bench/roofline.py on the model's shapes."""
    with tempfile.TemporaryDirectory(dir=place.folder) as name:
        folder = Path(name)
        found = folder / "roofline.json"
        share = str(place.work.supervised_share)
        command = [sys.executable, str(BENCH / "roofline.py"), str(place.model)]
        command += ["--supervised_share", share, "--json", str(found)]
        run_child(command, folder, threads, None)
        result: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
        return result


def measure(name: str, place: Place, recipe: Recipe, flags: argparse.Namespace) -> Measured:
    """Run all arms of one model, one round per repetition."""
    work, threads = place.work, flags.threads
    shape = shapes.read_shape(place.model)
    n_lora = shapes.lora_parameters(shape, recipe.targets, recipe.lora_r)
    runs: dict[Arm, list[Run]] = {arm: [] for arm in ARMS if arm.name in flags.arms}
    rooflines = []
    for repetition in range(flags.repeat):
        at = f"{name} {repetition + 1}/{flags.repeat}"
        rooflines.append(run_roofline(place, threads))
        print(f"{at} matrix rate: {rooflines[-1]['total'] / 1e9:.1f} GFLOP/s", flush=True)
        for arm, done in runs.items():
            steps = flags.max_steps or STEPS[name][arm.batch]
            train = run_fte if arm.is_ours else run_trl
            extra = shlex.split(flags.fte_args if arm.is_ours else flags.trl_args)
            run = train(place, arm, recipe, steps, threads, *extra)
            if run.threads != threads:
                sys.exit(f"{arm.name} ran on {run.threads} threads instead of {threads}")
            done.append(run)
            print(
                f"{at} {arm.name}: {figure(run.tokens_per_second)} tokens/s, "
                f"{run.peak_rss / 1e9:.1f} GB, first step after {run.first_step_s:.1f} s",
                flush=True,
            )
    return Measured(
        name,
        len(work.rows),
        work.n_tokens / len(work.rows),
        work.mean_own_length,
        work.supervised_share,
        n_lora,
        shapes.lora_flops_per_token(shape, n_lora, work.supervised_share, work.mean_own_length),
        tuple(rooflines),
        tuple((arm, tuple(done)) for arm, done in runs.items()),
    )


def main() -> None:
    """Measure the requested models."""
    parser = common_flags("Tokens per second of fte train against plain TRL.")
    parser.add_argument("--models", nargs="+", choices=shapes.MODELS, default=["smollm2-135m"])
    names = [arm.name for arm in ARMS]
    parser.add_argument("--arms", nargs="+", choices=names, default=names)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--rows", type=int, help="default: enough for one pass")
    parser.add_argument("--max_steps", type=int, help="default: about a minute of plain TRL")
    flags = parser.parse_args()
    flags.threads = count_threads()
    recipe = recipe_of(flags)
    flags.load_before = os.getloadavg()[0]
    if flags.load_before > IDLE:
        print(f"The load average is {flags.load_before:.1f}; figures are lower on a busy machine.")
    results = []
    for name in flags.models:
        with tempfile.TemporaryDirectory() as folder:
            n_rows = flags.rows or max(batch * steps for batch, steps in STEPS[name].items())
            place = prepare(name, Path(folder), n_rows, recipe, flags)
            results.append(measure(name, place, recipe, flags))
        if flags.json:
            flags.json.write_text(to_json(results, recipe, flags), encoding="utf-8")
    print(f"\n{table(results)}")
    print(f"{cpu_name()}, threads: {flags.threads}, repetitions: {flags.repeat}")
    if flags.plot:
        plot(results, flags.plot)


if __name__ == "__main__":
    main()
