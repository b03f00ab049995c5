"""Convolutional graphs through generator and Verilator."""

from pathlib import Path

import numpy as np
import pytest

from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.plan.folding import fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import BIPOLAR


def convolutional(seed: int, *, padding: int, pad_value: int | None) -> Graph:
    rng = np.random.default_rng(seed)
    build = GraphBuilder("convolutional")
    edge = build.input("bits", (10, 10, 4), BIPOLAR)
    for name, channels in (("first", 6), ("second", 8)):
        edge = build.sliding_window(f"{name}.window", edge, (3, 3), padding=(padding,) * 4, pad_value=pad_value)
        inputs = build.tensor(edge).shape[-1]
        edge = build.matrix_vector(name, edge, rng.choice([-1, 1], (channels, inputs)))
        edge = build.threshold(f"{name}.fire", edge, rng.integers(-4, 5, (channels, 1)), BIPOLAR)
    edge = build.max_pool("pool", edge, (2, 2))
    edge = build.flatten("flat", edge)
    edge = build.matrix_vector("last", edge, rng.choice([-1, 1], (5, build.tensor(edge).elements)))
    return build.finish(build.arg_max("class", edge))


@pytest.mark.parametrize(("padding", "pad_value", "interval"), [(0, None, 3000), (1, -1, 2000), (1, 1, 12000)])
def test_convolutions_are_bit_exact_and_as_fast_as_predicted(
    padding: int, pad_value: int | None, interval: int, tmp_path: Path
) -> None:
    graph = convolutional(interval, padding=padding, pad_value=pad_value)
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), interval))
    write_design(accelerator, tmp_path)
    frames = np.random.default_rng(7).choice([-1, 1], (24, 10, 10, 4))
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) > 2
    for mode in BackPressure:
        result = run_regression(tmp_path, frames, expected, back_pressure=mode, seed=3)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            measured = (result.initiation_interval, result.latency)
            assert measured == (accelerator.predicted.initiation_interval, accelerator.predicted.latency)
