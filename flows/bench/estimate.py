"""The cost model against Yosys, engine by engine: what the folding solver's decisions rest on."""

from __future__ import annotations

from typing import Any

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check
from karui.flows.bench.mapped_cells import look_up_tables, map_design, total
from karui.flows.design import Design, Rate
from karui.flows.recipe import find_recipe
from karui.flows.synthesize import CellCount, find_device
from karui.hw.emit.accelerator import module_name
from karui.hw.memory.resources import Resources
from karui.hw.plan.estimate import cost
from karui.hw.plan.folding import total_cost
from karui.sw.lower.from_torch import lower
from karui.sw.train.checkpoint import load_checkpoint

# Binary dense layers, convolutions and multi-bit inputs, 8-bit weights and activations.
RECIPES = ("bnn-tfc", "bnn-sfc", "bnn-cnn", "mobilenet-fashion")
IMAGE_SHAPE = (1, 28, 28)
DEVICE = find_device("ecp5-85f-8")
# Of a whole design: 'fits' is decided with a margin of 40 % of the logic (`karui.flows.device_fill`).
TOLERANCE = 0.25


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Map the shipped networks as their recipes fold them, and compare with what was expected."""
    checks: list[Check] = []
    details: dict[str, Any] = {}
    for name in RECIPES:
        run.progress(f"{name}: generating the RTL")
        design = _design(name, run)
        run.progress(f"{name}: mapping to {DEVICE.name}")
        mapped = map_design(design, DEVICE)
        folding = design.accelerator.folding
        expected = total_cost(design.accelerator.stages, folding)
        checks += _checks(name, expected, total(mapped))
        details[name] = {
            stage.name: _comparison(cost(stage.op, stage, folding.folds[stage.name]), mapped[module_name(stage.name)])
            for stage in design.accelerator.stages
        }
    return BenchmarkResult(checks=tuple(checks), details=details)


def _design(name: str, run: BenchmarkRun) -> Design:
    recipe = find_recipe(name)
    if recipe.checkpoint is None:
        raise ValueError(f"the recipe {name} ships no network; train one with `karui train {name}`")
    graph = lower(load_checkpoint(recipe.checkpoint).model, IMAGE_SHAPE, name=name).graph
    rate = Rate(initiation_interval=recipe.hardware.initiation_interval)
    return Design.create(graph, run.folder / name, rate.fold(graph))


def _checks(name: str, expected: Resources, mapped: CellCount) -> list[Check]:
    """The whole design; its ends and width converters, which the cost model leaves out, are among what is mapped."""
    pairs = (
        ("look-up tables", expected.luts, look_up_tables(mapped)),
        ("block RAMs", expected.block_rams, mapped.bram),
    )
    return [
        Check(
            what=f"{name}: {kind}, estimate against mapped, %",
            value=round(error(estimate, found), 1),
            target=f"within {100 * TOLERANCE:g}",
            passed=abs(error(estimate, found)) <= 100 * TOLERANCE,
        )
        for kind, estimate, found in pairs
    ]


def error(estimate: float, found: float) -> float:
    """Per cent by which an estimate is above (or, negative, below) what was found."""
    if found == 0:
        return 0.0 if estimate == 0 else 100.0
    return 100 * (estimate / found - 1)


def _comparison(expected: Resources, mapped: CellCount) -> dict[str, float]:
    luts = look_up_tables(mapped)
    return {
        "luts_estimated": expected.luts,
        "luts_mapped": luts,
        "luts_error_percent": round(error(expected.luts, luts), 1),
        "block_rams_estimated": expected.block_rams,
        "block_rams_mapped": mapped.bram,
    }


ESTIMATE = Benchmark(
    name="estimate",
    description=f"cost model against Yosys on {DEVICE.name}: {', '.join(RECIPES)} as their recipes fold them",
    target=f"look-up tables and block RAMs of each design within {100 * TOLERANCE:g} %; each engine's error stated",
    minutes=10,
    measure=measure,
)
