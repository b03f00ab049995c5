from dataclasses import replace

import numpy as np
import pytest

from karui.hw.compressed.column_matrix_vector import ColumnMatrixVector, ColumnMatrixVectorConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import BIPOLAR, signed, unsigned


def engine(
    outputs: int, inputs: int, *, pe: int, simd: int, density: float = 0.2, bias: bool = True, multiplier: str = "dsp"
) -> ColumnMatrixVectorConfig:
    random = np.random.default_rng(outputs)
    weights = random.integers(-15, 16, (outputs, inputs)) * (random.random((outputs, inputs)) < density)
    return ColumnMatrixVectorConfig(
        weights=weights,
        weight_format=signed(5),
        input_format=unsigned(4),
        accumulator=signed(18),
        pe=pe,
        simd=simd,
        bias=random.integers(-99, 99, outputs) if bias else None,
        multiplier=multiplier,
    )


def activations(config: ColumnMatrixVectorConfig, count: int, density: float) -> np.ndarray:
    random = np.random.default_rng(7)
    shape = (count, config.weights.shape[1])
    form = config.input_format
    return random.integers(form.minimum, form.maximum + 1, shape) * (random.random(shape) < density)


def check(config: ColumnMatrixVectorConfig, vectors: np.ndarray, pressure: BackPressure = BackPressure.NONE):
    run = run_stream(
        ColumnMatrixVector(config),
        vectors.reshape(-1, config.simd),
        beats_out=len(vectors) * len(config.weights) // config.pe,
        source=pressure,
        sink=pressure,
    )
    expected = vectors @ config.weights.T + (0 if config.bias is None else config.bias)
    assert run.words.reshape(expected.shape).tolist() == expected.tolist()
    return run


@pytest.mark.parametrize("pressure", BackPressure)
@pytest.mark.parametrize(
    ("outputs", "inputs", "pe", "simd"), [(12, 32, 4, 8), (30, 20, 3, 1), (8, 64, 8, 16), (5, 9, 1, 3), (4, 1, 2, 1)]
)
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_sums_are_exact(outputs, inputs, pe, simd, density, pressure):
    config = engine(outputs, inputs, pe=pe, simd=simd)
    check(config, activations(config, 9, density), pressure)


@pytest.mark.parametrize("change", [{"input_format": signed(4)}, {"multiplier": "lut"}, {"bias": None}, {"queue": 3}])
def test_variants_are_exact(change):
    config = replace(engine(12, 32, pe=4, simd=8), **change)
    check(config, activations(config, 9, 0.5))


def test_rows_and_columns_without_weights():
    config = engine(12, 32, pe=4, simd=8)
    config.weights[3::4] = 0
    config.weights[:, 10:20] = 0
    check(config, activations(config, 9, 0.5))


def test_zeros_of_either_side_take_no_time():
    config = engine(64, 256, pe=8, simd=8, density=0.1)
    vectors = activations(config, 24, 0.25)
    run = check(config, vectors)
    lasts = run.departures.reshape(len(vectors), -1)[:, -1]
    measured = float(np.diff(lasts).mean())
    least = config.least_cycles(vectors)
    assert least.mean() <= measured <= 1.25 * least.mean()
    # Beside the non-zero weights for each processing element.
    assert measured < 0.6 * np.count_nonzero(config.weights) / config.pe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pe": 5}, "pe must divide the 12 outputs, not 5"),
        ({"simd": 5}, "simd must divide the 32 inputs, not 5"),
        ({"input_format": BIPOLAR}, "bipolar activations are never zero"),
        ({"accumulator": unsigned(8)}, "accumulator must be signed, not u8"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        replace(engine(12, 32, pe=4, simd=8), **change)
