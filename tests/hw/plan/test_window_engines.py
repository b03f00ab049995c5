"""What foldings are offered for operations on windows, and what the estimate says of them."""

from __future__ import annotations

import numpy as np
import pytest

from karui.hw.plan.components import engine
from karui.hw.plan.estimate import Fold, cost, cycles
from karui.hw.plan.folding import choices
from karui.hw.plan.stages import Stage, stages
from karui.sw.ir import GraphBuilder
from karui.sw.numerics import signed, unsigned

PAD_1 = (1, 1, 1, 1)


def _depthwise(stride: int, weights: np.ndarray, *, bias: bool = False) -> Stage:
    build = GraphBuilder("depthwise")
    edge = build.input("map", (8, 9, weights.shape[-1]), unsigned(4))
    edge = build.depthwise_conv(
        "node",
        edge,
        weights,
        stride=(stride, stride),
        padding=PAD_1,
        pad_value=0,
        bias=np.arange(weights.shape[-1]) if bias else None,
    )
    return stages(build.finish(edge))[0]


def _kernels(channels: int, low: int = -8, high: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, (3, 3, channels))


def _pool(name: str, kernel: int, stride: int, padding: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Stage:
    build = GraphBuilder("pool")
    edge = build.input("map", (8, 9, 4), signed(4))
    method = build.max_pool if name == "max" else build.sum_pool
    return stages(build.finish(method("node", edge, (kernel, kernel), (stride, stride), padding=padding)))[0]


def _windows(groups: int) -> Stage:
    build = GraphBuilder("windows")
    edge = build.input("map", (8, 9, 12), signed(4))
    return stages(build.finish(build.sliding_window("node", edge, (3, 3), groups=groups)))[0]


STAGES = {
    "depthwise": _depthwise(1, _kernels(4)),
    "depthwise, stride 2": _depthwise(2, _kernels(6), bias=True),
    "depthwise, bipolar weights": _depthwise(1, 2 * _kernels(4, 0, 2) - 1),
    "max pool": _pool("max", 2, 2),
    "max pool, overlapping": _pool("max", 3, 2, PAD_1),
    "max pool, every window": _pool("max", 3, 1, PAD_1),
    "sum pool": _pool("sum", 4, 4),
    "sum pool, overlapping": _pool("sum", 3, 1),
    "windows": _windows(1),
    "windows, 4 groups": _windows(4),
}


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_every_folding_takes_the_estimated_cycles(stage: Stage) -> None:
    for fold in choices(stage):
        config = engine(stage.op, stage, fold).config
        assert cycles(stage.op, stage, fold) == config.interval, fold
        assert cost(stage.op, stage, fold).luts > 0


def test_depthwise_foldings_are_columns_or_windows_of_dividing_channels() -> None:
    folds = choices(STAGES["depthwise, stride 2"])
    assert {fold.simd for fold in folds} == {3, 9}
    assert {fold.pe for fold in folds} == {1, 2, 3, 6}
    assert {fold.multiplier for fold in folds} == {"dsp", "lut"}
    assert {fold.multiplier for fold in choices(STAGES["depthwise, bipolar weights"])} == {"dsp"}


def test_only_multipliers_of_dsp_blocks_cost_dsps() -> None:
    stage = STAGES["depthwise"]
    assert cost(stage.op, stage, Fold(simd=9, pe=2)).dsps == 18
    assert cost(stage.op, stage, Fold(simd=9, pe=2, multiplier="lut")).dsps == 0


def test_lanes_of_grouped_windows_divide_a_group() -> None:
    assert [fold.simd for fold in choices(STAGES["windows, 4 groups"])] == [1, 3]
