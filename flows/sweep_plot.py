"""The drawing of a sweep: accuracy over what it costs."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator, PercentFormatter

from karui.flows.sweeping import Sweep, SweepPoint

# Colours that remain apart for the colour-blind (Okabe and Ito), and on white as on dark grey.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P")


def plot(result: Sweep, path: Path) -> None:
    """Draw accuracy over multiply-accumulates and over cycles, a line a width, as SVG.

    The same sweep gives the same file.
    """
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    alphas = sorted({point.alpha for point in result.points}, reverse=True)
    for index, alpha in enumerate(alphas):
        points = sorted((point for point in result.points if point.alpha == alpha), key=lambda point: -point.rho)
        _line(left, points, [point.macs for point in points], index, f"α = {alpha:g}")
        estimated = [point for point in points if point.hardware is not None]
        intervals = [point.hardware.cycles for point in estimated if point.hardware is not None]
        _line(right, estimated, intervals, index, f"α = {alpha:g}")
    left.set_xlabel("multiply-accumulates an image")
    right.set_xlabel(f"cycles an image, best rate within {result.device}")
    left.set_ylabel("accuracy on the test images")
    left.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
    right.legend(frameon=False, loc="lower right")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(visible=True, linewidth=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    # A fixed salt and no date: the ids of the SVG would be random otherwise.
    with mpl.rc_context({"svg.hashsalt": result.recipe, "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def _line(axes: Axes, points: list[SweepPoint], costs: list[int], index: int, label: str) -> None:
    """One width over all resolutions, each named."""
    accuracies = [point.accuracies["model"] for point in points]
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    axes.plot(costs, accuracies, color=colour, marker=marker, markersize=4, linewidth=1.2, label=label)
    for point, cost, accuracy in zip(points, costs, accuracies, strict=True):
        axes.annotate(
            f"ρ {point.rho:.2g}", (cost, accuracy), textcoords="offset points", xytext=(5, -9), fontsize=7, color=colour
        )
