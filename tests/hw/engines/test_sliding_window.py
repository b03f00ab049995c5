import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.hw.engines.sliding_window import SlidingWindow, SlidingWindowConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import BIPOLAR, NumberFormat, signed, unsigned

S6 = signed(6)


def _config(
    shape: tuple[int, int, int],
    kernel: tuple[int, int],
    *,
    lanes: int = 1,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    pad_value: int | None = None,
    element: NumberFormat = S6,
    groups: int = 1,
) -> SlidingWindowConfig:
    height, width, channels = shape
    return SlidingWindowConfig(
        element=element,
        height=height,
        width=width,
        channels=channels,
        lanes=lanes,
        kernel=kernel,
        stride=stride,
        padding=padding,
        pad_value=pad_value,
        groups=groups,
    )


CONFIGS = [
    _config((5, 6, 1), (3, 3)),
    _config((5, 5, 4), (3, 3), lanes=2, padding=(1, 1, 1, 1), pad_value=-1),
    _config((6, 7, 2), (2, 2), lanes=2, stride=(2, 2)),
    _config((7, 5, 2), (3, 2), stride=(2, 1), padding=(2, 0, 1, 1), pad_value=5),
    _config((4, 4, 3), (1, 1), lanes=3),
    _config((4, 4, 3), (4, 4), lanes=3),
    _config((9, 8, 1), (2, 2), stride=(4, 3)),
    _config((3, 3, 2), (5, 5), lanes=2, padding=(4, 4, 4, 4), pad_value=0, element=unsigned(3)),
    _config((6, 6, 4), (3, 3), lanes=4, padding=(1, 1, 1, 1), pad_value=-1, element=BIPOLAR),
    _config((6, 6, 4), (3, 3), lanes=4, padding=(1, 0, 0, 1), pad_value=1, element=BIPOLAR),
    _config((8, 8, 1), (3, 3), stride=(2, 2), padding=(0, 0, 1, 1), pad_value=7),
    _config((1, 9, 1), (1, 4)),
    _config((9, 1, 1), (4, 1)),
    _config((5, 4, 6), (3, 3), padding=(1, 1, 1, 1), pad_value=3, groups=2),
    _config((5, 5, 12), (2, 3), lanes=2, stride=(2, 2), padding=(0, 1, 1, 2), pad_value=3, groups=3),
    _config((4, 5, 4), (2, 2), groups=4),
]


def _name(config: SlidingWindowConfig) -> str:
    sizes = (config.height, config.width, config.channels, config.lanes, config.groups, *config.kernel, *config.stride)
    return "-".join(map(str, (*sizes, *config.padding, config.element)))


def _frames(config: SlidingWindowConfig, count: int, seed: int) -> np.ndarray:
    shape = (count, config.height, config.width, config.channels)
    random = np.random.default_rng(seed)
    if config.element.is_bipolar:
        return random.choice([-1, 1], size=shape)
    return random.integers(config.element.minimum, config.element.maximum + 1, size=shape)


def _windows(config: SlidingWindowConfig, frames: np.ndarray) -> np.ndarray:
    """Each window by indexing the padded map, position by position."""
    top, left, bottom, right = config.padding
    pad_value = 0 if config.pad_value is None else config.pad_value
    padded = np.pad(frames, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=pad_value)
    per_group = config.channels // config.groups
    windows = [
        frame[y : y + config.kernel[0], x : x + config.kernel[1], first : first + per_group]
        for frame in padded
        for y in range(0, padded.shape[1] - config.kernel[0] + 1, config.stride[0])
        for x in range(0, padded.shape[2] - config.kernel[1] + 1, config.stride[1])
        for first in range(0, config.channels, per_group)
    ]
    return np.concatenate([window.reshape(-1) for window in windows]).reshape(-1, config.lanes)


def _words(config: SlidingWindowConfig, values: np.ndarray) -> np.ndarray:
    return (values + 1) // 2 if config.element.is_bipolar else values


def _check(
    config: SlidingWindowConfig, *, source: BackPressure, sink: BackPressure, frames: int = 3, seed: int = 0
) -> None:
    values = _frames(config, frames, seed)
    expected = _words(config, _windows(config, values))
    run = run_stream(
        SlidingWindow(config),
        _words(config, values).reshape(-1, config.lanes),
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
def test_windows_of_consecutive_frames(config, source, sink):
    _check(config, source=source, sink=sink)


@st.composite
def _any_config(draw: st.DrawFn) -> SlidingWindowConfig:
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, kernel[axis] - 1)) for axis in (0, 1, 0, 1))
    height = draw(st.integers(max(1, kernel[0] - padding[0] - padding[2]), 8))
    width = draw(st.integers(max(1, kernel[1] - padding[1] - padding[3]), 8))
    channels = draw(st.sampled_from([1, 2, 6, 8]))
    groups = draw(st.sampled_from([groups for groups in (1, 2, 4) if channels % groups == 0]))
    return _config(
        (height, width, channels),
        kernel,
        groups=groups,
        lanes=draw(st.sampled_from([lanes for lanes in (1, 2, 3, 6) if channels // groups % lanes == 0])),
        stride=draw(st.tuples(st.integers(1, 5), st.integers(1, 5))),
        padding=padding,
        pad_value=draw(st.integers(-32, 31)),
    )


@settings(max_examples=60, deadline=None)
@given(
    config=_any_config(),
    source=st.sampled_from(BackPressure),
    sink=st.sampled_from(BackPressure),
    seed=st.integers(0, 9),
)
def test_any_window(config, source, sink, seed):
    _check(config, source=source, sink=sink, frames=2, seed=seed)


@pytest.mark.parametrize("config", CONFIGS, ids=_name)
def test_interval_is_the_larger_of_map_and_windows(config):
    frames = 14
    values = _frames(config, frames, seed=1)
    expected = _windows(config, values)
    run = run_stream(
        SlidingWindow(config), _words(config, values).reshape(-1, config.lanes), beats_out=len(expected), settle=1
    )
    ends = run.departures.reshape(frames, -1)[:, -1]
    assert (ends[-1] - ends[-5]) / 4 == config.interval
    beats_in = config.height * config.row_beats_in
    assert config.interval == max(beats_in, config.output_height * config.row_beats_out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": (6, 3)}, "a kernel of 6 rows does not fit a map of 5 rows padded by 0 and 0"),
        ({"kernel": (3, 8)}, "a kernel of 8 columns does not fit a map of 6 columns"),
        ({"padding": (3, 0, 0, 0), "pad_value": 0}, "makes windows of padding alone .* use at most 2"),
        ({"padding": (1, 1, 1, 1)}, "needs a pad_value"),
        ({"padding": (1, 1, 1, 1), "pad_value": 0, "element": BIPOLAR}, "pad_value 0 is no word of .* bipolar"),
        ({"lanes": 3}, "lanes of a sliding window must divide the 4 channels, not 3; use one of 1, 2, 4"),
        ({"groups": 3}, "groups of a sliding window must divide the 4 channels, not 3; use one of 1, 2, 4"),
        ({"groups": 2, "lanes": 4}, "lanes .* must divide the 2 channels of a group, not 4; use one of 1, 2"),
        ({"stride": (0, 1)}, "must be 1 or more"),
    ],
)
def test_refuses_what_cannot_work(change, message):
    arguments = {"shape": (5, 6, 4), "kernel": (3, 3), **change}
    with pytest.raises(ValueError, match=message):
        _config(**arguments)
