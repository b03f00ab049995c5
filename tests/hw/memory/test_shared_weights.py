from dataclasses import replace

import numpy as np
import pytest

from karui.hw.engines.constant_engine import ConstantEngine, ConstantEngineConfig
from karui.hw.engines.matrix_vector import MatrixVectorConfig, pe_groups
from karui.hw.memory.shared_weights import SharedWeightsConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import BIPOLAR, NumberFormat, signed, unsigned

S5 = signed(5)


def shared(
    vector: int, distinct: int, pe: int, simd: int, *, weight_format: NumberFormat = S5, storage: str = "auto"
) -> SharedWeightsConfig:
    random = np.random.default_rng(vector * 100 + simd)
    if weight_format.is_bipolar:
        book = random.choice([-1, 1], (distinct, vector))
    else:
        book = random.integers(weight_format.minimum, weight_format.maximum + 1, (distinct, vector))
    indices = random.integers(0, distinct, (8, 24 // vector))
    weights = book[indices].reshape(8, 24)
    return SharedWeightsConfig(
        weights=weights,
        vector=vector,
        pe=pe,
        simd=simd,
        weight_format=weight_format,
        groups=pe_groups(pe),
        storage=storage,
    )


@pytest.mark.parametrize(
    ("vector", "distinct", "pe", "simd", "storage"),
    [
        (1, 9, 4, 3, "auto"),
        (1, 2, 1, 1, "auto"),
        (1, 9, 8, 24, "auto"),
        (1, 1, 2, 2, "auto"),
        (4, 7, 4, 8, "auto"),
        (4, 7, 2, 4, "block"),
        (8, 5, 4, 2, "auto"),
        (8, 5, 4, 2, "block"),
        (12, 16, 8, 1, "auto"),
        (3, 40, 2, 6, "block"),
    ],
)
@pytest.mark.parametrize("pressure", BackPressure)
def test_engine_computes_with_looked_up_weights(vector, distinct, pe, simd, storage, pressure):
    weights = shared(vector, distinct, pe, simd, storage=storage)
    engine = MatrixVectorConfig(
        outputs=8,
        inputs=24,
        pe=pe,
        simd=simd,
        input_format=unsigned(3),
        weight_format=weights.weight_format,
        accumulator=signed(16),
        weight_latency=weights.latency,
    )
    config = ConstantEngineConfig(engine=engine, weights=weights)
    vectors = np.random.default_rng(1).integers(0, 8, (5, 24))
    run = run_stream(
        ConstantEngine(config),
        vectors.reshape(-1, simd),
        beats_out=40 // pe,
        source=pressure,
        sink=pressure,
        watchdog=5000,
    )
    assert run.words.reshape(5, 8).tolist() == (vectors @ weights.weights.T).tolist()
    if pressure is BackPressure.NONE:
        assert run.departures.tolist() == config.schedule(run.arrivals).departures.tolist()


def test_bits_are_looked_up_too():
    weights = shared(8, 6, 4, 8, weight_format=BIPOLAR)
    engine = MatrixVectorConfig(
        outputs=8, inputs=24, pe=4, simd=8, input_format=BIPOLAR, accumulator=signed(8), weight_latency=weights.latency
    )
    vectors = np.random.default_rng(1).choice([-1, 1], (5, 24))
    run = run_stream(
        ConstantEngine(ConstantEngineConfig(engine=engine, weights=weights)),
        (vectors.reshape(-1, 8) + 1) // 2,
        beats_out=10,
    )
    assert run.words.reshape(5, 8).tolist() == (vectors @ weights.weights.T).tolist()


def test_stored_bits_are_indices_and_book():
    config = shared(4, 7, 4, 8)
    assert len(config.book) == 7
    assert config.stored_bits == 8 * 6 * 3 + 7 * 4 * 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vector": 5}, "vector must divide the 24 inputs, not 5"),
        ({"simd": 6}, "simd must divide the vectors of 4 weights or be their multiple, not 6"),
        ({"weight_format": unsigned(2)}, "weights from -16 to 15 do not fit their format u2"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        replace(shared(4, 7, 4, 8), **change)
