from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
from amaranth.hdl import Array, Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.activations.double_rounding import DoubleRoundingConfig
from karui.hw.activations.requantize import RequantizeConfig
from karui.hw.activations.threshold import ThresholdConfig
from karui.hw.engines.matrix_vector import MatrixVector, MatrixVectorConfig
from karui.hw.memory.weight_rom import WeightRom, WeightRomConfig, weight_words
from karui.hw.streams.stream import delayed, lanes_of
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import (
    BIPOLAR,
    NumberFormat,
    Overflow,
    Rounding,
    doubling_high_multiply,
    rounding_divide,
    saturate,
    shift_right,
    signed,
    unsigned,
)


class Layer(wiring.Component):
    """An engine with its weights."""

    def __init__(self, config: MatrixVectorConfig, source: wiring.Component) -> None:
        self.config = config
        self.source = source
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.input_format, config.simd))),
                "o": Out(stream.Signature(lanes_of(config.output_format, config.pe))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.engine = engine = MatrixVector(self.config)
        m.submodules.weights = weights = self.source
        wiring.connect(m, weights.o, engine.weights)
        wiring.connect(m, wiring.flipped(self.i), engine.i)
        wiring.connect(m, engine.o, wiring.flipped(self.o))
        return m


class HesitantWeights(wiring.Component):
    """A weight source that has its next word only now and then, and answers late."""

    def __init__(self, config: MatrixVectorConfig, weights: np.ndarray) -> None:
        self.config = config
        self.words = weight_words(
            weights, config.pe, config.simd, groups=config.groups, weight_format=config.weight_format
        )
        super().__init__({"o": Out(config.weight_source)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        noise = Signal(16, init=0xACE1)
        m.d.sync += noise.eq(Cat(noise[1:], noise[0] ^ noise[2] ^ noise[3] ^ noise[5]))
        index = Signal(range(len(self.words[0])))
        m.d.comb += self.o.available.eq(noise[0])
        with m.If(self.o.take):
            m.d.sync += [Assert(self.o.available), index.eq(Mux(index == len(self.words[0]) - 1, 0, index + 1))]
        for group, words in enumerate(self.words):
            word = Signal.like(self.o.data[group], name=f"word_{group}")
            with m.If(self.o.take):
                m.d.comb += word.eq(Array(Const(word, self.o.data[group].shape()) for word in words)[index])
            late = delayed(m, word, self.config.weight_latency + group, name=f"late_{group}")
            m.d.comb += self.o.data[group].eq(late)
        return m


def _words(values: np.ndarray, number_format: NumberFormat) -> np.ndarray:
    return (values + 1) // 2 if number_format.is_bipolar else values


def _rom(config: MatrixVectorConfig, weights: np.ndarray, storage: str = "auto") -> WeightRomConfig:
    return WeightRomConfig(
        weights=weights,
        pe=config.pe,
        simd=config.simd,
        weight_format=config.weight_format,
        groups=config.groups,
        storage=storage,
    )


def _check(config, weights, vectors, storage="auto", built=None, **patterns):
    parts = zip(np.split(vectors, config.blocks, axis=1), np.split(weights, config.blocks), strict=True)
    sums = np.hstack([part @ block.T for part, block in parts]) + (0 if config.bias is None else config.bias)
    if config.activation is None:
        expected = sums
    elif isinstance(config.activation, DoubleRoundingConfig):
        high = doubling_high_multiply(sums, config.activation.multipliers)
        rounded = rounding_divide(high, -config.activation.exponents) + config.activation.zero_point
        expected = saturate(rounded, config.activation.minimum, config.activation.maximum)
    elif isinstance(config.activation, RequantizeConfig):
        scaled = sums * config.activation.multipliers + config.activation.offsets
        rounded = shift_right(scaled, config.activation.shift, config.activation.rounding)
        expected = saturate(rounded, config.output_format.minimum, config.output_format.maximum)
    else:
        levels = (sums[:, :, None] >= config.activation.thresholds[None]).sum(axis=2)
        expected = np.vectorize(config.output_format.at_level)(levels)
    run = run_stream(
        Layer(config, WeightRom(_rom(config, weights if built is None else built, storage))),
        _words(vectors, config.input_format).reshape(-1, config.simd),
        beats_out=expected.size // config.pe,
        **patterns,
    )
    assert run.words.reshape(expected.shape).tolist() == _words(expected, config.output_format).tolist()
    if patterns.get("sink", BackPressure.NONE) is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()
    return run


def _random(random: np.random.Generator, number_format: NumberFormat, shape: tuple[int, ...]) -> np.ndarray:
    if number_format.is_bipolar:
        return random.choice([-1, 1], size=shape)
    return random.integers(number_format.minimum, number_format.maximum + 1, size=shape)


def _problem(
    outputs,
    inputs,
    pe,
    simd,
    *,
    input_format=BIPOLAR,
    levels=0,
    bias=False,
    vectors=6,
    seed=0,
    output_format=BIPOLAR,
    requantize=False,
    rounding=Rounding.HALF_UP,
    weight_format=BIPOLAR,
    blocks=1,
    multiplier="dsp",
):
    random = np.random.default_rng(seed)
    largest = inputs // blocks
    for number_format in (input_format, weight_format):
        largest *= max(-number_format.minimum, number_format.maximum)
    accumulator = signed((largest + 20).bit_length() + 1)
    activation = None
    if levels:
        activation = ThresholdConfig(
            channels=outputs,
            lanes=pe,
            thresholds=np.sort(random.integers(-largest // 2 - 1, largest // 2 + 2, size=(outputs, levels)), axis=1),
            input_format=accumulator,
            output_format=output_format,
        )
    if requantize:
        activation = RequantizeConfig(
            channels=outputs,
            lanes=pe,
            multipliers=random.integers(-300, 300, size=outputs),
            offsets=random.integers(-largest, largest + 1, size=outputs),
            shift=6,
            rounding=rounding,
            overflow=Overflow.SATURATE,
            input_format=accumulator,
            output_format=output_format,
        )
    config = MatrixVectorConfig(
        outputs=outputs,
        inputs=inputs,
        pe=pe,
        simd=simd,
        input_format=input_format,
        weight_format=weight_format,
        blocks=blocks,
        multiplier=multiplier,
        accumulator=accumulator,
        bias=random.integers(-9, 10, size=outputs) if bias else None,
        activation=activation,
    )
    weights = _random(random, weight_format, (outputs, inputs // blocks))
    return config, weights, _random(random, input_format, (vectors, inputs))


FOLDS = [
    (8, 12, 8, 12),
    (8, 12, 8, 3),
    (8, 12, 1, 12),
    (8, 12, 2, 4),
    (12, 7, 6, 1),
    (12, 7, 12, 7),
    (16, 49, 16, 7),
    (3, 1, 1, 1),
    (10, 18, 5, 9),
]


@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize("fold", FOLDS)
def test_thresholds_fused(fold, source, sink):
    _check(*_problem(*fold, levels=1), source=source, sink=sink, seed=5)


@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("bias", [False, True])
def test_plain_sums(fold, sink, bias):
    _check(*_problem(*fold, bias=bias, seed=1), source=BackPressure.RANDOM, sink=sink, seed=6)


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize(("levels", "output_format"), [(1, unsigned(1)), (2, unsigned(2)), (7, signed(3))])
def test_bias_before_threshold_ladders(fold, levels, output_format):
    _check(*_problem(*fold, levels=levels, bias=True, seed=2, output_format=output_format))


@pytest.mark.parametrize("fold", FOLDS)
def test_vectors_follow_without_a_gap(fold):
    config, weights, vectors = _problem(*fold, levels=1, vectors=8)
    run = _check(config, weights, vectors)
    beats = config.output_fold
    assert np.diff(run.departures[beats - 1 :: beats])[2:].tolist() == [config.interval] * 5


@pytest.mark.parametrize("storage", ["block", "distributed"])
def test_weight_storage_makes_no_difference(storage):
    _check(*_problem(8, 12, 4, 3, levels=1), storage=storage)


@pytest.mark.parametrize("sink", BackPressure)
def test_wide_vectors_are_kept_in_parts(sink):
    config, weights, vectors = _problem(4, 402, 2, 134, levels=1, vectors=4)
    assert config.replay.parts("distributed") == [(0, 45), (45, 90), (90, 134)]
    _check(config, weights, vectors, source=BackPressure.RANDOM, sink=sink, seed=8)


FEW_FOLDS = [(8, 12, 8, 3), (6, 7, 3, 7), (16, 49, 16, 7), (3, 4, 1, 1)]
INTEGERS = [unsigned(1), unsigned(2), unsigned(8), signed(2), signed(5)]


@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize("fold", FEW_FOLDS)
@pytest.mark.parametrize("input_format", INTEGERS, ids=str)
def test_integer_inputs(fold, input_format, sink):
    problem = _problem(*fold, input_format=input_format, bias=True, seed=3)
    _check(*problem, source=BackPressure.RANDOM, sink=sink, seed=7)


@pytest.mark.parametrize("fold", FEW_FOLDS)
@pytest.mark.parametrize("input_format", [unsigned(8), signed(5)], ids=str)
@pytest.mark.parametrize(("levels", "output_format"), [(1, BIPOLAR), (3, unsigned(2))])
def test_integer_inputs_with_thresholds(fold, input_format, levels, output_format):
    _check(*_problem(*fold, input_format=input_format, levels=levels, bias=True, seed=4, output_format=output_format))


@pytest.mark.parametrize("input_format", [unsigned(8), signed(8)], ids=str)
def test_extreme_inputs(input_format):
    config, weights, _ = _problem(4, 9, 2, 9, input_format=input_format)
    weights[0], weights[1] = 1, -1
    extremes = np.array([input_format.minimum, input_format.maximum])
    vectors = np.vstack(
        [np.full((2, 9), extremes[:, None]), np.where(weights > 0, *extremes), np.where(weights < 0, *extremes)]
    )
    _check(config, weights, vectors)


@pytest.mark.parametrize("fold", FEW_FOLDS)
@pytest.mark.parametrize("input_format", [BIPOLAR, unsigned(8)], ids=str)
@pytest.mark.parametrize("output_format", [unsigned(8), signed(4)], ids=str)
def test_requantized(fold, input_format, output_format):
    _check(*_problem(*fold, input_format=input_format, bias=True, requantize=True, output_format=output_format))


WEIGHTS = [signed(2), signed(4), signed(8), unsigned(3)]


@pytest.mark.parametrize("multiplier", ["dsp", "lut"])
@pytest.mark.parametrize("fold", FEW_FOLDS)
@pytest.mark.parametrize("weight_format", WEIGHTS, ids=str)
@pytest.mark.parametrize("input_format", [BIPOLAR, unsigned(8), signed(5)], ids=str)
def test_integer_weights(fold, input_format, weight_format, multiplier):
    problem = _problem(
        *fold, input_format=input_format, weight_format=weight_format, multiplier=multiplier, bias=True, seed=11
    )
    _check(*problem, source=BackPressure.RANDOM, seed=12)


@pytest.mark.parametrize("multiplier", ["dsp", "lut"])
@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_integer_weights_under_back_pressure(sink, source, multiplier):
    problem = _problem(
        12, 12, 3, 4, input_format=unsigned(4), weight_format=signed(4), multiplier=multiplier, vectors=12
    )
    _check(*problem, source=source, sink=sink, seed=13)


@pytest.mark.parametrize("multiplier", ["dsp", "lut"])
@pytest.mark.parametrize("fold", FEW_FOLDS)
@pytest.mark.parametrize(
    ("levels", "output_format"), [(1, BIPOLAR), (3, unsigned(2)), (15, unsigned(4)), (7, signed(3))]
)
def test_integer_weights_with_thresholds(fold, levels, output_format, multiplier):
    problem = _problem(
        *fold,
        input_format=unsigned(4),
        weight_format=signed(4),
        multiplier=multiplier,
        levels=levels,
        bias=True,
        output_format=output_format,
    )
    _check(*problem)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("output_format", [unsigned(8), signed(4)], ids=str)
@pytest.mark.parametrize("input_format", [unsigned(8), signed(8)], ids=str)
def test_integer_weights_requantized(input_format, output_format, rounding):
    problem = _problem(
        8,
        18,
        4,
        9,
        input_format=input_format,
        weight_format=signed(8),
        bias=True,
        requantize=True,
        rounding=rounding,
        output_format=output_format,
        vectors=20,
    )
    _check(*problem)


@pytest.mark.parametrize("slow", [range(2), range(14, 16), range(6, 10)])
@pytest.mark.parametrize("others", [0, 9, 1 << 18])
@pytest.mark.parametrize("pe", [16, 8])
def test_groups_whose_multiplications_take_unlike_cycles(pe, others, slow):
    """Signs change in one cycle, a device multiplier takes three, several take four: results leave together."""
    config, weights, vectors = _problem(16, 12, pe, 3, input_format=unsigned(8), weight_format=signed(8), bias=True)
    multipliers = np.where(np.arange(16) % 3 == 0, -1, 1)
    multipliers[list(slow)] = others
    scale = RequantizeConfig(
        channels=16,
        lanes=pe,
        multipliers=multipliers,
        offsets=np.arange(16) - 8,
        shift=9,
        rounding=Rounding.HALF_EVEN,
        overflow=Overflow.SATURATE,
        input_format=config.accumulator,
        output_format=signed(8),
    )
    config = replace(config, activation=scale)
    assert len(set(config.group_latencies)) > 1
    _check(config, weights, vectors)


@pytest.mark.parametrize("fold", FEW_FOLDS)
def test_integer_weights_rounded_twice(fold):
    config, weights, vectors = _problem(*fold, input_format=signed(8), weight_format=signed(8), bias=True, vectors=20)
    random = np.random.default_rng(15)
    scale = DoubleRoundingConfig(
        channels=config.outputs,
        lanes=config.pe,
        multipliers=random.integers(1 << 30, 1 << 31, config.outputs),
        exponents=random.integers(-10, -7, config.outputs),
        zero_point=-3,
        minimum=-128,
        maximum=100,
        input_format=config.accumulator,
        output_format=signed(8),
    )
    _check(replace(config, activation=scale), weights, vectors)


BLOCKS = [(8, 12, 2, 3, 2), (8, 12, 4, 6, 2), (12, 12, 1, 1, 12), (6, 12, 2, 2, 3), (12, 8, 3, 2, 4), (6, 6, 1, 2, 3)]


@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize(("input_format", "weight_format"), [(BIPOLAR, BIPOLAR), (unsigned(4), signed(4))], ids=str)
@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("levels", [0, 3])
def test_blocks(blocks, input_format, weight_format, levels, sink):
    config, weights, vectors = _problem(
        *blocks[:4],
        blocks=blocks[4],
        input_format=input_format,
        weight_format=weight_format,
        levels=levels,
        bias=True,
        output_format=unsigned(2),
        vectors=10,
    )
    run = _check(config, weights, vectors, sink=sink, seed=14)
    outputs, inputs, pe, simd, count = blocks
    assert config.interval == count * (outputs // count // pe) * (inputs // count // simd)
    if sink is BackPressure.NONE:
        assert np.diff(run.departures[:: config.output_fold])[2:].tolist() == [config.interval] * 7


def test_a_wrong_weight_is_seen():
    config, weights, vectors = _problem(8, 12, 2, 3, input_format=unsigned(4), weight_format=signed(4), blocks=2)
    wrong = weights.copy()
    wrong[5, 3] ^= 1
    with pytest.raises(AssertionError):
        _check(config, weights, vectors, built=wrong)


@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize("latency", [3, 6])
def test_waits_for_weights_and_for_the_output(latency, sink):
    config, weights, vectors = _problem(8, 12, 4, 3, vectors=12)
    config = replace(config, weight_latency=latency)
    run = run_stream(
        Layer(config, HesitantWeights(config, weights)),
        _words(vectors, BIPOLAR).reshape(-1, config.simd),
        beats_out=12 * config.output_fold,
        sink=sink,
        seed=9,
    )
    assert run.words.reshape(12, 8).tolist() == (vectors @ weights.T).tolist()


def test_schedule_of_a_hundred_thousand_beats_takes_less_than_a_second():
    config = MatrixVectorConfig(
        outputs=64, inputs=576, pe=32, simd=32, input_format=BIPOLAR, accumulator=signed(12), positions=5600
    )
    start = perf_counter()
    schedule = config.schedule(np.zeros(18 * 5600, dtype=np.int64))
    assert perf_counter() - start < 1
    assert schedule.departures[-1] - schedule.departures[1] == config.interval - 2 * 18


def test_unreachable_and_certain_thresholds():
    config, weights, vectors = _problem(4, 6, 2, 2, levels=1, vectors=20)
    config.activation.thresholds[:] = [[-100], [100], [-6], [7]]
    _check(config, weights, vectors)


@pytest.mark.parametrize("lut_inputs", [4, 6])
def test_either_population_count(lut_inputs):
    config, weights, vectors = _problem(8, 98, 4, 49, levels=1)
    _check(replace(config, lut_inputs=lut_inputs), weights, vectors)


def test_all_vectors_and_weights_of_a_small_matrix():
    vectors = np.array([[(word >> bit & 1) * 2 - 1 for bit in range(6)] for word in range(64)])
    config, _, _ = _problem(64, 6, 16, 3)
    _check(config, vectors, vectors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pe": 3}, "pe must divide the 8 outputs, not 3; use one of 1, 2, 4, 8"),
        ({"simd": 5}, "simd must divide the 12 inputs, not 5; use one of 1, 2, 3, 4, 6, 12"),
        ({"blocks": 3}, "blocks must divide the 8 outputs, not 3; use one of 1, 2, 4, 8"),
        ({"blocks": 4, "pe": 4}, "pe must divide the 2 outputs of a block, not 4; use one of 1, 2"),
        ({"blocks": 2, "simd": 4}, "simd must divide the 6 inputs of a block, not 4; use one of 1, 2, 3, 6"),
        ({"weight_latency": 2}, "weight_latency must be 3 or more, not 2"),
        ({"bias": np.zeros(3)}, r"bias must be of shape \(8,\), not \(3,\)"),
    ],
)
def test_refuses(change, message):
    fields = {
        "outputs": 8,
        "inputs": 12,
        "pe": 2,
        "simd": 3,
        "input_format": BIPOLAR,
        "accumulator": signed(8),
    }
    with pytest.raises(ValueError, match=message):
        MatrixVectorConfig(**(fields | change))
