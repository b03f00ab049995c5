"""Depthwise-separable graphs through generator and Verilator."""

from pathlib import Path

import numpy as np
import pytest

from karui.hw.accelerator import Accelerator
from karui.hw.design_folder import write_design
from karui.hw.folding import fold_for_interval
from karui.hw.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import Overflow, Rounding, unsigned


def separable(seed: int, *, stride: int) -> Graph:
    """Two depthwise-separable blocks, the second with a bias."""
    rng = np.random.default_rng(seed)
    build = GraphBuilder("separable")
    edge = build.input("pixels", (10, 10, 4), unsigned(4))
    channels = 4
    for name, outputs in (("first", 8), ("second", 6)):
        weights = rng.integers(-8, 8, (3, 3, channels))
        bias = rng.integers(-20, 20, channels) if name == "second" else None
        edge = build.depthwise_conv(
            f"{name}.depthwise", edge, weights, stride=(stride, stride), padding=(1, 1, 1, 1), pad_value=0, bias=bias
        )
        edge = _requantized(build, f"{name}.depthwise.relu", edge, rng)
        edge = build.matrix_vector(f"{name}.pointwise", edge, rng.integers(-8, 8, (outputs, channels)))
        edge = _requantized(build, f"{name}.pointwise.relu", edge, rng)
        channels = outputs
    edge = build.max_pool("pool", edge, (2, 2))
    edge = build.flatten("flat", edge)
    return build.finish(build.matrix_vector("last", edge, rng.integers(-8, 8, (5, build.tensor(edge).elements))))


def _requantized(build: GraphBuilder, name: str, edge: str, rng: np.random.Generator) -> str:
    channels = build.tensor(edge).shape[-1]
    return build.requantize(
        name,
        edge,
        rng.integers(20, 60, channels),
        rng.integers(-99, 500, channels),
        shift=9,
        rounding=Rounding.HALF_EVEN,
        overflow=Overflow.SATURATE,
        output=unsigned(4),
    )


@pytest.mark.parametrize(("stride", "interval"), [(1, 220), (2, 100), (1, 5000)])
def test_separable_convolutions_are_bit_exact_and_as_fast_as_predicted(
    stride: int, interval: int, tmp_path: Path
) -> None:
    graph = separable(interval, stride=stride)
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), interval))
    write_design(accelerator, tmp_path)
    frames = np.random.default_rng(7).integers(0, 16, (24, 10, 10, 4))
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) > 20
    for mode in BackPressure:
        result = run_regression(tmp_path, frames, expected, back_pressure=mode, seed=3)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            measured = (result.initiation_interval, result.latency)
            assert measured == (accelerator.predicted.initiation_interval, accelerator.predicted.latency)
