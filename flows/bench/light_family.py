"""The light architectures in RTL: every shipped network against its golden model, paused and at full rate."""

from __future__ import annotations

from typing import Any

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, equal
from karui.flows.bench.reference_data import dataset
from karui.flows.bench.regression import play_at_interval
from karui.flows.recipe import Recipe, find_recipe, recipe_names
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.lower.agreement import compare_with_golden, to_graph_layout
from karui.sw.lower.from_torch import lower
from karui.sw.models.build import LightConfig
from karui.sw.models.deep_fried import DeepFriedConfig
from karui.sw.train.checkpoint import load_checkpoint

IMAGES = 100
PAUSED_IMAGES = 100
# The solver's default where a recipe asks for the best rate within its device.
INTERVAL = 65_536
SEED = 1


def light_recipes() -> list[Recipe]:
    """The recipes of the light architectures that ship a network; compressed and Deep Fried ones are not among them."""
    recipes = [find_recipe(name) for name in recipe_names()]
    return [
        one
        for one in recipes
        if isinstance(one.training.model, LightConfig)
        and not isinstance(one.training.model, DeepFriedConfig)
        and one.checkpoint is not None
        and not one.is_packed
    ]


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Play test images through each network, without and with random back-pressure."""
    checks: list[Check] = []
    details: dict[str, Any] = {}
    recipes = light_recipes()
    families = {type(recipe.training.model).__name__ for recipe in recipes}
    checks.append(
        Check(what="families with a trained network", value=len(families), target=">= 5", passed=len(families) >= 5)
    )
    for recipe in recipes:
        name = recipe.name
        assert recipe.checkpoint is not None
        model = load_checkpoint(recipe.checkpoint).model
        data = dataset(recipe.training.data.name, run.data_dir)
        lowered = lower(model, data.image_shape, name=name, classes=data.classes)
        images = data.test_images[:IMAGES]
        agreement = compare_with_golden(model, lowered, images)
        checks.append(equal(f"{name}: images on which golden model and network differ", agreement.mismatches, 0))
        interval = recipe.hardware.initiation_interval or INTERVAL
        frames = to_graph_layout(images)
        played = play_at_interval(
            lowered.graph,
            frames,
            interval=interval,
            folder=run.folder / name,
            label=name,
            progress=run.progress,
            latency_frames=2,
        )
        checks += played.checks(name, interval)
        run.progress(f"{name}: the same under random back-pressure")
        paused = run_regression(
            played.design.rtl,
            frames[:PAUSED_IMAGES],
            played.golden[:PAUSED_IMAGES],
            back_pressure=BackPressure.RANDOM,
            seed=SEED,
        )
        checks.append(equal(f"{name}: failed checks under random back-pressure", paused.failure() or "none", "none"))
        details[name] = {**played.details, "initiation_interval": played.design.accelerator.interval}
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


LIGHT_FAMILY = Benchmark(
    name="light-family",
    description=f"every shipped light architecture in RTL on {IMAGES} test images, also under random back-pressure",
    target="every word equal, initiation interval and latency as predicted",
    minutes=45,
    measure=measure,
)
