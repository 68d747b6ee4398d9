"""The results of bench/throughput.py as a table, a plot and JSON."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runs import ARMS, WARM_UP_STEPS, Arm, Recipe, Run, same_batches, warm_up

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "finetuning-exam")
VARIABLES = ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "LD_PRELOAD")
CLOCK_SHARE = 0.05
"""Relative difference between the reported speed and the wall clock's that needs a note."""
OURS, THEIRS = "#3180c2", "#9a9a9a"


@dataclass(frozen=True, slots=True)
class Measured:
    """All repetitions of all arms on one model; `rooflines` are results of bench/roofline.py."""

    model: str
    n_rows: int
    mean_length: float
    mean_own_length: float
    supervised_share: float
    n_lora: int
    flops_per_token: float
    rooflines: tuple[dict[str, Any], ...]
    runs: tuple[tuple[Arm, tuple[Run, ...]], ...]

    @property
    def machine_rate(self) -> float:
        """P: FLOP/s of the model's matrix products, the median over repetitions."""
        return statistics.median(float(it["total"]) for it in self.rooflines)

    def speed(self, name: str) -> float:
        """Return the median tokens per second of an arm; NaN if it did not run."""
        found = [it.tokens_per_second for arm, runs in self.runs if arm.name == name for it in runs]
        return statistics.median(found) if found else float("nan")

    def mfu(self, name: str) -> float:
        """Return the LoRA-MFU of an arm: required FLOP/s over the machine's matrix rate."""
        return self.speed(name) * self.flops_per_token / self.machine_rate


def figure(value: float) -> str:
    """Format a number with at least three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def table(results: Sequence[Measured]) -> str:
    """Format all results in 80 columns."""
    lines = [
        f"{'':12} {'':8} {'':8} {'':13} {'times plain TRL':>14} {'LoRA':>4} {'peak':>6} {'1st':>6}",
        f"{'model':12} {'arm':8} {'tokens/s':>8} {'min–max':>13} {'1×2':>7} {'8×1':>6} "
        f"{'MFU':>5} {'RSS GB':>6} {'step s':>6}",
        "─" * 79,
    ]
    for result in results:
        for arm, runs in result.runs:
            speeds = [run.tokens_per_second for run in runs]
            span = f"{figure(min(speeds))}–{figure(max(speeds))}"
            rss = statistics.median(run.peak_rss for run in runs) / 1e9
            first = statistics.median(run.first_step_s for run in runs)
            ratios = (result.speed(arm.name) / result.speed(it.name) for it in ARMS[:2])
            one, eight = ("–" if math.isnan(it) else f"{it:.2f}" for it in ratios)
            lines.append(
                f"{result.model:12} {arm.name:8} {figure(result.speed(arm.name)):>8} {span:>13} "
                f"{one:>7} {eight:>6} {result.mfu(arm.name):5.0%} {rss:6.2f} {first:6.1f}"
            )
    return "\n".join([*lines, *(line for result in results for line in _notes(result))])


def _notes(result: Measured) -> Iterator[str]:
    """Notes on one model that a reader of the table needs."""
    yield (
        f"{result.model}: {result.n_rows} rows of {result.mean_length:.0f} tokens, "
        f"{result.supervised_share:.0%} supervised; "
        f"{result.flops_per_token / 1e9:.3f} GFLOP per token,"
    )
    halves = [
        f"{name} {statistics.median(it[key] for it in result.rooflines) / 1e9:.0f}"
        for name, key in (("x Wᵀ", "forward"), ("dy W", "backward"), ("head", "head"))
    ]
    yield f"  P = {result.machine_rate / 1e9:.1f} GFLOP/s ({', '.join(halves)})"
    if max(result.mfu(arm.name) for arm, _ in result.runs) > 1:
        yield "  LoRA-MFU above 100%: P is the rate of float32, and bfloat16 may be faster"
    for arm, runs in result.runs:
        if formats := {run.dtype for run in runs} - {"float32"}:
            yield f"  {arm.name} computes in {', '.join(sorted(formats))}"
        by_clock = [run.seen_tokens_per_second for run in runs if run.seen_tokens_per_second]
        if by_clock and abs(statistics.median(by_clock) / result.speed(arm.name) - 1) > CLOCK_SHARE:
            yield f"  {arm.name}: {figure(statistics.median(by_clock))} tokens/s by the wall clock"
    first = {arm: runs[0] for arm, runs in result.runs}
    for theirs, ours in zip(ARMS[:2], ARMS[2:], strict=True):
        if theirs in first and ours in first and not same_batches(first[theirs], first[ours]):
            yield f"  {theirs.name} and {ours.name} did not have the same rows in the same steps"


def plot(results: Sequence[Measured], path: Path) -> None:
    """Plot tokens per second as bars, one panel per model, with the range of repetitions."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bench"}):
        drawing = Figure(figsize=(8, 0.5 + 2.1 * len(results)), layout="constrained")
        panels = drawing.subplots(len(results), squeeze=False)[:, 0]
        for axes, result in zip(panels, results, strict=True):
            for place, (arm, runs) in enumerate(result.runs):
                speed = result.speed(arm.name)
                speeds = [run.tokens_per_second for run in runs]
                axes.barh(
                    place,
                    speed,
                    xerr=[[speed - min(speeds)], [max(speeds) - speed]],
                    color=OURS if arm.is_ours else THEIRS,
                    height=0.7,
                    capsize=3,
                )
                label = f"{figure(speed)} · MFU {result.mfu(arm.name):.0%}"
                at = (max(speeds), place)
                axes.annotate(label, at, (8, 0), textcoords="offset points", va="center")
            axes.set_yticks(range(len(result.runs)), [arm.label for arm, _ in result.runs])
            axes.invert_yaxis()
            axes.set_xlim(
                0, 1.3 * max(run.tokens_per_second for _, its in result.runs for run in its)
            )
            axes.set_title(result.model, loc="left", fontsize=10.5)
            axes.spines[["top", "right"]].set_visible(False)
        panels[-1].set_xlabel("real tokens per second (median; range of the repetitions)")
        drawing.savefig(path, metadata={"Date": None})


def to_json(results: Sequence[Measured], recipe: Recipe, flags: argparse.Namespace) -> str:
    """Return all results, settings and the machine as JSON."""
    whole = {
        "settings": {
            "recipe": asdict(recipe),
            "data": flags.data.name,
            "repetitions": flags.repeat,
            "warm_up_steps": WARM_UP_STEPS,
            "fte_args": flags.fte_args,
            "trl_args": flags.trl_args,
            "load_before": flags.load_before,
        },
        "machine": machine(flags.threads),
        "models": [
            {
                **asdict(result),
                "machine_rate": result.machine_rate,
                "runs": [
                    {
                        "arm": asdict(arm),
                        "tokens_per_second": result.speed(arm.name),
                        "mfu": result.mfu(arm.name),
                        "repetitions": [
                            {**asdict(run), "warm_up_steps": warm_up(len(run.steps))}
                            for run in runs
                        ],
                    }
                    for arm, runs in result.runs
                ],
            }
            for result in results
        ],
    }
    return json.dumps(whole, indent=1) + "\n"


def machine(threads: int) -> dict[str, Any]:
    """Describe the processor, threads, versions and relevant environment variables."""
    return {
        "cpu": cpu_name(),
        "system": platform.platform(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def cpu_name() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
