from typing import Any

import numpy as np
import pytest
from amaranth.back.rtlil import convert
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.hw.activations.requantize import Requantize, RequantizeConfig, RequantizePipeline
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import BIPOLAR, Overflow, Rounding, saturate, shift_right, signed, unsigned


def _config(**changes: Any) -> RequantizeConfig:
    arguments: dict[str, Any] = {
        "channels": 4,
        "lanes": 2,
        "multipliers": np.array([3, -7, 100, 1]),
        "offsets": np.array([0, 50, -1000, 8]),
        "shift": 4,
        "rounding": Rounding.HALF_UP,
        "overflow": Overflow.SATURATE,
        "input_format": signed(8),
        "output_format": signed(6),
    }
    return RequantizeConfig(**(arguments | changes))


def _expected(config: RequantizeConfig, values: np.ndarray) -> list[list[int]]:
    """Of values of shape (vectors, channels), in Python's own integers."""
    output = config.output_format
    multipliers = np.broadcast_to(config.multipliers, (config.channels,)).tolist()
    offsets = np.broadcast_to(config.offsets, (config.channels,)).tolist()
    words = []
    for vector in values.tolist():
        for value, multiplier, offset in zip(vector, multipliers, offsets, strict=True):
            scaled = shift_right(value * multiplier + offset, config.shift, config.rounding)
            if config.overflow is Overflow.SATURATE:
                words.append(saturate(scaled, output.minimum, output.maximum))
            else:
                words.append((scaled - output.minimum) % output.levels + output.minimum)
    return np.array(words).reshape(-1, config.lanes).tolist()


def _vectors(config: RequantizeConfig, count: int, seed: int) -> np.ndarray:
    element = config.input_format
    random = np.random.default_rng(seed)
    if element.is_bipolar:
        return random.choice([-1, 1], size=(count, config.channels))
    values = random.integers(element.minimum, element.maximum + 1, size=(count, config.channels))
    values[0], values[1] = element.minimum, element.maximum
    return values


def _check(
    config: RequantizeConfig, values: np.ndarray, *, source: BackPressure, sink: BackPressure, seed: int = 0
) -> None:
    words = (values + 1) // 2 if config.input_format.is_bipolar else values
    expected = _expected(config, values)
    run = run_stream(
        Requantize(config),
        words.reshape(-1, config.lanes),
        beats_out=len(expected),
        source=source,
        sink=sink,
        seed=seed,
    )
    assert run.words.tolist() == expected
    if sink is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("output", [signed(6), unsigned(5), signed(16), unsigned(12)], ids=str)
def test_every_input_word(rounding, overflow, output):
    config = _config(rounding=rounding, overflow=overflow, output_format=output)
    values = np.repeat(np.arange(-128, 128)[:, None], 4, axis=1)
    _check(config, values, source=BackPressure.NONE, sink=BackPressure.NONE)


@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_streams_with_back_pressure(lanes, source, sink):
    config = _config(lanes=lanes, rounding=Rounding.HALF_EVEN)
    _check(config, _vectors(config, 20, seed=lanes), source=source, sink=sink, seed=lanes)


@pytest.mark.parametrize(
    ("multiplier_bits", "input_bits", "multipliers"),
    [(18, 18, 1), (19, 18, 1), (21, 20, 1), (22, 18, 2), (31, 24, 4), (18, 36, 2), (3, 20, 0), (21, 36, 2)],
)
def test_wide_operands_take_several_multipliers(multiplier_bits, input_bits, multipliers):
    low, high = -(1 << (multiplier_bits - 1)), (1 << (multiplier_bits - 1)) - 1
    config = _config(
        multipliers=np.array([low, high, low + 1, -1]),
        offsets=np.array([0, 1 << 40, -(1 << 40), 0]),
        shift=multiplier_bits - 2,
        input_format=signed(input_bits),
        output_format=signed(20),
    )
    assert config.multiply.multipliers == multipliers
    _check(config, _vectors(config, 40, seed=3), source=BackPressure.RANDOM, sink=BackPressure.NONE)


