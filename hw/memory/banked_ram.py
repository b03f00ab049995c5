"""A deep memory that is written in one place and read in another, at the speed of a single block RAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from amaranth.hdl import Array, Cat, Const, Module, Shape, Signal, Value
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
    def resolved(self) -> Literal["block", "distributed"]:
        """Where the words lie."""
        return resolve(self.storage, depth=self.words, limit=DISTRIBUTED_RAM_WORDS)

    @property
    def bank_words(self) -> int:
        """Words of a bank."""
        return self.words if self.resolved == "distributed" else bank_shape(self.words, self.width)[0]

    @property
    def banks(self) -> int:
        """Memories one behind the other."""
        return -(-self.words // self.bank_words)

    @property
    def slices(self) -> tuple[int, ...]:
        """Bits of a bank's memories side by side.

        Each is one block RAM: a deeper memory of whole words would become several, as many bits wide as they can be,
        and logic that chooses among them.
        """
        if self.bank_words <= _SHAPES[0][0]:
            return (self.width,)
        _, bits = bank_shape(self.words, self.width)
        return tuple(min(bits, self.width - low) for low in range(0, self.width, bits))

    def bank_of(self, address: Value) -> Value:
        """The bank of a word."""
        return address[(self.bank_words - 1).bit_length() :]

    @property
    def latency(self) -> int:
        """Cycles from an address to its word: the memory, the register behind it, and a choice of banks."""
        return 2 + (self.banks > 1)

    @property
    def cost(self) -> Resources:
        """Cells, estimated."""
        cells = memory_cost(self.bank_words, self.width, distributed=DISTRIBUTED_RAM_WORDS)
        # Distributed RAM is half as dear again as a ROM.
        return Resources(luts=cells.luts * 3 // 2 + self.choice, block_rams=self.banks * cells.block_rams)

    @property
    def choice(self) -> int:
        """Look-up tables that choose between banks, estimated."""
        return self.width * -(-(self.banks - 1) // 2)


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
        read = add_banks(m, config, self.write_enable, self.write_address, self.write_data, Const(1), self.read_address)
        words = [delayed(m, word, 1, name=f"word_{bank}") for bank, word in enumerate(read)]
        if config.banks == 1:
            m.d.comb += self.read_data.eq(words[0])
            return m
        chosen = Signal(config.width, reset_less=True)
        m.d.sync += chosen.eq(Array(words)[delayed(m, config.bank_of(self.read_address), 2, name="bank_of_word")])
        m.d.comb += self.read_data.eq(chosen)
        return m


def add_banks(
    m: Module,
    config: BankedRamConfig,
    write_enable: Value,
    write_address: Value,
    write_data: Value,
    read_enable: Value,
    read_address: Value,
) -> list[Value]:
    """Add the memories of all banks; return each bank's word, a cycle behind its address where a read is enabled.

    Parameters
    ----------
    m : Module
        Where they go.
    config : BankedRamConfig
        Words, width, storage.
    write_enable, write_address, write_data : Value
        What is written in this cycle.
    read_enable, read_address : Value
        What is read.
    """
    words: list[Value] = []
    for bank in range(config.banks):
        parts: list[Value] = []
        for number, width in enumerate(config.slices):
            name = f"bank_{bank}" if len(config.slices) == 1 else f"bank_{bank}_{number}"
            m.submodules[name] = held = memory.Memory(
                shape=Shape(width), depth=config.bank_words, init=[], attrs=ram_attributes(config.resolved)
            )
            write, read = held.write_port(), held.read_port()
            low = sum(config.slices[:number])
            m.d.comb += [
                write.en.eq(write_enable & ((config.bank_of(write_address) == bank) if config.banks > 1 else 1)),
                write.addr.eq(write_address),
                write.data.eq(write_data[low : low + width]),
                read.en.eq(read_enable),
                read.addr.eq(read_address),
            ]
            parts.append(read.data)
        words.append(Cat(*parts))
    return words
