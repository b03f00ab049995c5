"""Latencies that hang on more than the way of the last word: rows that nothing reads, FIFOs that fill."""

from pathlib import Path

import numpy as np
import pytest

from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.plan.folding import fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import unsigned

PIXEL = unsigned(4)


def quantized(build: GraphBuilder, name: str, edge: str, shift: int) -> str:
    return build.requantize(f"{name}.fire", edge, np.array([1]), np.array([0]), shift=shift, output=PIXEL)


def skipping(size: int, kernel: int, stride: int, operation: str) -> Graph:
    """Windows of a stem's results that end rows before the map does, and a dense layer."""
    random = np.random.default_rng(size)
    build = GraphBuilder("skipping")
    edge = build.input("pixels", (size, size, 4), PIXEL)
    edge = quantized(build, "stem", build.matrix_vector("stem", edge, random.choice([-1, 1], (4, 4))), 1)
    steps = {"stride": (stride, stride)}
    match operation:
        case "window":
            edge = build.sliding_window("skip", edge, (kernel, kernel), **steps)
        case "depthwise":
            edge = build.depthwise_conv("skip", edge, random.choice([-1, 1], (kernel, kernel, 4)), **steps)
            edge = quantized(build, "skip", edge, 1)
        case "pool":
            edge = build.max_pool("skip", edge, (kernel, kernel), (stride, stride))
    columns = build.tensor(edge).shape[-1]
    edge = build.matrix_vector("last", edge, random.choice([-1, 1], (8, columns)))
    return build.finish(edge)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "operation", "interval"),
    [
        (8, 1, 4, "window", 256),
        (8, 1, 4, "window", 10_000),
        (12, 3, 5, "window", 2000),
        (8, 1, 4, "depthwise", 256),
        (11, 2, 5, "pool", 5000),
    ],
)
def test_rows_that_no_window_reads_have_to_arrive_too(
    size: int, kernel: int, stride: int, operation: str, interval: int, tmp_path: Path
) -> None:
    graph = skipping(size, kernel, stride, operation)
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), interval))
    write_design(accelerator, tmp_path)
    frames = np.random.default_rng(1).integers(0, 16, (8, size, size, 4))
    result = run_regression(tmp_path, frames, evaluate(graph, frames))
    assert result.passed, result.failure()
    measured = (result.initiation_interval, result.latency)
    assert measured == (accelerator.predicted.initiation_interval, accelerator.predicted.latency)
