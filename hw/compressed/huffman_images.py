"""What a Huffman decoder keeps in memories and constants: the streams' bits, and the tables of the code."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.coding.canonical_code import CanonicalCode
from karui.sw.coding.huffman import BitString, decode, encode
from karui.sw.numerics import memory_image, pack_bits

Symbols = npt.NDArray[Any]


def interleaved(symbols: Symbols, streams: int) -> tuple[Symbols, ...]:
    """Deal a sequence out to streams, one symbol after another.

    Raises
    ------
    ValueError
        If the streams would not be of one length.
    """
    if len(symbols) % streams:
        raise ValueError(
            f"{len(symbols)} symbols cannot be dealt out evenly to {streams} streams; append {-len(symbols) % streams} "
            "of the shortest word"
        )
    return tuple(symbols[stream::streams] for stream in range(streams))


@dataclass(frozen=True, kw_only=True, eq=False)
class HuffmanImages:
    """The streams of one lane of a `HuffmanDecoder`, bit behind bit in one ROM, and its tables.

    A window of `window_bits` bits, the next ones of a stream as an integer, begins with a word of length `l` or less
    where it is below ``limits[l]``; the word is then the window's upper `l` bits, and its symbol
    ``symbols[(word + deltas[l]) mod 2**n]``, n bits being an address of that table.

    Parameters
    ----------
    code : CanonicalCode
        The code.
    streams : tuple of ndarray of int
        Symbols of each stream.
    """

    code: CanonicalCode
    streams: tuple[Symbols, ...]

    @property
    def window_bits(self) -> int:
        """Bits of a window: as many as the longest word has."""
        return self.code.max_length

    @cached_property
    def word_bits(self) -> int:
        """Bits of a ROM word, a power of two, so large that any window lies in two words."""
        return max(4, 1 << (self.window_bits - 2).bit_length())

    @cached_property
    def bits(self) -> BitString:
        """All streams, one behind the other."""
        return encode(np.concatenate(self.streams), self.code)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The bit at which each stream begins."""
        lengths = [int(self.code.lengths[symbols].sum(dtype=np.int64)) for symbols in self.streams]
        return tuple(int(start) for start in np.cumsum([0, *lengths[:-1]]))

    @cached_property
    def words(self) -> tuple[int, ...]:
        """Contents of the stream ROM, the first bit the most significant; a window may begin behind the last bit."""
        written = self.bits.words(self.word_bits)
        depth = self.bits.bits // self.word_bits + 2
        return (*written, *[0] * (depth - len(written)))

    @property
    def symbols(self) -> tuple[int, ...]:
        """Contents of the symbol table: the symbols in the order of their words."""
        return tuple(int(symbol) for symbol in self.code.sorted_symbols)

    @property
    def symbol_bits(self) -> int:
        """Bits of a symbol."""
        return max(1, (self.code.alphabet - 1).bit_length())

    @property
    def index_bits(self) -> int:
        """Bits of an address of the symbol table."""
        return max(1, (len(self.symbols) - 1).bit_length())

    @property
    def limits(self) -> tuple[int, ...]:
        """For each length the first window that does not begin with a word of that length or less."""
        code = self.code
        ends = code.first_code + code.counts
        return tuple(int(end) << (self.window_bits - length) for length, end in enumerate(ends))

    @property
    def deltas(self) -> tuple[int, ...]:
        """For each length what leads from a word to the address of its symbol, modulo ``2**index_bits``."""
        return tuple(int(delta) % (1 << self.index_bits) for delta in self.code.offsets - self.code.first_code)

    def decoded(self) -> tuple[Symbols, ...]:
        """The streams' symbols, read back from the words of the ROM."""
        words = np.array(self.words, dtype=np.int64)
        places = np.arange(self.word_bits)[::-1]
        bits = (words[:, None] >> places & 1).astype(np.uint8).ravel()[: self.bits.bits]
        symbols = decode(BitString(data=pack_bits(bits), bits=bits.size), self.code, sum(map(len, self.streams)))
        return tuple(np.split(symbols, np.cumsum([len(stream) for stream in self.streams])[:-1]))

    def table(self) -> str:
        """The code and the streams' places as text, a symbol a line."""
        code = self.code
        lines = [f"{'symbol':>6}  {'length':>6}  {'address':>7}  word"]
        for address, symbol in enumerate(self.symbols):
            length = int(code.lengths[symbol])
            lines.append(f"{symbol:6}  {length:6}  {address:7}  {int(code.codes[symbol]):0{length}b}")
        lines += ["", f"{'length':>6}  {'words':>6}  {'limit':>6}  {'delta':>6}"]
        for length in range(1, code.max_length + 1):
            lines.append(f"{length:6}  {code.counts[length]:6}  {self.limits[length]:6}  {self.deltas[length]:6}")
        lines += ["", f"{'stream':>6}  {'symbols':>8}  {'first bit':>9}"]
        for stream, (symbols, start) in enumerate(zip(self.streams, self.starts, strict=True)):
            lines.append(f"{stream:6}  {len(symbols):8}  {start:9}")
        lines += ["", f"{self.bits.bits} bits in {len(self.words)} words of {self.word_bits} bits", ""]
        return "\n".join(lines)

    def save(self, folder: Path, name: str) -> tuple[Path, ...]:
        """Write ``<name>_stream.mem``, ``<name>_symbols.mem`` and ``<name>_code.txt``, the table.

        Returns
        -------
        tuple of Path
            The three files.
        """
        contents = {
            f"{name}_stream.mem": memory_image(self.words, self.word_bits),
            f"{name}_symbols.mem": memory_image(self.symbols, self.symbol_bits),
            f"{name}_code.txt": self.table(),
        }
        for file, text in contents.items():
            (folder / file).write_text(text)
        return tuple(folder / file for file in contents)
