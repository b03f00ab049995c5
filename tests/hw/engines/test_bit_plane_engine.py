"""The bit-plane engine against plain integer products, word by word and cycle by cycle."""

from typing import Any

import numpy as np
import pytest

from karui.hw.activations.requantize import RequantizeConfig
from karui.hw.activations.threshold import ThresholdConfig
from karui.hw.engines.bit_plane_engine import BitPlaneEngineConfig
from karui.hw.engines.constant_engine import ConstantEngine, ConstantEngineConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.ir import accumulator_range, effective_weights
from karui.sw.numerics import (
    BIPOLAR,
    NumberFormat,
    Overflow,
    Rounding,
    format_for_range,
    saturate,
    shift_right,
    signed,
    unsigned,
)


class Problem:
    """Random bases and coefficients, and what comes of them."""

    def __init__(
        self,
        outputs: int,
        inputs: int,
        bits: int,
        bases: int,
        *,
        blocks: int = 1,
        reach: int = 1 << 15,
        bias: bool = True,
        seed: int = 0,
    ) -> None:
        random = np.random.default_rng(seed)
        self.bases = random.choice([-1, 1], (outputs, bases, inputs // blocks))
        self.coefficients = random.integers(-reach, reach, (outputs, bases))
        self.bias = random.integers(-reach, reach, outputs) if bias else None
        self.format, self.blocks, self.inputs = unsigned(bits), blocks, inputs
        self.weights = effective_weights(self.bases, self.coefficients)
        low, high = accumulator_range(self.weights, self.format, self.bias)
        self.accumulator = format_for_range(min(low, -1), high)
        self.random = random

    def vectors(self, count: int) -> np.ndarray:
        """Extremes of the first sums, and random vectors."""
        inputs = self.random.integers(0, self.format.maximum + 1, (count, self.inputs))
        for index, row in enumerate(self.weights[: count // 2]):
            inputs[index] = np.tile(np.where(row > 0, self.format.maximum, 0), self.blocks)
        return inputs

    def sums(self, vectors: np.ndarray) -> np.ndarray:
        parts = zip(np.split(vectors, self.blocks, axis=1), np.split(self.weights, self.blocks), strict=True)
        return np.hstack([part @ block.T for part, block in parts]) + (0 if self.bias is None else self.bias)

    def config(self, *, activation: Any = None, multiplier: Any = "dsp", **fold: int) -> ConstantEngineConfig:
        engine = BitPlaneEngineConfig(
            inputs=self.inputs,
            coefficients=self.coefficients,
            negatives=(self.bases < 0).sum(axis=2),
            bias=self.bias,
            blocks=self.blocks,
            input_format=self.format,
            accumulator=self.accumulator,
            activation=activation,
            multiplier=multiplier,
            **fold,  # type: ignore[arg-type]
        )
        return ConstantEngineConfig(engine=engine, weights=engine.rom(self.bases))


def check(config: ConstantEngineConfig, vectors: np.ndarray, expected: np.ndarray, **patterns: Any) -> Any:
    run = run_stream(
        ConstantEngine(config),
        vectors.reshape(-1, config.engine.simd),
        beats_out=expected.size // config.engine.pe,
        **patterns,
    )
    assert run.words.reshape(expected.shape).tolist() == expected.tolist()
    if patterns.get("sink", BackPressure.NONE) is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()
    return run


@pytest.mark.parametrize(("bits", "bases", "inputs", "simd"), [(1, 1, 4, 4), (1, 1, 8, 2), (3, 2, 6, 3), (8, 6, 10, 5)])
def test_one_lane_computes_products(bits: int, bases: int, inputs: int, simd: int) -> None:
    problem = Problem(3, inputs, bits, bases)
    vectors = problem.vectors(6)
    run = check(problem.config(pe=1, simd=simd), vectors, problem.sums(vectors))
    assert np.diff(run.departures).max() == bits * bases * inputs // simd


FOLDS = {
    "lanes share a multiplier": {"pe": 6, "simd": 4},
    "fewer lanes share one": {"pe": 6, "simd": 12},
    "groups of several lanes": {"pe": 12, "simd": 6},
    "planes in pairs": {"pe": 2, "simd": 4, "planes": 2},
    "all planes": {"pe": 2, "simd": 4, "planes": 4},
    "bases in pairs": {"pe": 2, "simd": 4, "bases": 2},
    "bases in threes": {"pe": 1, "simd": 6, "bases": 3},
    "all bases": {"pe": 3, "simd": 4, "bases": 6},
    "planes and bases": {"pe": 4, "simd": 3, "planes": 2, "bases": 3},
    "several products a cycle": {"pe": 2, "simd": 6, "planes": 4, "bases": 6},
    "all at once": {"pe": 12, "simd": 12, "planes": 4, "bases": 6},
    "all but a plane at once": {"pe": 12, "simd": 12, "planes": 2, "bases": 6},
    "words at once": {"pe": 1, "simd": 12},
}


@pytest.mark.parametrize(
    ("case", "multiplier"),
    [(case, "dsp") for case in FOLDS] + [("lanes share a multiplier", "lut"), ("several products a cycle", "lut")],
)
def test_folded_over_lanes_inputs_planes_and_bases(case: str, multiplier: str) -> None:
    problem = Problem(12, 12, 4, 6, seed=len(case))
    config = problem.config(multiplier=multiplier, **FOLDS[case])
    vectors = problem.vectors(8)
    run = check(config, vectors, problem.sums(vectors))
    engine = config.engine
    assert engine.interval * engine.pe * engine.simd * engine.planes * engine.bases == 12 * 12 * 4 * 6
    assert set(np.diff(run.departures)) == {engine.result_cycles}
    group = engine.group(0)
    assert group.sums.steps <= engine.round_cycles or group.sums.steps == 1


def test_multipliers_are_shared_as_far_as_time_allows() -> None:
    problem = Problem(24, 12, 4, 6)

    def shared(**fold: int) -> tuple[int, int, int]:
        engine = problem.config(**fold).engine
        return engine.groups, engine.group_lanes, engine.group(0).sums.products

    assert shared(pe=24, simd=1) == (3, 8, 1)
    assert shared(pe=6, simd=12) == (2, 3, 1)
    assert shared(pe=24, simd=6, bases=2) == (6, 4, 1)
    assert shared(pe=6, simd=12, bases=6) == (6, 1, 2)
    assert shared(pe=6, simd=12, bases=6, planes=4) == (6, 1, 6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", ["lanes share a multiplier", "planes and bases", "all at once"])
def test_random_back_pressure(case: str, seed: int) -> None:
    problem = Problem(12, 12, 4, 6, seed=seed)
    vectors = problem.vectors(6)
    check(
        problem.config(**FOLDS[case]),
        vectors,
        problem.sums(vectors),
        source=BackPressure.RANDOM,
        sink=BackPressure.RANDOM,
        seed=seed,
    )


@pytest.mark.parametrize("case", ["lanes share a multiplier", "all at once"])
def test_a_slow_source_and_a_slow_sink(case: str) -> None:
    problem = Problem(12, 12, 4, 6)
    vectors = problem.vectors(8)
    for slow in ("source", "sink"):
        check(problem.config(**FOLDS[case]), vectors, problem.sums(vectors), **{slow: BackPressure.RANDOM})


@pytest.mark.parametrize(("blocks", "fold"), [(3, {"pe": 2, "simd": 2}), (12, {"pe": 1, "simd": 1, "bases": 2})])
def test_blocks_are_independent(blocks: int, fold: dict[str, int]) -> None:
    problem = Problem(12, 12, 3, 2, blocks=blocks, bias=False)
    vectors = problem.vectors(6)
    check(problem.config(**fold), vectors, problem.sums(vectors))


@pytest.mark.parametrize(
    "fold", [{"pe": 1, "simd": 4}, {"pe": 4, "simd": 2}, {"pe": 4, "simd": 12, "planes": 4, "bases": 3}]
)
@pytest.mark.parametrize("multipliers", ["own", "one", "signs for some"])
def test_requantization_shares_a_multiplier_too(fold: dict[str, int], multipliers: str) -> None:
    problem = Problem(8, 12, 4, 3)
    vectors = problem.vectors(10)
    sums = problem.sums(vectors)
    shift = problem.accumulator.bits + 2
    count = 1 if multipliers == "one" else 8
    values = problem.random.integers(1 << 5, 1 << 7, count)
    if multipliers == "signs for some":
        values[1::4] = 1
    activation = RequantizeConfig(
        channels=8,
        lanes=fold["pe"],
        multipliers=values,
        offsets=problem.random.integers(1, 1 << shift, count),
        shift=shift,
        rounding=Rounding.HALF_UP,
        overflow=Overflow.SATURATE,
        input_format=problem.accumulator,
        output_format=unsigned(5),
    )
    expected = saturate(shift_right(sums * activation.multipliers + activation.offsets, shift, Rounding.HALF_UP), 0, 31)
    assert len(np.unique(expected)) > 4
    check(problem.config(activation=activation, **fold), vectors, expected)


@pytest.mark.parametrize(("output", "levels"), [(BIPOLAR, 2), (unsigned(2), 4), (unsigned(3), 8)])
@pytest.mark.parametrize("fold", [{"pe": 1, "simd": 12}, {"pe": 4, "simd": 2}])
def test_thresholds(output: NumberFormat, levels: int, fold: dict[str, int]) -> None:
    problem = Problem(8, 12, 4, 3)
    vectors = problem.vectors(10)
    sums = problem.sums(vectors)
    thresholds = np.sort(problem.random.integers(sums.min(), sums.max(), (8, levels - 1)), axis=1)
    activation = ThresholdConfig(
        channels=8,
        lanes=fold["pe"],
        thresholds=thresholds,
        input_format=problem.accumulator,
        output_format=output,
    )
    reached = (sums[:, :, None] >= thresholds[None]).sum(axis=2)
    assert len(np.unique(reached)) == levels
    check(problem.config(activation=activation, **fold), vectors, reached)


def test_wide_coefficients_and_long_vectors() -> None:
    problem = Problem(2, 1024, 8, 2, reach=1 << 21)
    vectors = problem.vectors(4)
    config = problem.config(pe=2, simd=64)
    assert config.engine.group(0).sums.multiply.multipliers > 1
    check(config, vectors, problem.sums(vectors))


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        ({"pe": 5, "simd": 4}, "pe must divide the 12 outputs, not 5"),
        ({"pe": 4, "simd": 5}, "simd must divide the 12 inputs, not 5"),
        ({"pe": 4, "simd": 4, "planes": 3}, "planes must divide the 4 bits of an input, not 3"),
        ({"pe": 4, "simd": 4, "bases": 4}, "bases must divide the 6 bases, not 4"),
    ],
)
def test_foldings_that_do_not_divide_are_refused(fold: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Problem(12, 12, 4, 6).config(**fold)


def test_formats_and_shapes_that_do_not_fit_are_refused() -> None:
    problem = Problem(4, 4, 4, 2)
    problem.format = signed(4)
    with pytest.raises(ValueError, match="inputs of a bit-plane engine must be unsigned, not s4"):
        problem.config(pe=1, simd=1)
    problem.format, problem.accumulator = unsigned(4), unsigned(30)
    with pytest.raises(ValueError, match="accumulator must be signed, not u30"):
        problem.config(pe=1, simd=1)
