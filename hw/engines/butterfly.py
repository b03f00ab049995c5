"""Sums and differences of words that lie some distance apart in a stream: one stage of a Walsh-Hadamard transform."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from amaranth.hdl import Module, Mux, Shape, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, Storage, ram_attributes, resolve
from karui.hw.streams.elementwise import signed_range
from karui.hw.streams.stream import Tagged, delayed
from karui.sw.numerics import Rounding, shift_right

REGISTERED_DISTANCE = 2
"""Longest delay that is made of registers: a memory's word is read again in the third cycle at the earliest."""


@dataclass(frozen=True, kw_only=True)
class ScaledSum:
    """Sum of two words of one range, or their difference, divided by a power of two.

    Parameters
    ----------
    low, high : int
        Range of the words.
    shift : int
        Binary places that are dropped.
    rounding : Rounding
        Of the places dropped.
    """

    low: int
    high: int
    shift: int
    rounding: Rounding

    @property
    def operand(self) -> Shape:
        """Shape of a word."""
        return signed_range(self.low, self.high)

    @property
    def difference(self) -> Shape:
        """Shape of a difference that is not divided."""
        return signed_range(self.low - self.high, self.high - self.low)

    @cached_property
    def range(self) -> tuple[int, int]:
        """Smallest and largest result."""
        low, high = self._exact
        return shift_right(low, self.shift, self.rounding), shift_right(high, self.shift, self.rounding)

    @property
    def half(self) -> int:
        """What is added so that dropping places rounds to the nearest."""
        return 0 if self.shift == 0 or self.rounding is Rounding.FLOOR else 1 << (self.shift - 1)

    @property
    def _exact(self) -> tuple[int, int]:
        return min(2 * self.low, self.low - self.high), max(2 * self.high, self.high - self.low)

    def build(self, m: Module, left: Value, right: Value, *, name: str, subtract: bool = False) -> Value:
        """Add the register of the sum, and the rounding behind it; returns the result, a cycle later."""
        low, high = self._exact
        total = Signal(signed_range(low, high + self.half), name=f"{name}_total", reset_less=True)
        if self.half == 1 and not subtract:
            # The half goes in as the carry, in a place below.
            m.d.sync += total.eq(((left << 1 | 1) + (right << 1 | 1)) >> 1)
        else:
            m.d.sync += total.eq((left - right if subtract else left + right) + self.half)
        result = Signal(signed_range(*self.range), name=name)
        m.d.comb += result.eq(total >> self.shift)
        if self.half and self.rounding is Rounding.HALF_EVEN:
            # A tie is where the dropped places, half included, are all zero.
            with m.If(total[: self.shift] == 0):
                m.d.comb += result[0].eq(0)
        return result


@dataclass(frozen=True, kw_only=True)
class ButterflyConfig:
    """Parameters of a `Butterfly`.

    Parameters
    ----------
    distance : int
        Beats from the one word of a pair to the other, a power of two.
    lanes : int
        Words a beat, each paired with that of its own lane.
    arithmetic : ScaledSum
        Of a pair.
    storage : {"block", "distributed", "auto"}
        Memory of the delay where the distance is 4 or more; `auto` keeps up to 32 beats in look-up tables.
    """

    distance: int
    lanes: int
    arithmetic: ScaledSum
    storage: Storage = "auto"

    @property
    def input_layout(self) -> data.ArrayLayout:
        """A beat that comes."""
        return data.ArrayLayout(self.arithmetic.operand, self.lanes)

    @property
    def output_layout(self) -> data.ArrayLayout:
        """A beat that goes."""
        return data.ArrayLayout(signed_range(*self.arithmetic.range), self.lanes)

    @property
    def in_registers(self) -> bool:
        """Whether the delay is made of registers."""
        return self.distance <= REGISTERED_DISTANCE

    @property
    def in_block_ram(self) -> bool:
        """Whether the delay lies in block RAM."""
        storage = resolve(self.storage, depth=self.distance, limit=DISTRIBUTED_RAM_WORDS)
        return not self.in_registers and storage == "block"

    @property
    def latency(self) -> int:
        """Cycles of the pipeline: what was held and the sum.

        A block RAM takes two cycles; where the words of a pair follow each other, x has to be in its place first.
        """
        return 3 if self.in_block_ram or self.distance == 1 else 2


