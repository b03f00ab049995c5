"""Outputs taken as late as is said to be possible hold up no input; a little later they do."""

from typing import Any

import numpy as np
import pytest

from karui.hw.channel_shuffle import ChannelShuffleConfig
from karui.hw.deadlines import NEVER, deadlines
from karui.hw.engines import ConstantMatrixVectorConfig, component, engine
from karui.hw.estimate import Fold
from karui.hw.pool_config import PoolConfig
from karui.hw.sliding_window import SlidingWindowConfig
from karui.hw.stages import stages
from karui.hw.width_converter import WidthConverter, WidthConverterConfig
from karui.sim.stream_testbench import run_streams
from karui.sw.ir import GraphBuilder
from karui.sw.numerics import signed, unsigned

ELEMENT = unsigned(3)


def engine_of(build: GraphBuilder, name: str, fold: Fold) -> Any:
    (stage,) = stages(build.finish(name))
    return engine(stage.op, stage, fold).config


def matrix_vector(*, pe: int, simd: int) -> ConstantMatrixVectorConfig:
    build = GraphBuilder("dense")
    edge = build.input("map", (4, 4, 8), ELEMENT)
    edge = build.matrix_vector("dense", edge, np.random.default_rng(0).choice([-1, 1], (6, 8)))
    return engine_of(build, edge, Fold(simd=simd, pe=pe))


def depthwise(*, stride: int, simd: int) -> Any:
    build = GraphBuilder("depthwise")
    weights = np.random.default_rng(0).integers(-3, 4, (3, 3, 4))
    edge = build.depthwise_conv(
        "depthwise",
        build.input("map", (6, 6, 4), ELEMENT),
        weights,
        stride=(stride,) * 2,
        padding=(1,) * 4,
        pad_value=0,
    )
    return engine_of(build, edge, Fold(simd=simd, pe=2))


def requantize() -> Any:
    build = GraphBuilder("requantize")
    edge = build.requantize(
        "requantize", build.input("map", (4, 4, 8), ELEMENT), np.array([3]), np.array([1]), shift=2, output=unsigned(2)
    )
    return engine_of(build, edge, Fold(simd=2, pe=2))


def window(kernel: int, stride: int) -> SlidingWindowConfig:
    return SlidingWindowConfig(
        element=ELEMENT,
        height=7,
        width=6,
        channels=4,
        lanes=2,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(kernel // 2,) * 4,
        pad_value=0,
    )


def pool(stride: int) -> PoolConfig:
    return PoolConfig(
        reduction="max",
        element=ELEMENT,
        result=ELEMENT,
        height=6,
        width=6,
        channels=4,
        lanes=2,
        kernel=(3, 3),
        stride=(stride, stride),
        padding=(1, 1, 1, 1),
    )


def converter(lanes_in: int, lanes_out: int) -> WidthConverterConfig:
    return WidthConverterConfig(element=signed(4), elements=48, lanes_in=lanes_in, lanes_out=lanes_out)


# Configuration, cycles from one input beat to the next, beats of three frames.
CASES = {
    "window": (window(3, 1), 13, 3 * 84),
    "strided window": (window(3, 2), 5, 3 * 84),
    "single positions": (window(1, 2), 2, 3 * 84),
    "vectors replayed": (matrix_vector(pe=1, simd=4), 8, 3 * 32),
    "vectors passed on": (matrix_vector(pe=6, simd=2), 3, 3 * 64),
    "depthwise": (depthwise(stride=1, simd=9), 2, 3 * 72),
    "strided depthwise by columns": (depthwise(stride=2, simd=3), 3, 3 * 72),
    "pool": (pool(1), 2, 3 * 72),
    "strided pool": (pool(2), 3, 3 * 72),
    "requantize": (requantize(), 2, 3 * 64),
    "shuffle": (ChannelShuffleConfig(element=ELEMENT, channels=12, groups=3, positions=4, lanes=2), 2, 3 * 24),
    "wider": (converter(2, 8), 2, 3 * 24),
    "narrower": (converter(8, 2), 9, 3 * 6),
}


@pytest.mark.parametrize("case", CASES)
def test_the_latest_transfers_hold_up_no_input(case: str) -> None:
    config, pace, beats = CASES[case]
    arrivals = np.arange(beats) * pace
    schedule = config.schedule(arrivals)
    never = np.full_like(schedule.departures, NEVER)
    latest = np.maximum(deadlines(config, schedule.accepted, schedule.departures, never), schedule.departures)
    bound = latest < NEVER // 2
    assert bound.sum() > len(latest) // 4
    last = latest[bound].max()

    def accepted(takes: np.ndarray) -> list[int]:
        built: Any = WidthConverter(config) if isinstance(config, WidthConverterConfig) else component(config)
        lanes = built.i.payload.shape().length
        inputs, _ = run_streams(
            built,
            {"i": np.zeros((beats, lanes), dtype=np.int64)},
            {"o": len(latest)},
            arrivals={"i": arrivals},
            takes={"o": np.minimum(takes, last)},
        )
        return inputs["i"].accepted.tolist()

    assert (latest - schedule.departures)[bound].max() > 1
    assert accepted(latest) == schedule.accepted.tolist()
    assert accepted(latest + 4) != schedule.accepted.tolist()


def test_a_component_of_no_known_buffer_is_never_late() -> None:
    cycles = np.arange(5)
    assert deadlines("unknown", cycles, cycles + 3, cycles + 9).tolist() == [3, 4, 5, 6, 7]
