"""Shared weights: indices in ROM and a code book that they are looked up in, as a weight source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Const, Module, Shape, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import Out

from karui.hw.memory.memory_style import resolve, rom_attributes
from karui.hw.memory.weight_rom import StoredWeightsConfig, WeightRom, WeightRomConfig
from karui.hw.memory.word_source import WeightSource
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import delayed
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import NumberFormat, format_for_range, pack, to_integers

BOOK_WORDS = 64
"""Longest code book that `auto` keeps in look-up tables, where each look-up has a copy of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedWeightsConfig(StoredWeightsConfig):
    """Parameters of a `SharedWeights`, beside those of every source; `auto` keeps books of up to 64 words in look-up
    tables.

    Parameters
    ----------
    vector : int
        Neighbouring weights of a row that are looked up together; it divides K, and `simd` or a multiple of it.
    """

    vector: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divisor("vector", self.vector, self.weights.shape[1], "inputs")
        if self.simd % self.vector and self.vector % self.simd:
            raise ValueError(
                f"simd must divide the vectors of {self.vector} weights or be their multiple, not {self.simd}"
            )

    @cached_property
    def _shared(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        vectors = self.weights.reshape(-1, self.vector)
        bits = self.weight_format.bits
        words = (vectors.astype(np.int64) - self.weight_format.minimum) // self._step
        # Vectors as integers, which are sorted many times as fast, the first element counting most; as many elements at
        # once as 62 bits hold, then their rank and that of those before them.
        ranks = np.zeros(len(vectors), dtype=np.int64)
        for part in np.split(words, range(62 // bits, self.vector, 62 // bits), axis=1):
            numbers = part @ (np.int64(1) << (bits * np.arange(part.shape[1])[::-1]))
            _, of_part = np.unique(numbers, return_inverse=True)
            _, ranks = np.unique(ranks * (of_part.max() + 1) + of_part, return_inverse=True)
        _, places = np.unique(ranks, return_index=True)
        return vectors[places], ranks.reshape(len(self.weights), -1).astype(np.int64)

    @property
    def _step(self) -> int:
        """From one word of the weights' format to the next."""
        return 2 if self.weight_format.is_bipolar else 1

    @property
    def book(self) -> npt.NDArray[Any]:
        """The different vectors, in ascending order, shape (k, vector)."""
        return self._shared[0]

    @property
    def index_format(self) -> NumberFormat:
        """Format of an index."""
        return format_for_range(0, len(self.book) - 1)

    @property
    def looked_up(self) -> int:
        """Weights of a look-up: a vector, or as much of it as a word of the engine takes."""
        return min(self.vector, self.simd)

    @property
    def parts(self) -> int:
        """Look-ups that a vector takes, one after another."""
        return self.vector // self.looked_up

    @property
    def look_ups(self) -> int:
        """Look-ups in a cycle, by all outputs of a word."""
        return self.pe * self.simd // self.looked_up

    @property
    def indices(self) -> WeightRomConfig:
        """The ROM of indices."""
        return WeightRomConfig(
            weights=self._shared[1],
            pe=self.pe,
            simd=self.simd // self.looked_up,
            weight_format=self.index_format,
            groups=self.groups,
        )

    @property
    def book_words(self) -> list[int]:
        """The code book as a memory: the parts of each vector, one after another."""
        return to_integers(pack(self.book.reshape(-1, self.looked_up), self.weight_format))

    @property
    def book_in(self) -> str:
        """Whether the code book is in block RAM or distributed."""
        return resolve(self.storage, depth=len(self.book) * self.parts, limit=BOOK_WORDS)

    @property
    def latency(self) -> int:
        """That of the indices, and of the code book."""
        return self.indices.latency + (3 if self.book_in == "block" else 1)

    @property
    def stored_bits(self) -> int:
        """Bits of the indices and of one code book."""
        return self.indices.weights.size * self.index_format.bits + self.book.size * self.weight_format.bits


class SharedWeights(wiring.Component):
    """Constant weights that are looked up in a code book: a ROM of indices, and the book for each look-up of a cycle.

    A look-up yields `config.looked_up` weights. A word can be taken in every cycle. Memory: an index for each vector,
    and ``k * vector`` weights a look-up.

    Parameters
    ----------
    config : SharedWeightsConfig

    Members
    -------
    o : Out(WeightSource)
        The words, always available; latency `config.latency`.
    """

    o: wiring.PureInterface

    def __init__(self, config: SharedWeightsConfig) -> None:
        self.config = config
        super().__init__({"o": Out(WeightSource(groups=config.groups, width=config.width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.d.comb += self.o.available.eq(1)
        if len(config.weights) == config.pe and config.weights.shape[1] == config.simd:
            for group, (word,) in enumerate(config.words()):
                m.d.comb += self.o.data[group].eq(Const(word, config.width))
            return m
        m.submodules.indices = indices = WeightRom(config.indices)
        # The ROM's word stays while it is not taken: it serves all parts of its vectors.
        part = cycle(m, "part", config.parts, step=self.o.take)
        m.d.comb += indices.o.take.eq(self.o.take & part.is_last)
        index_bits = config.index_format.bits
        for group in range(config.groups):
            number = delayed(m, part.number, config.indices.latency + group, name=f"part_{group}")
            word = indices.o.data[group]
            found = [
                self._look_up(
                    m, f"group_{group}_book_{place}", word[place * index_bits : (place + 1) * index_bits], number
                )
                for place in range(config.look_ups // config.groups)
            ]
            m.d.comb += self.o.data[group].eq(Cat(found))
        return m

    def _look_up(self, m: Module, name: str, index: Value, part: Value) -> Value:
        """The word of a code book of its own."""
        config = self.config
        words = config.book_words
        if len(words) == 1:
            return delayed(m, Const(words[0], config.looked_up * config.weight_format.bits), 1, name=name)
        in_block_ram = config.book_in == "block"
        m.submodules[name] = book = memory.Memory(
            shape=Shape(config.looked_up * config.weight_format.bits),
            depth=len(words),
            init=words,
            attrs=rom_attributes("block" if in_block_ram else "distributed"),
        )
        read = book.read_port() if in_block_ram else book.read_port(domain="comb")
        m.d.comb += read.addr.eq(index * config.parts + part)
        return delayed(m, read.data, 2 if in_block_ram else 1, name=name)
