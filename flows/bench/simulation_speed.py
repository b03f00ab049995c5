"""Speed of the full-speed regression: what whole test sets through the RTL rest on."""

from __future__ import annotations

import numpy as np

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, at_least
from karui.flows.bench.regression import play_at_interval
from karui.flows.recipe import find_recipe
from karui.sw.lower.from_torch import lower
from karui.sw.train.checkpoint import load_checkpoint

RECIPE = "bnn-tfc"
INTERVAL = 128
FRAMES = 20_000
SEED = 1
CYCLES_PER_SECOND = 150_000


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Play random frames through the shipped network."""
    recipe = find_recipe(RECIPE)
    if recipe.checkpoint is None:
        raise ValueError(f"the recipe {RECIPE} ships no network; train one with `karui train {RECIPE}`")
    graph = lower(load_checkpoint(recipe.checkpoint).model, (1, 28, 28), name=RECIPE).graph
    frames = np.random.default_rng(SEED).integers(0, 256, (FRAMES, *graph.inputs[graph.input_name].shape))
    played = play_at_interval(
        graph, frames, interval=INTERVAL, folder=run.folder / "design", label=RECIPE, progress=run.progress
    )
    speed = at_least("cycles simulated a second", round(played.result.cycles_per_second), CYCLES_PER_SECOND)
    return BenchmarkResult(checks=(speed, *played.checks(RECIPE, INTERVAL)), details=played.details, seed=SEED)


SIMULATION_SPEED = Benchmark(
    name="simulation-speed",
    description=f"{FRAMES:,} random frames through TFC at {INTERVAL} cycles a frame on Verilator",
    target=f">= {CYCLES_PER_SECOND:,} cycles a second, every word equal",
    minutes=2,
    measure=measure,
)
