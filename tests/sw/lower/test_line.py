import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.sw.lower.line import Line, line_through
from karui.sw.numerics import Rounding, saturate, shift_right

Integers = npt.NDArray[np.int64]


def counted(thresholds: Integers, x: Integers, first: int) -> Integers:
    return first + (x[None, :, None] >= thresholds[:, None, :]).sum(axis=2)


def computed(line: Line, x: Integers, first: int, levels: int) -> Integers:
    scaled = x[None, :] * line.multiplier[:, None] + line.offset[:, None]
    return saturate(shift_right(scaled, line.shift, line.rounding), first, first + levels - 1)


def ladder_of(values: Integers, low: int, first: int, levels: int) -> Integers:
    """Thresholds of the ascending words at low, low + 1, ..., one row a channel."""
    wanted = first + np.arange(1, levels)
    return np.stack([low + np.searchsorted(row, wanted) for row in values]).astype(np.int64)


def find(thresholds: Integers, low: int, high: int, first: int) -> Line | None:
    ends = (np.full(len(thresholds), end, dtype=np.int64) for end in (low, high))
    return line_through(thresholds, *ends, first=first, reach=max(-low, high))


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32 - 1))
def test_a_line_reproduces_the_ladder_of_any_real_line(seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels, levels = int(rng.integers(1, 5)), int(rng.choice([2, 4, 16, 256]))
    first = int(rng.choice([0, -(levels // 2)]))
    low, high = -int(rng.integers(1, 3000)), int(rng.integers(1, 3000))
    slope = levels / (high - low) * 10.0 ** rng.uniform(-2, 2, channels)
    centre = rng.uniform(low, high, channels)
    x = np.arange(low, high + 1)
    words = saturate(np.rint(slope[:, None] * (x - centre[:, None])).astype(np.int64), first, first + levels - 1)
    thresholds = ladder_of(words, low, first, levels)
    line = find(thresholds, low, high, first)
    assert line is not None
    assert line.rounding is Rounding.FLOOR
    np.testing.assert_array_equal(computed(line, x, first, levels), words)


def test_what_is_found_for_a_disturbed_ladder_is_that_ladder() -> None:
    rng = np.random.default_rng(0)
    low, high, levels, first = -20, 25, 6, -2
    x = np.arange(low, high + 1)
    found = 0
    for _ in range(300):
        step = rng.uniform(1, 14, (2, 1))
        centres = rng.uniform(-10, 10, (2, 1)) + step * np.arange(-2, levels - 3)
        thresholds = np.sort(np.ceil(centres).astype(np.int64) + (rng.random((2, levels - 1)) < 0.1), axis=1)
        line = find(thresholds, low, high, first)
        if line is not None:
            found += 1
            np.testing.assert_array_equal(computed(line, x, first, levels), counted(thresholds, x, first))
    assert 50 < found < 250


def test_no_line_is_missed() -> None:
    """On a small range every ladder that some multiplier, offset and shift make has a line found for it."""
    low, high, levels = -6, 6, 4
    x = np.arange(low, high + 1)
    multiplier, offset = (grid.reshape(-1, 1) for grid in np.meshgrid(np.arange(40), np.arange(-120, 120)))
    words = saturate((x * multiplier + offset) >> 4, 0, levels - 1)
    for row in np.unique(words, axis=0):
        line = find(ladder_of(row[None], low, 0, levels), low, high, 0)
        assert line is not None
        np.testing.assert_array_equal(computed(line, x, 0, levels)[0], row)


@pytest.mark.parametrize("first", [0, -128])
def test_ties_to_even_are_shifts(first: int) -> None:
    x = np.arange(-3000, 3001)
    words = np.stack([saturate(shift_right(x, shift, Rounding.HALF_EVEN), first, first + 255) for shift in (2, 4)])
    line = find(ladder_of(words, -3000, first, 256), -3000, 3000, first)
    assert line is not None
    assert (line.rounding, line.shift, line.multiplier.tolist()) == (Rounding.HALF_EVEN, 4, [4, 1])
    np.testing.assert_array_equal(computed(line, x, first, 256), words)


def test_a_constant_needs_no_multiplier() -> None:
    line = find(np.array([[-9, -9, 12, 12]]), -9, 11, 0)
    assert line is not None
    assert (line.multiplier.tolist(), computed(line, np.arange(-9, 12), 0, 5).tolist()) == ([0], [[2] * 21])


def test_a_bent_ladder_has_no_line() -> None:
    thresholds = np.array([[0, 10, 20, 30], [0, 10, 20, 33]])
    assert find(thresholds[:1], -50, 50, 0) is not None
    assert find(thresholds, -50, 50, 0) is None
    # Out of the range nothing bends.
    assert find(thresholds, -50, 29, 0) is not None
