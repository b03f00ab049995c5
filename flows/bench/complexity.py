"""The complexity of images: integers beside float64 on whole data sets, and its engine alone."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, equal
from karui.flows.bench.estimate import TOLERANCE
from karui.flows.bench.lone_engine import close, place, play, play_netlist
from karui.flows.bench.mapped_cells import cell_figures, look_up_tables, map_design
from karui.flows.bench.reference_data import dataset
from karui.flows.design import Design
from karui.flows.synthesize import find_device
from karui.hw.emit.accelerator import module_name
from karui.hw.plan.estimate import Fold, cost
from karui.hw.plan.folding import Folding
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder, complexity_of
from karui.sw.ir.complexity_arithmetic import complexity_words, depths, reference_complexity
from karui.sw.ir.complexity_bound import error_bounds
from karui.sw.ir.complexity_op import COMPLEXITY_FRACTION
from karui.sw.numerics import unsigned

DATA_SETS = ("mnist", "fashion-mnist", "cifar10")
LARGEST_SHARE = 0.5
"""Images, in per cent, whose depth may be another than that of float64."""
PIXEL = unsigned(8)
DEEPEST = 9
DEVICE = find_device("ecp5-85f-8")
PLAYED = "fashion-mnist"
DEPTHS, FRAMES_A_DEPTH = (4, 5, 6), 10
LANES, PLACED_LANES = (1, 2, 4), 2
COLOUR_LANES, COLOUR_FRAMES = 4, 10
CLOCK_MHZ, AIM_MHZ, SEEDS = 100.0, 150.0, 2
NETLIST_FRAMES, SEED = 2, 1
MEASURED = "complexity"

Images = npt.NDArray[np.uint8]


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Hold the integers against float64 on every image; play and map each folding; place one of them."""
    checks: list[Check] = []
    details: dict[str, Any] = {}
    images: dict[str, Images] = {}
    for name in DATA_SETS:
        data = dataset(name, run.data_dir)
        images[name] = data.test_images.transpose(0, 2, 3, 1)
        every = np.concatenate([data.train_images.transpose(0, 2, 3, 1), images[name]])
        run.progress(f"{name}: {len(every)} images")
        of_set, found = _against_float(name, every)
        checks += of_set
        details[f"{name} ({data.provenance})"] = found
    frames = _of_each_depth(images[PLAYED])
    for lanes in LANES:
        of_engine, details[f"{lanes} lanes"] = _engine(run, f"{lanes} lanes", frames, lanes)
        checks += of_engine
    colour = images["cifar10"][:COLOUR_FRAMES]
    name = f"colour {COLOUR_LANES} lanes"
    of_engine, details[name] = _engine(run, name, colour, COLOUR_LANES)
    checks += of_engine
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


def _against_float(name: str, images: Images) -> tuple[list[Check], dict[str, Any]]:
    op, tables = complexity_of(images.shape[1:], PIXEL)
    start = time.perf_counter()
    words = complexity_words(op, images, tables)
    seconds = time.perf_counter() - start
    exact = reference_complexity(op, images)
    error = np.abs(words * 2.0**-COMPLEXITY_FRACTION - exact)
    bounds, _ = error_bounds(op, images)
    found, expected = depths(words, 1, DEEPEST), np.floor(1 / np.tanh(1 / exact)).astype(np.int64)
    differing = int((found != expected).sum())
    checks = [
        at_most(f"{name}: images of another depth than in float64, %", 100 * differing / len(images), LARGEST_SHARE),
        equal(f"{name}: images whose error is above its bound", int((error > bounds).sum()), 0),
    ]
    counts = dict(zip(*np.unique(found, return_counts=True), strict=True))
    return checks, {
        "images": len(images),
        "of another depth": differing,
        "by depth": {str(depth): int(count) for depth, count in counts.items()},
        "largest error": round(float(error.max()), 5),
        "mean error": round(float(error.mean()), 5),
        "mean complexity": round(float(exact.mean()), 3),
        "seconds": round(seconds, 1),
    }


def _of_each_depth(images: Images) -> Images:
    op, tables = complexity_of(images.shape[1:], PIXEL)
    found = depths(complexity_words(op, images, tables), 1, DEEPEST)
    return np.concatenate([images[found == depth][:FRAMES_A_DEPTH] for depth in DEPTHS])


def complexity_network(shape: tuple[int, ...]) -> Graph:
    """An image in, its complexity out."""
    build = GraphBuilder("complexity")
    return build.finish(build.complexity(MEASURED, build.input("pixels", shape, PIXEL)))


def _engine(run: BenchmarkRun, name: str, images: Images, lanes: int) -> tuple[list[Check], dict[str, Any]]:
    graph, frames = complexity_network(images.shape[1:]), images.astype(np.int64)
    expected = evaluate(graph, frames)
    fold = Fold(simd=lanes, pe=1)
    design = Design.create(
        graph, run.folder / name.replace(", ", "-").replace(" ", "-"), Folding(folds={MEASURED: fold})
    )
    run.progress(f"{name}: simulating {len(frames)} frames")
    checks = play(design, name, frames, expected, seed=SEED)
    run.progress(f"{name}: mapping to {DEVICE.name}")
    mapped = map_design(design, DEVICE)[module_name(MEASURED)]
    (stage,) = design.accelerator.stages
    estimated = cost(stage.op, stage, fold)
    checks += [
        close(f"{name}: look-up tables", estimated.luts, look_up_tables(mapped)),
        close(f"{name}: block RAMs", estimated.block_rams, mapped.bram),
        equal(f"{name}: multipliers, as estimated", mapped.dsp, estimated.dsps),
    ]
    details: dict[str, Any] = {
        "frames": len(frames),
        "interval": design.accelerator.interval,
        "latency": design.accelerator.latency,
        **cell_figures(mapped),
    }
    if name == f"{PLACED_LANES} lanes":
        result = place(design, run, device=DEVICE, clock_mhz=AIM_MHZ, seeds=SEEDS)
        reached = round(result.fmax_mhz or 0.0, 1)
        run.progress(f"{name}: simulating the netlist")
        failure = play_netlist(design, frames[:NETLIST_FRAMES], expected[:NETLIST_FRAMES], seed=SEED)
        checks += [
            equal(f"{name}: failed checks of the netlist", failure or "none", "none"),
            at_least(f"{name}: clock, best of {SEEDS} seeds, MHz", reached, CLOCK_MHZ),
        ]
        details["frames_a_second"] = round(1e6 * reached / design.accelerator.interval)
        details["critical_path"] = str(result.critical_path).split("\n")
    return checks, details


COMPLEXITY = Benchmark(
    name="complexity",
    description="entropies of pixels and spectrum in integers beside float64 on all images of MNIST, Fashion-MNIST and "
    f"CIFAR-10; the engine at {', '.join(map(str, LANES))} products a sum and cycle on {FRAMES_A_DEPTH} test images of "
    f"each depth, and on colour images; {PLACED_LANES} placed on {DEVICE.name}",
    target=f"another depth than in float64 for <= {LARGEST_SHARE} % of each set's images, errors within their bounds; "
    f"RTL equal to the golden model, netlist too; cycles as predicted; cells within {100 * TOLERANCE:g} % of the "
    f"estimate; >= {CLOCK_MHZ:g} MHz",
    minutes=20,
    measure=measure,
)
