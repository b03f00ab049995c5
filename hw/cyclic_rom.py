"""A small ROM that is read from the first word to the last, again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from amaranth.hdl import Array, Const, Module, Shape, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from karui.hw.memory_style import Storage, resolve, rom_attributes

BLOCK_PERIOD = 4
"""Least number of cycles between two steps that a block RAM and the two registers behind it allow."""
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
        Memory that holds the words. Block RAM needs a period of 4 or more; `auto` takes it for deep ROMs where it can.

    Raises
    ------
    ValueError
        If there are no words, a word does not fit, or block RAM is asked for at too short a period.
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
        if self.in_block_ram and self.period < BLOCK_PERIOD:
            raise ValueError(
                f"a cyclic ROM in block RAM needs a period of {BLOCK_PERIOD} cycles or more, not {self.period}; "
                "use distributed storage"
            )

    @property
    def in_block_ram(self) -> bool:
        """Whether the words lie in block RAM."""
        if self.storage == "auto" and self.period < BLOCK_PERIOD:
            return False
        return resolve(self.storage, depth=len(self.words), limit=DISTRIBUTED_WORDS) == "block"


class CyclicRom(wiring.Component):
    """Holds the current word of a cyclic sequence in registers; `advance` steps to the next.

    A user reads the word in the cycle in which it sets `advance`, and the next word at least `period` cycles later: it
    is there after one cycle from look-up tables, after 4 from block RAM. The first word is there 3 cycles after reset.

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
        if self.config.in_block_ram:
            address = Signal(range(depth))
            block_ram_output = Signal(width, reset_less=True)
            output = Signal(width, reset_less=True)
            m.d.sync += [
                block_ram_output.eq(self._table(m, "words", words, address, "block")),
                output.eq(block_ram_output),
            ]
        else:
            # Look ahead: the register holds the current word, the address is already that of the next one.
            address = Signal(range(depth), init=1)
            output = Signal(width, init=words[0])
            following = self._following(m, address)
            with m.If(self.advance):
                m.d.sync += output.eq(following)
        m.d.comb += self.word.eq(output)
        with m.If(self.advance):
            m.d.sync += address.eq(address + 1)
            with m.If(address == depth - 1):
                m.d.sync += address.eq(0)
        return m

    def _following(self, m: Module, address: Signal) -> Value:
        """The word at the address: of a deep ROM by banks, one of which is chosen a cycle later, if time allows."""
        words, width = self.config.words, self.config.width
        if len(words) <= DISTRIBUTED_WORDS or self.config.period < 2:
            return self._table(m, "words", words, address, "distributed")
        bank_bits = exact_log2(DISTRIBUTED_WORDS)
        banks = []
        for index, start in enumerate(range(0, len(words), DISTRIBUTED_WORDS)):
            bank = words[start : start + DISTRIBUTED_WORDS]
            found = Signal(width, name=f"found_{index}", init=bank[min(1, len(bank) - 1)])
            m.d.sync += found.eq(self._table(m, f"bank_{index}", bank, address[:bank_bits], "distributed"))
            banks.append(found)
        chosen = Signal(range(len(banks)))
        m.d.sync += chosen.eq(address[bank_bits:])
        return Array(banks)[chosen]

    def _table(
        self,
        m: Module,
        name: str,
        words: tuple[int, ...],
        address: Value,
        storage: Literal["block", "distributed"],
    ) -> Value:
        m.submodules[name] = rom = memory.Memory(
            shape=Shape(self.config.width), depth=len(words), init=words, attrs=rom_attributes(storage)
        )
        read = rom.read_port() if storage == "block" else rom.read_port(domain="comb")
        m.d.comb += read.addr.eq(address)
        return Value.cast(read.data)
