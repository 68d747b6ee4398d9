"""The report's plots, as SVG elements to embed in one HTML page.

Text and axes inherit the colour of the surrounding text, so the plots suit light and dark pages.
The same figures give the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from finetuning_exam.evaluation.results import ExamRow
from finetuning_exam.run_record import ScalePoint, TrainingResult

BETTER_COLOUR = "#3180c2"
WORSE_COLOUR = "#c8660f"
MAX_BARS = 500
"""With more examples than this, neighbours share a bar, so that the file stays small."""

_INK = "#010203"
"""Placeholder colour that `_svg` replaces with `currentColor`."""
_SVG_NAMESPACE = "http://www.w3.org/2000/svg"

Points = tuple[tuple[float, float], ...]


def loss_plot(metrics: Sequence[dict[str, float]], best_step: int) -> str:
    """Plot training and validation loss over the steps, and mark the step that was kept."""
    with _style():
        figure, axes = _new_figure()
        training, validation = _points(metrics, "loss"), _points(metrics, "eval_loss")
        if training or validation:
            _line(axes, training, WORSE_COLOUR, "training", "")
            _line(axes, validation, BETTER_COLOUR, "validation", "o")
            axes.axvline(
                best_step,
                color=_INK,
                alpha=0.6,
                lw=1,
                ls=(0, (4, 3)),
                label=f"kept: step {best_step}",
            )
            axes.legend(loc="upper right", fontsize=9, handlelength=1.6)
        else:
            _message(axes, "No loss was logged.")
        _title(figure, "Loss during training")
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("NLL per token")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        label = f"Line plot: {loss_words(metrics, best_step)}"
        return _svg(figure, "loss-plot", label)


def difference_plot(rows: Sequence[ExamRow]) -> str:
    """Plot the change in NLL per token of every example, from most improved to most harmed."""
    differences = sorted_differences(rows)
    with _style():
        figure, axes = _new_figure()
        if len(differences):
            heights, edges = _bars(differences)
            _fill(axes, np.minimum(heights, 0.0), edges, BETTER_COLOUR)
            _fill(axes, np.maximum(heights, 0.0), edges, WORSE_COLOUR)
            axes.axhline(0.0, color=_INK, lw=1)
            axes.set_xlim(0, len(differences))
        else:
            _message(axes, "No examples.")
        axes.grid(axis="x", visible=False)
        _title(figure, share_words(rows))
        axes.set_xlabel("examples, most improved first")
        axes.set_ylabel("NLL per token, tuned - base")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        label = f"Bar plot of the change in every example: {share_words(rows)}."
        return _svg(figure, "difference-plot", label)


def frontier_plot(result: TrainingResult) -> str:
    """Plot the loss on validation rows over that on general text, a point for each scale."""
    with _style():
        figure, axes = _new_figure()
        points = result.frontier
        axes.plot(
            [it.general_loss for it in points],
            [it.validation_loss for it in points],
            color=BETTER_COLOUR,
            lw=1.8,
            marker="o",
            markersize=4,
        )
        for point in points:
            is_kept = point.scale == result.adapter_scale
            axes.annotate(
                f"{_scale_name(point)}{' (kept)' if is_kept else ''}",
                (point.general_loss, point.validation_loss),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize=9,
                fontweight="bold" if is_kept else "normal",
            )
        axes.margins(x=0.2, y=0.12)
        _title(figure, "Learned against lost, by adapter scale")
        axes.set_xlabel("general text, NLL per token")
        axes.set_ylabel("validation rows, NLL per token")
        return _svg(figure, "frontier-plot", f"Line plot: {frontier_words(result)}")


def frontier_words(result: TrainingResult) -> str:
    """Describe the frontier, as the caption of its plot and as its text alternative."""
    base = result.frontier[0].general_loss
    parts = [
        f"{_scale_name(it)} {it.validation_loss:.3f}"
        + (f" ({math.expm1(it.general_loss - base):+.1%})" if it.scale else "")
        for it in result.frontier
    ]
    return (
        "Validation loss at each scale, and the change in perplexity of general text (another "
        f"sample than the exam's): {', '.join(parts)}. Scale {result.adapter_scale:g} was kept."
    )


def _scale_name(point: ScalePoint) -> str:
    return f"{point.scale:g}" if point.scale else "base"


def loss_words(metrics: Sequence[dict[str, float]], best_step: int) -> str:
    """Describe the loss plot in words, as its caption and text alternative."""
    parts = [
        f"{name} loss went from {points[0][1]:.3f} at step {points[0][0]:g} "
        f"to {points[-1][1]:.3f} at step {points[-1][0]:g}."
        for name, points in (
            ("Training", _points(metrics, "loss")),
            ("Validation", _points(metrics, "eval_loss")),
        )
        if points
    ]
    return " ".join([*parts, f"The adapter from step {best_step} was kept."])


def share_words(rows: Sequence[ExamRow]) -> str:
    """Count the examples that became more and less likely, as a title."""
    differences = sorted_differences(rows)
    n_rows = len(differences)
    if not n_rows:
        return "No examples"
    n_better, n_worse = int((differences < 0).sum()), int((differences > 0).sum())
    return (
        f"Better on {n_better:,} of {n_rows:,} ({n_better / n_rows:.0%}), "
        f"worse on {n_worse:,} ({n_worse / n_rows:.0%})"
    )


def sorted_differences(rows: Sequence[ExamRow]) -> NDArray[np.float64]:
    """Return each example's change in NLL per token (tuned - base), ascending; shape (n,)."""
    values = (row.tuned_score.nll_per_token - row.base_score.nll_per_token for row in rows)
    return np.array(sorted(value for value in values if math.isfinite(value)), dtype=np.float64)


