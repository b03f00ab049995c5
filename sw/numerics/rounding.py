"""Rounding and saturation of integers: the only definitions, used by models, golden kernels and hardware tests.

Every function works alike on Python integers, NumPy integer arrays and torch integer tensors, since it uses nothing
but their operators.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Rounding(StrEnum):
    """What becomes of the bits that a right shift drops."""

    FLOOR = "floor"
    HALF_UP = "half-up"
    HALF_EVEN = "half-even"


class Overflow(StrEnum):
    """What becomes of an integer that its format does not hold."""

    SATURATE = "saturate"
    WRAP = "wrap"


def shift_right(values: Any, shift: int, rounding: Rounding) -> Any:
    """Divide integers by ``2**shift``, rounded to an integer.

    Parameters
    ----------
    values : int, integer ndarray or integer tensor
        Arithmetic (sign-preserving) right shifts must be what ``>>`` means, as it is for all three.
    shift : int
        0 or more.
    rounding : Rounding
        Floor, nearest with ties towards plus infinity, or nearest with ties to even.

    Raises
    ------
    ValueError
        If the shift is negative.
    """
    if shift < 0:
        raise ValueError(f"a right shift is 0 or more, not {shift}; shift left instead")
    if shift == 0 or rounding is Rounding.FLOOR:
        return values >> shift
    half = 1 << (shift - 1)
    if rounding is Rounding.HALF_UP:
        return (values + half) >> shift
    # Adding half - 1 rounds ties down; the lowest kept bit, added too, lifts exactly the ties whose floor is odd.
    return (values + (half - 1) + ((values >> shift) & 1)) >> shift


def saturate(values: Any, minimum: int, maximum: int) -> Any:
    """Clamp integers to ``minimum .. maximum``."""
    if isinstance(values, int):
        return max(minimum, min(maximum, values))
    return values.clip(minimum, maximum)
