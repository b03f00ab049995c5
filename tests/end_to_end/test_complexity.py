"""Complexity and depth of images through generator and Verilator: words and cycles."""

from pathlib import Path

import numpy as np
import pytest

from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.plan.folding import FoldingError, fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.ir.complexity_arithmetic import depth_steps
from karui.sw.numerics import unsigned

FIRST, LAST, FRAMES = 1, 8, 14
SHAPE = (12, 16, 1)


def depth_network() -> Graph:
    """An image in; out, how many layers more than the fewest it should have."""
    build = GraphBuilder("depth")
    complexity = build.complexity("complexity", build.input("pixels", SHAPE, unsigned(8)))
    return build.finish(build.threshold("depth", complexity, np.array([depth_steps(FIRST, LAST)]), unsigned(3)))


@pytest.mark.parametrize("cycles", [1000, 500])
def test_depths_of_images(cycles: int, tmp_path: Path) -> None:
    graph = depth_network()
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), cycles))
    assert accelerator.interval <= cycles
    write_design(accelerator, tmp_path)
    random = np.random.default_rng(0)
    # The more of an image is black, the less complex it is.
    frames = random.integers(0, 256, (FRAMES, *SHAPE)) * (
        random.random((FRAMES, *SHAPE)) < np.linspace(0, 1, FRAMES)[:, None, None, None] ** 3
    )
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) > 3
    for mode in BackPressure:
        result = run_regression(tmp_path, frames, expected, back_pressure=mode, seed=3)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            assert result.initiation_interval is not None
            assert result.latency is not None
            interval, latency = result.initiation_interval, result.latency
            assert (interval.min, interval.max) == (accelerator.interval, accelerator.interval)
            assert (latency.min, latency.max) == (accelerator.latency, accelerator.latency)


def test_more_frames_than_lanes_can_do_are_refused() -> None:
    with pytest.raises(FoldingError, match=r"stage complexity takes .* cycles a frame at full parallelism"):
        fold_for_interval(stages(depth_network()), 100)
