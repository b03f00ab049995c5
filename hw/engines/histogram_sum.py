"""The sum over a histogram of a function of its counts, while it is being filled."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.memory_style import DISTRIBUTED_ROM_WORDS, ram_attributes, resolve, rom_attributes
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import Tagged, delayed

BANKS = 2
"""Histograms that are held: one is filled while the other is cleared."""
_IN_FLIGHT = 3
"""Counts that have been read and are not in the memory yet."""
_COUNTED = 3
"""Cycles from an element in the first register to its new count."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HistogramSumConfig:
    """Parameters of a `HistogramSum`.

    Parameters
    ----------
    bins : int
        A power of two.
    growth : ndarray of int64
        How the function of a count grows from 0 to 1, from 1 to 2, ...; as many entries as a frame has elements.
    """

    bins: int
    growth: npt.NDArray[np.int64]

    @property
    def count_bits(self) -> int:
        """Bits of a count."""
        return len(self.growth).bit_length()

    @property
    def growth_bits(self) -> int:
        """Bits of an entry of the table."""
        return int(self.growth.max()).bit_length()

    @property
    def total_bits(self) -> int:
        """Bits of a sum, wide enough for any histogram of so many elements."""
        return int(max(self.growth.sum(), len(self.growth) * self.growth.max())).bit_length()

    @property
    def latency(self) -> int:
        """Cycles from a frame's last element to its sum."""
        # The first register, the count, the table with the register behind it, and the sum.
        return 1 + _COUNTED + 2 + 1

    @property
    def clear_cycles(self) -> int:
        """Cycles from a frame's last element until its histogram is there for another frame."""
        return 1 + _COUNTED + 2 + self.bins

    @property
    def cost(self) -> Resources:
        """Cells, estimated."""
        counts = memory_cost(self.bins, self.count_bits, distributed=0)
        table = memory_cost(len(self.growth), self.growth_bits, distributed=DISTRIBUTED_ROM_WORDS)
        luts = 40 + 8 * self.count_bits + 2 * self.total_bits + table.luts
        return Resources(luts=luts, block_rams=BANKS * counts.block_rams + table.block_rams)


