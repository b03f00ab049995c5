"""The timing of a component: in which cycle each beat goes in and comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Cycles = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """Cycle numbers of a component's transfers, started idle and never stalled at its output.

    Parameters
    ----------
    accepted : ndarray of int64
        ``accepted[k]`` is the cycle in which input beat `k` is transferred.
    departures : ndarray of int64
        ``departures[k]`` is the cycle in which output beat `k` is first valid, and, since the output is always ready,
        transferred.
    """

    accepted: Cycles
    departures: Cycles


def consecutive(arrivals: Cycles) -> Cycles:
    """The cycles in which beats pass a port that is always ready: one a cycle, none before it arrives."""
    order = np.arange(len(arrivals))
    return np.maximum.accumulate(np.asarray(arrivals, dtype=np.int64) - order) + order


def require_divisor(name: str, value: int, total: int, what: str) -> None:
    """Check a folding factor.

    Raises
    ------
    ValueError
        If `value` does not divide `total`; the message lists the values that do.
    """
    if value < 1 or total % value:
        raise ValueError(f"{name} must divide the {total} {what}, not {value}; use one of {listed(divisors(total))}")


def divisors(total: int) -> list[int]:
    """The divisors of a positive integer, ascending."""
    low = [n for n in range(1, int(total**0.5) + 1) if total % n == 0]
    return low + [total // n for n in reversed(low) if n * n != total]


def listed(values: Sequence[int]) -> str:
    """Numbers as they stand in a message: '1, 2, 4'."""
    return ", ".join(str(value) for value in values)
