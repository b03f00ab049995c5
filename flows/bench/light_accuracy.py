"""Accuracy of the shipped light networks: in floating point, and what their bits cost."""

from __future__ import annotations

from typing import Any

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, equal
from karui.flows.bench.light_family import light_recipes
from karui.flows.bench.reference_data import data_folder
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import held_out_accuracy

FLOAT_TARGET = 0.92
CIFAR10_TARGET = 0.80
# What 8 and 4 bits may cost, as fractions of the test images.
EIGHT_BITS, FOUR_BITS = 0.005, 0.015
MOBILENET = "mobilenet-fashion"


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Evaluate every shipped network anew; the floating-point figure is the one that its training recorded."""
    accuracies: dict[str, dict[str, float]] = {}
    cifar10: list[float] = []
    checks: list[Check] = []
    for recipe in light_recipes():
        run.progress(recipe.name)
        assert recipe.checkpoint is not None
        checkpoint = load_checkpoint(recipe.checkpoint)
        recorded: dict[str, float] = checkpoint.metadata["accuracies"]
        measured = held_out_accuracy(checkpoint.model, load_data(recipe.training, data_folder(run.data_dir)))
        checks.append(equal(f"{recipe.name}: accuracy as recorded", measured, recorded["model"]))
        accuracies[recipe.name] = {"float": recorded["float"], "quantized": measured}
        if recipe.training.data.name == "cifar10":
            cifar10.append(recorded["float"])
    checks += _mobilenet(accuracies)
    checks.append(at_least("best network on CIFAR-10 (JPEG copies), float", max(cifar10, default=0.0), CIFAR10_TARGET))
    return BenchmarkResult(checks=tuple(checks), details={"accuracies": accuracies})


def _mobilenet(accuracies: dict[str, dict[str, float]]) -> list[Check]:
    missing: dict[str, Any] = {"float": 0.0, "quantized": 0.0}
    eight, four = (accuracies.get(name, missing) for name in (MOBILENET, f"{MOBILENET}-4bit"))
    return [
        at_least(f"{MOBILENET}, float", eight["float"], FLOAT_TARGET),
        at_most("8 bits: loss", round(eight["float"] - eight["quantized"], 4), EIGHT_BITS),
        at_least("8 bits", eight["quantized"], FLOAT_TARGET - EIGHT_BITS),
        at_most("4 bits: loss", round(four["float"] - four["quantized"], 4), FOUR_BITS),
        at_least("4 bits", four["quantized"], FLOAT_TARGET - FOUR_BITS),
    ]


LIGHT_ACCURACY = Benchmark(
    name="light-accuracy",
    description="the shipped light networks on all test images, at 8 and 4 bits beside floating point",
    target="MobileNet on Fashion-MNIST >= 92 % in float, at most 0.5 points less at 8 bits and 1.5 at 4; "
    "CIFAR-10 (JPEG copies) >= 80 % in float",
    minutes=5,
    measure=measure,
)
