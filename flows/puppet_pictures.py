"""Drawings of a network with generated kernels: kernels along the depth, images by complexity, accuracy over cycles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter
from torch import nn

from karui.flows.recipe import Recipe
from karui.flows.recipe_accelerator import accelerator_of
from karui.flows.report.results import RESULTS
from karui.flows.sweep_plot import COLOURS, MARKERS
from karui.sw.data.dataset import Dataset
from karui.sw.ir.complexity_op import COMPLEXITY_FRACTION
from karui.sw.models.puppet import PuppetLayers
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import predict

# Output channels whose kernels are drawn, and their input channels.
OUTPUTS, INPUTS = 6, 6
IMAGES = 12
# Of a word of complexity, in bits.
UNIT = 2.0**-COMPLEXITY_FRACTION
TABLE = "puppet-table"


def draw(recipe: Recipe, folder: Path, *, data_dir: Path | None = None) -> list[Path]:
    """Draw the three pictures of a recipe's shipped network, as SVG; the same network gives the same files.

    Raises
    ------
    ValueError
        If the recipe ships no network of generated kernels.
    """
    if recipe.checkpoint is None:
        raise ValueError(f"{recipe.name} ships no network to draw; train it, and put the checkpoint beside the recipe")
    model = load_checkpoint(recipe.checkpoint).model
    puppet = model.get_submodule("puppet")
    if not isinstance(puppet, PuppetLayers):
        raise ValueError(f"{recipe.name} has stored kernels; pictures are of generated ones")
    dataset = load_data(recipe.training, data_dir)
    images = torch.tensor(dataset.test_images)
    words = puppet.complexity(images)
    depths = puppet.layers.depths(words)
    figures = {
        "kernels": kernels_along_the_depth(puppet, int(words.median())),
        "complexity": images_by_complexity(dataset, words, depths),
        "cycles": accuracy_over_cycles(recipe, model, dataset, depths),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{recipe.name}-{name}.svg")
        # A fixed salt and no date: the ids of the SVG would be random otherwise.
        with mpl.rc_context({"svg.hashsalt": recipe.name, "svg.fonttype": "none"}):
            figure.savefig(paths[-1], format="svg", metadata={"Date": None})
    return paths


@torch.no_grad()
def kernels_along_the_depth(puppet: PuppetLayers, word: int) -> Figure:
    """Kernels of a few channels in each layer of the deepest network at one complexity, each layer in its own range."""
    layers = puppet.layers
    level = layers.puppeteer.levels.of(torch.tensor([word]))
    kernels = layers.puppeteer.kernels(torch.tensor([layers.last_depth]), level)
    figure = Figure(figsize=(2.0 * len(kernels), 2.5), layout="constrained")
    row = figure.subplots(1, len(kernels))
    for layer, (axes, of_layer) in enumerate(zip(np.atleast_1d(row), kernels, strict=True), 1):
        few = of_layer[0, :OUTPUTS, :INPUTS]
        reach = float(few.abs().max())
        # A frame of NaN parts the kernels.
        shown = torch.nn.functional.pad(few, (0, 1, 0, 1), value=float("nan"))
        axes.imshow(shown.permute(0, 2, 1, 3).flatten(2).flatten(0, 1).numpy(), cmap="RdBu", vmin=-reach, vmax=reach)
        axes.set_title(f"layer {layer}", fontsize=9)
        axes.set_axis_off()
    figure.suptitle(f"kernels at H = {word * UNIT:.2f}: {OUTPUTS} outputs (down) by {INPUTS} inputs", fontsize=10)
    return figure


def images_by_complexity(dataset: Dataset, words: torch.Tensor, depths: torch.Tensor) -> Figure:
    """Test images from the least complex to the most, evenly spaced in rank, with complexity and depth."""
    order = torch.argsort(words, stable=True)
    chosen = order[torch.linspace(0, len(order) - 1, IMAGES).round().long()]
    figure = Figure(figsize=(IMAGES * 0.95, 1.7), layout="constrained")
    for axes, index in zip(figure.subplots(1, IMAGES), chosen.tolist(), strict=True):
        image = dataset.test_images[index].transpose(1, 2, 0)
        axes.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=dataset.pixel_maximum)
        axes.set_title(f"H = {float(words[index]) * UNIT:.2f}\n{int(depths[index])} layers", fontsize=8)
        axes.set_axis_off()
    return figure


def accuracy_over_cycles(recipe: Recipe, model: nn.Sequential, dataset: Dataset, depths: torch.Tensor) -> Figure:
    """Accuracy over cycles a frame: of the images of each depth, of all, and of stored kernels as far as recorded."""
    right = predict(model, torch.tensor(dataset.test_images)).numpy() == dataset.test_labels
    cycles = cycles_by_depth(recipe, model, dataset)
    present = sorted(set(depths.tolist()))
    figure = Figure(figsize=(5.5, 3.8), layout="constrained")
    axes = figure.subplots()
    by_depth = [float(right[(depths == depth).numpy()].mean()) for depth in present]
    axes.scatter([cycles[depth] for depth in present], by_depth, color=COLOURS[0], marker=MARKERS[0], label="by depth")
    for depth, accuracy in zip(present, by_depth, strict=True):
        count = int((depths == depth).sum())
        axes.annotate(
            f"{count:,} images of {depth} layers",
            (cycles[depth], accuracy),
            textcoords="offset points",
            xytext=(6, -10),
            fontsize=7,
        )
    mean = float(np.mean([cycles[depth] for depth in depths.tolist()]))
    axes.scatter([mean], [float(right.mean())], color=COLOURS[1], marker=MARKERS[1], label="all images")
    stored = stored_accuracies(recipe.name)
    if stored:
        intervals = [cycles[depth] for depth in stored]
        axes.scatter(intervals, list(stored.values()), color=COLOURS[2], marker=MARKERS[2], label="stored kernels")
    axes.set_xlabel("cycles a frame of the accelerator")
    axes.set_ylabel("accuracy on the test images")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.25, y=0.15)
    axes.grid(visible=True, linewidth=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def cycles_by_depth(recipe: Recipe, model: nn.Module, dataset: Dataset) -> dict[int, int]:
    """Predicted cycles between frames of each depth, of the accelerator that the recipe asks for."""
    return {depth: interval for depth, (interval, _) in accelerator_of(recipe, model, dataset).by_depth.items()}


def stored_accuracies(name: str) -> dict[int, float]:
    """Accuracies of a recipe's twins of stored kernels by their depth, as the last recorded table has them."""
    record = RESULTS / "bench" / f"{TABLE}.json"
    if not record.is_file():
        return {}
    rows: dict[str, Any] = json.loads(record.read_text())["details"]["rows"]
    beginning = f"{name}, stored, depth "
    return {
        int(title.removeprefix(beginning)): row["accuracy, %"] / 100
        for title, row in rows.items()
        if title.startswith(beginning)
    }
