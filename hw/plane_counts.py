"""Products of unsigned words with bipolar weights, bit plane by bit plane, on population counts."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.adder_tree import Term, add_tree, tree_latency
from karui.hw.counters import cycle
from karui.hw.popcount import LutInputs
from karui.hw.stream import Tagged, delayed, lanes_of
from karui.hw.timing import require_divisor
from karui.hw.xnor_popcount import XnorPopcount, XnorPopcountConfig
from karui.sw.numerics import NumberFormat, format_for_range


@dataclass(frozen=True, kw_only=True)
class PlaneCountsConfig:
    """Parameters of a `PlaneCounts`.

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
                raise ValueError(f"{name} of plane counts must be 1 or more, not {getattr(self, name)}")
        require_divisor("planes", self.planes, self.bits, "bits of an element")

    @property
    def turns(self) -> int:
        """How often a vector's beats go through, each time with other planes."""
        return self.bits // self.planes

    @property
    def counts(self) -> XnorPopcountConfig:
        """The counts of a plane."""
        return XnorPopcountConfig(rows=self.rows, simd=self.simd, lut_inputs=self.lut_inputs)

    @property
    def operands(self) -> data.StructLayout:
        """Payload in: `activations` as `simd` bits for each plane, the lowest first, and `weights` for each row."""
        return data.StructLayout(
            {
                "activations": data.ArrayLayout(Shape(self.simd), self.planes),
                "weights": data.ArrayLayout(Shape(self.simd), self.rows),
            }
        )

    @property
    def total_format(self) -> NumberFormat:
        """Format of a total."""
        return format_for_range(0, ((1 << self.bits) - 1) * self.words * self.simd)

    @property
    def latency(self) -> int:
        """Cycles from the last operands of a vector to its totals."""
        return self.counts.latency + tree_latency(self.planes) + 1


class PlaneCounts(wiring.Component):
    """Adds up, over the bit planes e of a vector, ``2**e`` times the number of bits that equal the weights'.

    Beats come plane by plane, the most significant first: a total doubles before each plane (Horner's rule) and takes
    the counts of the plane's beats. Planes of one beat are weighted in a tree of adders before. With the total U, the
    weights s in {-1, +1} and words x of Q bits, the product is ``s . x = U + (2**Q - 1) * (ones of s - length)``.

    It counts the beats itself. Latency `config.latency` cycles from a vector's last beat, throughput a beat a cycle.

    Parameters
    ----------
    config : PlaneCountsConfig

    Members
    -------
    i : In(Tagged)
        Operands.
    o : Out(Tagged)
        Totals, a beat for each ``turns * words`` of operands.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: PlaneCountsConfig) -> None:
        self.config = config
        super().__init__(
            {"i": In(Tagged(config.operands)), "o": Out(Tagged(lanes_of(config.total_format, config.rows)))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        planes = [XnorPopcount(config.counts) for _ in range(config.planes)]
        for index, plane in enumerate(planes):
            m.submodules[f"plane_{index}"] = plane
            m.d.comb += [
                plane.i.valid.eq(self.i.valid),
                plane.i.payload.activations.as_value().eq(self.i.payload.activations[index]),
                plane.i.payload.weights.as_value().eq(self.i.payload.weights.as_value()),
            ]
        added = delayed(m, planes[0].o.valid, tree_latency(config.planes), name="added", control=True)
        word = cycle(m, "word", config.words, step=added)
        turn = cycle(m, "turn", config.turns, step=added & word.is_last)
        valid = Signal()
        m.d.sync += valid.eq(added & word.is_last & turn.is_last)
        m.d.comb += self.o.valid.eq(valid)
        is_first, doubles = Signal(), Signal()
        m.d.comb += [is_first.eq(word.is_first & turn.is_first), doubles.eq(word.is_first)]
        for row in range(config.rows):
            terms = [
                Term(value=plane.o.payload[row] << index, low=0, high=config.simd << index)
                for index, plane in enumerate(planes)
            ]
            term = add_tree(m, terms, name=f"row_{row}").value
            total = Signal.like(self.o.payload[row], name=f"total_{row}", reset_less=True)
            before = Mux(is_first, 0, Mux(doubles, total << config.planes, total))
            with m.If(added):
                m.d.sync += total.eq(term if config.turns * config.words == 1 else before + term)
            m.d.comb += self.o.payload[row].eq(total)
        return m
