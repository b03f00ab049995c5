"""The shipped compressed capsule networks: size after each stage and accuracy, beside the seed's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, equal
from karui.flows.bench.compressed_file import compressed_recipes, examine
from karui.flows.recipe import find_recipe
from karui.sw.train.checkpoint import load_checkpoint


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a recipe's file must reach.

    Parameters
    ----------
    accuracy
        In per cent, at least.
    ratio
        Times smaller than floats, at least.
    bytes
        At most.
    whole
        Accuracy in per cent of the recipe without ``-small`` before its integers, at least.
    loss
        Points of accuracy at most below that network.
    """

    accuracy: float
    ratio: float = 1.0
    bytes: int | None = None
    whole: float | None = None
    loss: float | None = None


TARGETS = {
    "capsnet-compact-small": Target(ratio=25, accuracy=99.3, whole=99.5),
    "capsnet-small": Target(bytes=1_090_000, ratio=25, accuracy=99.4, whole=99.5),
    # The seed's network has 64.36 % before compression.
    "capsnet-cifar10-small": Target(accuracy=63.37, whole=64.37, loss=1.0),
}
# MB of the networks as they were, pruned, quantized and coded.
SEED = {"MNIST": (50.78, 44.63, 40.81, 15.47), "CIFAR-10": (99.89, 99.92, 99.92, 88.53)}


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Take every file apart, and run the integer graph of the network in it on all test images."""
    recipes = compressed_recipes("capsnet", "capsule-vgg")
    checks: list[Check] = [equal(f"{name} ships", name in recipes, True) for name in TARGETS]
    details: dict[str, Any] = {"seed, MB: dense, pruned, quantized, coded": SEED}
    for name, recipe in recipes.items():
        found = examine(recipe, run)
        checks += found.checks(name)
        target = TARGETS.get(name)
        if target is not None:
            checks.append(at_least(f"{name}: accuracy, %", round(100 - found.error, 2), target.accuracy))
            checks.append(at_least(f"{name}: times smaller than floats", round(found.ratio, 1), target.ratio))
            if target.bytes is not None:
                checks.append(at_most(f"{name}: bytes", found.bytes, target.bytes))
            before = _float_accuracy(name)
            if target.whole is not None:
                checks.append(at_least(f"{name}: accuracy of the float network, %", round(before, 2), target.whole))
            if target.loss is not None:
                lost = before - (100 - found.error)
                checks.append(at_most(f"{name}: points below the float network", round(lost, 2), target.loss))
        details[name] = found.details | {"layers": [asdict(layer) for layer in found.report.layers]}
    return BenchmarkResult(checks=tuple(checks), details=details)


def _float_accuracy(name: str) -> float:
    """Accuracy in per cent, before its integers, of the recipe without ``-small``."""
    whole = find_recipe(name.removesuffix("-small"))
    if whole.checkpoint is None:
        raise FileNotFoundError(f"{whole.name} ships no checkpoint to compare {name} with")
    accuracy: float = load_checkpoint(whole.checkpoint).metadata["accuracies"]["float"]
    return 100 * accuracy


CAPSULE_COMPRESSION = Benchmark(
    name="capsule-compression",
    description="the shipped compressed capsule networks: bytes after each stage, accuracy of the integer graph on all "
    "test images",
    target="compact CapsNet >= 25x at >= 99.3 %, the full one <= 1.09 MB at >= 99.4 %, both from >= 99.5 %; CIFAR-10's "
    "above 64.36 % and at most a point below that after compression",
    minutes=20,
    measure=measure,
)
