"""The factors of a low-rank generator for each layer: a small sequential unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.hdl import signed as signed_shape
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.round_saturate import ROUND_LATENCY, round_saturate, rounded
from karui.hw.arithmetic.wide_multiply import WideMultiply
from karui.hw.generated.loop_entry import layer_count
from karui.hw.memory.memory_style import DISTRIBUTED_ROM_WORDS, resolve, rom_attributes
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.streams.counters import cycle
from karui.hw.streams.elementwise import signed_range
from karui.hw.streams.stream import delayed, lanes_of
from karui.sw.ir import GeneratedLayers, LowRankGenerator
from karui.sw.ir.generated_bounds import generator_ranges
from karui.sw.ir.puppet_ops import FACTOR

_TERMS = ("c0", "c1")
_READ_LATENCY = 3
"""Cycles from a step to its constants: the address, the memory, a register."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerFactorsConfig:
    """Parameters of `LayerFactors`.

    Parameters
    ----------
    op : karui.sw.ir.GeneratedLayers
        Of a low-rank generator.
    order : StructLayout
        With the frame's `depth` and `level`.
    channels : int
    constants : mapping of str to ndarray of int64
        The generator's operands.
    """

    op: GeneratedLayers
    order: data.StructLayout
    channels: int
    constants: Mapping[str, npt.NDArray[np.int64]]

    @property
    def generator(self) -> LowRankGenerator:
        """The operation's."""
        assert isinstance(self.op.generator, LowRankGenerator)
        return self.op.generator

    @cached_property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """Ranges of all sums and products."""
        return generator_ranges(self.generator, self.constants)

    def bits(self, name: str) -> int:
        """Bits of a constant, signed."""
        values = self.constants[name]
        return int(signed_range(int(values.min()), int(values.max())).width)

    @property
    def height(self) -> tuple[int, int]:
        """Range of a level's distance from the centre."""
        return -self.generator.centre, self.generator.levels - 1 - self.generator.centre

    @property
    def offset_multiply(self) -> WideMultiply:
        """c1 times the height."""
        return WideMultiply(left=self.bits("c1"), right=signed_range(*self.height).width)

    @property
    def phi_multiply(self) -> WideMultiply:
        """phi times the coefficient."""
        return WideMultiply(left=self.bits("phi"), right=signed_range(*self.ranges["coefficient"]).width)

    @property
    def factor_multiply(self) -> WideMultiply:
        """u times the layer's coefficient."""
        return WideMultiply(left=self.bits("u"), right=FACTOR.bits)

    @property
    def coefficient_latency(self) -> int:
        """Cycles from a step to the term's coefficient: constants, product, rounding, sum."""
        return _READ_LATENCY + self.offset_multiply.latency + 2

    @property
    def sum_latency(self) -> int:
        """Cycles from a layer coefficient's last step to the coefficient: terms, product, sum, rounding."""
        return self.coefficient_latency + self.phi_multiply.latency + 1 + ROUND_LATENCY

    @property
    def latency(self) -> int:
        """Cycles from an output's step to its factor: constants, product, rounding."""
        return _READ_LATENCY + self.factor_multiply.latency + ROUND_LATENCY

    @property
    def term_cycles(self) -> int:
        """Cycles of a term of the rank: its functions' products, the pipeline, its outputs."""
        return self.generator.terms + self.sum_latency + self.channels

    @property
    def pass_cycles(self) -> int:
        """Cycles from a layer's start to that of the next one, if there is room."""
        return self.generator.rank * self.term_cycles + self.latency + 1

    @property
    def cost(self) -> Resources:
        """Cells, estimated."""
        dsps = sum(one.multipliers for one in (self.offset_multiply, self.phi_multiply, self.factor_multiply))
        total = Resources(luts=260 + 2 * signed_range(*self.ranges["phi"]).width, dsps=dsps)
        for name in ("phi", "c0", "c1", "u"):
            total += memory_cost(self.constants[name].size, self.bits(name), distributed=DISTRIBUTED_ROM_WORDS)
        return total


