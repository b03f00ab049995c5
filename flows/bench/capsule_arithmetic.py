"""What the integer arithmetic of capsules costs in accuracy, and that golden model and network agree on every image."""

from __future__ import annotations

from typing import Any

from torch import nn

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, at_most, equal, percent
from karui.flows.bench.reference_data import data_folder
from karui.flows.recipe import find_recipe
from karui.sw.data.dataset import Dataset
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.models.build import build_model
from karui.sw.nn.capsule import DynamicRouting, Squash
from karui.sw.nn.quant_capsule import QuantDynamicRouting, QuantSquash
from karui.sw.train.checkpoint import Checkpoint, load_checkpoint
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import held_out_accuracy

RECIPE = "capsnet-compact"
# Points of accuracy between the float network and the integers.
LARGEST_COST = 0.2


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Replace the integer layers of the shipped network by real ones, a kind at a time, then hold it against golden."""
    recipe = find_recipe(RECIPE)
    if recipe.checkpoint is None:
        raise FileNotFoundError(f"{RECIPE} ships no checkpoint; train it first: karui train {RECIPE}")
    checkpoint, dataset = load_checkpoint(recipe.checkpoint), load_data(recipe.training, data_folder(run.data_dir))
    rows = accuracies(checkpoint, dataset)
    for what, accuracy in rows.items():
        run.progress(f"{what}: {accuracy} %")
    lowered = lower(checkpoint.model, dataset.image_shape, classes=dataset.classes)
    agreement = compare_with_golden(checkpoint.model, lowered, dataset.test_images)
    integers = percent(float((agreement.golden_classes == dataset.test_labels).mean()))
    trained = percent(checkpoint.metadata["accuracies"]["float"])
    cost = round(trained - integers, 2)
    real = round(rows["real squash, real routing"] - integers, 2)
    details: dict[str, Any] = {
        "accuracies, %": {"float network": trained, **rows, "golden": integers},
        "float type": str(lowered.float_type),
    }
    return BenchmarkResult(
        checks=(
            equal("test images compared with golden", agreement.images, len(dataset.test_images)),
            equal("images on which golden and network differ", agreement.mismatches, 0),
            at_most("points that integers cost against the float network", cost, LARGEST_COST),
            at_most("points that integer squash and routing cost against real ones", real, LARGEST_COST),
        ),
        details=details,
    )


def accuracies(checkpoint: Checkpoint, dataset: Dataset) -> dict[str, float]:
    """Accuracies in per cent with integer and with real squash and routing, on the same 8-bit words otherwise."""
    rows = {}
    for squash in ("integer", "real"):
        for routing in ("integer", "real"):
            model = build_model(checkpoint.config)
            model.load_state_dict(checkpoint.model.state_dict())
            for name, layer in list(model.named_children()):
                setattr(model, name, _real(layer, squash=squash == "real", routing=routing == "real"))
            accuracy = held_out_accuracy(model, dataset)
            rows[f"{squash} squash, {routing} routing"] = percent(accuracy)
    return rows


def _real(layer: nn.Module, *, squash: bool, routing: bool) -> nn.Module:
    """The layer, or the real one that it approximates."""
    match layer:
        case QuantSquash() if squash:
            return Squash(length=layer.length)
        case QuantDynamicRouting() if routing:
            return DynamicRouting(layer.out_capsules, layer.out_length, iterations=layer.iterations)
    return layer


CAPSULE_ARITHMETIC = Benchmark(
    name="capsule-arithmetic",
    description="compact CapsNet with integer and with real squash and routing; golden model and network on all test "
    "images",
    target=f"golden equal to the network on every image; integers cost at most {LARGEST_COST} points",
    minutes=8,
    measure=measure,
)
