"""Transforms of every size, played on Verilator, against products by scipy's matrix and against the golden model."""

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import hadamard

from karui.flows.design import Design
from karui.hw.plan.estimate import Fold
from karui.hw.plan.folding import Folding
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import GraphBuilder
from karui.sw.numerics import Rounding, signed

FRAMES = 5
LARGEST = 1 << 14
COLUMNS = 1024
WORD = signed(16)
QUICK = {(1024, 4), (2048, 1)}


def cases(*sizes: int) -> list:
    """Each size at 1, 2 and 4 elements a cycle; a few of them in the quick suite."""
    return [
        pytest.param(size, lanes, marks=[] if (size, lanes) in QUICK else pytest.mark.slow)
        for size in sizes
        for lanes in (1, 2, 4)
    ]


def product(frames: np.ndarray, size: int) -> np.ndarray:
    """Products by the Hadamard matrix: exact in floats, whose integers reach much further than the words."""
    matrix = hadamard(size, dtype=np.int8)
    columns = [frames @ matrix[:, first : first + COLUMNS].astype(np.float64) for first in range(0, size, COLUMNS)]
    return np.concatenate(columns, axis=1).astype(np.int64)


def play(folder: Path, size: int, lanes: int, shifts: tuple[int, ...] | None, rounding: Rounding) -> None:
    """Compare with the matrix where the transform is exact, and with the golden model."""
    build = GraphBuilder("transform")
    edge = build.input("x", (size,), WORD)
    graph = build.finish(build.walsh_hadamard("transform", edge, size, shifts, rounding))
    design = Design.create(graph, folder / "design", Folding(folds={"transform": Fold(simd=lanes, pe=lanes)}))
    random = np.random.default_rng(size + lanes)
    frames = random.integers(WORD.minimum, WORD.maximum + 1, (FRAMES, size))
    # Rows of the matrix, as long as words may be, drive single results to the ends of their range.
    frames[0] = np.where(np.bitwise_count(np.arange(size) & random.integers(size)) % 2, WORD.maximum, WORD.minimum)
    expected = evaluate(graph, frames)
    if shifts is None:
        assert np.array_equal(expected, product(frames, size))
    for mode in (BackPressure.NONE, BackPressure.RANDOM):
        result = run_regression(design.rtl, frames, expected, back_pressure=mode, seed=size, latency_frames=1)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            assert result.initiation_interval is not None
            assert result.initiation_interval.max == design.accelerator.interval == size // lanes


@pytest.mark.parametrize(("size", "lanes"), cases(*(1 << places for places in range(2, 15))))
def test_equals_the_hadamard_matrix(tmp_path: Path, size: int, lanes: int) -> None:
    play(tmp_path, size, lanes, None, Rounding.HALF_UP)


@pytest.mark.slow
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize(("size", "lanes"), [(256, 1), (4096, 2), (LARGEST, 1), (LARGEST, 4)])
def test_rounds_at_chosen_stages(tmp_path: Path, size: int, lanes: int, rounding: Rounding) -> None:
    stages = size.bit_length() - 1
    play(tmp_path, size, lanes, tuple((0, 1, 1, 2)[stage % 4] for stage in range(stages)), rounding)
