import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.hw.pool import MaxPool, MaxPoolConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import BIPOLAR, NumberFormat, signed, unsigned


def _config(
    shape: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    lanes: int,
    element: NumberFormat,
) -> MaxPoolConfig:
    height, width, channels = shape
    return MaxPoolConfig(
        element=element, height=height, width=width, channels=channels, lanes=lanes, kernel=kernel, stride=stride
    )


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
]


def _name(config: MaxPoolConfig) -> str:
    sizes = (config.height, config.width, config.channels, config.lanes, *config.kernel, *config.stride)
    return "-".join(map(str, (*sizes, config.element)))


def _frames(config: MaxPoolConfig, count: int, seed: int) -> np.ndarray:
    low, high = (0, 1) if config.element.is_bipolar else (config.element.minimum, config.element.maximum)
    shape = (count, config.height, config.width, config.channels)
    # Skewed to the minimum: with most windows at the maximum, few mistakes would show.
    return np.random.default_rng(seed).integers(low, high + 1, size=(3, *shape)).min(axis=0)


def _maxima(config: MaxPoolConfig, frames: np.ndarray) -> np.ndarray:
    (height, width), (down, across) = config.kernel, config.stride
    maxima = [
        frame[y : y + height, x : x + width].max(axis=(0, 1))
        for frame in frames
        for y in range(0, config.height - height + 1, down)
        for x in range(0, config.width - width + 1, across)
    ]
    return np.array(maxima).reshape(-1, config.lanes)


def _check(config: MaxPoolConfig, *, source: BackPressure, sink: BackPressure, seed: int = 0) -> None:
    frames = _frames(config, 4, seed)
    expected = _maxima(config, frames)
    run = run_stream(
        MaxPool(config),
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
def test_maxima_of_consecutive_frames(config, source, sink):
    _check(config, source=source, sink=sink)


@st.composite
def _any_config(draw: st.DrawFn) -> MaxPoolConfig:
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    channels = draw(st.integers(1, 6))
    return _config(
        (draw(st.integers(kernel[0], 8)), draw(st.integers(kernel[1], 8)), channels),
        kernel,
        draw(st.one_of(st.just(kernel), st.tuples(st.integers(1, 4), st.integers(1, 4)))),
        draw(st.sampled_from([lanes for lanes in range(1, channels + 1) if channels % lanes == 0])),
        draw(st.sampled_from([BIPOLAR, signed(4), unsigned(3)])),
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
    expected = _maxima(config, frames)
    run = run_stream(MaxPool(config), frames.reshape(-1, config.lanes), beats_out=len(expected), settle=1)
    ends = run.departures.reshape(count, -1)[:, -1]
    assert np.diff(ends)[-4:].tolist() == [config.interval] * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": (5, 2)}, r"a max pool of \(5, 2\) does not fit a map of 4x6"),
        ({"kernel": (0, 2)}, "must be 1 or more"),
        ({"lanes": 3}, "lanes of a max pool must divide the 4 channels, not 3; use one of 1, 2, 4"),
    ],
)
def test_refuses_what_cannot_work(change, message):
    arguments = {"shape": (4, 6, 4), "kernel": (2, 2), "stride": (2, 2), "lanes": 2, "element": BIPOLAR, **change}
    with pytest.raises(ValueError, match=message):
        _config(**arguments)
