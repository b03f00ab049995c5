"""Deep Fried whole in RTL: convolutions, Fastfood, classifier, on MNIST test images."""

from __future__ import annotations

import numpy as np
import torch

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, at_most, equal, error_percent
from karui.flows.bench.reference_data import dataset
from karui.flows.bench.regression import play_at_interval
from karui.flows.recipe import find_recipe
from karui.sw.golden import evaluate
from karui.sw.lower.agreement import to_graph_layout
from karui.sw.lower.from_torch import lower
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.evaluate import predict

RECIPE = "deep-fried-2048"
IMAGES = 1000
# Images that the golden model computes at a time.
BATCH = 500
ERROR, INTEGER_MARGIN = 0.73, 0.1


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Evaluate the integer graph on all test images, and play the first of them through its RTL."""
    recipe = find_recipe(RECIPE)
    assert recipe.checkpoint is not None
    interval = recipe.hardware.initiation_interval
    assert interval is not None
    checkpoint = load_checkpoint(recipe.checkpoint)
    mnist = dataset("mnist", run.data_dir)
    image = mnist.test_images.shape[1:]
    graph = lower(checkpoint.model, image, name=RECIPE).graph
    frames = to_graph_layout(mnist.test_images)
    run.progress(f"golden model, {len(frames):,} images")
    classes = np.concatenate([evaluate(graph, frames[at : at + BATCH]).ravel() for at in range(0, len(frames), BATCH)])
    differing = int((classes != predict(checkpoint.model, torch.tensor(mnist.test_images)).numpy()).sum())
    wrong = error_percent(float((classes == mnist.test_labels).mean()))
    real = error_percent(checkpoint.metadata["accuracies"]["float"])
    label = f"at {interval} cycles"
    played = play_at_interval(
        graph, frames[:IMAGES], interval=interval, folder=run.folder / "design", label=label, progress=run.progress
    )
    return BenchmarkResult(
        checks=(
            *played.checks(label, interval),
            equal("images of which graph and quantized model give different classes", differing, 0),
            at_most(f"integer graph, {len(frames):,} images: error, %", wrong, ERROR),
            at_most("points of error that integers cost", round(wrong - real, 2), INTEGER_MARGIN),
        ),
        details={**played.details, "float: error, %": real},
    )


DEEP_FRIED_RTL = Benchmark(
    name="deep-fried-rtl",
    description=f"{RECIPE} whole in RTL: convolutions, 2,048 features of Fastfood and classifier; {IMAGES:,} MNIST "
    "test images, its integer graph on all 10,000",
    target=f"every word equal, the recipe's rate, cycles as predicted, error <= {ERROR} % and at most {INTEGER_MARGIN} "
    "points above float",
    minutes=12,
    measure=measure,
)
