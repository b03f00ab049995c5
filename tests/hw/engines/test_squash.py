from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.hw.arithmetic.integer_dot_product import Multiplier
from karui.hw.engines.squash import Squash, SquashConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.ir import GraphBuilder
from karui.sw.ir.capsule_arithmetic import squash
from karui.sw.numerics import NumberFormat, signed, squash_gains

CAPSULE = signed(8, fraction=7)
WORD = signed(8, fraction=5)


def _config(
    length: int,
    lanes: int,
    *,
    words: NumberFormat = WORD,
    vectors: int = 6,
    index_bits: int = 6,
    multiplier: Multiplier = "dsp",
) -> SquashConfig:
    return SquashConfig(
        channels=length,
        lanes=lanes,
        input_format=words,
        output_format=CAPSULE,
        positions=vectors,
        gains=squash_gains(words, length, index_bits=index_bits),
        shift=words.fraction + 12 - 7,
        multiplier=multiplier,
    )


def _vectors(config: SquashConfig, seed: int) -> np.ndarray:
    """Vectors of all sizes, one of zeros and one of the largest norm."""
    random = np.random.default_rng(seed)
    words = config.input_format
    largest = np.exp2(-random.integers(0, words.bits, (config.positions, 1)))
    vectors = random.integers(words.minimum, words.maximum + 1, (config.positions, config.channels)) * largest
    vectors[0], vectors[1], vectors[-1] = 0, words.maximum, words.minimum
    return vectors.astype(np.int64)


def _expected(config: SquashConfig, vectors: np.ndarray) -> np.ndarray:
    build = GraphBuilder("squash")
    index_bits = config.gains.shape[1].bit_length() - 1
    edge = build.squash(
        "y", build.input("x", (config.channels,), config.input_format), config.channels, CAPSULE, index_bits=index_bits
    )
    op = build.finish(edge).node("y").op
    return squash(op, vectors, config.gains)


def _check(config: SquashConfig, *, source: BackPressure, sink: BackPressure, seed: int) -> None:
    vectors = _vectors(config, seed)
    beats = vectors.size // config.lanes
    words = vectors.reshape(beats, config.lanes)
    run = run_stream(Squash(config), words, beats_out=beats, source=source, sink=sink, seed=seed)
    assert run.words.reshape(vectors.shape).tolist() == _expected(config, vectors).tolist()
    if sink is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()
        if source is BackPressure.NONE:
            assert run.departures[-1] - run.departures[0] == beats - 1


@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize(("length", "lanes"), [(8, 2), (8, 8), (1, 1), (3, 1)])
def test_squashes_as_the_definition_says(length: int, lanes: int, source: BackPressure, sink: BackPressure) -> None:
    _check(_config(length, lanes), source=source, sink=sink, seed=length + lanes)


def test_what_would_be_1_is_limited() -> None:
    config = _config(1, 1, words=signed(10, fraction=4))
    assert _expected(config, _vectors(config, 0))[1].tolist() == [CAPSULE.maximum]
    _check(config, source=BackPressure.NONE, sink=BackPressure.NONE, seed=0)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.sampled_from([(8, 1), (8, 4), (5, 5), (16, 2), (1, 1)]),
    words=st.sampled_from(
        [signed(16, fraction=11), signed(8, fraction=7), signed(4, fraction=0), signed(10, fraction=4)]
    ),
    index_bits=st.integers(1, 7),
    multiplier=st.sampled_from(["dsp", "lut"]),
    source=st.sampled_from(BackPressure),
    sink=st.sampled_from(BackPressure),
    seed=st.integers(0, 99),
)
def test_any_squash(
    shape: tuple[int, int],
    words: NumberFormat,
    index_bits: int,
    multiplier: Multiplier,
    source: BackPressure,
    sink: BackPressure,
    seed: int,
) -> None:
    config = _config(*shape, words=words, index_bits=index_bits, multiplier=multiplier)
    _check(config, source=source, sink=sink, seed=seed)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="lanes of a squash must divide the 8 elements of a vector, not 3"):
        _config(8, 3)
    config = _config(8, 1)
    with pytest.raises(ValueError, match="squared norms of 18 bits take as many rows of gains, not 17"):
        replace(config, gains=config.gains[1:])
    with pytest.raises(ValueError, match="period must be 1, not 2"):
        replace(config, period=2)
