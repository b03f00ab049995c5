"""The sparse engines against the dense one: cycles an image of LeNet-300-100 with equally many multipliers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, equal
from karui.flows.bench.lenet_graph import compressed_lenet, dense
from karui.flows.bench.reference_data import dataset
from karui.flows.design import Design
from karui.hw.compressed.column_matrix_vector import ColumnMatrixVector, ColumnMatrixVectorConfig
from karui.hw.plan.estimate import Fold, cycles, weights_of
from karui.hw.plan.folding import Folding, choices, fold_for_interval
from karui.hw.plan.sparse_stage import is_sparse
from karui.hw.plan.stages import Stage, stages
from karui.sim.regression import run_regression
from karui.sim.stream_testbench import run_stream
from karui.sw.golden import evaluate, trace
from karui.sw.ir import Graph, MatrixVector
from karui.sw.lower.agreement import to_graph_layout

MULTIPLIERS = 24
FASTER = 5.0
FRAMES = 60
COLUMN_FRAMES = 24
COLUMN_SIMD = 8

Array = npt.NDArray[Any]


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Play images through the RTL of all three, and compare words and cycles."""
    mnist = dataset("mnist", run.data_dir)
    graph = compressed_lenet(mnist)
    frames = to_graph_layout(mnist.test_images)
    checks: list[Check] = []
    found: dict[str, dict[str, Any]] = {}
    for name, stored in (("dense", dense(graph)), ("sparse", graph)):
        checks += _play(name, stored, frames[:FRAMES], run, found)
    folds = found["sparse"]["processing elements"]
    column = _columns(graph, folds, frames[:COLUMN_FRAMES], run.progress)
    checks.append(equal("zero activations skipped: sums that differ from the golden model", column.pop("wrong"), 0))
    slower = found["dense"]["cycles an image"] / found["sparse"]["cycles an image"]
    checks.append(at_least("cycles an image, dense over sparse", round(slower, 2), FASTER))
    checks.append(
        at_most(
            "cycles an image of the slowest layer, zero activations skipped",
            column["cycles an image"],
            found["sparse"]["cycles an image"],
        )
    )
    return BenchmarkResult(checks=tuple(checks), details={**found, "zero activations skipped": column})


def _play(
    name: str, graph: Graph, frames: Array, run: BenchmarkRun, found: dict[str, dict[str, Any]]
) -> tuple[Check, ...]:
    """Generate a network's fastest design of so many multipliers, and play images through it."""
    run.progress(f"{name}: generating the RTL")
    pipeline = stages(graph)
    folding = fastest(pipeline, MULTIPLIERS)
    used = {stage.name: _multipliers(stage, folding.folds[stage.name]) for stage in pipeline if _multiplies(stage)}
    design = Design.create(graph, run.folder / name, folding)
    run.progress(f"{name}: simulating {len(frames)} images")
    result = run_regression(design.rtl, frames, evaluate(graph, frames))
    interval = -1.0 if result.initiation_interval is None else result.initiation_interval.max
    found[name] = {
        "cycles an image": interval,
        "multipliers": sum(used.values()),
        "processing elements": used,
        "cycles of each layer": {
            stage.name: cycles(stage.op, stage, folding.folds[stage.name]) for stage in pipeline if _multiplies(stage)
        },
    }
    return (
        equal(f"{name}: failed checks of the RTL", result.failure() or "none", "none"),
        equal(f"{name}: cycles an image as predicted", interval, design.accelerator.interval),
        at_most(f"{name}: multipliers", sum(used.values()), MULTIPLIERS),
    )


def fastest(pipeline: tuple[Stage, ...], multipliers: int) -> Folding:
    """The folding of fewest cycles an image with so many multipliers in all layers together."""
    options = {
        stage.name: [
            (cycles(stage.op, stage, fold), _multipliers(stage, fold), fold)
            for fold in choices(stage)
            if fold.multiplier == Fold.multiplier
        ]
        for stage in pipeline
        if _multiplies(stage)
    }
    for interval in sorted({taken for folds in options.values() for taken, _, _ in folds}):
        fast = {name: [one for one in folds if one[0] <= interval] for name, folds in options.items()}
        if not all(fast.values()):
            continue
        chosen = {name: min(folds, key=lambda one: (one[1], one[2].simd)) for name, folds in fast.items()}
        if sum(used for _, used, _ in chosen.values()) <= multipliers:
            others = fold_for_interval(pipeline, interval)
            return Folding(folds={**others.folds, **{name: fold for name, (_, _, fold) in chosen.items()}})
    raise ValueError(f"{multipliers} multipliers are less than one a layer")


def _multiplies(stage: Stage) -> bool:
    return isinstance(stage.op, MatrixVector)


def _multipliers(stage: Stage, fold: Fold) -> int:
    """Products of a weight and an activation in a cycle."""
    return fold.pe if is_sparse(stage) else fold.pe * fold.simd


def _columns(graph: Graph, folds: dict[str, int], frames: Array, progress: Callable[[str], None]) -> dict[str, Any]:
    """Each layer, on the activations that it has for some images, in the engine that leaves out zeros of both."""
    edges = trace(graph, frames)
    layers: dict[str, Any] = {}
    wrong = 0
    for stage in stages(graph):
        if not _multiplies(stage):
            continue
        assert isinstance(stage.op, MatrixVector)
        weights = weights_of(stage)
        outputs, inputs = weights.values.shape
        config = ColumnMatrixVectorConfig(
            weights=weights.values,
            weight_format=weights.number_format,
            input_format=stage.source.number_format,
            accumulator=stage.op.accumulator,
            pe=max(pe for pe in range(1, folds[stage.name] + 1) if outputs % pe == 0),
            simd=max(simd for simd in range(1, COLUMN_SIMD + 1) if inputs % simd == 0),
            bias=graph.constants[stage.node.inputs[2]].values if len(stage.node.inputs) > 2 else None,
        )
        vectors = edges[stage.node.inputs[0]].reshape(len(frames), -1)
        progress(f"{stage.name}: simulating {len(frames)} vectors, zero activations skipped")
        played = run_stream(
            ColumnMatrixVector(config),
            vectors.reshape(-1, config.simd),
            beats_out=len(frames) * outputs // config.pe,
        )
        wrong += int(
            np.count_nonzero(played.words.reshape(len(frames), -1) != edges[stage.name].reshape(len(frames), -1))
        )
        between = np.diff(played.departures.reshape(len(frames), -1)[:, -1])
        layers[stage.name] = {
            "processing elements": config.pe,
            "cycles a vector": {
                "min": int(between.min()),
                "mean": round(float(between.mean()), 1),
                "max": int(between.max()),
            },
            "least, mean": round(float(config.least_cycles(vectors)[1:].mean()), 1),
            "activations that are not zero, %": round(100 * float((vectors != 0).mean()), 1),
            "rom_bits": config.stored_bits,
        }
    slowest = max(layers.values(), key=lambda layer: layer["cycles a vector"]["mean"])
    return {"wrong": wrong, "cycles an image": slowest["cycles a vector"]["mean"], "layers": layers}


SPARSE_ENGINE = Benchmark(
    name="sparse-engine",
    description=f"LeNet-300-100 with {MULTIPLIERS} multipliers: dense, on Huffman-coded non-zero weights alone, and "
    "with zero activations skipped too",
    target=f"every word equal; at least {FASTER:g} times fewer cycles an image than dense",
    minutes=8,
    measure=measure,
)
