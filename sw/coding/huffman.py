"""Huffman streams: whole arrays of symbols to bits and back, without a loop over symbols or bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.coding.canonical_code import CanonicalCode, Symbols
from karui.sw.coding.huffman_windows import WindowTable
from karui.sw.numerics import bit_words, unpack_bits, word_bytes

LongWords = npt.NDArray[np.uint64]

# Words are joined up to the words of which the stream is made: each then touches two neighbours at most.
_JOINED_BITS = np.uint64(64)
_LOOKED_UP_BITS = 56
_LENGTH_BITS, _ABSENT = np.uint64(8), np.uint64(255)
# Alphabet of groups of symbols that are looked up at once, where there are symbols enough to pay for the table.
_GROUPS = 1 << 16
_MANY = 1 << 13
# Bits decoded at once, which bounds the memory.
_SEGMENT = 1 << 22


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
    words, lengths = _joined_words(symbols, code)
    ends = np.cumsum(lengths)
    bits = int(ends[-1])
    begins = ends - lengths
    place, offset = (begins >> np.uint64(6)).view(np.int64), begins & np.uint64(63)
    lasts = np.append(np.flatnonzero(place[1:] != place[:-1]), place.size - 1)
    firsts = np.append(0, lasts[:-1] + 1)
    # Shifts of 64 bits leave 0.
    aligned = words << _JOINED_BITS - lengths
    stream = np.zeros((bits >> 6) + 2, dtype=np.uint64)
    stream[place[firsts]] = np.bitwise_or.reduceat(aligned >> offset, firsts)
    stream[place[lasts] + 1] |= aligned[lasts] << _JOINED_BITS - offset[lasts]
    return BitString(data=stream.astype(">u8").tobytes()[: word_bytes(bits)], bits=bits)


def _joined_words(symbols: npt.NDArray[Any], code: CanonicalCode) -> tuple[LongWords, LongWords]:
    """Code words of neighbouring symbols put together, up to 60 bits, and their lengths."""
    # A word and its length behind it; a word that is not there makes whatever it is part of too long.
    single_lengths = np.where(code.lengths > 0, code.lengths, _ABSENT).astype(np.uint64)
    words, lengths, group = code.codes.astype(np.uint64), single_lengths, 1
    while (
        symbols.size >= _MANY
        and words.size * code.alphabet <= _GROUPS
        and (group + 1) * code.max_length <= _LOOKED_UP_BITS
    ):
        words = (words[:, None] << single_lengths | code.codes).ravel()
        lengths = np.minimum(lengths[:, None] + single_lengths, _ABSENT).ravel()
        group += 1
    whole = symbols.size // group * group
    index = symbols[:whole:group].astype(np.int64)
    for place in range(1, group):
        index *= code.alphabet
        index += symbols[place:whole:group]
    found = (words << _LENGTH_BITS | lengths).take(index)
    rest = symbols[whole:]
    words = np.append(found >> _LENGTH_BITS, code.codes[rest])
    lengths = np.append(found & _ABSENT, single_lengths[rest])
    if lengths.max() == _ABSENT:
        missing = symbols[code.lengths[symbols] == 0][0]
        raise ValueError(f"the symbol {missing} has no word in the code")
    while words.size > 1:
        if words.size % 2:
            words, lengths = np.append(words, np.uint64(0)), np.append(lengths, np.uint64(0))
        joined = lengths[::2] + lengths[1::2]
        if joined.max() > _JOINED_BITS:
            break
        words, lengths = words[::2] << lengths[1::2] | words[1::2], joined
    return words, lengths


def decode(bit_string: BitString, code: CanonicalCode, count: int) -> Symbols:
    """Inverse of `encode`.

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
    table = WindowTable.of(code, whole=count >= _MANY)
    parts, position, missing = [np.empty(0, dtype=np.uint16)], begin, count
    while missing > 0 and position < bits:
        stop = min(bits, position + min(_SEGMENT, missing * code.max_length))
        windows, position = table.cut(bit_string.data, position, stop, missing)
        parts.append(table.symbols.take(windows, axis=0)[table.holds.take(windows, axis=0)])
        missing -= parts[-1].size
    symbols = np.concatenate(parts)[:count]
    end = begin + int(code.lengths.take(symbols).sum(dtype=np.int64))
    if missing > 0 or end > bits:
        raise StreamError(f"the bits end before {count} symbols")
    return symbols.astype(np.int64), end
