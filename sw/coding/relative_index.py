"""Relative indices: the non-zeros of a row of codes, each behind the number of zeros skipped, with filler zeros.

The form of Deep Compression (Han, Mao and Dally 2016, section 2): a gap that exceeds the index width is bridged by
entries of the code 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.coding.canonical_code import CanonicalCode

LARGEST_GAP_BITS = 15

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Entries:
    """A row of codes as (gap, code) pairs: `gap` zeros, then the weight of `code`.

    An entry of the code 0 is a filler; its gap is the largest, and with its own zero it stands for one zero more.
    Zeros behind the last entry are not coded.

    Parameters
    ----------
    gaps : ndarray of int64, shape (entries,)
        Zeros before each entry's weight, 0 to 2**gap_bits - 1.
    codes : ndarray of int64, shape (entries,)
        Codes, 0 of a filler.
    length : int
        Length of the row.
    """

    gaps: Integers
    codes: Integers
    length: int

    @property
    def fillers(self) -> int:
        """Number of fillers."""
        return int(np.count_nonzero(self.codes == 0))


def to_entries(codes: npt.NDArray[Any], gap_bits: int) -> Entries:
    """Code the non-zeros of a row by the gaps between them.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Codes, 0 for a zero weight. A matrix goes in row by row; a gap may run over the end of a row.
    gap_bits : int
        Width of a gap, 0 to 15.

    Raises
    ------
    ValueError
        If the width is out of range.
    """
    check_gap_bits(gap_bits)
    positions = np.flatnonzero(codes)
    runs = np.diff(positions, prepend=-1) - 1
    fillers = runs >> gap_bits
    ends = np.cumsum(fillers + 1)
    entries = int(ends[-1]) if ends.size else 0
    gaps = np.full(entries, (1 << gap_bits) - 1, dtype=np.int64)
    values = np.zeros(entries, dtype=np.int64)
    gaps[ends - 1] = runs & ((1 << gap_bits) - 1)
    values[ends - 1] = codes[positions]
    return Entries(gaps=gaps, codes=values, length=codes.size)


def from_entries(entries: Entries) -> Integers:
    """Inverse of `to_entries`: codes of shape (length,).

    Raises
    ------
    ValueError
        If the entries reach beyond the row.
    """
    ends = np.cumsum(entries.gaps + 1)
    if ends.size and ends[-1] > entries.length:
        raise ValueError(f"entries reach to weight {ends[-1]} of a row of {entries.length}")
    codes = np.zeros(entries.length, dtype=np.int64)
    codes[ends - 1] = entries.codes
    return codes


def best_gap_bits(codes: npt.NDArray[Any], *, largest: int = 8, max_length: int = 15) -> int:
    """The width of a gap at which the Huffman-coded entries of a row take the fewest bits, fillers included.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Codes, 0 for a zero weight.
    largest : int
        Widest gap that comes into question.
    max_length : int
        Longest word of the codes of gaps and codes.
    """
    sizes = {width: _coded_bits(to_entries(codes, width), max_length) for width in range(1, largest + 1)}
    return min(sizes, key=sizes.__getitem__)


def check_gap_bits(gap_bits: int) -> None:
    """Raise a ValueError if a gap cannot be so wide."""
    if not 0 <= gap_bits <= LARGEST_GAP_BITS:
        raise ValueError(f"gaps have 0 to {LARGEST_GAP_BITS} bits, not {gap_bits}")


def _coded_bits(entries: Entries, max_length: int) -> int:
    if not entries.codes.size:
        return 0
    return sum(
        CanonicalCode.from_counts(counts, max_length=max_length).coded_bits(counts)
        for counts in (np.bincount(entries.gaps), np.bincount(entries.codes))
    )
