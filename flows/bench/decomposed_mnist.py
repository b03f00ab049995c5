"""A float CNN of others, decomposed without retraining: what ships, and the whole grid of bases and bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, at_least, at_most, equal
from karui.flows.bench.reference_data import data_folder
from karui.flows.recipe import Recipe, find_recipe
from karui.flows.sweep_plot import COLOURS, MARKERS
from karui.flows.training import load_network
from karui.sw.data.dataset import Dataset
from karui.sw.decompose.calibrate import observe
from karui.sw.decompose.config import DecomposeConfig
from karui.sw.decompose.convert import DecomposedNetwork, Known, convert_observed
from karui.sw.decompose.float_network import float_network
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.models.count import count
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import evaluate, tensors

RECIPE = "decomposed-mnist-cnn"
GRID = range(1, 9)
SMALLER, POINTS = 80.0, 0.3
GOLDEN_IMAGES = 1000
WORD = 64
# Maps of float64 that stay in the cache.
BATCH = 50


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Measure the file that ships, then decompose the float weights 64 times."""
    recipe = find_recipe(RECIPE)
    assert recipe.checkpoint is not None
    assert recipe.weights is not None
    dataset = load_data(recipe.training, data_folder(run.data_dir))
    images, labels = tensors(dataset.test_images, dataset.test_labels)
    floats = load_checkpoint(recipe.weights).model
    before = evaluate(floats, images, labels)
    run.progress(f"floats: {100 * before:.2f} %")
    float_bytes = 4 * sum(parameter.numel() for parameter in floats.parameters())

    shipped = load_network(recipe.checkpoint)
    after = evaluate(shipped, images, labels, batch_size=BATCH)
    lowered = lower(shipped, dataset.image_shape, classes=dataset.classes)
    agreement = compare_with_golden(shipped, lowered, dataset.test_images[:GOLDEN_IMAGES], chunk=BATCH)
    size = recipe.checkpoint.stat().st_size
    smaller = 100 * (1 - size / float_bytes)

    table = _grid(run, recipe, dataset)
    _plot(table, before, run.folder / "decomposed-mnist.svg")
    within = [row for row in table if 100 * (before - row["accuracy"]) <= POINTS]
    smallest = min(within, key=lambda row: (row["bytes"], row["word_operations"]))
    checks = (
        at_least("smaller than floats, %", round(smaller, 2), SMALLER),
        at_most("error increase, points", round(100 * (before - after), 2), POINTS),
        equal(f"network against golden model on {GOLDEN_IMAGES} images, mismatches", agreement.mismatches, 0),
        equal("points of the grid", len(table), len(GRID) ** 2),
    )
    details: dict[str, Any] = {
        "float accuracy": before,
        "shipped": {"accuracy": after, "bytes": size, "float bytes": float_bytes},
        "smallest within the points": smallest,
        "multiply-accumulates an image": count(floats, dataset.image_shape).macs,
        "grid": table,
    }
    assert recipe.decompose is not None
    return BenchmarkResult(checks=checks, details=details, seed=recipe.decompose.seed)


def _grid(run: BenchmarkRun, recipe: Recipe, dataset: Dataset) -> list[dict[str, Any]]:
    """A row a point: bases k, bits Q, accuracy on all test images, stored bytes, operations on 64-bit words."""
    assert recipe.weights is not None
    model = load_checkpoint(recipe.weights).model
    images, labels = tensors(dataset.test_images, dataset.test_labels)
    calibration = torch.tensor(dataset.train_images[:1000]).float()
    observed = observe(float_network(model, dataset.image_shape), calibration)
    macs = count(model, dataset.image_shape).macs
    known: Known = {}
    rows = []
    for bases in GRID:
        for bits in GRID:
            config = DecomposeConfig(bases=(bases,), activation_bits=(bits,))
            network = convert_observed(float_network(model, dataset.image_shape), observed, config, known=known)
            accuracy = evaluate(network.model, images, labels, batch_size=BATCH)
            rows.append(
                {
                    "bases": bases,
                    "bits": bits,
                    "accuracy": accuracy,
                    "bytes": _bytes(network),
                    "word_operations": bases * bits * macs // WORD,
                }
            )
            run.progress(f"{bases} bases, {bits} bits: {100 * accuracy:.2f} %, {rows[-1]['bytes']:,} bytes")
    return rows


def _bytes(network: DecomposedNetwork) -> int:
    return sum(layer.bits for layer in network.layers) // 8


def _plot(table: list[dict[str, Any]], before: float, path: Path) -> None:
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for index, bits in enumerate(GRID):
        rows = [row for row in table if row["bits"] == bits]
        style: dict[str, Any] = {
            "color": COLOURS[index % len(COLOURS)],
            "marker": MARKERS[index % len(MARKERS)],
            "markersize": 4,
            "linewidth": 1.2,
            "linestyle": "-" if index < len(COLOURS) else "--",
            "label": f"Q = {bits}",
        }
        accuracies = [row["accuracy"] for row in rows]
        left.plot([row["bytes"] / 1000 for row in rows], accuracies, **style)
        right.plot([row["word_operations"] for row in rows], accuracies, **style)
    left.set_xlabel("kilobytes stored, 1 to 8 bases")
    right.set_xlabel("operations on 64-bit words an image")
    right.set_xscale("log")
    left.set_ylabel("accuracy on the test images")
    left.set_ylim(max(0.9, min(row["accuracy"] for row in table)), 0.995)
    left.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=1))
    right.legend(frameon=False, loc="lower right", ncols=2)
    for axes in (left, right):
        axes.axhline(before, color="black", linewidth=0.6, linestyle=":")
        axes.grid(visible=True, linewidth=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    # A fixed salt and no date: the ids of the SVG would be random otherwise.
    with mpl.rc_context({"svg.hashsalt": RECIPE, "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


DECOMPOSED_MNIST = Benchmark(
    name="decomposed-mnist",
    description="a float CNN that others trained on MNIST, decomposed without retraining: the shipped file, and "
    "the grid of 1 to 8 bases by 1 to 8 bits (accuracy on all test images, size, operations)",
    target=f">= {SMALLER:g} % smaller, error up by <= {POINTS:g} points; network equal to the golden model",
    minutes=10,
    measure=measure,
)
