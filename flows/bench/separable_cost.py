"""Depthwise-separable against standard convolution in hardware, at equal initiation interval."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_most, equal
from karui.flows.bench.mapped_cells import cell_figures, map_design, total
from karui.flows.design import Design
from karui.flows.synthesize import find_device
from karui.hw.plan.folding import Folding, choices, fold_for_interval
from karui.hw.plan.stages import Stage, stages
from karui.sim.regression import run_regression
from karui.sw.golden import evaluate
from karui.sw.ir import DepthwiseConv, Graph, GraphBuilder, MatrixVector
from karui.sw.numerics import unsigned

DEVICE = find_device("ecp5-85f-8")
SIZE, CHANNELS, KERNEL = 14, 64, 3
# 128 products a cycle for the standard convolution: what the device has multipliers for.
INTERVAL = SIZE * SIZE * CHANNELS * CHANNELS * KERNEL * KERNEL // 128
SEED = 1
FRAMES = 3
ACTIVATION = unsigned(8)
PADDING = (KERNEL // 2,) * 4
THEORY = 1 / KERNEL**2 + 1 / CHANNELS

Multiplier = Literal["dsp", "lut"]
MULTIPLIERS: tuple[Multiplier, ...] = ("dsp", "lut")


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Generate, play and map both convolutions with multipliers of either kind."""
    random = np.random.default_rng(SEED)
    graphs = {"standard": _standard(random), "separable": _separable(random)}
    checks: list[Check] = []
    details: dict[str, Any] = {
        "map": f"{SIZE}x{SIZE}x{CHANNELS} to {SIZE}x{SIZE}x{CHANNELS}, kernel {KERNEL}x{KERNEL}, 8 bits",
        "theory": round(THEORY, 4),
    }
    weights = {name: _weights(graph) for name, graph in graphs.items()}
    checks.append(equal("weights, separable over standard", weights["separable"] / weights["standard"], THEORY))
    for multiplier in MULTIPLIERS:
        cost: dict[str, dict[str, float]] = {}
        for name, graph in graphs.items():
            label = f"{name}, {multiplier}"
            design = _design(graph, multiplier, run, label)
            frames = random.integers(0, ACTIVATION.maximum + 1, (FRAMES, SIZE, SIZE, CHANNELS))
            run.progress(f"{label}: simulating")
            played = run_regression(design.rtl, frames, evaluate(graph, frames), latency_frames=1)
            checks.append(equal(f"{label}: failed checks of the RTL", played.failure() or "none", "none"))
            measured = None if played.initiation_interval is None else played.initiation_interval.max
            checks.append(at_most(f"{label}: initiation interval, cycles", measured or INTERVAL + 1, INTERVAL))
            run.progress(f"{label}: mapping to {DEVICE.name}")
            cost[name] = {**cell_figures(total(map_design(design, DEVICE))), "weights": weights[name]}
            cost[name] |= {"initiation_interval": measured or 0, "multipliers": _multipliers(design)}
        ratios = {
            kind: round(cost["separable"][kind] / cost["standard"][kind], 3) if cost["standard"][kind] else None
            for kind in cost["standard"]
        }
        details[multiplier] = {**cost, "separable over standard": ratios}
        checks.append(at_most(f"{multiplier}: look-up tables, separable over standard", ratios["luts"] or 1.0, 0.5))
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


def _standard(random: np.random.Generator) -> Graph:
    build = GraphBuilder("standard")
    edge = build.input("map", (SIZE, SIZE, CHANNELS), ACTIVATION)
    edge = build.sliding_window("window", edge, (KERNEL, KERNEL), padding=PADDING, pad_value=0)
    edge = build.matrix_vector("conv", edge, _integers(random, (CHANNELS, KERNEL * KERNEL * CHANNELS)))
    return build.finish(_requantize(build, "conv.quantize", edge))


def _separable(random: np.random.Generator) -> Graph:
    build = GraphBuilder("separable")
    edge = build.input("map", (SIZE, SIZE, CHANNELS), ACTIVATION)
    weights = _integers(random, (KERNEL, KERNEL, CHANNELS))
    edge = build.depthwise_conv("depthwise", edge, weights, padding=PADDING, pad_value=0)
    edge = _requantize(build, "depthwise.quantize", edge)
    edge = build.matrix_vector("pointwise", edge, _integers(random, (CHANNELS, CHANNELS)))
    return build.finish(_requantize(build, "pointwise.quantize", edge))


def _integers(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return random.integers(-128, 128, shape)


def _requantize(build: GraphBuilder, name: str, edge: str) -> str:
    """Powers of two, as networks trained here have them: the accumulator's deviation becomes a quarter of the range."""
    reach = build.tensor(edge).number_format.bits
    return build.requantize(name, edge, np.array([1]), np.array([0]), shift=max(0, reach - 10), output=ACTIVATION)


def _weights(graph: Graph) -> int:
    return sum(
        graph.constants[node.inputs[1]].values.size
        for node in graph.nodes
        if isinstance(node.op, MatrixVector | DepthwiseConv)
    )


def _design(graph: Graph, multiplier: Multiplier, run: BenchmarkRun, label: str) -> Design:
    run.progress(f"{label}: generating the RTL")
    pipeline = stages(graph)
    folding = fold_for_interval(pipeline, INTERVAL)
    forced = {stage.name: _forced(stage, folding, multiplier) for stage in pipeline}
    return Design.create(graph, run.folder / label.replace(", ", "-"), Folding(folds=forced))


def _forced(stage: Stage, folding: Folding, multiplier: Multiplier) -> Any:
    fold = folding.folds[stage.name]
    other = replace(fold, multiplier=multiplier)
    return other if other in choices(stage) else fold


def _multipliers(design: Design) -> int:
    """Products of activations and weights a cycle."""
    folds = design.accelerator.folding.folds
    return sum(
        folds[stage.name].simd * folds[stage.name].pe
        for stage in design.accelerator.stages
        if isinstance(stage.op, MatrixVector | DepthwiseConv)
    )


SEPARABLE_COST = Benchmark(
    name="separable-cost",
    description=f"depthwise-separable against standard 3x3 convolution on {SIZE}x{SIZE}x{CHANNELS}, 8 bits, "
    f"multipliers in DSP blocks and in look-up tables, at most {INTERVAL:,} cycles a frame",
    target="RTL equal to the golden model; look-up tables at most half; every cost stated beside 1/K^2 + 1/M",
    minutes=6,
    measure=measure,
)