class Butterfly(wiring.Component):
    """Replaces words x, y at a distance by x + y and x - y, in their places: single-path delay feedback.

    The delay holds x until y comes. The sum leaves at once and the difference takes the place of x, to leave as soon as
    `drains` is set after the last sum of its run: one a cycle, whether a word comes in that cycle or not. Words come in
    any cycles, but for each that comes into the place of a difference `drains` must have been set by then.

    Latency `config.latency` cycles, throughput a beat a cycle.

    Parameters
    ----------
    config : ButterflyConfig

    Members
    -------
    i : In(Tagged)
        Beats of words.
    drains : In(1)
        Whether a difference leaves where one is held and no sum does.
    o : Out(Tagged)
        Beats of results.
    drains_on : Out(1)
        `drains`, for the butterfly behind this one.
    """

    i: wiring.PureInterface
    drains: Signal
    o: wiring.PureInterface
    drains_on: Signal

    def __init__(self, config: ButterflyConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(Tagged(config.input_layout)),
                "drains": In(1),
                "o": Out(Tagged(config.output_layout)),
                "drains_on": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        places = config.distance.bit_length() - 1
        # Words that have come and results whose first operand was looked up, each in runs of twice the distance: their
        # uppermost bits tell x from y, and sums from differences.
        came, left = Signal(places + 1), Signal(places + 1)
        combines, leaves = Signal(), Signal()
        m.d.comb += [
            combines.eq(self.i.valid & came[-1]),
            leaves.eq(combines | (self.drains & left[-1])),
        ]
        with m.If(self.i.valid):
            m.d.sync += came.eq(came + 1)
        with m.If(leaves):
            m.d.sync += left.eq(left + 1)
        before = config.latency - 2
        words = [delayed(m, word, before, name=f"word_{lane}") for lane, word in enumerate(self.i.payload)]
        combined = delayed(m, combines, before, name="combined", control=True)
        if config.in_registers:
            held = self._in_registers(m, words, combines, came[0], left[0])
        else:
            held = self._in_memory(m, words, combined, came[:places], left[:places])
        for lane, word in enumerate(words):
            addend = Signal(config.arithmetic.operand, name=f"addend_{lane}", reset_less=True)
            # To a difference zero is added: a synchronous reset of this register takes no gates, a multiplexer would.
            m.d.sync += addend.eq(Mux(combined, word, 0))
            m.d.comb += self.o.payload[lane].eq(config.arithmetic.build(m, held[lane], addend, name=f"result_{lane}"))
        m.d.comb += [
            self.o.valid.eq(delayed(m, leaves, config.latency, name="leaves", control=True)),
            self.drains_on.eq(delayed(m, self.drains, config.latency, name="drains", control=True)),
        ]
        return m

    def _in_memory(self, m: Module, words: list[Value], combined: Value, came: Value, left: Value) -> list[Value]:
        """A memory of words x, and of differences in their places; returns what was held, a cycle before the result.

        A place is written `latency` cycles after its word came; what it held was read when that came, at the latest.
        """
        config = self.config
        difference, written = config.arithmetic.difference, config.latency
        beat = data.ArrayLayout(difference, config.lanes)
        storage: Literal["block", "distributed"] = "block" if config.in_block_ram else "distributed"
        m.submodules.words = held = memory.Memory(
            shape=Shape(beat.size), depth=config.distance, init=[], attrs=ram_attributes(storage)
        )
        write = held.write_port()
        read = held.read_port(domain="sync" if config.in_block_ram else "comb")
        found = Signal(beat, name="found", reset_less=True)
        stored = Signal(beat, name="stored")
        m.d.comb += [
            read.addr.eq(left),
            write.addr.eq(delayed(m, came, written, name="place")),
            write.en.eq(delayed(m, self.i.valid, written, name="stores", control=True)),
            write.data.eq(stored.as_value()),
        ]
        m.d.sync += found.as_value().eq(read.data)
        stores_difference = delayed(m, combined, 2, name="stores_difference")
        for lane, word in enumerate(words):
            at_sum = delayed(m, word, 1, name=f"at_sum_{lane}")
            subtracted = Signal(difference, name=f"difference_{lane}", reset_less=True)
            m.d.sync += subtracted.eq(found[lane] - at_sum)
            kept = delayed(m, at_sum, 1, name=f"kept_{lane}")
            m.d.comb += stored[lane].eq(Mux(stores_difference, subtracted, kept))
        return [found[lane] for lane in range(config.lanes)]

    def _in_registers(self, m: Module, words: list[Value], combines: Signal, came: Value, left: Value) -> list[Value]:
        """One or two registers of words x, and of differences in their places; returns as `_in_memory` does.

        A place is written a cycle after its word came: with 0 + x, or x - y. Both operands are registers and the sum
        goes straight into the place; to choose behind the adder would take a look-up table and the way to it.
        """
        config = self.config
        stores = delayed(m, self.i.valid, 1, name="stores", control=True)
        subtracts = delayed(m, combines, 1, name="subtracts", control=True)
        place = delayed(m, came, 1, name="place")
        results: list[Value] = []
        for lane, word in enumerate(self.i.payload):
            places = [
                Signal(config.arithmetic.difference, name=f"held_{lane}_{index}", reset_less=True)
                for index in range(config.distance)
            ]
            found = Signal(config.arithmetic.difference, name=f"found_{lane}", reset_less=True)
            minuend = Signal(config.arithmetic.operand, name=f"minuend_{lane}")
            other = Signal(config.arithmetic.operand, name=f"other_{lane}", reset_less=True)
            m.d.sync += other.eq(Mux(combines, ~word, word))
            if config.distance == 1:
                m.d.sync += found.eq(places[0])
                # The x that comes is the y's that follows.
                with m.If(stores):
                    m.d.sync += minuend.eq(Mux(subtracts, 0, words[lane]))
            else:
                held = Mux(left, places[1], places[0])
                m.d.sync += [found.eq(held), minuend.eq(Mux(combines, held, 0))]
            # The carry that makes a complement of the inverted y, in a place below.
            result = ((minuend << 1 | subtracts) + (other << 1 | subtracts)) >> 1
            for index, register in enumerate(places):
                with m.If(stores & ((place == index) if config.distance > 1 else 1)):
                    m.d.sync += register.eq(result)
            results.append(found)
        return results
