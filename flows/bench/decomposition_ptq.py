"""Binary bases beside plain post-training quantization of the weights, at equal stored bits a weight."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check
from karui.flows.bench.reference_data import data_folder
from karui.flows.recipe import find_recipe
from karui.sw.data.dataset import Dataset
from karui.sw.decompose.calibrate import Observed, choose_grid, observe
from karui.sw.decompose.config import DecomposeConfig
from karui.sw.decompose.convert import convert_observed
from karui.sw.decompose.float_network import float_network
from karui.sw.decompose.uniform import Scale, uniform_weights
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import evaluate, tensors

RECIPE = "decomposed-mnist-cnn"
BITS = (2, 3, 4, 8)
# The words of all layers' inputs are the same in all rows, so that weights alone differ.
ACTIVATION_BITS = 8
SCALES: tuple[Scale, ...] = ("layer", "filter", "filter-mse")
NAMES = {
    "layer": "uniform, a step a layer",
    "filter": "uniform, a step a filter",
    "filter-mse": "uniform, the best step a filter",
}
BATCH = 50


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Evaluate each on all test images, words of inputs quantized alike."""
    recipe = find_recipe(RECIPE)
    assert recipe.weights is not None
    assert recipe.decompose is not None
    dataset = load_data(recipe.training, data_folder(run.data_dir))
    model = load_checkpoint(recipe.weights).model
    images, labels = tensors(dataset.test_images, dataset.test_labels)
    calibration = torch.tensor(dataset.train_images[: recipe.decompose.calibration_images]).float()
    observed = observe(float_network(model, dataset.image_shape), calibration)
    table: dict[str, dict[str, Any]] = {}
    for bits in BITS:
        run.progress(f"{bits} bits a weight: binary bases")
        config = DecomposeConfig(bases=(bits,), activation_bits=(ACTIVATION_BITS,))
        network = convert_observed(float_network(model, dataset.image_shape), observed, config)
        row: dict[str, Any] = {
            "binary bases": evaluate(network.model, images, labels, batch_size=BATCH),
            "binary bases, stored bits": sum(layer.bits for layer in network.layers),
        }
        for scale in SCALES:
            run.progress(f"{bits} bits a weight: {NAMES[scale]}")
            uniform, stored = _uniform(model, dataset, observed, bits, scale)
            row[NAMES[scale]] = evaluate(uniform, images, labels, batch_size=BATCH)
            row[f"{NAMES[scale]}, stored bits"] = stored
        table[str(bits)] = row
    checks = tuple(
        Check(
            what=f"{bits} bits a weight: binary bases less {NAMES['filter']}, points",
            value=(gain := round(100 * (table[str(bits)]["binary bases"] - table[str(bits)][NAMES["filter"]]), 2)),
            target=">= 0" if bits < 8 else ">= -0.1",
            passed=gain >= (0 if bits < 8 else -0.1),
        )
        for bits in BITS
    )
    details = {
        "float accuracy": evaluate(model, images, labels, batch_size=BATCH),
        "activation bits": ACTIVATION_BITS,
        "accuracy by bits a weight": table,
    }
    return BenchmarkResult(checks=checks, details=details, seed=recipe.decompose.seed)


@torch.no_grad()
def _uniform(
    model: nn.Module, dataset: Dataset, observed: dict[str, Observed], bits: int, scale: Scale
) -> tuple[nn.Module, int]:
    """The float network with weights and inputs rounded, and its stored bits: weights, a step of 16 bits, a bias."""
    network = float_network(model, dataset.image_shape)
    stored = 0
    for name, layer in network.weight_layers().items():
        layer.weight.copy_(uniform_weights(layer.weight.flatten(1), bits, scale).view_as(layer.weight))
        pads = isinstance(layer, nn.Conv2d)
        grid = choose_grid(observed[name], ACTIVATION_BITS, holds_zero=pads, clipping="mse")
        layer.register_forward_pre_hook(partial(_rounded_input, grid.round_trip))
        steps = 1 if scale == "layer" else len(layer.weight)
        stored += layer.weight.numel() * bits + 16 * steps + 32 * len(layer.weight)
    return network.graph, stored


def _rounded_input(round_trip: Any, layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (round_trip(inputs[0].double()).float(),)


DECOMPOSITION_PTQ = Benchmark(
    name="decomposition-ptq",
    description="a float CNN that others trained on MNIST with 2, 3, 4 and 8 stored bits a weight: binary bases beside "
    "plain post-training quantization (a step a layer or a filter), inputs of 8 bits, all test images",
    target="binary bases no worse than a step a filter with 2, 3 and 4 bits, and within 0.1 points with 8",
    minutes=8,
    measure=measure,
)
