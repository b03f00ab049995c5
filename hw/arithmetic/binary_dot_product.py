"""Dot products of integers with bipolar weights, without multipliers."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Const, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.adder_tree import Term, add_tree, tree_latency
from karui.hw.streams.stream import Tagged, delayed
from karui.sw.numerics import NumberFormat, format_for_range


@dataclass(frozen=True, kw_only=True)
class BinaryDotProductConfig:
    """Parameters of a `BinaryDotProduct`.

    Parameters
    ----------
    rows : int
        Weight vectors that one activation vector is multiplied with in a cycle.
    simd : int
        Elements of a vector.
    input_format : NumberFormat
        Format of an activation, unsigned or signed.

    Raises
    ------
    ValueError
        If a number is less than 1 or the activations are bipolar.
    """

    rows: int
    simd: int
    input_format: NumberFormat

    def __post_init__(self) -> None:
        for name in ("rows", "simd"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a binary dot product must be 1 or more, not {getattr(self, name)}")
        if self.input_format.is_bipolar:
            raise ValueError("activations of a binary dot product must be integers, not bipolar: use an XNOR-popcount")

    @property
    def pairs(self) -> int:
        """Pairs of neighbouring elements; the last one may lack its second element."""
        return -(-self.simd // 2)

    @property
    def latency(self) -> int:
        """Cycles from the operands to their products' sums."""
        return 1 + tree_latency(self.pairs)

    @property
    def magnitude(self) -> int:
        """Largest magnitude of an activation."""
        return max(-self.input_format.minimum, self.input_format.maximum)

    @property
    def pair_format(self) -> NumberFormat:
        """Format that holds the sum and the difference of two activations."""
        low, high = self.input_format.minimum, self.input_format.maximum
        return format_for_range(min(2 * low, low - high), max(2 * high, high - low))

    @property
    def operands(self) -> data.StructLayout:
        """Payload in: `activations` as `prepare` makes them, and `weights` as `simd` bits for each row."""
        pair = signed(self.pair_format.bits)
        return data.StructLayout(
            {
                "activations": data.ArrayLayout(data.StructLayout({"sum": pair, "difference": pair}), self.pairs),
                "weights": data.ArrayLayout(Shape(self.simd), self.rows),
            }
        )

    @property
    def term_format(self) -> NumberFormat:
        """Format of a dot product."""
        return format_for_range(-self.simd * self.magnitude, self.simd * self.magnitude)

    @property
    def prepare_latency(self) -> int:
        """Cycles of `prepare`."""
        return 1

    def prepare(self, m: Module, activations: data.View[data.ArrayLayout]) -> Value:
        """The operand `activations`, sum and difference of each pair, from a vector of `simd` elements.

        It serves all rows, so that an engine computes it once.
        """
        result = Signal(self.operands["activations"].shape, name="pairs", reset_less=True)
        for pair in range(self.pairs):
            first = activations[2 * pair]
            second = activations[2 * pair + 1] if 2 * pair + 1 < self.simd else Const(0, 1)
            m.d.sync += [result[pair].sum.eq(first + second), result[pair].difference.eq(first - second)]
        return result.as_value()


class BinaryDotProduct(wiring.Component):
    """Multiplies a vector of integers by several weight vectors of -1 and +1.

    Two neighbouring products together are plus or minus the sum, or plus or minus the difference, of the two
    activations: a choice of four values a bit, one LUT4 for two products (instead of an AND for each of them). The
    minus is a complement, with its missing one as the carry into an adder of the tree: n terms have n - 1 adders, and
    the last term is negated in full. Latency `config.latency` cycles, throughput one vector a cycle.

    Parameters
    ----------
    config : BinaryDotProductConfig

    Members
    -------
    i : In(Tagged)
        Operands.
    o : Out(Tagged)
        Dot products, one a row.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: BinaryDotProductConfig) -> None:
        self.config = config
        products = data.ArrayLayout(signed(config.term_format.bits), config.rows)
        super().__init__({"i": In(Tagged(config.operands)), "o": Out(Tagged(products))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for row in range(self.config.rows):
            m.submodules[f"row_{row}"] = dot_product = BinaryRow(self.config)
            m.d.comb += [
                dot_product.activations.eq(self.i.payload.activations),
                dot_product.weights.eq(self.i.payload.weights[row]),
                self.o.payload[row].eq(dot_product.total),
            ]
        m.d.comb += self.o.valid.eq(delayed(m, self.i.valid, self.config.latency, name="valid", control=True))
        return m


class BinaryRow(wiring.Component):
    """One row; a module of its own, so that equal rows are emitted once.

    Parameters
    ----------
    config : BinaryDotProductConfig
        Of the dot product.
    complete : bool
        Whether the last term is negated in full. If not, a select is all that comes before the first register, and the
        dot product is ``total + missing``.

    Members
    -------
    activations, weights : In
        Operands, of one row.
    total, missing : Out
        Results, ``config.latency`` cycles later.
    """

    def __init__(self, config: BinaryDotProductConfig, *, complete: bool = True) -> None:
        self.config = config
        self.complete = complete
        super().__init__(
            {
                "activations": In(config.operands["activations"].shape),
                "weights": In(config.simd),
                "total": Out(signed(config.term_format.bits)),
                "missing": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        terms = [self._term(m, pair) for pair in range(self.config.pairs)]
        result = add_tree(m, terms)
        m.d.comb += [self.total.eq(result.value), self.missing.eq(0 if result.missing is None else result.missing)]
        return m

    def _term(self, m: Module, pair: int) -> Term:
        first = self.weights[2 * pair]
        second = self.weights[2 * pair + 1] if 2 * pair + 1 < self.config.simd else first
        activations = self.activations[pair]
        minus = Signal(name=f"minus_{pair}")
        chosen = Signal(signed(self.config.pair_format.bits), name=f"chosen_{pair}")
        complemented = Signal.like(chosen, name=f"complemented_{pair}")
        m.d.comb += [
            minus.eq(~first),
            chosen.eq(Mux(first ^ second, activations.difference, activations.sum)),
            complemented.eq(chosen ^ minus.replicate(len(chosen)).as_signed()),
        ]
        bound = 2 * self.config.magnitude
        value = Signal(range(-bound - 1, bound + 1), name=f"level_0_{pair}", reset_less=True)
        if self.complete and pair == self.config.pairs - 1:
            m.d.sync += value.eq(complemented + minus)
            return Term(value=value, low=-bound, high=bound, missing=None)
        missing = Signal(name=f"missing_0_{pair}", reset_less=True)
        m.d.sync += [value.eq(complemented), missing.eq(minus)]
        return Term(value=value, low=-bound - 1, high=bound, missing=missing)
