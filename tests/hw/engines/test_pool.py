from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.hw.engines.pool import pool
from karui.hw.engines.pool_config import PoolConfig, Reduction
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw import ir
from karui.sw.numerics import BIPOLAR, NumberFormat, signed, unsigned


def _config(
    shape: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    lanes: int,
    element: NumberFormat,
    *,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    reduction: Reduction = "max",
) -> PoolConfig:
    height, width, channels = shape
    return PoolConfig(
        reduction=reduction,
        element=element,
        result=element if reduction == "max" else _sum_format(shape, kernel, stride, padding, element),
        height=height,
        width=width,
        channels=channels,
        lanes=lanes,
        kernel=kernel,
        stride=stride,
        padding=padding,
    )


def _sum_format(
    shape: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    element: NumberFormat,
) -> NumberFormat:
    return ir.infer(
        ir.SumPool(kernel=kernel, stride=stride, padding=padding), ir.Tensor(shape=shape, number_format=element)
    ).number_format


CONFIGS = [
    _config((4, 4, 1), (2, 2), (2, 2), 1, signed(5)),
    _config((6, 4, 2), (2, 2), (2, 2), 1, signed(5)),
    _config((4, 6, 3), (2, 2), (2, 2), 1, unsigned(4)),
    _config((4, 6, 8), (2, 2), (2, 2), 2, BIPOLAR),
    _config((4, 4, 8), (2, 2), (2, 2), 8, BIPOLAR),
    _config((5, 7, 2), (2, 2), (2, 2), 2, BIPOLAR),
    _config((7, 7, 2), (3, 2), (3, 2), 2, signed(3)),
    _config((3, 3, 4), (3, 3), (3, 3), 1, signed(3)),
    _config((3, 4, 2), (3, 3), (3, 3), 1, signed(3)),
    _config((2, 2, 1), (1, 1), (1, 1), 1, signed(3)),
    _config((4, 2, 1), (2, 1), (2, 1), 1, signed(3)),
    _config((5, 5, 2), (3, 3), (2, 2), 2, signed(4)),
    _config((6, 6, 4), (2, 2), (3, 3), 1, BIPOLAR),
    _config((5, 7, 4), (3, 3), (2, 2), 2, signed(4), padding=(1, 1, 1, 1)),
    _config((6, 6, 5), (3, 3), (1, 1), 1, unsigned(4), padding=(1, 1, 1, 1)),
    _config((5, 6, 4), (3, 2), (1, 2), 2, BIPOLAR, padding=(0, 1, 2, 0)),
    _config((6, 5, 4), (2, 2), (2, 2), 2, signed(4), padding=(0, 0, 0, 1)),
    _config((4, 6, 3), (2, 2), (2, 2), 1, unsigned(4), reduction="sum"),
    _config((7, 7, 8), (7, 7), (7, 7), 2, unsigned(4), reduction="sum"),
    _config((5, 5, 12), (5, 5), (1, 1), 2, signed(4), reduction="sum"),
    _config((1, 1, 3), (1, 1), (1, 1), 1, unsigned(4), reduction="sum"),
    _config((5, 5, 2), (3, 3), (2, 2), 1, signed(4), padding=(1, 1, 1, 1), reduction="sum"),
    _config((5, 6, 6), (3, 3), (1, 1), 1, unsigned(3), padding=(1, 1, 1, 1), reduction="sum"),
    _config((2, 3, 2), (4, 3), (1, 1), 2, signed(4), padding=(1, 2, 3, 2), reduction="sum"),
]


def _name(config: PoolConfig) -> str:
    sizes = (config.height, config.width, config.channels, config.lanes, *config.kernel, *config.stride)
    return "-".join(map(str, (config.reduction, *sizes, *config.padding, config.element)))


def _frames(config: PoolConfig, count: int, seed: int) -> np.ndarray:
    low, high = (0, 1) if config.element.is_bipolar else (config.element.minimum, config.element.maximum)
    shape = (count, config.height, config.width, config.channels)
    # Skewed to the minimum: with most windows at the maximum, few mistakes would show.
    draws = 3 if config.reduction == "max" else 1
    return np.random.default_rng(seed).integers(low, high + 1, size=(draws, *shape)).min(axis=0)


def _results(config: PoolConfig, frames: np.ndarray) -> np.ndarray:
    (height, width), (down, across) = config.kernel, config.stride
    top, left, bottom, right = config.padding
    lowest = 0 if config.reduction == "sum" or config.element.is_bipolar else config.element.minimum
    padded = np.pad(frames, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=lowest)
    reduce = np.max if config.reduction == "max" else np.sum
    results = [
        reduce(frame[y : y + height, x : x + width], axis=(0, 1))
        for frame in padded
        for y in range(0, padded.shape[1] - height + 1, down)
        for x in range(0, padded.shape[2] - width + 1, across)
    ]
    return np.array(results).reshape(-1, config.lanes)