@st.composite
def _any_config(draw: st.DrawFn) -> RequantizeConfig:
    channels = draw(st.integers(1, 4))
    lanes = draw(st.sampled_from([lanes for lanes in (1, 2, 3, 4) if channels % lanes == 0]))
    bits = draw(st.integers(1, 24))
    count = draw(st.sampled_from([1, channels]))

    def integers(width: int, length: int) -> np.ndarray:
        edge = 1 << width
        return np.array(draw(st.lists(st.integers(-edge, edge), min_size=length, max_size=length)), dtype=np.int64)

    return _config(
        channels=channels,
        lanes=lanes,
        multipliers=integers(bits, count),
        offsets=integers(20, draw(st.sampled_from([1, channels]))),
        shift=draw(st.integers(0, bits)),
        rounding=draw(st.sampled_from(Rounding)),
        overflow=draw(st.sampled_from(Overflow)),
        input_format=draw(st.sampled_from([signed(4), unsigned(8), signed(20), BIPOLAR])),
        output_format=draw(st.sampled_from([signed(2), unsigned(1), unsigned(8), signed(8), signed(30)])),
    )


@settings(max_examples=100, deadline=None)
@given(config=_any_config(), seed=st.integers(0, 9))
def test_any_scaling(config, seed):
    _check(config, _vectors(config, 16, seed), source=BackPressure.NONE, sink=BackPressure.RANDOM, seed=seed)


@pytest.mark.parametrize("multipliers", [[1, -1, -1, 1], [-1, -1, -1, -1], [1]])
@pytest.mark.parametrize("element", [signed(8), unsigned(8), BIPOLAR], ids=str)
def test_signs_change_without_a_multiplier(element, multipliers):
    config = _config(multipliers=np.array(multipliers), input_format=element, shift=0, output_format=signed(9))
    assert config.latency == 4
    assert "$mul" not in convert(Requantize(config))
    assert "$mul" in convert(Requantize(_config(input_format=element, multipliers=np.array([2, -1, -1, 1]))))
    _check(config, _vectors(config, 40, seed=1), source=BackPressure.NONE, sink=BackPressure.NONE)


def test_lane_slices_compute_their_share_with_parameters_in_block_ram():
    """As the groups of an engine use them: one beat every few cycles."""
    channels, lanes, period = 256, 2, 4
    random = np.random.default_rng(5)
    config = _config(
        channels=channels,
        lanes=lanes,
        multipliers=random.integers(-500, 500, channels),
        offsets=random.integers(-5000, 5000, channels),
        period=period,
    )
    values = _vectors(config, 2, seed=6)
    expected = np.array(_expected(config, values))
    for first in range(lanes):
        part = config.lane_slice(first, 1)
        pipeline = RequantizePipeline(part)
        results: list[int] = []

        async def bench(context: Any, pipeline: Any = pipeline, first: int = first, results: Any = results) -> None:
            await context.tick().repeat(3)
            for beat in values.reshape(-1, lanes)[:, first].tolist() + [0] * 4:
                for cycle in range(period):
                    context.set(pipeline.i.valid, cycle == 0)
                    context.set(pipeline.i.payload[0], beat)
                    if context.get(pipeline.o.valid):
                        results.append(context.get(pipeline.o.payload[0]))
                    await context.tick()

        simulator = Simulator(pipeline)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
        assert results[: len(expected)] == expected[:, first].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 3}, "lanes of a requantization must divide the 4 channels, not 3; use one of 1, 2, 4"),
        ({"multipliers": np.array([1, 2])}, r"multipliers must be of shape \(1,\) or \(4,\), not \(2,\)"),
        ({"offsets": np.zeros((4, 1))}, r"offsets must be of shape \(1,\) or \(4,\), not \(4, 1\)"),
        ({"shift": -1}, "shifts right by 0 or more, not -1"),
        ({"output_format": BIPOLAR}, "not bipolar ones; use a threshold"),
        ({"multipliers": np.array([1 << 56])}, "more than 62 bits hold"),
    ],
)
def test_refuses_what_cannot_work(change, message):
    with pytest.raises(ValueError, match=message):
        _config(**change)
