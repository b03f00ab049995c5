"""Sums of predictions, weighted by coupling coefficients."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value
from amaranth.hdl import signed as signed_shape
from amaranth.hdl import unsigned as unsigned_shape
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.integer_dot_product import IntegerDotProductConfig, Multiplier
from karui.hw.arithmetic.products_of import products_latency, products_of
from karui.hw.arithmetic.round_saturate import ROUND_LATENCY, round_saturate
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, ram_attributes, resolve
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import Tagged, delayed, lanes_of
from karui.sw.ir import Routing, routing_sum_range
from karui.sw.numerics import TABLE_FRACTION, NumberFormat, format_for_range, unsigned

_LEAST_MEMORY_WORDS = 4
"""Sums from which on they lie in a memory: a sum is read two steps ahead, and written a cycle behind."""


@dataclass(frozen=True, kw_only=True)
class WeightedSumsConfig:
    """Parameters of `WeightedSums`.

    Parameters
    ----------
    op : Routing
    element : NumberFormat
        Format of the predictions.
    capsules : int
        Predictions that are summed for each output capsule.
    lanes : int
        Elements of a prediction a cycle; divides its length.
    multiplier : {"dsp", "lut"}
        What the products are made of.
    """

    op: Routing
    element: NumberFormat
    capsules: int
    lanes: int
    multiplier: Multiplier

    @property
    def beats(self) -> int:
        """Beats of all output capsules: sums that are under way, `lanes` elements each."""
        return self.op.outputs * self.op.length // self.lanes

    @property
    def products(self) -> IntegerDotProductConfig:
        """The products of a beat's elements and their coefficient."""
        return IntegerDotProductConfig(
            rows=self.lanes,
            simd=1,
            input_format=unsigned(TABLE_FRACTION),
            weight_format=self.element,
            multiplier=self.multiplier,
        )

    @property
    def sum_range(self) -> tuple[int, int]:
        """The smallest and the largest sum."""
        return routing_sum_range(self.op, self.element, self.capsules)

    @property
    def sum_format(self) -> NumberFormat:
        """Format of a sum, wide enough for any coefficients."""
        return format_for_range(*self.sum_range)

    @property
    def in_registers(self) -> bool:
        """Whether the sums lie in registers."""
        return self.beats < _LEAST_MEMORY_WORDS

    @property
    def latency(self) -> int:
        """Cycles from a beat to the sum that it completes, rounded."""
        return products_latency(self.products) + 1 + ROUND_LATENCY


class WeightedSums(wiring.Component):
    """Adds up products of predictions and coefficients, for all output capsules in turn.

    Beats of the J capsules' predictions come again and again, each with its coefficient; the sums of those beats lie in
    a ring. Latency ``config.latency`` cycles from the beat that completes a sum, throughput a beat a cycle.

    Parameters
    ----------
    config : WeightedSumsConfig

    Members
    -------
    i : In(Tagged)
        `word`, a beat of a prediction; its `coupling`; whether it `begins` or `ends` a sum.
    o : Out(Tagged)
        Complete sums, rounded to ``config.op.sums``.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: WeightedSumsConfig) -> None:
        self.config = config
        beat = data.StructLayout(
            {
                "word": lanes_of(config.element, config.lanes),
                "coupling": unsigned_shape(TABLE_FRACTION),
                "begins": 1,
                "ends": 1,
            }
        )
        super().__init__({"i": In(Tagged(beat)), "o": Out(Tagged(lanes_of(config.op.sums, config.lanes)))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        low, high = config.sum_range
        bits = config.element.bits
        word = self.i.payload.word.as_value()
        products = products_of(
            m,
            config.products,
            [self.i.payload.coupling],
            [word[lane * bits : (lane + 1) * bits] for lane in range(config.lanes)],
            name="products",
        )
        latency = products_latency(config.products)
        valid = delayed(m, self.i.valid, latency, name="multiplied", control=True)
        begins = delayed(m, self.i.payload.begins, latency, name="begins")

        width = config.sum_format.bits
        sums = [Signal(signed_shape(width), name=f"sum_{lane}", reset_less=True) for lane in range(config.lanes)]
        before = self._before(m, Cat(sums), valid)
        with m.If(valid):
            for lane, total in enumerate(sums):
                old = before[lane * width : (lane + 1) * width].as_signed()
                m.d.sync += total.eq(Mux(begins, 0, old) + products[lane])
        for lane, total in enumerate(sums):
            rounded = round_saturate(
                m, total, config.op.sum_shift, config.op.sums, low=low, high=high, name=f"rounded_{lane}"
            )
            m.d.comb += self.o.payload[lane].eq(rounded)
        ends = self.i.valid & self.i.payload.ends
        m.d.comb += self.o.valid.eq(delayed(m, ends, config.latency, name="valid", control=True))
        return m

    def _before(self, m: Module, sums: Value, step: Value) -> Value:
        """The sums as they were a whole turn of beats before, in the cycle of a step, which makes `sums` the next."""
        config = self.config
        if config.in_registers:
            current = sums
            for place in range(1, config.beats):
                register = Signal(len(sums), name=f"sums_{place}", reset_less=True)
                with m.If(step):
                    m.d.sync += register.eq(current)
                current = register
            return current
        storage = resolve("auto", depth=config.beats, limit=DISTRIBUTED_RAM_WORDS)
        m.submodules.sums = held = memory.Memory(
            shape=Shape(len(sums)), depth=config.beats, init=[], attrs=ram_attributes(storage)
        )
        write, read = held.write_port(), held.read_port()
        written = delayed(m, step, 1, name="written", control=True)
        ahead = Signal(range(config.beats), init=2)
        before = Signal(len(sums), name="before", reset_less=True)
        m.d.comb += [
            write.en.eq(written),
            write.addr.eq(cycle(m, "write", config.beats, step=written).number),
            write.data.eq(sums),
            read.en.eq(step),
            read.addr.eq(ahead),
        ]
        with m.If(step):
            m.d.sync += [before.eq(read.data), ahead.eq(Mux(ahead == config.beats - 1, 0, ahead + 1))]
        return before
