"""Thresholds of any monotone step function of an integer, read off the function itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from karui.sw.numerics import NumberFormat

Integers = npt.NDArray[np.int64]


def read_thresholds(
    function: Callable[[Integers], Integers], values: NumberFormat, channels: int, output: NumberFormat
) -> Integers:
    """The lowest integer at which each level of the output is reached, by bisection.

    Parameters
    ----------
    function : callable
        From integers of shape (n, channels) to words of `output`, nondecreasing in each channel.
    values : NumberFormat
        Format of the integers: its range is searched.
    channels : int
    output : NumberFormat
        Format of the words.

    Returns
    -------
    ndarray of int64, shape (channels or 1, output.levels - 1)
        Ascending; one row where all channels are alike. A level that even the highest integer does not reach has that
        integer plus 1, one that the lowest exceeds has the lowest.

    Raises
    ------
    ValueError
        If the function falls somewhere among the integers that were tried.
    """
    levels = np.array([output.at_level(level) for level in range(1, output.levels)], dtype=np.int64)[:, None]
    # Invariant: the answer lies in low .. high; `high` reaches the level or lies one above the range.
    low = np.full((len(levels), channels), values.minimum, dtype=np.int64)
    high = np.full_like(low, values.maximum + 1)
    while np.any(low < high):
        middle = (low + high) >> 1
        reached = function(np.minimum(middle, values.maximum)) >= levels
        reached |= middle > values.maximum
        high = np.where(reached, middle, high)
        low = np.where(reached, low, middle + 1)
    _check_rising(function, high, values)
    table = np.ascontiguousarray(high.T)
    return table[:1] if np.all(table == table[:1]) else table


def is_identity(thresholds: Integers, values: NumberFormat, output: NumberFormat) -> bool:
    """Whether a ladder of thresholds returns every word of `values` unchanged."""
    if values != output:
        return False
    words = np.array([output.at_level(level) for level in range(output.levels)], dtype=np.int64)
    return bool(np.all((words[:-1] < thresholds) & (thresholds <= words[1:])))


def _check_rising(function: Callable[[Integers], Integers], edges: Integers, values: NumberFormat) -> None:
    """Evaluate once more just below and at each step, and at both ends: a rising function cannot fall there."""
    ends = np.full((1, edges.shape[1]), values.minimum), np.full((1, edges.shape[1]), values.maximum)
    probes = np.sort(np.concatenate([*ends, edges - 1, edges]).clip(values.minimum, values.maximum), axis=0)
    falls = np.diff(function(probes), axis=0) < 0
    if np.any(falls):
        step, channel = map(int, np.argwhere(falls)[0])
        raise ValueError(
            f"the step function falls between {probes[step, channel]} and {probes[step + 1, channel]} in channel "
            f"{channel}: only monotone step functions become thresholds"
        )
