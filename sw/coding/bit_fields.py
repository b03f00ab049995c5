"""Bit fields one behind another: a writer that knows what each bit is for, and a reader that trusts nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.coding.canonical_code import CanonicalCode, Symbols
from karui.sw.coding.huffman import BitString, decode_from, encode
from karui.sw.numerics import pack_bits, unpack_bits

LONGEST_FIELD = 48

Bits = npt.NDArray[np.uint8]


class DamagedStream(ValueError):
    """Bits that no writer leaves behind."""


class BitWriter:
    """Collects bit fields, most significant bit first, and counts the bits by their kind."""

    def __init__(self) -> None:
        self._pieces: list[Bits] = []
        self.bits_by_kind: Counter[str] = Counter()

    @property
    def size(self) -> int:
        """Bits written."""
        return self.bits_by_kind.total()

    def number(self, kind: str, value: int, width: int) -> None:
        """An unsigned number of so many bits."""
        if not 0 <= value < 1 << width:
            raise ValueError(f"{kind}: {value} does not fit {width} bits")
        self.bits(kind, np.array([value >> bit & 1 for bit in reversed(range(width))], dtype=np.uint8))

    def varying(self, kind: str, value: int, order: int = 0) -> None:
        """An unsigned number of any size, as an exponential Golomb code of an order."""
        shifted = value + (1 << order)
        width = shifted.bit_length()
        self.number(kind, 0, width - order - 1)
        self.number(kind, shifted, width)

    def numbers(self, kind: str, values: npt.NDArray[Any], widths: npt.NDArray[Any]) -> None:
        """Unsigned numbers, each of its own width, which may be 0."""
        owner = np.repeat(np.arange(values.size), widths)
        place = np.cumsum(widths)[owner] - 1 - np.arange(owner.size)
        self.bits(kind, (values[owner] >> place & 1).astype(np.uint8))

    def unary(self, kind: str, values: npt.NDArray[Any]) -> None:
        """Each number as so many ones and a zero."""
        bits = np.ones(int((values + 1).sum()), dtype=np.uint8)
        bits[np.cumsum(values + 1) - 1] = 0
        self.bits(kind, bits)

    def symbols(self, kind: str, symbols: npt.NDArray[Any], code: CanonicalCode) -> None:
        """A Huffman stream; the only symbol of a code takes no bits."""
        if code.sorted_symbols.size > 1:
            stream = encode(symbols, code)
            self.bits(kind, unpack_bits(stream.data, stream.bits))

    def bits(self, kind: str, bits: Bits) -> None:
        """Bits as they are."""
        self._pieces.append(bits)
        self.bits_by_kind[kind] += bits.size

    def relabel(self, kind: str, other: str, bits: int) -> None:
        """Count so many bits of a kind as another kind's."""
        self.bits_by_kind[kind] -= bits
        self.bits_by_kind[other] += bits

    def append(self, other: BitWriter) -> None:
        """Everything that another writer collected."""
        self._pieces += other._pieces
        self.bits_by_kind.update(other.bits_by_kind)

    def to_bytes(self) -> bytes:
        """All bits; zero bits fill the last byte."""
        return pack_bits(np.concatenate([np.empty(0, dtype=np.uint8), *self._pieces]))


class BitReader:
    """Reads what `BitWriter` wrote; nothing larger than the bits that are there is ever allocated.

    Parameters
    ----------
    data : bytes
        All bits.

    Raises
    ------
    DamagedStream
        On each read that goes beyond the bits.
    """

    def __init__(self, data: bytes) -> None:
        self._string = BitString(data=data, bits=8 * len(data))
        self._bits = unpack_bits(data, 8 * len(data))
        self._position = 0

    @property
    def left(self) -> int:
        """Bits not read yet."""
        return self._string.bits - self._position

    def number(self, width: int) -> int:
        """Inverse of `BitWriter.number`."""
        value = 0
        for bit in self.bits(width).tolist():
            value = value << 1 | bit
        return value

    def peek(self, width: int) -> int:
        """The number that `number` would read next."""
        position = self._position
        value = self.number(width)
        self._position = position
        return value

    def varying(self, order: int = 0) -> int:
        """Inverse of `BitWriter.varying`."""
        zeros = 0
        while self.number(1) == 0:
            zeros += 1
            if zeros + order >= LONGEST_FIELD:
                raise DamagedStream(f"a number of more than {LONGEST_FIELD} bits")
        return (1 << (zeros + order) | self.number(zeros + order)) - (1 << order)

    def numbers(self, widths: npt.NDArray[Any]) -> Symbols:
        """Inverse of `BitWriter.numbers`."""
        ends = np.cumsum(widths)
        bits = self.bits(int(ends[-1]) if ends.size else 0)
        owner = np.repeat(np.arange(widths.size), widths)
        values = np.zeros(widths.size, dtype=np.int64)
        np.add.at(values, owner, bits.astype(np.int64) << (ends[owner] - 1 - np.arange(owner.size)))
        return values

    def unary(self, count: int) -> Symbols:
        """Inverse of `BitWriter.unary`."""
        reach = 4 * count + 64
        while True:
            zeros = np.flatnonzero(self._bits[self._position : self._position + reach] == 0)[:count]
            if zeros.size == count:
                self.bits(int(zeros[-1]) + 1 if count else 0)
                return np.diff(zeros, prepend=-1) - 1
            if reach > self.left:
                raise DamagedStream(f"the data end before {count} unary numbers")
            reach *= 4

    def symbols(self, code: CanonicalCode, count: int) -> Symbols:
        """Inverse of `BitWriter.symbols`; the caller bounds the count of symbols that take no bits."""
        if code.sorted_symbols.size == 1:
            return np.full(count, code.sorted_symbols[0])
        symbols, self._position = decode_from(self._string, self._position, code, count)
        return symbols

    def bits(self, count: int) -> Bits:
        """Inverse of `BitWriter.bits`."""
        if count > self.left:
            raise DamagedStream(f"the data end {count - self.left} bits early")
        begin, self._position = self._position, self._position + count
        return self._bits[begin : self._position]
