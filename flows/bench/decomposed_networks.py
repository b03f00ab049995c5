"""Networks trained here, decomposed without retraining: one with shortcuts, one that tells the class of each pixel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, equal
from karui.flows.bench.reference_data import data_folder
from karui.flows.recipe import find_recipe
from karui.flows.training import load_network
from karui.sw.decompose.packed import packed
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.nn.decomposed import DecomposedLayer
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import mean_iou, predict, tensors

RECIPES = ("decomposed-resnet-cifar10", "decomposed-segnet")
SMALLER, POINTS = 80.0, 2.0
GOLDEN_IMAGES, PACKED_IMAGES = 500, 20
# Maps of float64 that stay in the cache.
BATCH = 50


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Measure the float networks and the files that ship."""
    checks: list[Check] = []
    details: dict[str, Any] = {}
    for name in RECIPES:
        found, details[name] = _measure(run, name)
        checks += found
    return BenchmarkResult(checks=tuple(checks), details=details)


def _measure(run: BenchmarkRun, name: str) -> tuple[list[Check], dict[str, Any]]:
    recipe = find_recipe(name)
    assert recipe.checkpoint is not None
    assert recipe.weights is not None
    dataset = load_data(recipe.training, data_folder(run.data_dir))
    images, labels = tensors(dataset.test_images, dataset.test_labels)
    floats, shipped = load_checkpoint(recipe.weights).model, load_network(recipe.checkpoint)
    run.progress(f"{name}: floats, {len(images):,} images")
    before = _scores(predict(floats, images, batch_size=BATCH), labels, len(dataset.classes))
    run.progress(f"{name}: decomposed, {len(images):,} images")
    after = _scores(predict(shipped, images, batch_size=BATCH), labels, len(dataset.classes))
    run.progress(f"{name}: golden model, {GOLDEN_IMAGES} images")
    lowered = lower(shipped, dataset.image_shape, classes=dataset.classes)
    agreement = compare_with_golden(shipped, lowered, dataset.test_images[:GOLDEN_IMAGES], chunk=BATCH)
    few = images[:PACKED_IMAGES].float()
    with torch.no_grad():
        differing = int((packed(shipped)(few) != shipped(few)).sum())
    size = recipe.checkpoint.stat().st_size
    float_bytes = 4 * sum(parameter.numel() for parameter in floats.parameters())
    checks = [
        at_least(f"{name}: smaller than floats, %", round(100 * (1 - size / float_bytes), 2), SMALLER),
        *(
            at_most(f"{name}: points of {what} lost", round(100 * (before[what] - after[what]), 2), POINTS)
            for what in before
        ),
        equal(f"{name}: images of {GOLDEN_IMAGES} on which network and golden model differ", agreement.mismatches, 0),
        equal(f"{name}: outputs on packed bits that differ", differing, 0),
    ]
    layers = {each: layer for each, layer in shipped.named_modules() if isinstance(layer, DecomposedLayer)}
    details = {
        "data": dataset.provenance,
        "floats": before,
        "decomposed": after,
        "bytes": size,
        "float bytes": float_bytes,
        "bases": {each: layer.bases for each, layer in layers.items()},
        "activation bits": {each: layer.quantizer.bits for each, layer in layers.items()},
    }
    return checks, details


def _scores(predicted: Tensor, labels: Tensor, classes: int) -> dict[str, float]:
    """Accuracy; of maps that of the pixels, and the mean intersection over union."""
    accuracy = float((predicted == labels).double().mean())
    if labels.ndim == 1:
        return {"accuracy": accuracy}
    return {"pixel accuracy": accuracy, "mean intersection over union": mean_iou(predicted, labels, classes)}


DECOMPOSED_NETWORKS = Benchmark(
    name="decomposed-networks",
    description="a residual network on CIFAR-10 (JPEG copies) and a SegNet on scenes of MNIST digits, trained here in "
    "float, decomposed without retraining: the shipped files on all test images",
    target=f">= {SMALLER:g} % smaller, at most {POINTS:g} points of accuracy lost (of pixels and of the mean "
    "intersection over union too); network equal to the golden model, and to itself on packed bits",
    minutes=6,
    measure=measure,
)
