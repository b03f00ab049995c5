"""Dot products of integers with integer weights: in DSP multipliers, or in look-up tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.adder_tree import Term, add_tree, tree_latency
from karui.hw.arithmetic.binary_dot_product import BinaryDotProductConfig, BinaryRow
from karui.hw.arithmetic.wide_multiply import MULTIPLIER_BITS
from karui.hw.streams.stream import Tagged, delayed, element_shape, integer_of, lanes_of
from karui.sw.numerics import NumberFormat, format_for_range

Multiplier = Literal["dsp", "lut"]
"""What a product is made of."""


@dataclass(frozen=True, kw_only=True)
class IntegerDotProductConfig:
    """Parameters of an `IntegerDotProduct`.

    Parameters
    ----------
    rows : int
        Weight vectors that one activation vector is multiplied with in a cycle.
    simd : int
        Elements of a vector.
    input_format : NumberFormat
        Format of an activation: bipolar, unsigned or signed.
    weight_format : NumberFormat
        Format of a weight, unsigned or signed.
    multiplier : {"dsp", "lut"}
        DSP multipliers, two rows in one where both fit, or look-up tables.

    Raises
    ------
    ValueError
        If a number is less than 1 or the weights are bipolar.
    """

    rows: int
    simd: int
    input_format: NumberFormat
    weight_format: NumberFormat
    multiplier: Multiplier = "dsp"

    def __post_init__(self) -> None:
        for name in ("rows", "simd"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of an integer dot product must be 1 or more, not {getattr(self, name)}")
        if self.weight_format.is_bipolar:
            raise ValueError("weights of an integer dot product must be integers, not bipolar: use a binary one")
        if self.multiplier not in ("dsp", "lut"):
            raise ValueError(f"multiplier must be dsp or lut, not {self.multiplier!r}")

    @property
    def value_format(self) -> NumberFormat:
        """Format of an activation's integer."""
        low, high = self.input_format.minimum, self.input_format.maximum
        return format_for_range(low, high)

    @property
    def product_range(self) -> tuple[int, int]:
        """Smallest and largest product."""
        left, right = self.input_format, self.weight_format
        corners = [a * b for a in (left.minimum, left.maximum) for b in (right.minimum, right.maximum)]
        return min(corners), max(corners)

    @property
    def product_format(self) -> NumberFormat:
        """Format of a product."""
        return format_for_range(*self.product_range)

    @property
    def term_format(self) -> NumberFormat:
        """Format of a dot product."""
        low, high = self.product_range
        return format_for_range(self.simd * low, self.simd * high)

    @property
    def packed_weights(self) -> NumberFormat:
        """Format of two weights that are multiplied at once: ``first + (second << product_format.bits)``."""
        low, high = self.weight_format.minimum, self.weight_format.maximum
        place = self.product_format.bits
        return format_for_range(low + (low << place), high + (high << place))

    @property
    def packs(self) -> bool:
        """Whether a DSP multiplier serves two rows."""
        return self.multiplier == "dsp" and self.rows > 1 and _port_bits(self.packed_weights) <= MULTIPLIER_BITS

    @property
    def dsps(self) -> int:
        """DSP multipliers (those of operands of up to 18 bits, sign included)."""
        if self.multiplier == "lut":
            return 0
        return self.simd * (-(-self.rows // 2) if self.packs else self.rows)

    @property
    def luts(self) -> float:
        """Look-up tables of the products of a cycle and of their sums, as fitted to mapped ECP5 designs."""
        if self.multiplier == "dsp":
            # Adders alone; of packed products with a carry in each, and what joins two weights.
            adder = self.product_format.bits + (2.5 if self.packs else 1.5)
            joined = 0.5 * (self.weight_format.bits + 1) if self.packs else 0.0
            return self.rows * ((self.simd - 1) * adder + self.simd * joined)
        bits, planes, pairs = self.value_format.bits, self.plane_count, self.planes.pairs
        # Of a pair of products and a bit of the weights a choice, and adders between pairs; the planes' sums are added
        # to one another.
        plane = 1.12 * (pairs * (bits + 2) + (pairs - 1) * (bits + 3))
        return self.rows * planes * (plane + bits + self.simd.bit_length() + 4) + pairs * (2 * bits + 5)

    @property
    def planes(self) -> BinaryDotProductConfig:
        """The dot product of one bit of each weight, in look-up tables."""
        return BinaryDotProductConfig(rows=1, simd=self.simd, input_format=self.value_format)

    @property
    def plane_count(self) -> int:
        """Bits of a weight in two's complement."""
        return self.weight_format.bits + (self.weight_format.kind == "unsigned")

    @property
    def prepare_latency(self) -> int:
        """Cycles of `prepare`."""
        return 0 if self.multiplier == "dsp" else self.planes.prepare_latency

    @property
    def latency(self) -> int:
        """Cycles from the operands to their products' sums."""
        if self.multiplier == "dsp":
            return 3 + tree_latency(self.simd)
        # Each plane's sum, the sum of the activations, and the ones that the planes lack.
        return self.planes.latency + tree_latency(self.plane_count + 2)

    @property
    def operands(self) -> data.StructLayout:
        """Payload in: `activations` as `prepare` makes them, and `weights`, `simd` elements for each row."""
        activations: data.Layout = lanes_of(self.input_format, self.simd)
        if self.multiplier == "lut":
            activations = self.planes.operands["activations"].shape
        weights = Shape(self.simd * self.weight_format.bits)
        return data.StructLayout({"activations": activations, "weights": data.ArrayLayout(weights, self.rows)})

    def prepare(self, m: Module, activations: data.View[data.ArrayLayout]) -> Value:
        """The operand `activations` from a vector of `simd` elements; it serves all rows."""
        if self.multiplier == "dsp":
            return activations.as_value()
        values = Signal(lanes_of(self.value_format, self.simd), name="values")
        m.d.comb += [values[index].eq(integer_of(activations[index], self.input_format)) for index in range(self.simd)]
        return self.planes.prepare(m, values)


class IntegerDotProduct(wiring.Component):
    """Multiplies a vector of integers by several weight vectors of integers.

    In DSP multipliers: a register before each and two behind it, which lie beside it or in it; a tree of adders,
    registered at each level, sums the products. Where both fit, two rows share a multiplier: ``x (a + (b << n))`` has
    ``x a`` in its lowest n bits, and above them ``x b`` plus the sign of ``x a``, which is given back with a carry of
    the tree.

    In look-up tables: a weight of W bits ``b`` is ``(sum 2**j s_j - 1) / 2`` with signs ``s_j = 2 b_j - 1``, the
    uppermost reversed. So its dot product comes from W binary ones (see `BinaryDotProduct`: half a look-up table a
    product and bit, where an AND gate takes a whole one) and from the sum of the activations, which serves all rows.

    Latency `config.latency` cycles, throughput one vector a cycle.

    Parameters
    ----------
    config : IntegerDotProductConfig

    Members
    -------
    i : In(Tagged)
        Operands.
    o : Out(Tagged)
        Dot products, one a row.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: IntegerDotProductConfig) -> None:
        self.config = config
        products = lanes_of(config.term_format, config.rows)
        super().__init__({"i": In(Tagged(config.operands)), "o": Out(Tagged(products))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.d.comb += self.o.valid.eq(delayed(m, self.i.valid, config.latency, name="valid", control=True))
        if config.multiplier == "dsp":
            self._in_multipliers(m)
        else:
            self._in_look_up_tables(m)
        return m

    def _in_multipliers(self, m: Module) -> None:
        config = self.config
        values = Signal(lanes_of(config.value_format, config.simd), name="values", reset_less=True)
        for index in range(config.simd):
            m.d.sync += values[index].eq(integer_of(self.i.payload.activations[index], config.input_format))
        row = 0
        while row < config.rows:
            count = 2 if config.packs and row + 1 < config.rows else 1
            m.submodules[f"row_{row}"] = multipliers = _Multipliers(config, count)
            m.d.comb += multipliers.values.eq(values)
            for index in range(count):
                m.d.comb += [
                    multipliers.weights[index].eq(self.i.payload.weights[row + index]),
                    self.o.payload[row + index].eq(multipliers.totals[index]),
                ]
            row += count

    def _in_look_up_tables(self, m: Module) -> None:
        config = self.config
        m.submodules.negative = negative = BinaryRow(config.planes)
        m.d.comb += [negative.activations.eq(self.i.payload.activations), negative.weights.eq(0)]
        for row in range(config.rows):
            m.submodules[f"row_{row}"] = planes = _Planes(config)
            m.d.comb += [
                planes.activations.eq(self.i.payload.activations),
                planes.negative.eq(negative.total),
                planes.weights.eq(self.i.payload.weights[row]),
                self.o.payload[row].eq(planes.total),
            ]


class _Multipliers(wiring.Component):
    """One row, or two that share multipliers; a module of its own, so that equal ones are emitted once."""

    def __init__(self, config: IntegerDotProductConfig, rows: int) -> None:
        self.config = config
        self.rows = rows
        super().__init__(
            {
                "values": In(lanes_of(config.value_format, config.simd)),
                "weights": In(data.ArrayLayout(Shape(config.simd * config.weight_format.bits), rows)),
                "totals": Out(lanes_of(config.term_format, rows)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        terms: list[list[Term]] = [[] for _ in range(self.rows)]
        for index in range(self.config.simd):
            products = self._single(m, index) if self.rows == 1 else self._double(m, index)
            for row, term in enumerate(products):
                terms[row].append(term)
        for row in range(self.rows):
            m.d.comb += self.totals[row].eq(add_tree(m, terms[row], name=f"sum_{row}").value)
        return m

    def _weight(self, row: int, index: int) -> Value:
        width = self.config.weight_format.bits
        word = self.weights[row][index * width : (index + 1) * width]
        return word.as_signed() if self.config.weight_format.kind == "signed" else word

    def _single(self, m: Module, index: int) -> list[Term]:
        weight = Signal(element_shape(self.config.weight_format), name=f"weight_{index}", reset_less=True)
        partial = Signal(element_shape(self.config.product_format), name=f"partial_{index}", reset_less=True)
        m.d.sync += [weight.eq(self._weight(0, index)), partial.eq(self.values[index] * weight)]
        product = delayed(m, partial, 1, name=f"product_{index}")
        low, high = self.config.product_range
        return [Term(value=product, low=low, high=high)]

    def _double(self, m: Module, index: int) -> list[Term]:
        config = self.config
        place = config.product_format.bits
        low, high = config.product_range
        pair = Signal(element_shape(config.packed_weights), name=f"weights_{index}", reset_less=True)
        both = format_for_range(low + (low << place), high + (high << place))
        partial = Signal(element_shape(both), name=f"partial_{index}", reset_less=True)
        m.d.sync += [
            pair.eq(self._weight(0, index) + (self._weight(1, index) << place)),
            partial.eq(self.values[index] * pair),
        ]
        if both.kind == "unsigned":
            product = delayed(m, partial, 1, name=f"product_{index}")
            return [Term(value=product[:place], low=low, high=high), Term(value=product[place:], low=low, high=high)]
        upper, borrowed = partial[place:].as_signed(), partial[place - 1]
        first = delayed(m, partial[:place].as_signed(), 1, name=f"first_{index}")
        if index == config.simd - 1:
            second = Signal(element_shape(config.product_format), name=f"second_{index}", reset_less=True)
            m.d.sync += second.eq(upper + borrowed)
            return [Term(value=first, low=low, high=high), Term(value=second, low=low, high=high)]
        return [
            Term(value=first, low=low, high=high),
            Term(
                value=delayed(m, upper, 1, name=f"second_{index}"),
                low=low - 1,
                high=high,
                missing=delayed(m, borrowed, 1, name=f"borrowed_{index}"),
            ),
        ]


class _Planes(wiring.Component):
    """One row, bit by bit; a module of its own, so that equal ones are emitted once."""

    def __init__(self, config: IntegerDotProductConfig) -> None:
        self.config = config
        super().__init__(
            {
                "activations": In(config.planes.operands["activations"].shape),
                "negative": In(signed(config.planes.term_format.bits)),
                "weights": In(config.simd * config.weight_format.bits),
                "total": Out(element_shape(config.term_format)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        width = config.weight_format.bits
        bound = config.simd * config.planes.magnitude
        terms = [Term(value=self.negative, low=-bound, high=bound)]
        missing: list[Value] = []
        for bit in range(config.plane_count):
            signs: list[Value] = [Const(0, 1)] * config.simd
            if bit < width:
                signs = [self.weights[index * width + bit] for index in range(config.simd)]
            if bit == config.plane_count - 1:
                signs = [~sign for sign in signs]
            m.submodules[f"plane_{bit}"] = plane = BinaryRow(config.planes, complete=False)
            m.d.comb += [plane.activations.eq(self.activations), plane.weights.eq(Cat(signs))]
            terms.append(Term(value=plane.total << bit, low=(-bound - 1) << bit, high=bound << bit))
            missing.append(plane.missing)
        terms.append(Term(value=Cat(missing), low=0, high=(1 << config.plane_count) - 1))
        m.d.comb += self.total.eq(add_tree(m, terms).value >> 1)
        return m


def _port_bits(number_format: NumberFormat) -> int:
    """Bits of a signed operand that holds the format."""
    return number_format.bits + (number_format.kind == "unsigned")
