"""Where a sparse engine has its entries from: words of one width in a ROM, or Huffman-coded streams."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.compressed.huffman_decoder import HuffmanDecoder, HuffmanDecoderConfig
from karui.hw.compressed.sparse_segments import SLOTS, SparseSegments
from karui.hw.memory.memory_style import Storage
from karui.hw.memory.weight_rom import WEIGHT_ROM_LATENCY, SequentialRom
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import delayed
from karui.sw.coding.canonical_code import LONGEST_CODE, CanonicalCode
from karui.sw.numerics import NumberFormat, pack, to_integers
from karui.sw.numerics import unsigned as unsigned_format


class EntrySource(wiring.Signature):
    """The entries of all processing elements, a slot a cycle, pass after pass.

    Parameters
    ----------
    pe : int
        Processing elements.
    gap_bits, code_bits : int
        Widths of a gap and of a code.

    Members
    -------
    enable : In(1)
        Yields the next entry of the next slot. A pass is enabled without a pause; the slots follow one another, from
        any slot on.
    last : In(1)
        With `enable`: the entry is its slot's last in the pass.
    slot : Out(range(6))
        The slot, a fixed latency after `enable`.
    gaps, codes : Out(ArrayLayout)
        The entry of each processing element, in the same cycle.
    """

    def __init__(self, *, pe: int, gap_bits: int, code_bits: int) -> None:
        super().__init__(
            {
                "enable": In(1),
                "last": In(1),
                "slot": Out(range(SLOTS)),
                "gaps": Out(data.ArrayLayout(unsigned(gap_bits), pe)),
                "codes": Out(data.ArrayLayout(unsigned(code_bits), pe)),
            }
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class EntryRomConfig:
    """Parameters of an `EntryRom`.

    Parameters
    ----------
    segments : SparseSegments
        The entries.
    storage : {"block", "distributed", "auto"}
        Memory that holds them.
    """

    segments: SparseSegments
    storage: Storage = "auto"

    @property
    def has_book(self) -> bool:
        """Whether weights are looked up; a weight that is no wider than its code is stored itself."""
        return self.segments.weight_format.bits > self.segments.code_format.bits

    @property
    def code_format(self) -> NumberFormat:
        """Format of what stands for a weight."""
        return self.segments.code_format if self.has_book else self.segments.weight_format

    @property
    def latency(self) -> int:
        """Cycles from `enable` to the entries."""
        return WEIGHT_ROM_LATENCY

    @property
    def width(self) -> int:
        """Bits of a word: an entry of each processing element."""
        return self.segments.pe * (self.segments.gap_bits + self.code_format.bits)

    @property
    def stored_bits(self) -> int:
        """Bits of all entries, and of the code book."""
        book = len(self.segments.book) * self.segments.weight_format.bits if self.has_book else 0
        return self.segments.pass_cycles * self.width + book

    @cached_property
    def words(self) -> list[int]:
        """Contents: gaps in the lowest bits, codes above them, of the first slot's first entry, of the second's, ..."""
        segments = self.segments
        codes = segments.codes if self.has_book else np.concatenate(([0], segments.book))[segments.codes]
        gaps, stored = (values.transpose(2, 1, 0).reshape(-1, segments.pe) for values in (segments.gaps, codes))
        shift = segments.pe * segments.gap_bits
        both = zip(
            to_integers(pack(gaps, unsigned_format(segments.gap_bits))),
            to_integers(pack(stored, self.code_format)),
            strict=True,
        )
        return [gap | code << shift for gap, code in both]

    @property
    def signature(self) -> EntrySource:
        """Signature of the entries."""
        return EntrySource(pe=self.segments.pe, gap_bits=self.segments.gap_bits, code_bits=self.code_format.bits)


class EntryRom(wiring.Component):
    """Entries of one width, one ROM for all processing elements.

    Parameters
    ----------
    config : EntryRomConfig

    Members
    -------
    o : Out(EntrySource)
        The entries; latency `config.latency`.
    """

    o: wiring.PureInterface

    def __init__(self, config: EntryRomConfig) -> None:
        self.config = config
        super().__init__({"o": Out(config.signature)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.words = rom = SequentialRom(config.words, config.width, config.storage)
        slot = cycle(m, "slot", SLOTS, step=self.o.enable)
        shift = config.segments.pe * config.segments.gap_bits
        m.d.comb += [
            rom.take.eq(self.o.enable),
            self.o.slot.eq(delayed(m, slot.number, config.latency, name="slot")),
            self.o.gaps.as_value().eq(rom.data[:shift]),
            self.o.codes.as_value().eq(rom.data[shift:]),
        ]
        return m


@dataclass(frozen=True, kw_only=True, eq=False)
class HuffmanEntriesConfig:
    """Parameters of a `HuffmanEntries`.

    Parameters
    ----------
    segments : SparseSegments
        The entries.
    max_length : int
        Longest code word, of gaps and of codes.
    storage : {"block", "distributed", "auto"}
        Memory of streams and symbol tables.
    """

    segments: SparseSegments
    max_length: int = LONGEST_CODE
    storage: Storage = "auto"

    @property
    def has_book(self) -> bool:
        """Weights are looked up."""
        return True

    @property
    def code_format(self) -> NumberFormat:
        """Format of what stands for a weight."""
        return self.segments.code_format

    @cached_property
    def gaps(self) -> HuffmanDecoderConfig:
        """The decoder of the gaps."""
        return self._decoder(self.segments.gaps, 1 << self.segments.gap_bits)

    @cached_property
    def codes(self) -> HuffmanDecoderConfig:
        """The decoder of the codes."""
        return self._decoder(self.segments.codes, len(self.segments.book) + 1)

    def _decoder(self, symbols: npt.NDArray[np.int64], alphabet: int) -> HuffmanDecoderConfig:
        return HuffmanDecoderConfig(
            code=CanonicalCode.from_symbols(symbols.reshape(-1), alphabet=alphabet, max_length=self.max_length),
            streams=tuple(symbols.transpose(1, 0, 2).reshape(-1, symbols.shape[2])),
            lanes=self.segments.pe,
            storage=self.storage,
        )

    @property
    def latency(self) -> int:
        """Cycles from `enable` to the entries."""
        return self.gaps.latency

    @property
    def stored_bits(self) -> int:
        """Bits of all streams and symbol tables as the ROMs have them, and of the code book."""
        streams = sum(
            len(image.words) * image.word_bits for decoder in (self.gaps, self.codes) for image in decoder.images
        )
        tables = sum(len(decoder.images[0].symbols) * decoder.symbol_bits for decoder in (self.gaps, self.codes))
        return streams + tables + len(self.segments.book) * self.segments.weight_format.bits

    @property
    def signature(self) -> EntrySource:
        """Signature of the entries."""
        return EntrySource(pe=self.segments.pe, gap_bits=self.segments.gap_bits, code_bits=self.code_format.bits)


class HuffmanEntries(wiring.Component):
    """Huffman-coded entries: a decoder of gaps and one of codes, in step, with a lane for each processing element.

    Parameters
    ----------
    config : HuffmanEntriesConfig

    Members
    -------
    o : Out(EntrySource)
        The entries; latency `config.latency`.
    """

    o: wiring.PureInterface

    def __init__(self, config: HuffmanEntriesConfig) -> None:
        self.config = config
        super().__init__({"o": Out(config.signature)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.gaps = gaps = HuffmanDecoder(self.config.gaps)
        m.submodules.codes = codes = HuffmanDecoder(self.config.codes)
        for decoder, symbols in ((gaps, self.o.gaps), (codes, self.o.codes)):
            m.d.comb += [decoder.enable.eq(self.o.enable), decoder.last.eq(self.o.last), symbols.eq(decoder.symbols)]
        m.d.comb += self.o.slot.eq(gaps.slot)
        return m


EntriesConfig = EntryRomConfig | HuffmanEntriesConfig
"""Where entries come from."""


def entry_source(config: EntriesConfig) -> EntryRom | HuffmanEntries:
    """Build the source of a configuration."""
    return EntryRom(config) if isinstance(config, EntryRomConfig) else HuffmanEntries(config)