def _check(config: PoolConfig, *, source: BackPressure, sink: BackPressure, seed: int = 0) -> None:
    frames = _frames(config, 4, seed)
    expected = _results(config, frames)
    run = run_stream(
        pool(config),
        frames.reshape(-1, config.lanes),
        beats_out=len(expected),
        source=source,
        sink=sink,
        seed=seed,
    )
    assert run.words.tolist() == expected.tolist()
    if sink is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()


@pytest.mark.parametrize("config", CONFIGS, ids=_name)
@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_results_of_consecutive_frames(config, source, sink):
    _check(config, source=source, sink=sink)


@st.composite
def _any_config(draw: st.DrawFn) -> PoolConfig:
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    is_padded = draw(st.booleans())
    top, left, bottom, right = (draw(st.integers(0, kernel[axis] - 1)) if is_padded else 0 for axis in (0, 1, 0, 1))
    channels = draw(st.integers(1, 6))
    reduction = draw(st.sampled_from(["max", "sum"]))
    return _config(
        (
            draw(st.integers(max(1, kernel[0] - top - bottom), 8)),
            draw(st.integers(max(1, kernel[1] - left - right), 8)),
            channels,
        ),
        kernel,
        draw(st.one_of(st.just(kernel), st.tuples(st.integers(1, 4), st.integers(1, 4)))),
        draw(st.sampled_from([lanes for lanes in range(1, channels + 1) if channels % lanes == 0])),
        draw(st.sampled_from([*([BIPOLAR] if reduction == "max" else []), signed(4), unsigned(3)])),
        padding=(top, left, bottom, right),
        reduction=reduction,
    )


@settings(max_examples=60, deadline=None)
@given(
    config=_any_config(),
    source=st.sampled_from(BackPressure),
    sink=st.sampled_from(BackPressure),
    seed=st.integers(0, 9),
)
def test_any_pool(config, source, sink, seed):
    _check(config, source=source, sink=sink, seed=seed)


@pytest.mark.parametrize("config", CONFIGS, ids=_name)
def test_interval_is_the_steady_distance_of_frames(config):
    count = 12
    frames = _frames(config, count, seed=1)
    expected = _results(config, frames)
    run = run_stream(pool(config), frames.reshape(-1, config.lanes), beats_out=len(expected), settle=1)
    ends = run.departures.reshape(count, -1)[:, -1]
    assert np.diff(ends)[-4:].tolist() == [config.interval] * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": (5, 2)}, r"a pool of \(5, 2\) does not fit a map of 4x6 padded by \(0, 0, 0, 0\)"),
        ({"kernel": (0, 2)}, "must be 1 or more"),
        ({"lanes": 3}, "lanes of a pool must divide the 4 channels, not 3; use one of 1, 2, 4"),
    ],
)
def test_refuses_what_cannot_work(change, message):
    arguments = {"shape": (4, 6, 4), "kernel": (2, 2), "stride": (2, 2), "lanes": 2, "element": BIPOLAR, **change}
    with pytest.raises(ValueError, match=message):
        _config(**arguments)


def test_refuses_formats_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="a sum pool takes unsigned or signed elements, not bipolar ones"):
        replace(_config((4, 4, 1), (2, 2), (2, 2), 1, BIPOLAR), reduction="sum")
    with pytest.raises(ValueError, match="a maximum has the format of its elements, s4, not s5"):
        replace(_config((4, 4, 1), (2, 2), (2, 2), 1, signed(4)), result=signed(5))


@pytest.mark.parametrize(
    ("config", "adjoins", "taps"),
    [
        (_config((8, 8, 4), (2, 2), (2, 2), 1, signed(4)), True, None),
        (_config((7, 7, 4), (7, 7), (1, 1), 1, signed(4), reduction="sum"), True, None),
        (_config((8, 8, 4), (3, 3), (2, 2), 1, signed(4)), False, "column"),
        (_config((8, 8, 4), (3, 3), (1, 1), 1, signed(4), padding=(1, 1, 1, 1)), False, "window"),
    ],
)
def test_keeps_up_with_the_map_at_least_cost(config: PoolConfig, adjoins: bool, taps: str | None) -> None:
    assert config.adjoins == adjoins
    assert taps is None or config.windows.taps == taps
    assert config.frame_steps <= config.height * (config.width + config.padding[3]) * config.pixel_beats
