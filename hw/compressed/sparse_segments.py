"""A sparse matrix cut into segments of equally many entries, one for each slot of each processing element."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.hw.streams.timing import require_divisor
from karui.sw.coding.relative_index import Entries, to_entries
from karui.sw.numerics import NumberFormat, format_for_range

SLOTS = 6
"""Segments that a processing element has in work at once: as many as the stages of a Huffman decoder's loop."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Where a part of a row's sum is.

    Parameters
    ----------
    pe : int
        Processing element.
    address : int
        Of the sum there.
    """

    pe: int
    address: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseSegments:
    """The work of each processing element and slot.

    The rows are concatenated, and their non-zeros coded as (gap, code) entries, fillers included (see `to_entries`).
    The entries are cut into segments of one length, wherever that is: a row may be in several segments, which each add
    up their part of its sum. The last segment is filled up with entries of the code 0. So a pass over the matrix keeps
    every slot busy for as many cycles.

    Where several results leave together, there is such a sequence of rows for each of them: lane l has the rows that
    are congruent to l modulo the lanes, and the processing elements likewise.

    Parameters
    ----------
    weights : ndarray, shape (M, K)
        Integers of the format, not all of them zero.
    weight_format : NumberFormat
        Format of a weight.
    pe : int
        Processing elements, of 6 slots each.
    gap_bits : int
        Width of a gap; 2**gap_bits is at most K, so that no entry skips a whole row.
    lanes : int
        Results that leave together; divides `pe` and M.

    Raises
    ------
    ValueError
        If the weights are all zero or a number does not fit.
    """

    weights: npt.NDArray[Any]
    weight_format: NumberFormat
    pe: int
    gap_bits: int
    lanes: int = 1

    def __post_init__(self) -> None:
        rows, columns = self.weights.shape
        if not self.weights.any():
            raise ValueError("a sparse matrix needs a weight that is not zero")
        if not self.weight_format.admits(self.weights):
            raise ValueError(f"weights do not fit their format {self.weight_format}; give a wider one")
        if self.pe < 1 or 1 << self.gap_bits > columns:
            raise ValueError(
                f"a sparse matrix of {columns} columns needs gaps of at most {columns.bit_length() - 1} bits and 1 "
                f"processing element or more, not {self.gap_bits} bits and {self.pe}"
            )
        require_divisor("lanes", self.lanes, self.pe, "processing elements")
        require_divisor("lanes", self.lanes, rows, "rows")

    @cached_property
    def book(self) -> Integers:
        """The different weights other than zero, ascending; code c is ``book[c - 1]``, code 0 is zero."""
        values = np.unique(self.weights)
        return np.asarray(values[values != 0], dtype=np.int64)

    @property
    def code_format(self) -> NumberFormat:
        """Format of a code."""
        return format_for_range(0, len(self.book))

    @cached_property
    def _entries(self) -> list[Entries]:
        codes = np.where(self.weights == 0, 0, np.searchsorted(self.book, self.weights) + 1)
        return [to_entries(codes[lane :: self.lanes].reshape(-1), self.gap_bits) for lane in range(self.lanes)]

    @property
    def fillers(self) -> int:
        """Entries of the code 0 that bridge gaps."""
        return sum(entries.fillers for entries in self._entries)

    @property
    def entry_count(self) -> int:
        """Entries of the matrix, fillers included, but not what fills up the last segments."""
        return sum(entries.codes.size for entries in self._entries)

    @property
    def _segments(self) -> int:
        """Segments of a lane."""
        return self.pe // self.lanes * SLOTS

    @property
    def segment_entries(self) -> int:
        """Entries of a segment."""
        return max(-(-entries.codes.size // self._segments) for entries in self._entries)

    @property
    def pass_cycles(self) -> int:
        """Cycles of a pass over the matrix: the entries of a segment, slot after slot."""
        return SLOTS * self.segment_entries

    def _cut(self, lane: int, values: Integers, fill: int) -> Integers:
        """One value for each entry of a lane as (processing elements of the lane, slots, entries)."""
        cut = np.full(self._segments * self.segment_entries, fill, dtype=np.int64)
        cut[: values.size] = values
        return cut.reshape(-1, SLOTS, self.segment_entries)

    def _of_all(self, of_lane: list[Integers]) -> Integers:
        """Values of each lane's processing elements as those of all."""
        return np.stack(of_lane, axis=1).reshape(self.pe, *of_lane[0].shape[1:])

    @cached_property
    def gaps(self) -> Integers:
        """Zeros before each entry's weight, shape (pe, slots, entries)."""
        # What fills up may have any gap, since it adds nothing; the most frequent one has the shortest word.
        frequent = int(np.bincount(np.concatenate([entries.gaps for entries in self._entries])).argmax())
        return self._of_all([self._cut(lane, entries.gaps, frequent) for lane, entries in enumerate(self._entries)])

    @cached_property
    def codes(self) -> Integers:
        """Codes of the entries' weights, shape (pe, slots, entries)."""
        return self._of_all([self._cut(lane, entries.codes, 0) for lane, entries in enumerate(self._entries)])

    @cached_property
    def _starts(self) -> list[Integers]:
        """For each lane the position in its rows at which each segment starts, shape (segments,)."""
        starts = []
        for entries in self._entries:
            behind = np.concatenate(([0], np.cumsum(entries.gaps + 1)))
            firsts = np.arange(self._segments) * self.segment_entries
            starts.append(behind[np.minimum(firsts, behind.size - 1)])
        return starts

    @cached_property
    def first_columns(self) -> Integers:
        """Column at which each segment starts, shape (pe, slots)."""
        columns = self.weights.shape[1]
        return self._of_all([starts.reshape(-1, SLOTS) % columns for starts in self._starts])

    @cached_property
    def _pieces(self) -> list[tuple[int, int, int, int]]:
        """Row, processing element, slot, and the number of the row in its segment, where there is a non-zero weight."""
        columns = self.weights.shape[1]
        pieces: dict[tuple[int, int, int, int], None] = {}
        for lane, (entries, starts) in enumerate(zip(self._entries, self._starts, strict=True)):
            non_zero = np.flatnonzero(entries.codes)
            rows = (np.cumsum(entries.gaps + 1)[non_zero] - 1) // columns
            segments = non_zero // self.segment_entries
            for row, segment in np.unique(np.stack([rows, segments], axis=1), axis=0).tolist():
                pe = lane + self.lanes * (segment // SLOTS)
                first_row = int(starts[segment]) // columns
                pieces[lane + self.lanes * row, pe, segment % SLOTS, row - first_row] = None
        return sorted(pieces)

    @cached_property
    def rows_per_slot(self) -> int:
        """Sums of a segment, at most."""
        return 1 + max(number for _, _, _, number in self._pieces)

    @cached_property
    def parts(self) -> list[list[Part]]:
        """For each row the parts of its sum; none for a row of zeros."""
        parts: list[list[Part]] = [[] for _ in self.weights]
        for row, pe, slot, number in self._pieces:
            parts[row].append(Part(pe=pe, address=slot * self.rows_per_slot + number))
        return parts
