"""MobileNet at the best rate within an ECP5-85F: placed, routed, timed, its frames per second."""

from __future__ import annotations

from dataclasses import asdict

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, equal
from karui.flows.bench.reference_data import dataset
from karui.flows.design import Design, Rate
from karui.flows.device_fill import DeviceFill
from karui.flows.recipe import find_recipe
from karui.flows.synthesize import TimingMissed, find_device
from karui.hw.plan.folding import total_cost
from karui.sw.lower.from_torch import lower
from karui.sw.train.checkpoint import load_checkpoint

RECIPE = "mobilenet-fashion"
DEVICE = find_device("ecp5-85f-8")
CLOCK_MHZ = 150.0
FILL = DeviceFill()
SEEDS = 3
IMAGES = 20


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Fold for the device, play images, place and route."""
    recipe = find_recipe(RECIPE)
    if recipe.checkpoint is None:
        raise ValueError(f"the recipe {RECIPE} ships no network; train one with `karui train {RECIPE}`")
    data = dataset(recipe.training.data.name, run.data_dir)
    run.progress("lowering and generating the RTL")
    graph = lower(load_checkpoint(recipe.checkpoint).model, data.image_shape, name=RECIPE, classes=data.classes).graph
    design = Design.create(graph, run.folder / "design", Rate(device=DEVICE, fill=FILL).fold(graph))
    folding = design.accelerator.folding
    run.progress(f"initiation interval {design.accelerator.interval:,}: simulating {IMAGES} images")
    played = design.simulate(data.test_images[:IMAGES])
    interval = 0.0 if played.initiation_interval is None else played.initiation_interval.max
    try:
        result = design.synthesize(
            DEVICE.name, clock_mhz=CLOCK_MHZ, seeds=SEEDS, folder=run.folder / "synthesis", progress=run.progress
        )
    except TimingMissed as missed:
        result = missed.result
    reached = result.fmax_mhz or 0.0
    checks: list[Check] = [
        equal("failed checks of the RTL", played.failure() or "none", "none"),
        equal("initiation interval measured, cycles", interval, float(design.accelerator.interval)),
        at_least(f"clock on {DEVICE.name}, best of at most {SEEDS} seeds, MHz", round(reached, 1), CLOCK_MHZ),
        at_most("logic occupied, share", round((result.comb or DEVICE.luts) / DEVICE.luts, 3), FILL.logic),
        at_most("block RAM occupied, share", round(result.cells.bram / DEVICE.block_rams, 3), FILL.memory),
    ]
    return BenchmarkResult(
        checks=tuple(checks),
        details={
            "frames_per_second": round(reached * 1e6 / interval) if interval else None,
            "mhz_by_seed": {str(one.seed): None if one.fmax_mhz is None else round(one.fmax_mhz, 1)
                            for one in result.seeds},
            "estimated": asdict(total_cost(design.accelerator.stages, folding)),
            "critical_path": str(result.critical_path).split("\n"),
            "lut4": result.cells.lut,
            "carry": result.cells.carry,
            "comb": result.comb,
            "ff": result.cells.ff,
            "bram": result.cells.bram,
            "dsp": result.cells.dsp,
            "latency": design.accelerator.latency,
            "folding": {name: str(fold) for name, fold in folding.folds.items()},
        },
    )  # fmt: skip


MOBILENET_FIT = Benchmark(
    name="mobilenet-fit",
    description=f"{RECIPE} at the best rate within {DEVICE.name}, placed and routed, at most {SEEDS} seeds",
    target=f">= {CLOCK_MHZ:g} MHz within 60 % of the logic and 85 % of the block RAM, RTL equal to the golden model",
    minutes=60,
    measure=measure,
)
