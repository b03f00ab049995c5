"""A ladder of thresholds as a line: the multiplier, offset and shift that pass every threshold, if there are any.

The level of x is the number of thresholds T_k <= x. ``(x * m + o) >> s`` counts the same where for every level k

    (T_k - 1) * m + o  <  k * 2**s  <=  T_k * m + o.

For a slope a = m / 2**s some offset does that if and only if no two of these conditions exclude each other, which
bounds a from both sides: ``(k - j) / (T_k - T_j + 1) < a < (k - j) / (T_k - T_j - 1)`` for all levels j < k. So a line
is found, or known not to exist, without search; the integers are then checked against the conditions themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from karui.sw.numerics import Rounding

Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

# Products plus offsets stay within 62 bits, as `verify` demands of a `Requantize`.
_LARGEST_PRODUCT = 1 << 60
_LARGEST_SHIFT = 52
# Pairs of levels looked at in one step: bounds the memory.
_PAIRS = 1 << 19


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """``round((x * multiplier + offset) / 2**shift)``, clamped to the levels.

    Parameters
    ----------
    multiplier, offset : ndarray of int64, shape (channels,)
    shift : int
    rounding : Rounding
        `HALF_EVEN` where the ladder has ties to even, else `FLOOR` (the offset includes any half).
    """

    multiplier: Integers
    offset: Integers
    shift: int
    rounding: Rounding


def line_through(thresholds: Integers, low: Integers, high: Integers, *, first: int, reach: int) -> Line | None:
    """Find the line of the smallest shift that equals a ladder on a range.

    Parameters
    ----------
    thresholds : ndarray of int64, shape (channels, levels - 1)
        Ascending.
    low, high : ndarray of int64, shape (channels,)
        Range of the argument of each channel; what the line does outside is not looked at.
    first : int
        The word of level 0; thresholds lead to the words ``first + 1`` and up.
    reach : int
        Largest magnitude of an argument's format: bounds the multiplier, so that products fit 62 bits.

    Returns
    -------
    Line or None
        None if no such integers reproduce every threshold.
    """
    words = first + 1 + np.arange(thresholds.shape[1], dtype=np.int64)
    conditions = _Conditions(
        words=words,
        # Where level k must be reached: at T_k, or at the range's start; not at all if T_k is beyond the range.
        reached_at=np.maximum(thresholds, low[:, None]),
        must_reach=thresholds <= high[:, None],
        # Where it must not be: just below T_k, or at the range's end; nowhere if T_k is not within the range.
        missed_at=np.minimum(thresholds - 1, high[:, None]),
        must_miss=thresholds > low[:, None],
    )
    lowest, highest = conditions.slopes()
    # Ties to even make the steps alternate about an exact line: one slope is left, and no rounding but that one fits.
    ties = lowest == highest
    if np.any(lowest > highest):
        return None
    rounding = Rounding.HALF_EVEN if ties.any() else Rounding.FLOOR
    for shift in range(_LARGEST_SHIFT):
        start, end = np.ldexp(lowest, shift), np.ldexp(highest, shift)
        within = np.where(start < 0, 0.0, np.floor(start) + 1)
        multiplier = np.where(ties, start, within)
        if not np.all(np.where(ties, np.floor(start) == start, within < end)):
            continue
        if multiplier.max() * reach >= _LARGEST_PRODUCT:
            break
        integers = multiplier.astype(np.int64)
        offset = conditions.offset(integers, shift, rounding)
        if offset is not None and np.abs(offset).max() < _LARGEST_PRODUCT:
            return Line(multiplier=integers, offset=offset, shift=shift, rounding=rounding)
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Conditions:
    """For each channel and word: arguments at which the word must be reached, and must not be reached yet."""

    words: Integers
    reached_at: Integers
    must_reach: npt.NDArray[np.bool_]
    missed_at: Integers
    must_miss: npt.NDArray[np.bool_]

    def slopes(self) -> tuple[Doubles, Doubles]:
        """Infimum and supremum of the possible slopes of each channel."""
        count = len(self.reached_at)
        lowest, highest = np.full(count, -np.inf), np.full(count, np.inf)
        steps = self.words[:, None] - self.words[None, :]
        chunk = max(1, _PAIRS // max(1, steps.size))
        for start in range(0, count, chunk):
            part = slice(start, start + chunk)
            both = self.must_miss[part, :, None] & self.must_reach[part, None, :]
            run = self.missed_at[part, :, None] - self.reached_at[part, None, :]
            slope = np.divide(steps, run, out=np.zeros(run.shape), where=run != 0)
            lowest[part] = slope.max(axis=(1, 2), where=both & (run < 0), initial=-np.inf)
            highest[part] = slope.min(axis=(1, 2), where=both & (run > 0), initial=np.inf)
        return lowest, highest

    def offset(self, multiplier: Integers, shift: int, rounding: Rounding) -> Integers | None:
        """An offset for each channel with which all conditions hold, the nearest to zero; None if one has none."""
        scaled = self.words << shift
        if rounding is Rounding.HALF_EVEN and shift > 0:
            # An even word is reached at the tie below it, an odd one behind it.
            scaled = scaled - (1 << (shift - 1)) + (self.words & 1)
        widest = np.iinfo(np.int64)
        least = (scaled - self.reached_at * multiplier[:, None]).max(axis=1, where=self.must_reach, initial=widest.min)
        most = (scaled - self.missed_at * multiplier[:, None] - 1).min(axis=1, where=self.must_miss, initial=widest.max)
        if np.any(least > most):
            return None
        nearest: Integers = np.clip(np.zeros(1, dtype=np.int64), least, most)
        return nearest
