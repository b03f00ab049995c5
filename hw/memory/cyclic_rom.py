"""A small ROM that is read from the first word to the last, again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from amaranth.hdl import Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.memory_style import Storage, resolve, rom_attributes
from karui.hw.streams.stream import delayed

REGISTERED_PERIOD = 4
"""Least number of cycles between two steps that a block RAM and two registers behind it allow."""
DISTRIBUTED_WORDS = 64
"""Deepest cyclic ROM that `auto` keeps in look-up tables."""


@dataclass(frozen=True, kw_only=True)
class CyclicRomConfig:
    """Parameters of a `CyclicRom`.

    Parameters
    ----------
    words : tuple of int
        Contents, each 0 to ``2**width - 1``, in the order of reading.
    width : int
        Bits of a word.
    period : int
        Least number of cycles between two steps.
    storage : {"block", "distributed", "auto"}
        Memory that holds the words; `auto` keeps up to 64 words in look-up tables.

    Raises
    ------
    ValueError
        If there are no words, or a word does not fit.
    """

    words: tuple[int, ...]
    width: int
    period: int = 1
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        if not self.words:
            raise ValueError("a cyclic ROM needs at least one word")
        if not all(0 <= word < 1 << self.width for word in self.words):
            raise ValueError(f"words of a cyclic ROM must fit {self.width} bits, not reach {max(self.words):#x}")
        resolve(self.storage, depth=len(self.words), limit=DISTRIBUTED_WORDS)

    @property
    def in_block_ram(self) -> bool:
        """Whether the words lie in block RAM."""
        return resolve(self.storage, depth=len(self.words), limit=DISTRIBUTED_WORDS) == "block"


class CyclicRom(wiring.Component):
    """Holds the current word of a cyclic sequence in registers; `advance` steps to the next.

    A user reads the word in the cycle in which it sets `advance`, and the next word at least `period` cycles later.
    Look-up tables answer at once; a block RAM reads two words ahead. Where the period leaves time for it, a block RAM
    has its output register instead, which makes it faster, and no enable: its first word is there 3 cycles after reset.

    Parameters
    ----------
    config : CyclicRomConfig

    Members
    -------
    advance : In(1)
        The current word is used in this cycle for the last time.
    word : Out(width)
        The current word.
    """

    advance: Signal
    word: Signal

    def __init__(self, config: CyclicRomConfig) -> None:
        self.config = config
        super().__init__({"advance": In(1), "word": Out(config.width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words, width = self.config.words, self.config.width
        depth = len(words)
        if len(set(words)) == 1:
            m.d.comb += self.word.eq(Const(words[0], width))
            return m
        step: Value = self.advance
        if not self.config.in_block_ram:
            # The register holds the current word, the address is that of the next one.
            address = Signal(range(depth), init=1)
            output = self._held(m, self._table(m, address))
        elif self.config.period < REGISTERED_PERIOD:
            # As above, with the two words behind the next one read ahead: no logic is left on the long way out of the
            # block RAM. The words that may be needed before the first of them is there are constants.
            address = Signal(range(depth), init=3 % depth)
            began, filled, once, twice = Signal(), Signal(), Signal(), Signal()
            m.d.sync += [began.eq(1), filled.eq(began)]
            with m.If(self.advance):
                m.d.sync += [once.eq(1), twice.eq(once)]
            step = ~filled | (self.advance & twice)
            ahead = Signal(width, reset_less=True)
            read = self._block(m, address, step)
            with m.If(step):
                m.d.sync += ahead.eq(read)
            output = self._held(m, Mux(twice, ahead, Mux(once, words[2 % depth], words[1])))
        else:
            address = Signal(range(depth))
            output = delayed(m, self._block(m, address, Const(1, 1)), 2, name="output")
        m.d.comb += self.word.eq(output)
        with m.If(step):
            m.d.sync += address.eq(Mux(address == depth - 1, 0, address + 1))
        return m

    def _held(self, m: Module, following: Value) -> Signal:
        output = Signal(self.config.width, init=self.config.words[0], name="output")
        with m.If(self.advance):
            m.d.sync += output.eq(following)
        return output

    def _memory(self, m: Module, storage: Literal["block", "distributed"]) -> memory.Memory:
        words = self.config.words
        m.submodules.words = rom = memory.Memory(
            shape=Shape(self.config.width), depth=len(words), init=words, attrs=rom_attributes(storage)
        )
        return rom

    def _table(self, m: Module, address: Value) -> Value:
        read = self._memory(m, "distributed").read_port(domain="comb")
        m.d.comb += read.addr.eq(address)
        return Value.cast(read.data)

    def _block(self, m: Module, address: Value, enable: Value) -> Value:
        read = self._memory(m, "block").read_port()
        m.d.comb += [read.addr.eq(address), read.en.eq(enable)]
        return Value.cast(read.data)
