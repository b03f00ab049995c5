"""A queue that holds what one branch has and another has not yet: deep, so in block RAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Array, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.banked_ram import BankedRamConfig, add_banks
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, Storage
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.streams.counters import cycle, level
from karui.hw.streams.stream import lanes_of
from karui.hw.streams.timing import Cycles
from karui.sw.numerics import NumberFormat

LEAST_DEPTH = 3
"""Words without which the queue would not pass one a cycle."""


@dataclass(frozen=True, kw_only=True)
class DeepFifoConfig:
    """Parameters of a `DeepFifo`.

    Parameters
    ----------
    element : NumberFormat
        Format of the elements.
    lanes : int
        Elements a word.
    depth : int
        Words that it holds, 3 or more.
    storage : {"block", "distributed", "auto"}
        Memory of the words.
    registered : bool
        Whether there is a register behind the memory, in front of the choice between its banks.

    Raises
    ------
    ValueError
        If the depth is less than 3.
    """

    element: NumberFormat
    lanes: int
    depth: int
    storage: Storage = "auto"
    registered: bool = False

    def __post_init__(self) -> None:
        if self.depth < LEAST_DEPTH:
            raise ValueError(
                f"a FIFO that passes a word a cycle needs a depth of {LEAST_DEPTH} or more, not {self.depth}"
            )

    @property
    def stored_words(self) -> int:
        """Words of the memory; one more is at the output, and another in front of the register."""
        return self.depth - 1

    @property
    def memory(self) -> BankedRamConfig:
        """The memory, in the banks of a deep one: their choice is behind them in the same cycle."""
        return BankedRamConfig(words=self.stored_words, width=self.lanes * self.element.bits, storage=self.storage)

    @property
    def cost(self) -> Resources:
        """Cells, estimated."""
        memory = self.memory
        bank = memory_cost(memory.bank_words, memory.width, distributed=DISTRIBUTED_RAM_WORDS)
        control = 10 + 8 * self.stored_words.bit_length()
        return Resources(luts=bank.luts + memory.choice + control, block_rams=memory.banks * bank.block_rams)


def leaves_memory(writes: Cycles, reads: Cycles) -> Cycles:
    """The cycles in which words move from the memory to the output register, from their transfers in and out."""
    before = np.concatenate(([np.iinfo(np.int64).min], reads[:-1]))
    return np.maximum(writes + 1, before)


def least_depth(writes: Cycles, reads: Cycles) -> int:
    """Words that a FIFO must hold lest it refuse one.

    Parameters
    ----------
    writes, reads : ndarray of int64
        Cycles of the transfers of each word into the FIFO and out of it.
    """
    left = np.searchsorted(leaves_memory(writes, reads), writes, side="left")
    waiting = np.arange(len(writes)) - left
    return max(LEAST_DEPTH, int(waiting.max()) + 2)


class DeepFifo(wiring.Component):
    """A queue whose words lie in a memory, the next one at its registered output.

    Latency 2 cycles, 3 if registered; throughput a word a cycle. No combinational path joins its two sides.

    Parameters
    ----------
    config : DeepFifoConfig

    Members
    -------
    i : In(stream)
        Words in.
    o : Out(stream)
        The same words, in order.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: DeepFifoConfig) -> None:
        self.config = config
        lanes = stream.Signature(lanes_of(config.element, config.lanes))
        super().__init__({"i": In(lanes), "o": Out(lanes)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words, memory = self.config.stored_words, self.config.memory
        enters, moves = Signal(), Signal()
        stored = level(m, "stored", words, up=enters, down=moves)
        produce, consume = cycle(m, "produce", words, step=enters), cycle(m, "consume", words, step=moves)
        # A word is read in the cycle after it was written at the earliest: the ports never meet at an address.
        banks = add_banks(m, memory, enters, produce.number, self.i.payload.as_value(), moves, consume.number)
        bank, found, leaves = Signal(range(memory.banks)), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~stored.full),
            enters.eq(self.i.valid & self.i.ready),
            moves.eq(~stored.empty & (~found | leaves)),
        ]
        with m.If(moves):
            m.d.sync += [found.eq(1), bank.eq(memory.bank_of(consume.number))]
        with m.Elif(leaves):
            m.d.sync += found.eq(0)
        if not self.config.registered:
            m.d.comb += [leaves.eq(self.o.ready), self.o.valid.eq(found)]
            m.d.comb += self.o.payload.as_value().eq(_chosen(banks, bank))
            return m
        kept, bank_kept = [Signal.like(word, reset_less=True) for word in banks], Signal.like(bank)
        m.d.comb += [
            leaves.eq(~self.o.valid | self.o.ready),
            self.o.payload.as_value().eq(_chosen(kept, bank_kept)),
        ]
        with m.If(leaves):
            m.d.sync += [self.o.valid.eq(found), bank_kept.eq(bank)]
            m.d.sync += [register.eq(word) for register, word in zip(kept, banks, strict=True)]
        return m


def _chosen(banks: Sequence[Value], bank: Value) -> Value:
    return Array(banks)[bank] if len(banks) > 1 else banks[0]
