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


_INT32_MINIMUM, _INT32_MAXIMUM = -(1 << 31), (1 << 31) - 1


def doubling_high_multiply(values: Any, multipliers: Any) -> Any:
    """``round(values * multipliers / 2**31)`` of 32-bit integers, ties towards plus infinity, saturated to 32 bits.

    TensorFlow Lite's ``SaturatingRoundingDoublingHighMul`` (gemmlowp): the high half of the doubled product. It
    truncates ``(a b + n) / 2**31`` with n = 2**30, but 1 - 2**30 where ``a b`` is negative; truncating a negative
    quotient rounds it up, so both are the floor of ``(a b + 2**30) / 2**31``. Only -2**31 squared saturates.

    Parameters
    ----------
    values, multipliers : int, int64 ndarray or int64 tensor
        Integers of 32 bits; products need 64.
    """
    return saturate(shift_right(values * multipliers, 31, Rounding.HALF_UP), _INT32_MINIMUM, _INT32_MAXIMUM)


def rounding_divide(values: Any, exponents: Any) -> Any:
    """``round(values / 2**exponents)``, ties away from zero: TensorFlow Lite's ``RoundingDivideByPOT``.

    Parameters
    ----------
    values : int, int64 ndarray or int64 tensor
    exponents : int, int64 ndarray or int64 tensor
        0 or more, one for all or one each.
    """
    mask = (1 << exponents) - 1
    # The dropped bits round up from one half on; of a negative number, only beyond it.
    return (values >> exponents) + ((values & mask) > (mask >> 1) + (values < 0))
