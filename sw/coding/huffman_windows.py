"""Where the words of a Huffman stream are: windows of 16 bits, looked up one after another or many side by side.

Each look-up takes all words that lie whole in 16 bits. A long stream is cut into chunks that are gone through side by
side, each from a guess some words before it: prefix codes find their words again on their own. Where a chunk does not
begin where the one before it ends, it is gone through again from there (Klein and Wiseman 2003, parallel Huffman
decoding).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from karui.sw.coding.canonical_code import CanonicalCode, Symbols

# Bits looked up at once, the longest word and one more; a window lies within three bytes.
_WINDOW = 16
_WINDOWS = 1 << _WINDOW
# Below so many windows, one after another is as fast.
_FEW = 1 << 13
# Bits gone through side by side with others, bits before them in which their words are found, and tries to find them.
_CHUNK = 1 << 10
_WARM_UP = 1 << 8
_TRIES = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowTable:
    """For each window of 16 bits, the words that lie whole in it from its first bit on.

    Parameters
    ----------
    jumps : ndarray, shape (65536,)
        Bits of those words.
    symbols : ndarray, shape (65536, most)
        Their symbols.
    holds : ndarray of bool, shape (65536, most)
        Whether there are so many.
    grid : int
        Bits of a window full of words, as far as the lengths have a divisor: what begins off it never finds the words.
    """

    jumps: Symbols
    symbols: npt.NDArray[np.uint16]
    holds: npt.NDArray[np.bool_]
    grid: int

    @classmethod
    def of(cls, code: CanonicalCode, *, whole: bool) -> WindowTable:
        """The table of a code; of the first word alone unless `whole`."""
        # The windows that begin with the same word are consecutive, and in the order of the words.
        used = code.sorted_symbols
        lengths = code.lengths[used].astype(np.int64)
        length_at = np.repeat(lengths, _WINDOWS >> lengths)
        symbol_at = np.repeat(used.astype(np.uint16), _WINDOWS >> lengths)
        most = _WINDOW // int(lengths.min()) if whole else 1
        symbols = np.empty((_WINDOWS, most), dtype=np.uint16)
        holds = np.empty((_WINDOWS, most), dtype=np.bool_)
        symbols[:, 0], holds[:, 0] = symbol_at, True
        jumps, window = length_at.copy(), np.arange(_WINDOWS)
        for place in range(1, most):
            following = window << jumps & (_WINDOWS - 1)
            symbols[:, place] = symbol_at.take(following)
            longer = jumps + length_at.take(following)
            fits = longer <= _WINDOW
            # Where the window is used up, what follows are the zeros shifted in.
            fits &= holds[:, place - 1]
            holds[:, place] = fits
            np.copyto(jumps, longer, where=fits)
        divisor = int(np.gcd.reduce(lengths))
        return cls(jumps=jumps, symbols=symbols, holds=holds, grid=_WINDOW // divisor * divisor)

    def cut(self, data: bytes, begin: int, stop: int, most: int) -> tuple[Symbols, int]:
        """Windows that begin with a word, from bit `begin` to before `stop`, and where the words of the last end.

        They are not more than `most` where that is few.
        """
        part = np.frombuffer(data[begin >> 3 : (stop >> 3) + 3] + bytes(5), dtype=np.uint8).astype(np.int64)
        stream = _Stream(three_bytes=part[:-2] << 16 | part[1:-1] << 8 | part[2:], jumps=self.jumps)
        offset = begin & ~7
        if most < _FEW:
            positions = stream.follow(begin - offset, stop - offset, most)
        else:
            positions = stream.find(begin - offset, stop - offset, self.grid)
        windows = stream.windows(positions)
        return windows, offset + int(positions[-1] + self.jumps[windows[-1]])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stream:
    """Bits to be cut into windows, one jump after another.

    Parameters
    ----------
    three_bytes : ndarray of int64
        From each byte on.
    jumps : ndarray of int64, shape (65536,)
        See `WindowTable`.
    """

    three_bytes: Symbols
    jumps: Symbols

    def windows(self, positions: Symbols) -> Symbols:
        """The 16 bits from each position on."""
        return self.three_bytes.take(positions >> 3) >> 8 - (positions & 7) & (_WINDOWS - 1)

    def follow(self, position: int, stop: int, most: int) -> Symbols:
        """Where the windows begin, one after another, before `stop` and no more than `most`."""
        three_bytes, jumps = self.three_bytes.data, self.jumps.data
        found: list[int] = []
        while position < stop and len(found) < most:
            found.append(position)
            position += jumps[three_bytes[position >> 3] >> 8 - (position & 7) & (_WINDOWS - 1)]
        return np.array(found, dtype=np.int64)

    def find(self, begin: int, stop: int, grid: int) -> Symbols:
        """Where the windows begin before `stop`, by chunks side by side."""
        edges = np.arange(begin, stop, _CHUNK // grid * grid)
        ends = np.append(edges[1:], stop)
        _, entries = self._advance(np.maximum(edges - _WARM_UP // grid * grid, begin), edges)
        found, exits = self._advance(entries, ends)
        for _ in range(_TRIES):
            wrong = 1 + np.flatnonzero(exits[:-1] != entries[1:])
            if wrong.size == 0:
                return found[found < ends[:, None]]
            entries[wrong] = exits[wrong - 1]
            again, exits[wrong] = self._advance(entries[wrong], ends[wrong])
            width = max(found.shape[1], again.shape[1])
            found = np.pad(found, ((0, 0), (0, width - found.shape[1])), constant_values=stop)
            found[wrong] = stop
            found[wrong, : again.shape[1]] = again
        # A code that hardly ever finds its words again: what is settled stays, the rest goes one after another.
        wrong = 1 + np.flatnonzero(exits[:-1] != entries[1:])
        settled = int(wrong[0]) if wrong.size else edges.size
        rest = self.follow(int(exits[settled - 1]), stop, stop)
        return np.concatenate([found[:settled][found[:settled] < ends[:settled, None]], rest])

    def _advance(self, positions: Symbols, ends: Symbols) -> tuple[Symbols, Symbols]:
        """Jump from each position to its end: where the windows begin, a row a position, and where each row stops."""
        found = []
        inside = positions < ends
        while inside.any():
            found.append(positions)
            positions = positions + self.jumps.take(self.windows(positions)) * inside
            inside = positions < ends
        return np.stack([*found, positions], axis=1), positions
