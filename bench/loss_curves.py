# ruff: noqa: T201 - a benchmark prints its results
"""Check that `fte train` trains like stock TRL: the loss of every step, side by side.

    uv run bench/loss_curves.py --plot curves.svg
    uv run bench/loss_curves.py --model smollm2-135m --steps 20

Both train the same adapter (drawn right after seeding with the same seed) on the same rows in the
same order with the same recipe, in separate processes. The ids and labels of TRL and the tokens of
every step are compared, so the curves are always of the same batches. Otherwise TRL runs with its
defaults for gradient checkpointing, optimizer and loss. The remaining difference is rounding, which
the optimizer amplifies over the steps. A third run shows how much that is: TRL with the same
batches one row at a time, which adds in a different order.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import shapes
from runs import (
    Arm,
    Run,
    common_flags,
    count_threads,
    prepare,
    recipe_of,
    run_fte,
    run_trl,
    same_batches,
)
from throughput_report import OURS, machine


@dataclass(frozen=True, slots=True)
class Curves:
    """The losses of each step in nats per supervised token, and their differences."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    def first(self, n: int) -> Curves:
        """The first `n` steps."""
        return Curves(self.ours[:n], self.theirs[:n])

    @property
    def differences(self) -> tuple[float, ...]:
        """Ours minus theirs, for each step."""
        return tuple(one - other for one, other in zip(self.ours, self.theirs, strict=True))

    @property
    def largest(self) -> float:
        """The largest absolute difference."""
        return max(map(abs, self.differences))

    @property
    def mean(self) -> float:
        """The mean absolute difference."""
        return statistics.mean(map(abs, self.differences))

    @property
    def largest_at(self) -> int:
        """The step of the largest difference, from 1."""
        return 1 + [abs(it) for it in self.differences].index(self.largest)


def curves_of(ours: Run, theirs: Run) -> Curves:
    """Return the losses of two runs on the same batches.

    Raises:
        SystemExit: the batches differ; the message names the first step that does.
    """
    if not same_batches(ours, theirs):
        pairs = zip(ours.steps, theirs.steps, strict=False)
        unequal = (at for at, (one, other) in enumerate(pairs, 1) if one.tokens != other.tokens)
        step = next(unequal, min(len(ours.steps), len(theirs.steps)) + 1)
        sys.exit(f"fte train and TRL did not have the same rows in step {step}")
    return Curves(
        tuple(step.loss for step in ours.steps), tuple(step.loss for step in theirs.steps)
    )


def plot(curves: Curves, noise: Curves | None, name: str, path: Path) -> None:
    """Plot both losses, and below their difference and the difference of TRL to itself."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bench"}):
        drawing = Figure(figsize=(7.5, 5), layout="constrained")
        above, below = drawing.subplots(2, sharex=True, height_ratios=(2, 1))
        steps = range(1, len(curves.ours) + 1)
        above.plot(steps, curves.theirs, color="#9a9a9a", lw=3.2, label="stock TRL")
        above.plot(steps, curves.ours, color=OURS, lw=1.1, label="fte train")
        above.set_ylabel("loss (nats per token)")
        above.set_title(f"Loss of every step, {name}", loc="left", fontsize=10.5)
        above.legend(frameon=False)
        below.axhline(0, color="#9a9a9a", lw=1)
        if noise:
            below.plot(
                steps, noise.differences, color="#9a9a9a", lw=1.1, label="TRL, one row at a time"
            )
        below.plot(steps, curves.differences, color=OURS, lw=1.1, label="fte train")
        below.set_yscale("symlog", linthresh=1e-6)
        below.set_ylabel("difference to TRL")
        below.legend(frameon=False, loc="upper left")
        below.set_xlabel(
            f"optimizer step (largest difference {curves.largest:.1e}, mean {curves.mean:.1e})"
        )
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (above, below):
            axes.spines[["top", "right"]].set_visible(False)
        drawing.savefig(path, metadata={"Date": None})


def to_json(
    curves: Curves, noise: Curves | None, runs: Sequence[Run], flags: argparse.Namespace
) -> str:
    """Return all results, settings and the machine as JSON."""
    ours, theirs = runs
    whole = {
        "settings": {
            "model": flags.model,
            "data": flags.data.name,
            "steps": flags.steps,
            "batch_size": flags.batch_size,
            "recipe": asdict(recipe_of(flags)),
            "fte_args": flags.fte_args,
        },
        "machine": machine(flags.threads),
        "largest_difference": curves.largest,
        "largest_at_step": curves.largest_at,
        "mean_difference": curves.mean,
        "dtype": {"fte": ours.dtype, "trl": theirs.dtype},
        "tokens": [step.tokens for step in ours.steps],
        "fte": curves.ours,
        "trl": curves.theirs,
        "trl_a_row_at_a_time": noise.ours if noise else None,
    }
    return json.dumps(whole, indent=1) + "\n"


def main() -> None:
    """Train and compare."""
    parser = common_flags("The loss of every step of fte train and of stock TRL.")
    parser.add_argument(
        "--model", default="builtin", help=f"{', '.join(shapes.MODELS)}, or a folder"
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch_size", type=int, default=2, help="rows of an optimizer step")
    parser.add_argument("--rows", type=int, help="default: enough for one pass")
    flags = parser.parse_args()
    if flags.model not in shapes.MODELS and not (Path(flags.model) / "config.json").is_file():
        parser.error(
            f"--model {flags.model}: not a model folder, nor one of {', '.join(shapes.MODELS)}"
        )
    flags.threads = count_threads()
    recipe = recipe_of(flags)
    with tempfile.TemporaryDirectory() as folder:
        n_rows = flags.rows or flags.steps * flags.batch_size
        place = prepare(flags.model, Path(folder), n_rows, recipe, flags)
        theirs = Arm("TRL", is_ours=False, rows=flags.batch_size, accumulation=1)
        ours = Arm("fte", is_ours=True, rows=flags.batch_size, accumulation=1)
        extra = shlex.split(flags.fte_args)
        runs = (
            run_fte(place, ours, recipe, flags.steps, flags.threads, *extra),
            run_trl(place, theirs, recipe, flags.steps, flags.threads, "--seed_adapter"),
        )
        noise = None
        if flags.batch_size > 1:
            by_row = Arm("TRL", is_ours=False, rows=1, accumulation=flags.batch_size)
            other = run_trl(place, by_row, recipe, flags.steps, flags.threads, "--seed_adapter")
            noise = curves_of(other, runs[1])
    curves = curves_of(*runs)
    print(
        f"{flags.model}: {flags.steps} steps of {flags.batch_size} rows, "
        f"{runs[0].steps[-1].tokens:,} tokens, the same in every step\n"
        f"TRL's loss: first step {curves.theirs[0]:.4f}, last {curves.theirs[-1]:.4f}\n"
        f"largest difference {curves.largest:.2e} (step {curves.largest_at}), "
        f"mean {curves.mean:.2e} nats per token; first 50 steps {curves.first(50).largest:.2e}"
    )
    if noise:
        print(
            "TRL one row at a time against TRL: largest difference "
            f"{noise.largest:.2e} (step {noise.largest_at}), mean {noise.mean:.2e}; "
            f"first 50 steps {noise.first(50).largest:.2e}"
        )
    if flags.json:
        flags.json.write_text(to_json(curves, noise, runs, flags), encoding="utf-8")
    if flags.plot:
        plot(curves, noise, Path(flags.model).name, flags.plot)


if __name__ == "__main__":
    main()
