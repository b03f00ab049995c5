from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.hw.engines.tap_window import TAP_LATENCY, Taps, TapWindow, TapWindowConfig
from karui.hw.streams.stream import FIFO_LATENCY, ElasticOutput, ElasticOutputConfig, lanes_of
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import BIPOLAR, NumberFormat, signed, unsigned

S6 = signed(6)


class TapStream(wiring.Component):
    """A tap window whose words leave as a stream."""

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: TapWindowConfig) -> None:
        self.config = config
        self.words = lanes_of(config.element, config.lanes * config.word_taps)
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.element, config.lanes))),
                "o": Out(stream.Signature(self.words)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.taps = taps = TapWindow(self.config)
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(payload=self.words, period=1, latency=TAP_LATENCY)
        )
        wiring.connect(m, wiring.flipped(self.i), taps.i)
        wiring.connect(m, output.o, wiring.flipped(self.o))
        m.d.comb += [
            taps.credit.eq(output.credit),
            output.reserve.eq(taps.steps),
            output.i.valid.eq(taps.o.valid),
            output.i.payload.as_value().eq(taps.o.payload.as_value()),
        ]
        return m


def _config(
    shape: tuple[int, int, int],
    kernel: tuple[int, int],
    *,
    lanes: int = 1,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    pad_value: int | None = None,
    element: NumberFormat = S6,
    taps: Taps = "window",
) -> TapWindowConfig:
    height, width, channels = shape
    return TapWindowConfig(
        element=element,
        height=height,
        width=width,
        channels=channels,
        lanes=lanes,
        kernel=kernel,
        stride=stride,
        padding=padding,
        pad_value=pad_value,
        taps=taps,
    )


CONFIGS = [
    _config(*arguments, **keywords, taps=taps)  # type: ignore[arg-type]
    for arguments, keywords in [
        (((5, 6, 1), (3, 3)), {}),
        (((5, 5, 4), (3, 3)), {"lanes": 2, "padding": (1, 1, 1, 1), "pad_value": -1}),
        (((4, 5, 6), (3, 3)), {"lanes": 1, "padding": (1, 1, 1, 1), "pad_value": 0}),
        (((6, 7, 2), (2, 2)), {"lanes": 2, "stride": (2, 2)}),
        (((6, 8, 2), (3, 3)), {"stride": (2, 2), "padding": (0, 0, 1, 1), "pad_value": 7}),
        (((7, 7, 4), (3, 3)), {"stride": (2, 2), "padding": (1, 1, 1, 1), "pad_value": 7}),
        (((7, 5, 2), (3, 2)), {"stride": (2, 1), "padding": (2, 0, 1, 1), "pad_value": 5}),
        (((4, 4, 3), (1, 1)), {"lanes": 3}),
        (((9, 8, 1), (2, 2)), {"stride": (4, 3)}),
        (((9, 8, 5), (2, 1)), {"stride": (1, 3)}),
        (((3, 3, 2), (5, 5)), {"lanes": 2, "padding": (4, 4, 4, 4), "pad_value": 0, "element": unsigned(3)}),
        (((6, 6, 4), (3, 3)), {"lanes": 4, "padding": (1, 0, 0, 1), "pad_value": 1, "element": BIPOLAR}),
        (((1, 1, 2), (3, 3)), {"padding": (1, 1, 1, 1), "pad_value": 3}),
        (((1, 9, 1), (1, 4)), {}),
        (((9, 1, 1), (4, 1)), {}),
    ]
    for taps in ("window", "column")
]


def _name(config: TapWindowConfig) -> str:
    sizes = (config.height, config.width, config.channels, config.lanes, *config.kernel, *config.stride)
    return "-".join(map(str, (*sizes, *config.padding, config.element, config.taps)))


def _frames(config: TapWindowConfig, count: int, seed: int) -> np.ndarray:
    shape = (count, config.height, config.width, config.channels)
    random = np.random.default_rng(seed)
    if config.element.is_bipolar:
        return random.choice([-1, 1], size=shape)
    return random.integers(config.element.minimum, config.element.maximum + 1, size=shape)


def _expected(config: TapWindowConfig, frames: np.ndarray) -> np.ndarray:
    """Each word by indexing the padded map, window by window, beat by beat."""
    top, left, bottom, right = config.padding
    pad_value = 0 if config.pad_value is None else config.pad_value
    padded = np.pad(frames, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=pad_value)
    words: list[np.ndarray] = []
    for frame in padded:
        for y in range(0, padded.shape[1] - config.kernel[0] + 1, config.stride[0]):
            for x in range(0, padded.shape[2] - config.kernel[1] + 1, config.stride[1]):
                window = frame[y : y + config.kernel[0], x : x + config.kernel[1]]
                for first in range(0, config.channels, config.lanes):
                    columns = window[:, :, first : first + config.lanes].transpose(1, 0, 2)
                    words += [columns.reshape(-1)] if config.taps == "window" else [*columns.reshape(len(columns), -1)]
    return np.array(words)


