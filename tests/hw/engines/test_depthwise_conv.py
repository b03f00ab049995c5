import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.hw.arithmetic.integer_dot_product import Multiplier
from karui.hw.engines.depthwise_conv import (
    ConstantDepthwiseConv,
    ConstantDepthwiseConvConfig,
    DepthwiseConvConfig,
)
from karui.hw.engines.tap_window import Taps, TapWindowConfig
from karui.hw.memory.memory_style import Storage
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw import ir
from karui.sw.golden.kernels import compute
from karui.sw.numerics import BIPOLAR, NumberFormat, format_for_range, signed, unsigned

U4, S4 = unsigned(4), signed(4)


def _values(number_format: NumberFormat, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if number_format.is_bipolar:
        return random.choice([-1, 1], size=shape)
    return random.integers(number_format.minimum, number_format.maximum + 1, size=shape)


def _config(
    shape: tuple[int, int, int],
    kernel: tuple[int, int],
    *,
    pe: int = 1,
    taps: Taps = "window",
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    pad_value: int | None = None,
    element: NumberFormat = U4,
    weight_format: NumberFormat = S4,
    bias: bool = False,
    multiplier: Multiplier = "dsp",
    storage: Storage = "auto",
    seed: int = 0,
) -> ConstantDepthwiseConvConfig:
    height, width, channels = shape
    random = np.random.default_rng(seed)
    reach = kernel[0] * kernel[1] * 2 ** (element.bits + weight_format.bits) + 50
    engine = DepthwiseConvConfig(
        windows=TapWindowConfig(
            element=element,
            height=height,
            width=width,
            channels=channels,
            lanes=pe,
            kernel=kernel,
            stride=stride,
            padding=padding,
            pad_value=pad_value,
            taps=taps,
        ),
        weight_format=weight_format,
        accumulator=format_for_range(-reach, reach),
        bias=random.integers(-50, 51, channels) if bias else None,
        multiplier=multiplier,
    )
    weights = _values(weight_format, (*kernel, channels), random)
    return ConstantDepthwiseConvConfig(engine=engine, weights=weights, storage=storage)


PAD_1 = (1, 1, 1, 1)
CONFIGS = [
    _config((6, 6, 8), (3, 3), pe=2, padding=PAD_1, pad_value=0),
    _config((6, 6, 8), (3, 3), pe=4, padding=PAD_1, pad_value=0, element=signed(8), weight_format=signed(8), bias=True),
    _config((6, 7, 8), (3, 3), pe=2, taps="column", stride=(2, 2), padding=PAD_1, pad_value=0, bias=True),
    _config((6, 6, 4), (3, 3), pe=2, stride=(2, 2), padding=(0, 0, 1, 1), pad_value=3, multiplier="lut"),
    _config((7, 5, 3), (3, 3), pe=3, taps="column", padding=PAD_1, pad_value=2, multiplier="lut", bias=True),
    _config((5, 5, 24), (3, 2), element=signed(2), weight_format=signed(2), storage="block", bias=True),
    _config((5, 5, 6), (3, 3), pe=2, element=BIPOLAR, padding=PAD_1, pad_value=-1),
    _config((5, 5, 6), (3, 3), pe=2, weight_format=BIPOLAR, padding=PAD_1, pad_value=1),
    _config((4, 4, 4), (2, 2), element=BIPOLAR, weight_format=BIPOLAR, taps="column", bias=True),
    _config((4, 4, 4), (2, 2), element=BIPOLAR, weight_format=BIPOLAR, pe=4, bias=True),
    _config((1, 1, 2), (1, 1), pe=2, weight_format=unsigned(3)),
    _config((1, 1, 5), (3, 3), padding=PAD_1, pad_value=0),
    _config((9, 9, 2), (2, 2), stride=(4, 3)),
]


def _name(config: ConstantDepthwiseConvConfig) -> str:
    engine = config.engine
    windows = engine.windows
    sizes = (windows.height, windows.width, windows.channels, engine.pe, *windows.kernel, *windows.stride)
    return "-".join(map(str, (*sizes, windows.taps, windows.element, engine.weight_format, engine.multiplier)))


def _expected(config: ConstantDepthwiseConvConfig, frames: np.ndarray) -> np.ndarray:
    engine = config.engine
    windows = engine.windows
    op = ir.DepthwiseConv(
        kernel=windows.kernel,
        stride=windows.stride,
        padding=windows.padding,
        pad_value=windows.pad_value,
        accumulator=engine.accumulator,
    )
    operands = [frames, config.weights] + ([] if engine.bias is None else [engine.bias])
    return compute(op, *(torch.as_tensor(operand) for operand in operands)).numpy()


def _check(
    config: ConstantDepthwiseConvConfig, *, source: BackPressure, sink: BackPressure, count: int = 3, seed: int = 0
) -> None:
    windows = config.engine.windows
    shape = (count, windows.height, windows.width, windows.channels)
    frames = _values(windows.element, shape, np.random.default_rng(seed))
    expected = _expected(config, frames)
    words = (frames + 1) // 2 if windows.element.is_bipolar else frames
    run = run_stream(
        ConstantDepthwiseConv(config),
        words.reshape(-1, config.engine.pe),
        beats_out=expected.size // config.engine.pe,
        source=source,
        sink=sink,
        seed=seed,
    )
    assert run.words.tolist() == expected.reshape(-1, config.engine.pe).tolist()
    if sink is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()


@pytest.mark.parametrize("config", CONFIGS, ids=_name)
@pytest.mark.parametrize(
    ("source", "sink"),
    [
        (BackPressure.NONE, BackPressure.NONE),
        (BackPressure.RANDOM, BackPressure.BURSTY),
        (BackPressure.BURSTY, BackPressure.NONE),
        (BackPressure.NONE, BackPressure.RANDOM),
    ],
)
def test_sums_of_consecutive_frames(
    config: ConstantDepthwiseConvConfig, source: BackPressure, sink: BackPressure
) -> None:
    _check(config, source=source, sink=sink)


@st.composite
def _any_config(draw: st.DrawFn) -> ConstantDepthwiseConvConfig:
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    top, left, bottom, right = (draw(st.integers(0, kernel[axis] - 1)) for axis in (0, 1, 0, 1))
    channels = draw(st.sampled_from([1, 2, 3, 6, 8]))
    element = draw(st.sampled_from([unsigned(2), unsigned(8), signed(3), signed(8), BIPOLAR]))
    return _config(
        (
            draw(st.integers(max(1, kernel[0] - top - bottom), 7)),
            draw(st.integers(max(1, kernel[1] - left - right), 7)),
            channels,
        ),
        kernel,
        pe=draw(st.sampled_from([pe for pe in (1, 2, 3, 4) if channels % pe == 0])),
        taps=draw(st.sampled_from(["window", "column"])),
        stride=draw(st.tuples(st.integers(1, 6), st.integers(1, 6))),
        padding=(top, left, bottom, right),
        pad_value=draw(st.sampled_from([element.minimum, element.maximum])),
        element=element,
        weight_format=draw(st.sampled_from([signed(2), signed(5), signed(8), unsigned(4), BIPOLAR])),
        bias=draw(st.booleans()),
        multiplier=draw(st.sampled_from(["dsp", "lut"])),
        seed=draw(st.integers(0, 99)),
    )


@settings(max_examples=40, deadline=None)
@given(
    config=_any_config(),
    source=st.sampled_from(BackPressure),
    sink=st.sampled_from(BackPressure),
    seed=st.integers(0, 9),
)
def test_any_convolution(
    config: ConstantDepthwiseConvConfig, source: BackPressure, sink: BackPressure, seed: int
) -> None:
    _check(config, source=source, sink=sink, count=2, seed=seed)


@pytest.mark.parametrize(
    ("taps", "stride", "interval"), [("window", 1, 8 * 9 * 2), ("column", 1, 8 * 8 * 3 * 2), ("column", 2, 8 * 8 * 2)]
)
def test_interval(taps: Taps, stride: int, interval: int) -> None:
    config = _config((8, 8, 4), (3, 3), pe=2, taps=taps, stride=(stride, stride), padding=PAD_1, pad_value=0)
    assert config.interval == interval
    count = 10
    frames = np.zeros((count * 8 * 8 * 2, 2), dtype=np.int64)
    beats = count * (8 // stride) ** 2 * 2
    ends = run_stream(ConstantDepthwiseConv(config), frames, beats_out=beats).departures.reshape(count, -1)[:, -1]
    assert np.diff(ends)[-4:].tolist() == [interval] * 4


def test_refuses_what_cannot_work() -> None:
    good = _config((4, 4, 4), (3, 3))
    with pytest.raises(ValueError, match=r"weights .* must be of shape \(3, 3, 4\), not \(3, 3, 3\)"):
        ConstantDepthwiseConvConfig(engine=good.engine, weights=good.weights[:, :, :3])
    with pytest.raises(ValueError, match=r"bias must be of shape \(4,\), not \(3,\)"):
        DepthwiseConvConfig(
            windows=good.engine.windows, weight_format=signed(4), accumulator=signed(20), bias=np.zeros(3)
        )
    with pytest.raises(ValueError, match="accumulator must be signed"):
        DepthwiseConvConfig(windows=good.engine.windows, weight_format=signed(4), accumulator=unsigned(20))
