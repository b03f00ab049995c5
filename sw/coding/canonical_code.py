"""Canonical Huffman codes: a code is its lengths alone; optimal lengths under a limit by package-merge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

LONGEST_CODE = 15

Lengths = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]
Symbols = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class CanonicalCode:
    """A prefix code whose words are consecutive integers in the order of (length, symbol).

    The first word is all zeros; a word is one more than the word before it, shifted left where the length grows. A
    decoder therefore needs, for each length, the first word, the number of words and where its symbols begin in
    `sorted_symbols`: the v-th word of a length l is ``first_code[l] + v`` and stands for
    ``sorted_symbols[offsets[l] + v]``.

    Parameters
    ----------
    lengths : ndarray of uint8, shape (alphabet,)
        Bits of each symbol's word, 1 to 15; 0 for a symbol that does not occur.

    Raises
    ------
    ValueError
        If no symbol occurs, a word is too long, or the lengths are not those of a complete prefix code: the sum of
        2**-length over the symbols (Kraft) must be 1. The one exception is a code of a single symbol, whose word is
        the bit 0.
    """

    lengths: Lengths

    def __post_init__(self) -> None:
        lengths = np.array(self.lengths)
        if lengths.ndim != 1 or not np.issubdtype(lengths.dtype, np.integer):
            raise ValueError(f"code lengths are a row of integers, not {lengths.dtype}{list(lengths.shape)}")
        if lengths.size == 0 or not lengths.any():
            raise ValueError("a code needs at least one symbol of a length other than 0")
        if lengths.min() < 0 or lengths.max() > LONGEST_CODE:
            raise ValueError(f"a code word has at most {LONGEST_CODE} bits, not {lengths.min()} to {lengths.max()}")
        used = lengths[lengths > 0].astype(np.int64)
        if used.size == 1:
            if used[0] != 1:
                raise ValueError(f"the word of a code's only symbol has 1 bit, not {used[0]}")
        else:
            # The words that the used ones leave or take too many, in words of the longest length.
            taken, there_are = int((1 << (LONGEST_CODE - used)).sum()), 1 << LONGEST_CODE
            if taken != there_are:
                fault = "over-subscribed" if taken > there_are else "incomplete"
                raise ValueError(
                    f"the code is {fault}: 2**-length over its symbols sums to {taken / there_are:g}, not 1"
                )
        lengths = lengths.astype(np.uint8)
        lengths.setflags(write=False)
        object.__setattr__(self, "lengths", lengths)

    @classmethod
    def from_counts(cls, counts: npt.ArrayLike, *, max_length: int = LONGEST_CODE) -> CanonicalCode:
        """The code of fewest bits for symbols that occur so often, with no word longer than a limit.

        Package-merge (Larmore and Hirschberg 1990). Among equally frequent symbols the smaller one gets the shorter
        word.

        Parameters
        ----------
        counts : array_like of int, shape (alphabet,)
            How often each symbol occurs; a symbol of count 0 gets no word.
        max_length : int
            Longest word, 1 to 15 bits.

        Raises
        ------
        ValueError
            If no symbol occurs or more do than words of `max_length` bits can tell apart.
        """
        occurrences = np.asarray(counts, dtype=np.int64)
        if not 1 <= max_length <= LONGEST_CODE:
            raise ValueError(f"the longest word has 1 to {LONGEST_CODE} bits, not {max_length}")
        if occurrences.ndim != 1 or (occurrences < 0).any():
            raise ValueError("counts are a row of integers that are not negative")
        used = np.flatnonzero(occurrences)
        if used.size > 1 << max_length:
            raise ValueError(
                f"{used.size} symbols need words of {int(used.size - 1).bit_length()} bits, max_length is {max_length}"
            )
        lengths = np.zeros(occurrences.shape, dtype=np.uint8)
        # Ascending counts; from the back, so that of equal counts the larger symbol comes first and gets more bits.
        rising = used[::-1][np.argsort(occurrences[used[::-1]], kind="stable")]
        lengths[rising] = _package_merge(occurrences[rising], max_length)
        return cls(lengths=lengths)

    @classmethod
    def from_symbols(
        cls, symbols: npt.NDArray[Any], *, alphabet: int | None = None, max_length: int = LONGEST_CODE
    ) -> CanonicalCode:
        """The code of fewest bits for a row of symbols; see `from_counts`."""
        return cls.from_counts(np.bincount(symbols, minlength=alphabet or 0), max_length=max_length)

    @property
    def alphabet(self) -> int:
        """Number of symbols, those without a word included."""
        return int(self.lengths.size)

    @cached_property
    def max_length(self) -> int:
        """Bits of the longest word."""
        return int(self.lengths.max())

    @cached_property
    def counts(self) -> Symbols:
        """Number of words of each length, shape (max_length + 1,); none of length 0."""
        counts = np.bincount(self.lengths)
        counts[0] = 0
        return counts

    @cached_property
    def offsets(self) -> Symbols:
        """Where the symbols of each length begin in `sorted_symbols`, shape (max_length + 1,)."""
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def first_code(self) -> Symbols:
        """First word of each length, shape (max_length + 1,); the next free word where a length has none."""
        first = np.zeros(self.max_length + 1, dtype=np.int64)
        for length in range(1, self.max_length + 1):
            first[length] = (first[length - 1] + self.counts[length - 1]) << 1
        return first

    @cached_property
    def sorted_symbols(self) -> Symbols:
        """The symbols that have a word, by (length, symbol)."""
        order = np.argsort(self.lengths, kind="stable")
        return order[np.count_nonzero(self.lengths == 0) :]

    @cached_property
    def codes(self) -> Words:
        """Word of each symbol, right-aligned, shape (alphabet,); 0 where the length is 0."""
        codes = np.zeros(self.alphabet, dtype=np.uint32)
        symbols = self.sorted_symbols
        lengths = self.lengths[symbols]
        codes[symbols] = self.first_code[lengths] + np.arange(symbols.size) - self.offsets[lengths]
        return codes

    def coded_bits(self, counts: npt.ArrayLike) -> int:
        """Bits of a stream in which the symbols occur so often."""
        return int(np.asarray(counts, dtype=np.int64) @ self.lengths.astype(np.int64))


def _package_merge(rising: Symbols, max_length: int) -> Lengths:
    """Code lengths of symbols whose counts do not fall."""
    symbols = rising.size
    if symbols < 2:
        return np.ones(symbols, dtype=np.uint8)
    # A list a level: the symbols, merged with packages of two neighbours of the list before, by weight.
    weights, leaves = rising, [np.ones(symbols, dtype=np.bool_)]
    for _ in range(max_length - 1):
        even = weights[: weights.size // 2 * 2]
        candidates = np.concatenate([rising, even[::2] + even[1::2]])
        order = np.argsort(candidates, kind="stable")
        weights = candidates[order]
        leaves.append(order < symbols)
    # The 2n - 2 lightest of the last list are the solution: each time a symbol is in them adds a bit to its word, and
    # each package stands for the two lightest left of the list below.
    lengths = np.zeros(symbols, dtype=np.uint8)
    taken = 2 * symbols - 2
    for level in reversed(leaves):
        chosen = int(np.count_nonzero(level[:taken]))
        lengths[:chosen] += 1
        taken = 2 * (taken - chosen)
    return lengths
