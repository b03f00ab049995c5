"""Dot products of bipolar vectors: XNOR and population count."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Shape, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.popcount import LutInputs, popcount, popcount_latency
from karui.hw.streams.stream import Tagged, delayed, lanes_of
from karui.sw.numerics import BIPOLAR, NumberFormat, unsigned


@dataclass(frozen=True, kw_only=True)
class XnorPopcountConfig:
    """Parameters of an `XnorPopcount`.

    Parameters
    ----------
    rows : int
        Weight vectors that one activation vector is multiplied with in a cycle.
    simd : int
        Elements of a vector.
    lut_inputs : {4, 6}
        Inputs of the target's look-up tables: what the first levels are made of.

    Raises
    ------
    ValueError
        If a number is less than 1.
    """

    rows: int
    simd: int
    lut_inputs: LutInputs = 4

    def __post_init__(self) -> None:
        for name in ("rows", "simd"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of an XNOR-popcount must be 1 or more, not {getattr(self, name)}")

    @property
    def latency(self) -> int:
        """Cycles from the operands to their counts."""
        return popcount_latency(self.simd, self.lut_inputs)

    @property
    def prepare_latency(self) -> int:
        """Cycles of `prepare`."""
        return 0

    def prepare(self, m: Module, activations: data.View[data.ArrayLayout]) -> Value:
        """The operand `activations` from a vector of `simd` elements: the vector itself."""
        return activations.as_value()

    @property
    def operands(self) -> data.StructLayout:
        """Payload in: `activations`, and `weights` as `simd` bits for each row."""
        return data.StructLayout(
            {"activations": lanes_of(BIPOLAR, self.simd), "weights": data.ArrayLayout(Shape(self.simd), self.rows)}
        )

    @property
    def term_format(self) -> NumberFormat:
        """Format of a count, 0 to `simd`."""
        return unsigned(self.simd.bit_length())


class XnorPopcount(wiring.Component):
    """Counts the positions in which an activation vector equals each of several weight vectors.

    With bits for -1 and +1, a product is +1 where the bits are equal: the dot product is ``2 * count - simd``.
    Latency `config.latency` cycles, throughput one vector a cycle.

    Parameters
    ----------
    config : XnorPopcountConfig

    Members
    -------
    i : In(Tagged)
        Operands.
    o : Out(Tagged)
        Counts.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: XnorPopcountConfig) -> None:
        self.config = config
        super().__init__(
            {"i": In(Tagged(config.operands)), "o": Out(Tagged(lanes_of(config.term_format, config.rows)))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for row in range(self.config.rows):
            m.submodules[f"row_{row}"] = dot_product = _DotProduct(self.config.simd, self.config.lut_inputs)
            m.d.comb += [
                dot_product.activations.eq(self.i.payload.activations.as_value()),
                dot_product.weights.eq(self.i.payload.weights[row]),
                self.o.payload[row].eq(dot_product.count),
            ]
        m.d.comb += self.o.valid.eq(delayed(m, self.i.valid, self.config.latency, name="valid", control=True))
        return m


class _DotProduct(wiring.Component):
    """One row; a module of its own, so that equal rows are emitted once."""

    activations: Signal
    weights: Signal
    count: Signal

    def __init__(self, simd: int, lut_inputs: LutInputs) -> None:
        self.lut_inputs = lut_inputs
        super().__init__({"activations": In(simd), "weights": In(simd), "count": Out(range(simd + 1))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        equal = Signal(len(self.activations))
        m.d.comb += [
            equal.eq(~(self.activations ^ self.weights)),
            self.count.eq(popcount(m, equal, self.lut_inputs)),
        ]
        return m
