"""Squashing of vectors: each shrunk to a length below 1, by a gain from a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import memory

from karui.hw.arithmetic.integer_dot_product import IntegerDotProductConfig, Multiplier
from karui.hw.arithmetic.normalize import Normalize
from karui.hw.arithmetic.products_of import products_latency, products_of
from karui.hw.arithmetic.round_saturate import ROUND_LATENCY, round_saturate
from karui.hw.memory.memory_style import (
    DISTRIBUTED_RAM_WORDS,
    DISTRIBUTED_ROM_WORDS,
    ram_attributes,
    resolve,
    rom_attributes,
)
from karui.hw.streams.counters import cycle
from karui.hw.streams.elementwise import Elementwise, ElementwiseConfig, ElementwisePipeline
from karui.hw.streams.stream import FIFO_LATENCY, delayed
from karui.hw.streams.timing import Cycles, Schedule, consecutive, require_divisor
from karui.sw.numerics import NumberFormat, format_for_range

_TABLE_LATENCY = 3
"""The table's memory and two registers behind it."""
_READ_LATENCY = 2
"""The memory of the words and a register behind it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SquashConfig(ElementwiseConfig):
    """Parameters of a `SquashPipeline` and of a `Squash`.

    The channels are the elements of a vector, the positions the vectors of a frame.

    Parameters
    ----------
    gains : ndarray of int64, shape (places, 2**index_bits)
        See `karui.sw.ir.Squash`.
    shift : int
        Binary places that products drop, 1 or more.
    multiplier : {"dsp", "lut"}
        What squares and products are made of.

    Raises
    ------
    ValueError
        If the lanes do not divide the vector, or the gains are not those of its squared norms.
    """

    gains: npt.NDArray[np.int64]
    shift: int
    multiplier: Multiplier = "dsp"

    def __post_init__(self) -> None:
        require_divisor("lanes of a squash", self.lanes, self.channels, "elements of a vector")
        if self.period != 1:
            raise ValueError(f"beats of a squash may follow one another: period must be 1, not {self.period}")
        if len(self.gains) != self.squared_norm.bits:
            raise ValueError(
                f"squared norms of {self.squared_norm.bits} bits take as many rows of gains, not {len(self.gains)}"
            )

    @property
    def squares(self) -> IntegerDotProductConfig:
        """The squares of a beat and their sum."""
        return IntegerDotProductConfig(
            rows=1,
            simd=self.lanes,
            input_format=self.input_format,
            weight_format=self.input_format,
            multiplier=self.multiplier,
        )

    @property
    def squared_norm(self) -> NumberFormat:
        """Format of a vector's squared norm."""
        return format_for_range(0, self.channels * self.input_format.minimum**2)

    @property
    def gain_format(self) -> NumberFormat:
        """Format of a gain."""
        return format_for_range(0, int(self.gains.max()))

    @property
    def products(self) -> IntegerDotProductConfig:
        """The products of a beat's elements and their vector's gain."""
        return IntegerDotProductConfig(
            rows=self.lanes,
            simd=1,
            input_format=self.gain_format,
            weight_format=self.input_format,
            multiplier=self.multiplier,
        )

    @property
    def normalize(self) -> Normalize:
        """What finds the leading bits of a squared norm."""
        return Normalize(width=self.squared_norm.bits, index_bits=self.gains.shape[1].bit_length() - 1)

    @property
    def gain_latency(self) -> int:
        """Cycles from a vector's last beat to its gain behind the table."""
        return products_latency(self.squares) + (self.folds > 1) + self.normalize.latency + _TABLE_LATENCY

    @property
    def vector_latency(self) -> int:
        """Cycles from a vector's last beat to the first beat of its result, both at the ends of the pipeline."""
        return self.gain_latency + 1 + products_latency(self.products) + ROUND_LATENCY

    @property
    def latency(self) -> int:
        """Cycles of the pipeline where a vector's beats follow one another."""
        return self.folds - 1 + self.vector_latency

    @property
    def stored_words(self) -> int:
        """Beats that wait for their gain at most: a vector's, and those of the time until its last result."""
        return 2 * self.folds + self.gain_latency

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat of the pipeline between streams."""
        accepted = consecutive(arrivals)
        ends = accepted.reshape(-1, self.folds)[:, -1:]
        departures = ends + np.arange(self.folds) + self.vector_latency + FIFO_LATENCY
        return Schedule(accepted=accepted, departures=departures.reshape(-1))


class SquashPipeline(ElementwisePipeline):
    """Shrinks vectors: a vector's elements times the gain of its norm.

    The squares of each beat are summed and accumulated; the sum's leading bits are the gain's address. Meanwhile the
    vector's beats wait in a memory. Latency ``config.vector_latency`` cycles from a vector's last beat to the first of
    its result, whose beats follow one another; throughput a beat a cycle.

    Parameters
    ----------
    config : SquashConfig
    """

    def __init__(self, config: SquashConfig) -> None:
        self.config = config
        super().__init__(config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        ends = Signal()
        beat = cycle(m, "beat", config.folds, step=self.i.valid)
        m.d.comb += ends.eq(self.i.valid & beat.is_last)

        gain = self._gain(m, self._squared_norm(m, beat.is_first))
        # The gain is held from the cycle in which the first of its vector's words comes out of the memory.
        held = Signal.like(gain, name="held_gain", reset_less=True)
        with m.If(delayed(m, ends, config.gain_latency, name="gain_is_there", control=True)):
            m.d.sync += held.eq(gain)
        reads = Signal()
        starts = delayed(m, ends, config.gain_latency + 1 - _READ_LATENCY, name="starts", control=True)
        turn = cycle(m, "turn", config.folds, step=reads)
        m.d.comb += reads.eq(starts | ~turn.is_first)

        bits = config.input_format.bits
        word = self._words(m, reads)
        elements = [word[lane * bits : (lane + 1) * bits] for lane in range(config.lanes)]
        products = products_of(m, config.products, [held], elements, name="products")
        low, high = config.products.product_range
        for lane, product in enumerate(products):
            squashed = round_saturate(
                m, product, config.shift, config.output_format, low=low, high=high, name=f"squashed_{lane}"
            )
            m.d.comb += self.o.payload[lane].eq(squashed)
        latency = _READ_LATENCY + products_latency(config.products) + ROUND_LATENCY
        m.d.comb += self.o.valid.eq(delayed(m, reads, latency, name="valid", control=True))
        return m

    def _squared_norm(self, m: Module, is_first: Signal) -> Value:
        config = self.config
        words = [self.i.payload[lane] for lane in range(config.lanes)]
        (squares,) = products_of(m, config.squares, words, [self.i.payload.as_value()], name="squares")
        if config.folds == 1:
            return squares
        latency = products_latency(config.squares)
        begins = delayed(m, is_first, latency, name="begins")
        total = Signal(config.squared_norm.bits, name="squared_norm", reset_less=True)
        with m.If(delayed(m, self.i.valid, latency, name="squared", control=True)):
            m.d.sync += total.eq(squares + Mux(begins, 0, total))
        return total

    def _gain(self, m: Module, squared_norm: Value) -> Value:
        config = self.config
        places, index = config.normalize.build(m, squared_norm, name="normalized")
        # Rows by the places that the norm was shifted, the highest norms first; a norm of 0 needs no gain.
        entries = config.gains[::-1].reshape(-1).tolist()
        storage = resolve("auto", depth=len(entries), limit=DISTRIBUTED_ROM_WORDS)
        m.submodules.gains = table = memory.Memory(
            shape=Shape(config.gain_format.bits), depth=len(entries), init=entries, attrs=rom_attributes(storage)
        )
        read = table.read_port()
        m.d.comb += read.addr.eq(Cat(index, places))
        return delayed(m, read.data, _TABLE_LATENCY - 1, name="gain")

    def _words(self, m: Module, reads: Signal) -> Value:
        """The beats of vectors, in order, one for each cycle of `reads`, `_READ_LATENCY` later."""
        depth = self.config.stored_words
        storage = resolve("auto", depth=depth, limit=DISTRIBUTED_RAM_WORDS)
        m.submodules.words = held = memory.Memory(
            shape=Shape(len(self.i.payload.as_value())), depth=depth, init=[], attrs=ram_attributes(storage)
        )
        write, read = held.write_port(), held.read_port()
        m.d.comb += [
            write.en.eq(self.i.valid),
            write.addr.eq(cycle(m, "produce", depth, step=self.i.valid).number),
            write.data.eq(self.i.payload),
            read.addr.eq(cycle(m, "consume", depth, step=reads).number),
        ]
        return delayed(m, read.data, _READ_LATENCY - 1, name="word")


class Squash(Elementwise):
    """A stage of its own: a `SquashPipeline` between streams; see `Elementwise`.

    Parameters
    ----------
    config : SquashConfig
    """

    def __init__(self, config: SquashConfig) -> None:
        super().__init__(config, SquashPipeline(config))