def _points(metrics: Sequence[dict[str, float]], key: str) -> Points:
    """Points (step, value) by step; if a step was logged twice, the later line counts."""
    found = {row["step"]: row[key] for row in metrics if key in row}
    return tuple((step, found[step]) for step in sorted(found) if math.isfinite(found[step]))


def _line(axes: Axes, points: Points, colour: str, label: str, marker: str) -> None:
    if points:
        steps, values = zip(*points, strict=True)
        marker = marker or ("o" if len(points) == 1 else "")
        axes.plot(steps, values, color=colour, lw=1.8, marker=marker, markersize=4, label=label)


def _bars(differences: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Heights and edges of at most `MAX_BARS` bars; neighbours that share a bar are averaged."""
    n_bars = min(len(differences), MAX_BARS)
    edges = np.linspace(0, len(differences), n_bars + 1).round().astype(np.int64)
    heights = np.add.reduceat(differences, edges[:-1]) / np.diff(edges)
    return heights, edges.astype(np.float64)


def _fill(
    axes: Axes, heights: NDArray[np.float64], edges: NDArray[np.float64], colour: str
) -> None:
    axes.stairs(heights, edges, fill=True, color=colour, linewidth=0)


def _style() -> AbstractContextManager[None]:
    """Matplotlib settings for the duration of one plot."""
    return matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "finetuning-exam",
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 10.0,
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "axes.unicode_minus": False,  # the same minus sign as in the text
            "axes.edgecolor": _INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": _INK,
            "grid.alpha": 0.15,
            "grid.linewidth": 0.6,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "legend.frameon": False,
            "text.parse_math": False,
        }
    )


def _new_figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.7, 3.1), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=10.5)


def _message(axes: Axes, text: str) -> None:
    """Show a sentence instead of a plot."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")


def _svg(figure: Figure, prefix: str, label: str) -> str:
    """Return the figure as an SVG element with a text alternative; all ids start with `prefix`."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        _clean(element, prefix)
    width, height = root.attrib["viewBox"].split()[2:]
    root.attrib.update(
        {
            "xmlns": _SVG_NAMESPACE,
            "role": "img",
            "aria-label": label,
            "width": width,
            "height": height,
            "stroke-linejoin": "round",
            "stroke-linecap": "butt",
        }
    )
    return ElementTree.tostring(root, encoding="unicode")


def _clean(element: ElementTree.Element, prefix: str) -> None:
    """Drop namespaces, make ids unique, round numbers, and inherit the page's colour and font."""
    element.tag = element.tag.rpartition("}")[2]
    element.tail = None
    attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    element.attrib.clear()
    for name, value in attributes.items():
        if name == "id":
            value = f"{prefix}-{value}"
        elif name == "href":
            value = value.replace("#", f"#{prefix}-")
        elif name in ("d", "x", "y"):
            value = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.2f}", value)
        value = value.replace("url(#", f"url(#{prefix}-").replace(_INK, "currentColor")
        element.set(name, value.replace("'DejaVu Sans', sans-serif", "system-ui, sans-serif"))
    if not (element.text or "").strip():
        element.text = None
