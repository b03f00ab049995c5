"""The drawing of a compressed network: its weights, the lengths of their codes, and the size after each stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from karui.flows.sweep_plot import COLOURS
from karui.sw.coding.canonical_code import CanonicalCode
from karui.sw.coding.container import SharedTensor, read_container
from karui.sw.coding.relative_index import best_gap_bits, to_entries
from karui.sw.compress.report import report_file

BINS = 121


def plot(title: str, path: Path, target: Path, *, before: Mapping[str, npt.NDArray[np.float32]] | None = None) -> None:
    """Draw a file of a compressed network, as SVG.

    Parameters
    ----------
    title
        Line over the figure.
    path
        The file of the network.
    target
        SVG to write; the same network gives the same file.
    before
        Weights of the dense network by layer, drawn behind those of the file.
    """
    tensors = [tensor for tensor in read_container(path).tensors if isinstance(tensor, SharedTensor)]
    figure = Figure(figsize=(11.0, 2.4 * len(tensors) + 2.4), layout="constrained")
    figure.suptitle(title)
    grid = figure.add_gridspec(len(tensors) + 1, 2)
    for row, tensor in enumerate(tensors):
        _weights(figure.add_subplot(grid[row, 0]), tensor, None if before is None else before.get(tensor.name))
        _lengths(figure.add_subplot(grid[row, 1]), tensor)
    _stages(figure.add_subplot(grid[len(tensors), :]), report_file(path).stage_bytes)
    # A fixed salt and no date: the ids of the SVG would be random otherwise.
    with mpl.rc_context({"svg.hashsalt": "compression", "svg.fonttype": "none"}):
        figure.savefig(target, format="svg", metadata={"Date": None})


def _weights(axes: Axes, tensor: SharedTensor, before: npt.NDArray[np.float32] | None) -> None:
    kept = tensor.values[tensor.values != 0] * 2.0**-tensor.fraction
    values, counts = np.unique(kept, return_counts=True)
    reach = float(np.abs(values).max(initial=0.0)) * 1.1
    if before is not None:
        axes.hist(before.ravel(), bins=BINS, range=(-reach, reach), color=COLOURS[5], label="dense")
    axes.vlines(values, 0.5, counts, color=COLOURS[1], linewidth=2, label="kept and shared")
    axes.set_yscale("log")
    axes.set_xlim(-reach, reach)
    axes.set_xlabel(f"weights of {tensor.name}: {len(kept):,} of {tensor.values.size:,} kept, {len(values)} values")
    axes.legend(frameon=False, fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _lengths(axes: Axes, tensor: SharedTensor) -> None:
    entries = to_entries(tensor.codes, best_gap_bits(tensor.codes))
    for index, (label, symbols) in enumerate((("gaps", entries.gaps), ("codes", entries.codes))):
        code = CanonicalCode.from_symbols(symbols)
        entries_of_length = np.bincount(code.lengths[symbols], minlength=16)
        places = np.arange(16) + (index - 0.5) * 0.4
        axes.bar(places, entries_of_length / len(symbols), width=0.4, color=COLOURS[index], label=label)
    axes.set_xlabel(f"bits of a code word, {tensor.name}")
    axes.set_ylabel("share of entries")
    axes.legend(frameon=False, fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _stages(axes: Axes, sizes: Mapping[str, int]) -> None:
    bars = axes.barh(list(sizes), list(sizes.values()), color=COLOURS[2])
    axes.bar_label(bars, labels=[f"{size:,} bytes" for size in sizes.values()], padding=3)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("bytes")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
