"""Monotone step functions of an integer, read off as threshold ladders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
# Takes integers of shape (n, channels), yields the level (0 and up) of each.
StepFunction = Callable[[Integers], npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ladder:
    """Thresholds that reproduce a step function on a range of integers.

    Parameters
    ----------
    thresholds : ndarray of int64, shape (channels, levels - 1)
        Ascending. The level of x is the number of thresholds that x reaches; of a falling channel, that -x reaches.
        A level that no integer of the range reaches has a threshold one beyond the range.
    falling : ndarray of bool, shape (channels,)
        Channels whose function falls with x.
    """

    thresholds: Integers
    falling: npt.NDArray[np.bool_]


def ladder(function: StepFunction, *, low: int, high: int, channels: int, levels: int) -> Ladder:
    """Find the thresholds of a step function by bisection, all channels and levels at once.

    The function is evaluated itself, in whatever float type it computes in, so the ladder agrees with it on every
    integer, ties and rounding included. Rounding to nearest is monotone, so a chain of monotone float operations is.

    Parameters
    ----------
    function : callable
        Monotone in each channel on the integers from `low` to `high`.
    low, high : int
        Range of the argument.
    channels, levels : int
        The function's levels are 0 to ``levels - 1``.
    """
    first, last = (np.asarray(function(np.full((1, channels), end, dtype=np.int64)))[0] for end in (low, high))
    falling = first > last
    sign = np.where(falling, -1, 1)
    wanted = np.arange(1, levels)[:, None]
    # On y = sign * x the function rises. Invariant: level(below) < wanted <= level(above), ends of the range included
    # by moving them one outwards.
    below = np.broadcast_to(np.where(falling, -high, low) - 1, (levels - 1, channels)).copy()
    above = np.broadcast_to(np.where(falling, -low, high) + 1, (levels - 1, channels)).copy()
    while (above - below > 1).any():
        middle = (above + below) // 2
        open_ = above - below > 1
        reached = np.asarray(function(sign * np.where(open_, middle, np.where(falling, -high, low)))) >= wanted
        above = np.where(open_ & reached, middle, above)
        below = np.where(open_ & ~reached, middle, below)
    return Ladder(thresholds=above.T.astype(np.int64), falling=falling)