class HistogramSum(wiring.Component):
    """Counts elements in bins and sums, over the bins, a function of the counts: it grows with each element.

    An element's count is read, increased and written back in four cycles; where one of the three elements before is of
    the same bin, its new count is taken instead of the one in the memory. The old count is the address of what the sum
    grows by. So the sum is there with the last element, and only clearing takes a cycle a bin: meanwhile the next frame
    has another histogram. A reset has those cleared that are in use.

    Latency ``config.latency`` cycles, throughput an element a cycle.

    Parameters
    ----------
    config : HistogramSumConfig

    Members
    -------
    i : In(Tagged)
        The `bin` of an element; whether it `counts`, and whether it `ends` a frame, which it may without counting.
    room : Out(1)
        Whether there is an empty histogram for a frame that has not begun.
    begin : In(1)
        A frame begins: with its first element or before. Only while `room`.
    o : Out(Tagged)
        The sum of each frame.
    """

    i: wiring.PureInterface
    room: Signal
    begin: Signal
    o: wiring.PureInterface

    def __init__(self, config: HistogramSumConfig) -> None:
        self.config = config
        element = data.StructLayout({"bin": range(config.bins), "counts": 1, "ends": 1})
        super().__init__(
            {
                "i": In(Tagged(element)),
                "room": Out(1),
                "begin": In(1),
                "o": Out(Tagged(unsigned(config.total_bits))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        ends_now = Signal()
        m.d.comb += ends_now.eq(self.i.valid & self.i.payload.ends)
        bank = cycle(m, "bank", BANKS, step=ends_now).number
        counts = delayed(m, self.i.valid & self.i.payload.counts, 1, name="counts", control=True)
        ends = delayed(m, ends_now, 1, name="ends", control=True)
        place = delayed(m, Cat(self.i.payload.bin, bank), 1, name="place")

        # Of each element in flight whether its new count is to be written, where, and what it is.
        written = [delayed(m, counts, cycles, name=f"written_{cycles}", control=True) for cycles in range(1, 5)]
        places = [delayed(m, place, cycles, name=f"place_{cycles}") for cycles in range(1, 5)]
        new = [Signal(config.count_bits, name=f"new_{age}", reset_less=True) for age in range(_IN_FLIGHT)]
        # The element itself has been delayed by 1, those before it by 2, 3 and 4.
        is_newer = [
            delayed(m, written[age] & (places[age] == places[0]), 1, name=f"is_newer_{age}")
            for age in range(1, 1 + _IN_FLIGHT)
        ]
        free = self._clear(m, delayed(m, ends, _COUNTED + 1, name="filled", control=True))
        read = self._memories(m, place, written[2], places[2], new[0], free)
        count = Signal(config.count_bits)
        m.d.comb += count.eq(read)
        for age in reversed(range(_IN_FLIGHT)):
            with m.If(is_newer[age]):
                m.d.comb += count.eq(new[age])
        old = Signal(config.count_bits, reset_less=True)
        m.d.sync += [new[0].eq(count + 1), old.eq(count)]
        m.d.sync += [after.eq(before) for before, after in pairwise(new)]

        self._sum(m, old, delayed(m, counts, _COUNTED + 2, name="grows", control=True), ends)
        return m

    def _clear(self, m: Module, filled: Value) -> list[tuple[Signal, Signal]]:
        """Clear each histogram behind its frame, and behind a reset those in use; for each whether, and the bin."""
        filled_bank = cycle(m, "filled_bank", BANKS, step=filled).number
        next_bank = cycle(m, "next_bank", BANKS, step=self.begin).number
        # A reset leaves the memories, and what is known of them, as they are.
        taken, awake, clears = Signal(BANKS, reset_less=True), Signal(), []
        m.d.sync += awake.eq(1)
        for bank in range(BANKS):
            clearing = Signal(name=f"clearing_{bank}")
            place = cycle(m, f"cleared_{bank}", self.config.bins, step=clearing)
            with m.If(clearing & place.is_last):
                m.d.sync += [clearing.eq(0), taken[bank].eq(0)]
            with m.If(Mux(awake, filled & (filled_bank == bank), taken[bank])):
                m.d.sync += clearing.eq(1)
            with m.If(self.begin & (next_bank == bank)):
                m.d.sync += taken[bank].eq(1)
            clears.append((clearing, place.number))
        m.d.comb += self.room.eq(~taken.bit_select(next_bank, 1))
        return clears

    def _memories(
        self, m: Module, place: Value, writes: Value, written: Value, new: Value, clears: list[tuple[Signal, Signal]]
    ) -> Value:
        """The histograms: the count at a place, two cycles later; another one is written."""
        config = self.config
        found = []
        for bank, (clearing, cleared) in enumerate(clears):
            # What is read in the cycle that writes it is not used.
            m.submodules[f"counts_{bank}"] = held = memory.Memory(
                shape=Shape(config.count_bits), depth=config.bins, init=[], attrs=ram_attributes("block")
            )
            write, read = held.write_port(), held.read_port()
            m.d.comb += [
                read.addr.eq(place[:-1]),
                write.en.eq(clearing | (writes & (written[-1] == bank))),
                write.addr.eq(Mux(clearing, cleared, written[:-1])),
                write.data.eq(Mux(clearing, 0, new)),
            ]
            found.append(read.data)
        chosen = Mux(delayed(m, place[-1], 1, name="read_bank"), found[1], found[0])
        return delayed(m, chosen, 1, name="read")

    def _sum(self, m: Module, count: Value, grows: Value, ends: Value) -> None:
        config = self.config
        entries = config.growth.tolist()
        storage = resolve("auto", depth=len(entries), limit=DISTRIBUTED_ROM_WORDS)
        m.submodules.growth = table = memory.Memory(
            shape=Shape(config.growth_bits), depth=len(entries), init=entries, attrs=rom_attributes(storage)
        )
        read = table.read_port()
        m.d.comb += read.addr.eq(count)
        growth = delayed(m, read.data, 1, name="growth")
        last = delayed(m, ends, _COUNTED + 2, name="last", control=True)
        is_first = Signal(init=1)
        total = Signal(config.total_bits, reset_less=True)
        with m.If(grows | last):
            m.d.sync += [total.eq(Mux(is_first, 0, total) + Mux(grows, growth, 0)), is_first.eq(last)]
        m.d.comb += [self.o.payload.eq(total), self.o.valid.eq(delayed(m, last, 1, name="summed", control=True))]