class LayerFactors(wiring.Component):
    """Yields the factors A of a low-rank generator, layer by layer, in the order (term, output).

    For each term r the products of the row of phi and of ``c0 + c1 h`` are summed one a cycle; then each output's
    ``u[o, r]`` is scaled by the result, one a cycle. A layer begins when its reader has room for all of it.

    Throughput a layer every ``config.pass_cycles`` cycles if there is room; latency from its start to its first factor
    ``config.generator.terms + config.sum_latency + config.latency`` cycles.

    Parameters
    ----------
    config : LayerFactorsConfig

    Members
    -------
    orders : In(stream)
        The frame's order, taken with its last layer.
    o : Out(stream)
        Factors. Once ready, the reader stays so for a layer.
    """

    orders: stream.Interface
    o: stream.Interface

    def __init__(self, config: LayerFactorsConfig) -> None:
        self.config = config
        super().__init__(
            {"orders": In(stream.Signature(config.order)), "o": Out(stream.Signature(lanes_of(FACTOR, 1)))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, generator = self.config, self.config.generator
        running, ends_term, ends_pass = Signal(), Signal(), Signal()
        # A term's cycles: its functions', the pipeline's, its outputs'.
        place = cycle(m, "place", config.term_cycles, step=running)
        term = cycle(m, "term", generator.rank, step=ends_term)
        m.d.comb += [ends_term.eq(running & place.is_last), ends_pass.eq(ends_term & term.is_last)]
        # The reader's word on room is of the next layer only when the last factor has reached it.
        settled = delayed(m, ends_pass, config.latency, name="settled", control=True)
        layers = layer_count(m, self.orders, 1, step=settled)
        waits = Signal(init=1)
        with m.If(settled):
            m.d.sync += waits.eq(1)
        with m.If(waits & layers.known & self.o.ready):
            m.d.sync += [running.eq(1), waits.eq(0)]
        with m.If(ends_pass):
            m.d.sync += running.eq(0)

        sums, gives = Signal(init=1), Signal()
        with m.If(running):
            with m.If(place.number == generator.terms - 1):
                m.d.sync += sums.eq(0)
            with m.If(place.number == generator.terms + config.sum_latency - 1):
                m.d.sync += gives.eq(1)
            with m.If(place.is_last):
                m.d.sync += [sums.eq(1), gives.eq(0)]
        function = cycle(m, "function", generator.terms, step=running & sums)
        output = cycle(m, "output", config.channels, step=running & gives)
        row = Signal(range(len(config.constants["phi"])), reset_less=True)
        with m.Switch(self.orders.payload.depth):
            for depth in config.op.depths:
                with m.Case(depth):
                    m.d.sync += row.eq(sum(each for each in config.op.depths if each < depth) + layers.number)
        phi = self._constant(m, "phi", config.constants["phi"], row, function.number)
        c0, c1 = (self._constant(m, name, config.constants[name].T, term.number, function.number) for name in _TERMS)
        u = self._constant(m, "u", config.constants["u"].T, term.number, output.number)

        height = Signal(signed_range(*config.height), reset_less=True)
        m.d.sync += height.eq(self.orders.payload.level - generator.centre)
        offset = config.offset_multiply.build(m, c1, height, name="offset")
        low, high = config.ranges["offset"]
        change = rounded(m, offset, generator.h_shift, low=low, high=high, name="change")
        coefficient = Signal(signed_range(*config.ranges["coefficient"]), name="term_coefficient", reset_less=True)
        m.d.sync += coefficient.eq(change + delayed(m, c0, config.offset_multiply.latency + 1, name="c0").as_signed())
        waited = delayed(m, phi, config.coefficient_latency - _READ_LATENCY, name="phi_waited").as_signed()
        product = config.phi_multiply.build(m, waited, coefficient, name="weighted")
        arrives = config.coefficient_latency + config.phi_multiply.latency
        total = Signal(signed_range(*config.ranges["phi"]), name="total", reset_less=True)
        is_first = delayed(m, function.is_first, arrives, name="first_function")
        with m.If(delayed(m, running & sums, arrives, name="sums", control=True)):
            m.d.sync += total.eq(product + Mux(is_first, 0, total))
        low, high = config.ranges["phi"]
        layer_coefficient = round_saturate(
            m, total, generator.a_shift, FACTOR, low=low, high=high, name="layer_coefficient"
        )
        product = config.factor_multiply.build(m, u, layer_coefficient, name="factor")
        low, high = config.ranges["factor"]
        factor = round_saturate(m, product, generator.u_shift, FACTOR, low=low, high=high, name="result")
        m.d.comb += [
            self.o.valid.eq(delayed(m, running & gives, config.latency, name="valid", control=True)),
            self.o.payload[0].eq(factor),
        ]
        return m

    def _constant(self, m: Module, name: str, values: npt.NDArray[np.int64], row: Signal, column: Signal) -> Value:
        """A constant, `_READ_LATENCY` cycles after its row and column; rows begin at powers of two."""
        bits = self.config.bits(name)
        places = 1 << (values.shape[1] - 1).bit_length()
        padded = np.zeros((len(values), places), dtype=np.int64)
        padded[:, : values.shape[1]] = values
        storage = resolve("auto", depth=padded.size, limit=DISTRIBUTED_ROM_WORDS)
        m.submodules[name] = rom = memory.Memory(
            shape=signed_shape(bits), depth=padded.size, init=padded.reshape(-1).tolist(), attrs=rom_attributes(storage)
        )
        read = rom.read_port()
        address = Signal(range(padded.size), name=f"{name}_address", reset_less=True)
        m.d.sync += address.eq(Cat(column[: (places - 1).bit_length()], row))
        m.d.comb += read.addr.eq(address)
        return delayed(m, read.data, _READ_LATENCY - 2, name=f"{name}_word").as_signed()
