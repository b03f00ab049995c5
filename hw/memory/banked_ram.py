"""A deep memory that is written in one place and read in another, at the speed of a single block RAM."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Array, Module, Shape, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, Storage, ram_attributes, resolve
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.streams.stream import delayed

# Depths and widths of a block RAM that is written and read at once, the deepest last.
_SHAPES = ((1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
_SPARE = 1.1
"""Block RAMs that may be taken for fewer banks, as a share of the least."""


@dataclass(frozen=True, kw_only=True)
class BankedRamConfig:
    """Parameters of a `BankedRam`.

    Parameters
    ----------
    words, width : int
        Words, and bits of each.
    storage : {"block", "distributed", "auto"}
        Memory of the words; `auto` keeps up to 32 in look-up tables.
    """

    words: int
    width: int
    storage: Storage = "auto"

    @property
    def resolved(self) -> Storage:
        """Where the words lie."""
        return resolve(self.storage, depth=self.words, limit=DISTRIBUTED_RAM_WORDS)

    @property
    def bank_words(self) -> int:
        """Words of a bank."""
        return self.words if self.resolved == "distributed" else bank_shape(self.words, self.width)[0]

    @property
    def banks(self) -> int:
        """Memories side by side."""
        return -(-self.words // self.bank_words)

    @property
    def latency(self) -> int:
        """Cycles from an address to its word: the memory, the register behind it, and a choice of banks."""
        return 2 + (self.banks > 1)

    @property
    def cost(self) -> Resources:
        """Cells, estimated."""
        cells = memory_cost(self.bank_words, self.width, distributed=DISTRIBUTED_RAM_WORDS)
        # Distributed RAM is half as dear again as a ROM.
        choice = self.width * -(-(self.banks - 1) // 2)
        return Resources(luts=cells.luts * 3 // 2 + choice, block_rams=self.banks * cells.block_rams)


def bank_shape(words: int, width: int) -> tuple[int, int]:
    """Words of a bank of block RAM, and bits of each that a block RAM holds: few banks, at hardly more than the least.

    The choice between banks is one of logic, which grows with them. Where there are several, a bank has a power of two
    words.

    Parameters
    ----------
    words, width : int
        Words of all banks, and bits of each.
    """
    block_rams = {(depth, bits): -(-words // depth) * -(-width // bits) for depth, bits in _SHAPES}
    few = _SPARE * min(block_rams.values())
    depth, bits = max(shape for shape, count in block_rams.items() if count <= few)
    return min(words, depth), bits


class BankedRam(wiring.Component):
    """Banks of block RAM with a register behind each, and a registered choice between them.

    Latency ``config.latency`` cycles, a read and a write a cycle, never of the same word.

    Parameters
    ----------
    config : BankedRamConfig

    Members
    -------
    write_enable : In(1)
    write_address, write_data : In
        What is written in this cycle.
    read_address : In
        Whose word comes out later.
    read_data : Out
        That word.
    """

    write_enable: Signal
    write_address: Signal
    write_data: Signal
    read_address: Signal
    read_data: Signal

    def __init__(self, config: BankedRamConfig) -> None:
        self.config = config
        address = range(config.words)
        super().__init__(
            {
                "write_enable": In(1),
                "write_address": In(address),
                "write_data": In(config.width),
                "read_address": In(address),
                "read_data": Out(config.width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        bits = (config.bank_words - 1).bit_length()
        words = []
        for bank in range(config.banks):
            m.submodules[f"bank_{bank}"] = held = memory.Memory(
                shape=Shape(config.width),
                depth=config.bank_words,
                init=[],
                attrs=ram_attributes(resolve(config.storage, depth=config.words, limit=DISTRIBUTED_RAM_WORDS)),
            )
            write, read = held.write_port(), held.read_port()
            m.d.comb += [
                write.en.eq(self.write_enable & (self.write_address[bits:] == bank)),
                write.addr.eq(self.write_address),
                write.data.eq(self.write_data),
                read.addr.eq(self.read_address),
            ]
            words.append(delayed(m, read.data, 1, name=f"word_{bank}"))
        if config.banks == 1:
            m.d.comb += self.read_data.eq(words[0])
            return m
        chosen = Signal(config.width, reset_less=True)
        m.d.sync += chosen.eq(Array(words)[delayed(m, self.read_address[bits:], 2, name="bank_of_word")])
        m.d.comb += self.read_data.eq(chosen)
        return m
