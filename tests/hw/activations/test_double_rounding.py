from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.hw.activations.double_rounding import DoubleRounding, DoubleRoundingConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import BIPOLAR, doubling_high_multiply, rounding_divide, saturate, signed, unsigned


def _config(**changes: Any) -> DoubleRoundingConfig:
    arguments: dict[str, Any] = {
        "channels": 4,
        "lanes": 2,
        "multipliers": np.array([1 << 30, 2**31 - 1, 1_234_567_890, 3 << 29]),
        "exponents": np.array([-3, -1, -4, -2]),
        "zero_point": -5,
        "minimum": -128,
        "maximum": 127,
        "input_format": signed(12),
        "output_format": signed(8),
    }
    return DoubleRoundingConfig(**(arguments | changes))


def _check(config: DoubleRoundingConfig, values: np.ndarray, **patterns: Any) -> None:
    high = doubling_high_multiply(values << config.exponents.clip(min=0), config.multipliers)
    expected = saturate(
        rounding_divide(high, (-config.exponents).clip(min=0)) + config.zero_point, config.minimum, config.maximum
    )
    run = run_stream(
        DoubleRounding(config), values.reshape(-1, config.lanes), beats_out=values.size // config.lanes, **patterns
    )
    assert run.words.reshape(expected.shape).tolist() == expected.tolist()
    if patterns.get("sink", BackPressure.NONE) is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()


def _every(channels: int, bits: int) -> np.ndarray:
    return np.repeat(np.arange(-(1 << (bits - 1)), 1 << (bits - 1))[:, None], channels, axis=1)


@pytest.mark.parametrize("exponents", [[-3, -1, -4, -2], [0, 0, 0, 0], [2, 0, -1, 3], [4, 1, 2, 3], [-9, -8, -8, -9]])
def test_every_input_word(exponents):
    """Multipliers of 1/2, 3/4 and so on make many ties of both roundings."""
    _check(_config(exponents=np.array(exponents), minimum=-2000, maximum=3000, output_format=signed(16)), _every(4, 12))


def test_one_scale_for_all_channels_and_limits_of_a_fused_activation():
    config = _config(multipliers=np.array([3 << 29]), exponents=np.array([-2]), minimum=-5, maximum=90)
    _check(config, _every(4, 12))


def test_unsigned_words():
    config = _config(zero_point=3, minimum=0, maximum=255, input_format=unsigned(10), output_format=unsigned(8))
    _check(config, np.repeat(np.arange(1024)[:, None], 4, axis=1))


@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize("lanes", [1, 4])
def test_streams_with_back_pressure(lanes, source, sink):
    values = np.random.default_rng(lanes).integers(-2048, 2048, (20, 4))
    _check(_config(lanes=lanes), values, source=source, sink=sink, seed=lanes)


@st.composite
def _any_config(draw: st.DrawFn) -> DoubleRoundingConfig:
    channels = draw(st.integers(1, 4))
    lanes = draw(st.sampled_from([lanes for lanes in (1, 2, 3, 4) if channels % lanes == 0]))
    bits = draw(st.integers(2, 28))
    least = draw(st.integers(-12, 2))
    multiplier = st.one_of(st.integers(0, 2**31 - 1), st.integers(0, 15).map(lambda m: m << 27))

    def integers(elements: st.SearchStrategy[int]) -> np.ndarray:
        length = draw(st.sampled_from([1, channels]))
        return np.array(draw(st.lists(elements, min_size=length, max_size=length)), dtype=np.int64)

    return _config(
        channels=channels,
        lanes=lanes,
        multipliers=integers(multiplier),
        exponents=integers(st.integers(least, least + 5).filter(lambda e: e + bits <= 32)),
        zero_point=draw(st.integers(-128, 127)),
        input_format=signed(bits),
    )


def test_multipliers_of_zero_between_exponents():
    config = _config(
        channels=2,
        lanes=1,
        multipliers=np.array([0]),
        exponents=np.array([0, -1]),
        zero_point=0,
        input_format=signed(2),
    )
    _check(config, np.array([[1, 0], [0, -1], [-2, 1]]))


@settings(max_examples=100, deadline=None)
@given(config=_any_config(), seed=st.integers(0, 9))
def test_any_scaling(config, seed):
    low, high = config.input_format.minimum, config.input_format.maximum
    values = np.random.default_rng(seed).integers(low, high + 1, (24, config.channels))
    near = values[:8] >> max(0, config.input_format.bits - 9)
    _check(config, np.vstack([near, values, np.full_like(values[:1], low), np.full_like(values[:1], high)]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 3}, "lanes of a double rounding must divide the 4 channels, not 3; use one of 1, 2, 4"),
        ({"multipliers": np.array([1, 2])}, r"multipliers must be of shape \(1,\) or \(4,\), not \(2,\)"),
        ({"exponents": np.array([1, 2])}, r"exponents must be of shape \(1,\) or \(4,\), not \(2,\)"),
        ({"exponents": np.array([-30, 2, 0, 0])}, "from -30 to 2 lie too far apart"),
        ({"maximum": 128}, "limits -128 to 128 of a double rounding must be words of its output format"),
        ({"output_format": BIPOLAR, "minimum": -1, "maximum": 1}, "unsigned or signed, not bipolar"),
    ],
)
def test_refuses_what_cannot_work(change, message):
    with pytest.raises(ValueError, match=message):
        _config(**change)
