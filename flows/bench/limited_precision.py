"""Training with weights in few bits: how they are rounded and scaled between two steps decides what is learned."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, at_least
from karui.sw.models.blocks import Stage
from karui.sw.models.mobilenet import MobileNetConfig
from karui.sw.train.augment import AugmentConfig
from karui.sw.train.config import LimitedPrecisionConfig, TrainConfig
from karui.sw.train.loop import EpochRecord
from karui.sw.train.recipe import DataConfig, TrainingRecipe
from karui.sw.train.run import train_recipe

SEED = 1
BITS = (16, 12, 8, 6)
# Weights of this network lie within -2 and 2.
INTEGER_BITS = 2
RECIPE = TrainingRecipe(
    name="limited-precision",
    data=DataConfig(name="fashion-mnist"),
    model=MobileNetConfig(
        image=(1, 28, 28),
        classes=10,
        stem=16,
        stages=(Stage(channels=32), Stage(channels=64, stride=2, repeat=2)),
    ),
    train=TrainConfig(epochs=4, learning_rate=0.005, seed=SEED, augment=AugmentConfig(flip=True)),
)


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Train the network once in floating point and once for each width, rounding and scale."""
    accuracies = {"floating point": _accuracy(run, "floating point", None)}
    for limited in (
        LimitedPrecisionConfig(bits=bits, rounding=rounding, scale=scale, integer_bits=INTEGER_BITS)
        for bits in BITS
        for rounding in ("stochastic", "nearest")
        for scale in ("dynamic", "static")
    ):
        name = f"{limited.bits} bits, {limited.rounding}, {limited.scale}"
        accuracies[name] = _accuracy(run, name, limited)
    best = accuracies["floating point"]
    stochastic, nearest = (accuracies[f"8 bits, {rounding}, dynamic"] for rounding in ("stochastic", "nearest"))
    checks = (
        at_least(
            "12 bits, stochastic, dynamic, less floating point",
            accuracies["12 bits, stochastic, dynamic"] - best,
            -0.01,
        ),
        at_least("8 bits, dynamic: stochastic less nearest", stochastic - nearest, 0.02),
    )
    return BenchmarkResult(checks=checks, details={"accuracies": accuracies}, seed=SEED)


def _accuracy(run: BenchmarkRun, name: str, limited: LimitedPrecisionConfig | None) -> float:
    def report(record: EpochRecord, model: nn.Module) -> None:
        run.progress(f"{name}: epoch {record.epoch} of {record.epochs}, training accuracy {record.accuracy:.4f}")

    recipe = replace(RECIPE, train=replace(RECIPE.train, limited_precision=limited))
    return train_recipe(recipe, data_dir=run.data_dir, on_epoch=report).accuracies["model"]


LIMITED_PRECISION = Benchmark(
    name="limited-precision",
    description="training with weights stored in 6 to 16 bits: stochastic or nearest rounding, dynamic or static scale",
    target="12 bits as good as floating point; at 8 bits stochastic rounding learns what rounding to nearest cannot",
    minutes=10,
    measure=measure,
)
