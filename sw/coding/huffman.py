"""Huffman streams: whole arrays of symbols to bits and back, without a loop over symbols or bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.coding.canonical_code import CanonicalCode, Symbols
from karui.sw.numerics import bit_words, unpack_bits, word_bytes

# Words are joined until they may fill this many bits: a 64-bit word of the stream then meets two neighbours at most.
_JOINED_BITS = 60
# Bits decoded at once, a multiple of 8: arrays of an element a bit then stay in a core's cache.
_SEGMENT = 1 << 15
# Bits looked up at once, the longest word and one more; a window lies within three bytes.
_WINDOW = 16
_DOUBLINGS = 5


@dataclass(frozen=True, kw_only=True)
class BitString:
    """Bits in bytes, the first bit the most significant of the first byte; zero bits fill the last byte.

    Parameters
    ----------
    data : bytes
        The bits.
    bits : int
        How many there are.
    """

    data: bytes
    bits: int

    def __post_init__(self) -> None:
        if self.bits < 0 or len(self.data) != word_bytes(self.bits):
            raise ValueError(f"{self.bits} bits fill {word_bytes(self.bits)} bytes, not {len(self.data)}")

    def words(self, width: int) -> list[int]:
        """The bits as words of a memory, the first bit the most significant of the first word, zero bits at the end."""
        return bit_words(unpack_bits(self.data, self.bits), width)


class StreamError(ValueError):
    """A bit string is not a stream of the code or does not hold as many symbols."""


def encode(symbols: npt.NDArray[Any], code: CanonicalCode) -> BitString:
    """Write symbols one after another, without gaps.

    Parameters
    ----------
    symbols : ndarray of int, shape (n,)
        Symbols of the code.
    code : CanonicalCode
        Their code.

    Raises
    ------
    ValueError
        If a symbol has no word in the code; names it.
    """
    if symbols.size == 0:
        return BitString(data=b"", bits=0)
    if symbols.min() < 0 or symbols.max() >= code.alphabet:
        raise ValueError(f"symbols from {symbols.min()} to {symbols.max()} exceed the alphabet of {code.alphabet}")
    lengths = code.lengths[symbols].astype(np.int64)
    if not lengths.all():
        raise ValueError(f"the symbol {symbols[lengths == 0][0]} has no word in the code")
    words = code.codes[symbols].astype(np.uint64)
    longest = code.max_length
    while 2 * longest <= _JOINED_BITS and words.size > 1:
        if words.size % 2:
            words, lengths = np.append(words, np.uint64(0)), np.append(lengths, 0)
        words = words[::2] << lengths[1::2].astype(np.uint64) | words[1::2]
        lengths = lengths[::2] + lengths[1::2]
        longest *= 2
    ends = np.cumsum(lengths)
    bits = int(ends[-1])
    # The 64-bit word in which a joined word begins, and how far its end lies from that word's: behind it if positive.
    begins = ends - lengths
    within = begins >> 6
    overhang = (begins & 63) + lengths - 64
    head = np.where(
        overhang > 0,
        words >> np.maximum(overhang, 0).astype(np.uint64),
        words << np.maximum(-overhang, 0).astype(np.uint64) % np.uint64(64),
    )
    stream = np.zeros((bits >> 6) + 2, dtype=np.uint64)
    starts = np.flatnonzero(np.diff(within, prepend=-1))
    stream[within[starts]] = np.bitwise_or.reduceat(head, starts)
    over = np.flatnonzero(overhang > 0)
    stream[within[over] + 1] |= words[over] << (64 - overhang[over]).astype(np.uint64)
    return BitString(data=stream.astype(">u8").tobytes()[: word_bytes(bits)], bits=bits)


def decode(bit_string: BitString, code: CanonicalCode, count: int) -> Symbols:
    """Inverse of `encode`.

    Every bit is looked up as if a word began there, which gives the way from it to the next word. Doubled five times,
    the way leads 32 words on: only every 32nd word is walked to one after another, the others are found side by side.

    Parameters
    ----------
    bit_string : BitString
        The stream.
    code : CanonicalCode
        Its code.
    count : int
        Number of symbols.

    Returns
    -------
    ndarray of int64, shape (count,)

    Raises
    ------
    StreamError
        If the stream does not hold exactly as many symbols, or has bits that are no word of the code.
    """
    symbols, end = decode_from(bit_string, 0, code, count)
    if end != bit_string.bits:
        raise StreamError(f"{count} symbols take {end} bits, not {bit_string.bits}")
    return symbols


def decode_from(bit_string: BitString, begin: int, code: CanonicalCode, count: int) -> tuple[Symbols, int]:
    """Decode so many symbols that lie amid other bits.

    Returns
    -------
    symbols : ndarray of int64, shape (count,)
    end : int
        Bit behind the last symbol.

    Raises
    ------
    StreamError
        If the bits end before the symbols or are no word of the code.
    """
    bits = bit_string.bits
    # Before anything is allocated for them: no symbol takes less than a bit.
    if not 0 <= count <= bits - begin:
        raise StreamError(f"{bits - begin} bits do not hold {count} symbols")
    if code.sorted_symbols.size == 1:
        if unpack_bits(bit_string.data, begin + count)[begin:].any():
            raise StreamError("a stream of the only symbol is zero bits")
        return np.full(count, code.sorted_symbols[0]), begin + count
    # The windows that begin with the same word are consecutive, and in the order of the words.
    lengths = code.lengths[code.sorted_symbols].astype(np.int64)
    length_at = np.repeat(lengths, 1 << (_WINDOW - lengths))
    symbol_at = np.repeat(code.sorted_symbols, 1 << (_WINDOW - lengths))
    data = np.frombuffer(bit_string.data + bytes(4), dtype=np.uint8)
    symbols = np.empty(count, dtype=np.int64)
    found, position = 0, begin
    while found < count and position < bits:
        first = position & ~7
        windows = _windows(data[first >> 3 :][: _SEGMENT // 8 + 2])
        starts, end = _word_starts(length_at.take(windows), position - first, min(_SEGMENT, bits - first))
        if starts.size > count - found:
            end = int(starts[count - found])
            starts = starts[: count - found]
        symbols[found : found + starts.size] = symbol_at.take(windows.take(starts))
        found += starts.size
        position = first + end
    if found != count or position > bits:
        raise StreamError(f"the bits end before {count} symbols")
    return symbols, position


def _windows(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The 16 bits from each bit of the data on, except for its last two bytes."""
    wide = data.astype(np.int64)
    three_bytes = wide[:-2] << 16 | wide[1:-1] << 8 | wide[2:]
    windows = np.empty((three_bytes.size, 8), dtype=np.int64)
    for bit in range(8):
        np.right_shift(three_bytes, 8 - bit, out=windows[:, bit])
    windows &= (1 << _WINDOW) - 1
    return windows.ravel()


def _word_starts(lengths: npt.NDArray[np.int64], first: int, end: int) -> tuple[npt.NDArray[np.int64], int]:
    """Where words begin from `first` on and before `end`, and where the last of them ends.

    `lengths` holds the length of the word that would begin at each position.
    """
    onward = np.arange(end + _WINDOW)
    onward[:end] += lengths[:end]
    far = onward
    for _ in range(_DOUBLINGS):
        far = far.take(far, mode="clip")
    walk, every = far.data, []
    position = first
    while position < end:
        every.append(position)
        position = walk[position]
    starts = np.empty((len(every), 1 << _DOUBLINGS), dtype=np.int64)
    starts[:, 0] = every
    for column in range(1, 1 << _DOUBLINGS):
        onward.take(starts[:, column - 1], mode="clip", out=starts[:, column])
    flat = starts.ravel()
    # Only the last steps can leave the segment: there they stay where they are.
    return flat[: np.searchsorted(flat, end)], position
