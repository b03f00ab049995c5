"""Gathers and transforms as stages of one design: padding, two blocks in time, a permutation."""

import numpy as np
import pytest

from karui.flows.design import Design
from karui.hw.folding import fold_for_interval
from karui.hw.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import GraphBuilder
from karui.sw.numerics import Rounding, signed


@pytest.mark.parametrize("interval", [64, 32])
def test_blocks_in_time(tmp_path, interval):
    random = np.random.default_rng(0)
    build = GraphBuilder("blocks")
    edge = build.input("x", (24,), signed(6))
    padded = np.concatenate((np.arange(24), np.full(8, -1)))
    edge = build.gather("stack", edge, np.tile(padded, 2))
    edge = build.walsh_hadamard("first", edge, 32, (0, 0, 1, 0, 1), Rounding.HALF_EVEN)
    edge = build.gather("permute", edge, np.concatenate([random.permutation(32), 32 + random.permutation(32)]))
    edge = build.walsh_hadamard("second", edge, 32)
    graph = build.finish(build.gather("truncate", edge, np.arange(48)))
    design = Design.create(graph, tmp_path / "design", fold_for_interval(stages(graph), interval))
    frames = random.integers(-32, 32, (20, 24))
    for mode in (BackPressure.NONE, BackPressure.RANDOM):
        result = run_regression(design.rtl, frames, evaluate(graph, frames), back_pressure=mode, seed=1)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            assert result.initiation_interval is not None
            assert result.initiation_interval.max == design.accelerator.interval <= interval