def _words(config: TapWindowConfig, values: np.ndarray) -> np.ndarray:
    return (values + 1) // 2 if config.element.is_bipolar else values


def _check(
    config: TapWindowConfig, *, source: BackPressure, sink: BackPressure, frames: int = 3, seed: int = 0
) -> None:
    values = _frames(config, frames, seed)
    expected = _words(config, _expected(config, values))
    run = run_stream(
        TapStream(config),
        _words(config, values).reshape(-1, config.lanes),
        beats_out=len(expected),
        source=source,
        sink=sink,
        seed=seed,
    )
    assert run.words.tolist() == expected.tolist()
    if sink is BackPressure.NONE:
        accepted, steps = config.word_steps(run.arrivals)
        assert accepted.tolist() == run.accepted.tolist()
        assert (steps + TAP_LATENCY + FIFO_LATENCY).tolist() == run.departures.tolist()


@pytest.mark.parametrize("config", CONFIGS, ids=_name)
@pytest.mark.parametrize(
    ("source", "sink"),
    [
        (BackPressure.NONE, BackPressure.NONE),
        (BackPressure.RANDOM, BackPressure.NONE),
        (BackPressure.BURSTY, BackPressure.RANDOM),
        (BackPressure.NONE, BackPressure.BURSTY),
    ],
)
def test_words_of_consecutive_frames(config: TapWindowConfig, source: BackPressure, sink: BackPressure) -> None:
    _check(config, source=source, sink=sink)


@st.composite
def _any_config(draw: st.DrawFn) -> TapWindowConfig:
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    top, left, bottom, right = (draw(st.integers(0, kernel[axis] - 1)) for axis in (0, 1, 0, 1))
    height = draw(st.integers(max(1, kernel[0] - top - bottom), 8))
    width = draw(st.integers(max(1, kernel[1] - left - right), 8))
    channels = draw(st.sampled_from([1, 2, 3, 4, 6]))
    return _config(
        (height, width, channels),
        kernel,
        lanes=draw(st.sampled_from([lanes for lanes in (1, 2, 3, 6) if channels % lanes == 0])),
        stride=draw(st.tuples(st.integers(1, 6), st.integers(1, 6))),
        padding=(top, left, bottom, right),
        pad_value=draw(st.integers(-32, 31)),
        taps=draw(st.sampled_from(["window", "column"])),
    )


@settings(max_examples=60, deadline=None)
@given(
    config=_any_config(),
    source=st.sampled_from(BackPressure),
    sink=st.sampled_from(BackPressure),
    seed=st.integers(0, 9),
)
def test_any_window(config: TapWindowConfig, source: BackPressure, sink: BackPressure, seed: int) -> None:
    _check(config, source=source, sink=sink, frames=2, seed=seed)


@pytest.mark.parametrize("config", CONFIGS, ids=_name)
def test_interval_is_the_larger_of_map_and_steps(config: TapWindowConfig) -> None:
    frames = 14
    values = _frames(config, frames, seed=1)
    expected = _expected(config, values)
    run = run_stream(
        TapStream(config), _words(config, values).reshape(-1, config.lanes), beats_out=len(expected), settle=1
    )
    ends = run.departures.reshape(frames, -1)[:, -1]
    assert (ends[-1] - ends[-5]) / 4 == config.interval
    beats_in = config.height * config.row_beats_in
    assert config.interval == max(beats_in, config.output_height * config.row_steps)


@pytest.mark.parametrize("padding", [0, 1])
def test_whole_windows_idle_at_the_right_border_alone(padding: int) -> None:
    config = _config((8, 8, 2), (3, 3), padding=(padding,) * 4, pad_value=0)
    assert config.row_steps == (8 + padding) * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": (6, 3)}, "a kernel of 6 rows does not fit a map of 5 rows padded by 0 and 0"),
        ({"padding": (1, 1, 1, 1)}, "needs a pad_value"),
        ({"lanes": 3}, "lanes of a sliding window must divide the 4 channels, not 3; use one of 1, 2, 4"),
        ({"taps": "row"}, "taps must be window or column, not 'row'"),
    ],
)
def test_refuses_what_cannot_work(change: dict[str, Any], message: str) -> None:
    arguments = {"shape": (5, 6, 4), "kernel": (3, 3), **change}
    with pytest.raises(ValueError, match=message):
        _config(**arguments)
