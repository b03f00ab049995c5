"""Tables of the integer arithmetic of capsules: gains of squashing, powers of two, reciprocals.

A table is indexed by the leading bits of an integer: the place of its highest one, `index_bits` bits below that. Its
entry is the function's value at the middle of the integers that share these bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.numerics.number_format import NumberFormat

TABLE_FRACTION = 12
"""Fractional bits of gains, powers and reciprocals, and of coupling coefficients."""
INDEX_BITS = 6

Table = npt.NDArray[np.int64]


def leading_bits(values: Any, index_bits: int) -> tuple[Any, Any]:
    """Place of the highest one, and the `index_bits` bits below it, zeros appended; both 0 of a 0.

    Parameters
    ----------
    values : int, int64 ndarray or int64 tensor
        0 or more, so small that they hold `index_bits` bits more.
    index_bits : int
    """
    place, rest = values * 0, values
    for step in (32, 16, 8, 4, 2, 1):
        lower = ((rest >> step) > 0) * step
        place, rest = place + lower, rest >> lower
    return place, ((values << index_bits) >> place) & ((1 << index_bits) - 1)


def squash_gains(words: NumberFormat, length: int, *, index_bits: int = INDEX_BITS) -> Table:
    """Factors ``r / (1 + r**2)`` that squash vectors of norm r, by the leading bits of the squared norm in integers.

    Squashing shrinks a vector s to ``s |s| / (1 + |s|**2)`` (Sabour et al. 2017, equation 1). As a function of the
    squared norm n the factor's logarithm has a slope of at most 1/2 in that of n, and n is at most
    ``2**-(index_bits + 1)`` of its value from the middle: so a gain is wrong by ``2**-(index_bits + 2)`` of its value
    at most, and by half a unit, ``2**-(TABLE_FRACTION + 1)``, through its rounding.

    Parameters
    ----------
    words : NumberFormat
        Format of the vectors' elements; its fraction says what a norm of 1 is.
    length : int
        Elements of a vector.
    index_bits : int

    Returns
    -------
    ndarray of int64, shape (places, 2**index_bits)
        Unsigned, with `TABLE_FRACTION` fractional bits; a row for each place that the highest one can have.
    """
    if not isinstance(words.fraction, int):
        raise ValueError("the elements of vectors that are squashed have one fraction, not one a channel")
    largest = length * max(words.minimum**2, words.maximum**2)
    places, cells = np.arange(largest.bit_length())[:, None], np.arange(1 << index_bits)
    middles = np.exp2(places) * (1 + cells / (1 << index_bits)) + np.maximum(np.exp2(places - index_bits) - 1, 0) / 2
    norms = np.sqrt(middles) * 2.0**-words.fraction
    return _rounded(norms / (1 + norms * norms))


def negative_powers(*, index_bits: int = INDEX_BITS) -> Table:
    """``2**-x`` of fractions x by their highest `index_bits` bits, with `TABLE_FRACTION` fractional bits.

    Wrong by a factor of ``2**(2**-(index_bits + 1))`` at most, and half a unit.
    """
    return _rounded(np.exp2(-(np.arange(1 << index_bits) + 0.5) / (1 << index_bits)))


def reciprocals(*, index_bits: int = INDEX_BITS) -> Table:
    """``1 / x`` of x from 1 to 2 by the highest `index_bits` fractional bits, with `TABLE_FRACTION` fractional bits.

    Wrong by ``2**-(index_bits + 1)`` of its value at most, and half a unit.
    """
    return _rounded(1 / (1 + (np.arange(1 << index_bits) + 0.5) / (1 << index_bits)))


def _rounded(values: npt.NDArray[np.float64]) -> Table:
    return np.floor(values * (1 << TABLE_FRACTION) + 0.5).astype(np.int64)
