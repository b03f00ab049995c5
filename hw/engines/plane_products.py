"""Products of unsigned words with bipolar weights, bit plane by bit plane."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.binary_dot_product import BinaryDotProduct, BinaryDotProductConfig
from karui.hw.arithmetic.popcount import LutInputs
from karui.hw.arithmetic.xnor_popcount import XnorPopcount, XnorPopcountConfig
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import Tagged, lanes_of
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import NumberFormat, format_for_range, unsigned


@dataclass(frozen=True, kw_only=True)
class PlaneProductsConfig:
    """Parameters of a `PlaneProducts`.

    Parameters
    ----------
    rows : int
        Weight vectors side by side.
    simd : int
        Elements of a beat.
    words : int
        Beats of a vector.
    bits : int
        Bit planes of an element.
    planes : int
        Bit planes of a beat; they divide the `bits`.
    lut_inputs : {4, 6}
        Inputs of the target's look-up tables.

    Raises
    ------
    ValueError
        If a number is less than 1, or the planes do not divide.
    """

    rows: int
    simd: int
    words: int
    bits: int
    planes: int
    lut_inputs: LutInputs = 4

    def __post_init__(self) -> None:
        for name in ("rows", "simd", "words", "bits"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of plane products must be 1 or more, not {getattr(self, name)}")
        require_divisor("planes", self.planes, self.bits, "bits of an element")

    @property
    def turns(self) -> int:
        """How often a vector's beats go through, each time with other planes."""
        return self.bits // self.planes

    @property
    def counts(self) -> bool:
        """Whether bits are counted that equal the weights', instead of products added."""
        return self.planes == 1

    @property
    def products(self) -> XnorPopcountConfig | BinaryDotProductConfig:
        """What a beat's planes are multiplied with the weights in."""
        if self.counts:
            return XnorPopcountConfig(rows=self.rows, simd=self.simd, lut_inputs=self.lut_inputs)
        return BinaryDotProductConfig(rows=self.rows, simd=self.simd, input_format=unsigned(self.planes))

    @property
    def total_format(self) -> NumberFormat:
        """Format of a total."""
        most = ((1 << self.bits) - 1) * self.words * self.simd
        return format_for_range(0 if self.counts else -most, most)

    @property
    def latency(self) -> int:
        """Cycles from the last operands of a vector to its totals."""
        return self.products.latency + 1


class PlaneProducts(wiring.Component):
    """Multiplies vectors of unsigned words by several vectors of -1 and +1, some bit planes at a time.

    Beats come plane by plane, the most significant first: a total is shifted before each turn (Horner's rule) and takes
    the terms of the turn's beats. One plane is multiplied by an XNOR and a population count, as bipolar vectors are; of
    several planes the words that they make are added and subtracted, which takes about as many look-up tables as a
    count for each of two planes, and fewer of more.

    A count U of equal bits is not yet a product: for words x of Q bits and weights s in {-1, +1} it is
    ``s . x = U + (2**Q - 1) * (ones of s - length)``, with a constant that whoever takes the totals adds.

    It counts the beats itself. Latency `config.latency` cycles from a vector's last beat, throughput a beat a cycle.

    Parameters
    ----------
    config : PlaneProductsConfig

    Members
    -------
    i : In(Tagged)
        Operands, ``config.products.operands``.
    o : Out(Tagged)
        Totals, a beat for each ``turns * words`` of operands.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: PlaneProductsConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(Tagged(config.products.operands)),
                "o": Out(Tagged(lanes_of(config.total_format, config.rows))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        made = config.products
        products = XnorPopcount(made) if isinstance(made, XnorPopcountConfig) else BinaryDotProduct(made)
        m.submodules.products = products
        wiring.connect(m, wiring.flipped(self.i), products.i)
        terms = products.o
        word = cycle(m, "word", config.words, step=terms.valid)
        turn = cycle(m, "turn", config.turns, step=terms.valid & word.is_last)
        valid, is_first = Signal(), Signal()
        m.d.sync += valid.eq(terms.valid & word.is_last & turn.is_last)
        m.d.comb += [self.o.valid.eq(valid), is_first.eq(word.is_first & turn.is_first)]
        for row in range(config.rows):
            total = Signal.like(self.o.payload[row], name=f"total_{row}", reset_less=True)
            before = Mux(is_first, 0, Mux(word.is_first, total << config.planes, total))
            with m.If(terms.valid):
                m.d.sync += total.eq(terms.payload[row] + (before if config.turns * config.words > 1 else 0))
            m.d.comb += self.o.payload[row].eq(total)
        return m
