from dataclasses import replace

import numpy as np
import pytest

from karui.hw.activations.requantize import RequantizeConfig
from karui.hw.activations.threshold import ThresholdConfig
from karui.hw.compressed.sparse_entries import EntryRomConfig, HuffmanEntriesConfig
from karui.hw.compressed.sparse_matrix_vector import SparseMatrixVector, SparseMatrixVectorConfig
from karui.hw.compressed.sparse_segments import SparseSegments
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import BIPOLAR, NumberFormat, Overflow, Rounding, saturate, shift_right, signed, unsigned

S6 = signed(6)
U4 = unsigned(4)


def sparse_weights(
    outputs: int, inputs: int, density: float, *, distinct: int = 7, weight_format: NumberFormat = S6, seed: int = 0
) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.integers(weight_format.minimum, weight_format.maximum + 1, distinct)
    weights = random.choice(values, (outputs, inputs)) * (random.random((outputs, inputs)) < density)
    weights[outputs // 2, inputs // 3] = weight_format.maximum
    return weights


def engine(
    weights: np.ndarray,
    *,
    pe: int,
    simd: int,
    gap_bits: int = 2,
    lanes: int = 1,
    weight_format: NumberFormat = S6,
    input_format: NumberFormat = U4,
    bias: bool = False,
    activation: str = "none",
    multiplier: str = "dsp",
) -> SparseMatrixVectorConfig:
    random = np.random.default_rng(9)
    outputs = len(weights)
    segments = SparseSegments(weights=weights, weight_format=weight_format, pe=pe, gap_bits=gap_bits, lanes=lanes)
    accumulator = signed(20)
    applied: ThresholdConfig | RequantizeConfig | None = None
    if activation == "threshold":
        applied = ThresholdConfig(
            channels=outputs,
            lanes=lanes,
            thresholds=np.sort(random.integers(-200, 200, (outputs, 3)), axis=1),
            input_format=accumulator,
            output_format=unsigned(2),
        )
    elif activation == "requantize":
        applied = RequantizeConfig(
            channels=outputs,
            lanes=lanes,
            multipliers=random.integers(1, 30, outputs),
            offsets=random.integers(-90, 90, outputs),
            shift=5,
            rounding=Rounding.HALF_UP,
            overflow=Overflow.SATURATE,
            input_format=accumulator,
            output_format=unsigned(6),
        )
    return SparseMatrixVectorConfig(
        entries=EntryRomConfig(segments=segments),
        simd=simd,
        input_format=input_format,
        accumulator=accumulator,
        bias=random.integers(-50, 50, outputs) if bias else None,
        activation=applied,
        multiplier=multiplier,
    )


def expected(config: SparseMatrixVectorConfig, vectors: np.ndarray) -> np.ndarray:
    sums = vectors @ config.segments.weights.T + (0 if config.bias is None else config.bias)
    match config.activation:
        case ThresholdConfig(thresholds=thresholds):
            return (sums[:, :, None] >= thresholds[None]).sum(axis=2)
        case RequantizeConfig(multipliers=multipliers, offsets=offsets, shift=shift, output_format=output):
            scaled = shift_right(sums * multipliers + offsets, shift, Rounding.HALF_UP)
            return saturate(scaled, output.minimum, output.maximum)
    return sums


def check(
    config: SparseMatrixVectorConfig, *, vectors: int = 7, pressure: BackPressure = BackPressure.NONE, seed: int = 0
):
    random = np.random.default_rng(seed + 1)
    form = config.input_format
    if form.is_bipolar:
        values = random.choice([-1, 1], (vectors, config.inputs))
    else:
        values = random.integers(form.minimum, form.maximum + 1, (vectors, config.inputs))
    results = expected(config, values)
    run = run_stream(
        SparseMatrixVector(config),
        ((values + 1) // 2 if form.is_bipolar else values).reshape(-1, config.simd),
        beats_out=results.size // config.segments.lanes,
        source=pressure,
        sink=pressure,
        seed=seed,
    )
    assert run.words.reshape(results.shape).tolist() == results.tolist()
    schedule = config.schedule(run.arrivals)
    if pressure is BackPressure.NONE:
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()
        lasts = run.departures.reshape(vectors, -1)[:, -1]
        assert set(np.diff(lasts)) == {config.interval}
    return run


SHAPES = [
    # outputs, inputs, density, pe, simd, lanes, gap_bits
    (12, 32, 0.3, 2, 4, 1, 2),
    (30, 24, 0.2, 3, 8, 3, 3),
    (10, 16, 0.1, 1, 1, 1, 2),
    (40, 9, 0.3, 4, 1, 4, 1),
    (24, 100, 0.05, 2, 2, 2, 6),
    (7, 48, 0.6, 8, 16, 1, 2),
    (300, 64, 0.05, 16, 1, 1, 3),
    (3, 5, 0.1, 1, 1, 1, 2),
    (64, 256, 0.04, 4, 2, 1, 4),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_products_and_cycles_are_exact(shape):
    outputs, inputs, density, pe, simd, lanes, gap_bits = shape
    weights = sparse_weights(outputs, inputs, density)
    check(engine(weights, pe=pe, simd=simd, lanes=lanes, gap_bits=gap_bits, bias=outputs % 4 == 0))


@pytest.mark.parametrize("pressure", [BackPressure.RANDOM, BackPressure.BURSTY])
@pytest.mark.parametrize("shape", SHAPES[:5])
def test_products_are_exact_under_back_pressure(shape, pressure):
    outputs, inputs, density, pe, simd, lanes, gap_bits = shape
    weights = sparse_weights(outputs, inputs, density)
    check(engine(weights, pe=pe, simd=simd, lanes=lanes, gap_bits=gap_bits), pressure=pressure, vectors=12)


@pytest.mark.parametrize("activation", ["threshold", "requantize"])
@pytest.mark.parametrize("lanes", [1, 2])
def test_activation_is_applied(activation, lanes):
    weights = sparse_weights(12, 32, 0.3)
    check(engine(weights, pe=2, simd=4, lanes=lanes, bias=True, activation=activation))


@pytest.mark.parametrize("pressure", BackPressure)
@pytest.mark.parametrize("shape", SHAPES[:6])
def test_huffman_coded_weights_yield_the_same(shape, pressure):
    outputs, inputs, density, pe, simd, lanes, gap_bits = shape
    weights = sparse_weights(outputs, inputs, density)
    config = engine(weights, pe=pe, simd=simd, lanes=lanes, gap_bits=gap_bits)
    check(replace(config, entries=HuffmanEntriesConfig(segments=config.segments, max_length=9)), pressure=pressure)


@pytest.mark.parametrize("outputs", [12, 13])
def test_a_code_of_a_single_symbol_is_decoded(outputs):
    """Without a zero, all gaps are alike and all codes; 13 rows leave a slot to be filled up."""
    config = engine(np.full((outputs, 32), 5), pe=1, simd=4)
    entries = HuffmanEntriesConfig(segments=config.segments)
    assert (entries.gaps.code.max_length, np.count_nonzero(entries.codes.code.lengths)) == (1, 1 + outputs % 2)
    check(replace(config, entries=entries))


@pytest.mark.parametrize("input_format", [BIPOLAR, signed(5), unsigned(8)])
@pytest.mark.parametrize("multiplier", ["dsp", "lut"])
def test_formats_of_the_input(input_format, multiplier):
    weights = sparse_weights(12, 32, 0.3)
    check(engine(weights, pe=2, simd=2, input_format=input_format, multiplier=multiplier))


def test_weights_that_are_no_wider_than_codes_are_stored_themselves():
    weights = sparse_weights(12, 32, 0.5, distinct=40, weight_format=signed(4))
    config = engine(weights, pe=2, simd=2, weight_format=signed(4))
    assert not config.entries.has_book
    check(config)


def test_a_long_code_book_lies_in_block_ram():
    weights = sparse_weights(16, 64, 0.4, distinct=150, weight_format=signed(9))
    config = engine(weights, pe=2, simd=2, weight_format=signed(9))
    assert config.pe.book_in_block_ram
    check(config)


def test_rows_of_zeros_yield_their_bias():
    weights = np.zeros((14, 20), dtype=np.int64)
    weights[[3, 7], [0, 19]] = [5, -4]
    check(engine(weights, pe=2, simd=4, bias=True))


@pytest.mark.parametrize(("pe", "lanes"), [(1, 1), (16, 1), (16, 4), (50, 10)])
def test_slots_are_filled_evenly(pe, lanes):
    weights = sparse_weights(300, 784, 0.05)
    segments = SparseSegments(weights=weights, weight_format=S6, pe=pe, gap_bits=6, lanes=lanes)
    assert segments.fillers < 0.08 * np.count_nonzero(weights)
    assert segments.pass_cycles * pe <= 1.04 * segments.entry_count + 6 * pe
    # Every non-zero weight is in exactly one part of its row.
    rebuilt = np.zeros_like(weights)
    for row, parts in enumerate(segments.parts):
        for part in parts:
            slot, number = divmod(part.address, segments.rows_per_slot)
            positions = segments.first_columns[part.pe, slot] + np.cumsum(segments.gaps[part.pe, slot] + 1) - 1
            codes = segments.codes[part.pe, slot]
            mine = (positions // 784 == number) & (codes > 0)
            assert mine.any()
            rebuilt[row, positions[mine] % 784] += segments.book[codes[mine] - 1]
    assert np.array_equal(rebuilt, weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"simd": 3}, "simd must divide the 32 inputs, not 3"),
        ({"accumulator": unsigned(9)}, "accumulator must be signed, not u9"),
        ({"bias": np.zeros(3)}, r"bias must be of shape \(12,\), not \(3,\)"),
    ],
)
def test_refuses(change, message):
    config = engine(sparse_weights(12, 32, 0.3), pe=2, simd=4)
    with pytest.raises(ValueError, match=message):
        replace(config, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gap_bits": 6}, "needs gaps of at most 5 bits .*, not 6 bits and 2"),
        ({"lanes": 3}, "lanes must divide the 2 processing elements, not 3"),
        ({"weights": np.zeros((12, 32))}, "needs a weight that is not zero"),
        ({"weight_format": signed(2)}, "weights do not fit their format s2"),
    ],
)
def test_segments_refuse(change, message):
    with pytest.raises(ValueError, match=message):
        replace(engine(sparse_weights(12, 32, 0.3), pe=2, simd=4).segments, **change)
