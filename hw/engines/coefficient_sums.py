"""Sums of totals times coefficients, lane after lane in a multiplier that the lanes share."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.adder_tree import Term, add_tree, tree_latency
from karui.hw.arithmetic.integer_dot_product import IntegerDotProduct, IntegerDotProductConfig, Multiplier
from karui.hw.arithmetic.wide_multiply import WideMultiply
from karui.hw.memory.weight_rom import WEIGHT_ROM_LATENCY, SequentialRom
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import Tagged, delayed, element_shape, lanes_of
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import NumberFormat, format_for_range, pack, to_integers

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class CoefficientSumsConfig:
    """Parameters of a `CoefficientSums`.

    Parameters
    ----------
    total_format : NumberFormat
        Format of a total, unsigned or signed.
    sum_format : NumberFormat
        Format of a sum, signed; every finished sum must fit (in between it may wrap).
    coefficients : ndarray of int64, shape (folds, lanes, bases)
        What the totals are multiplied with; beats go through the folds in order, again and again.
    offsets : ndarray of int64, shape (folds, lanes)
        What the sums start from; like sums on their way, they may wrap.
    at_once : int
        Bases of a beat; they divide the bases.
    products : int
        Products a cycle, of one lane; they divide the bases at once.
    multiplier : {"dsp", "lut"}
        What products are made of.

    Raises
    ------
    ValueError
        If shapes do not fit each other, or a number does not divide.
    """

    total_format: NumberFormat
    sum_format: NumberFormat
    coefficients: Integers
    offsets: Integers
    at_once: int
    products: int
    multiplier: Multiplier = "dsp"

    def __post_init__(self) -> None:
        if self.coefficients.ndim != 3 or self.offsets.shape != self.coefficients.shape[:2]:
            raise ValueError(
                f"coefficients (folds, lanes, bases) and offsets (folds, lanes) do not fit: "
                f"{self.coefficients.shape}, {self.offsets.shape}"
            )
        require_divisor("at_once", self.at_once, self.coefficients.shape[2], "bases")
        require_divisor("products", self.products, self.at_once, "bases at once")
        if self.multiplier not in ("dsp", "lut"):
            raise ValueError(f"multiplier must be dsp or lut, not {self.multiplier!r}")

    @property
    def lanes(self) -> int:
        """Sums side by side."""
        return int(self.offsets.shape[1])

    @property
    def rounds(self) -> int:
        """Beats of a sum."""
        return int(self.coefficients.shape[2]) // self.at_once

    @property
    def terms(self) -> int:
        """What is added to a sum, one a cycle in which its lane's turn is."""
        return int(self.coefficients.shape[2]) // self.products

    @property
    def steps(self) -> int:
        """Cycles that a beat takes: the least distance of two."""
        return self.lanes * self.at_once // self.products

    @property
    def coefficient_format(self) -> NumberFormat:
        """Format of a coefficient, signed."""
        return format_for_range(min(-1, int(self.coefficients.min())), int(self.coefficients.max()))

    @property
    def coefficient_bits(self) -> int:
        """Bits of the coefficients of a cycle."""
        return self.products * self.coefficient_format.bits

    @property
    def product_range(self) -> tuple[int, int]:
        """Smallest and largest product."""
        left, right = self.total_format, self.coefficient_format
        corners = [a * b for a in (left.minimum, left.maximum) for b in (right.minimum, right.maximum)]
        return min(corners), max(corners)

    @property
    def multiply(self) -> WideMultiply:
        """A product in device multipliers."""
        total = self.total_format
        return WideMultiply(left=total.bits + (total.kind == "unsigned"), right=self.coefficient_format.bits)

    @property
    def dot_product(self) -> IntegerDotProductConfig:
        """The products of a cycle, and their sum, in look-up tables."""
        return IntegerDotProductConfig(
            rows=1,
            simd=self.products,
            input_format=self.total_format,
            weight_format=self.coefficient_format,
            multiplier="lut",
        )

    @property
    def product_latency(self) -> int:
        """Cycles from a total to its product, or the sum of the products of a cycle."""
        if self.multiplier == "lut":
            return self.dot_product.prepare_latency + self.dot_product.latency
        return self.multiply.latency + tree_latency(self.products)

    @property
    def latency(self) -> int:
        """Cycles from the last beat of the totals to the sum of the last lane."""
        return self.steps - 1 + WEIGHT_ROM_LATENCY + self.product_latency + 1

    @property
    def coefficient_words(self) -> list[int]:
        """The coefficients of each cycle, in order."""
        folds = len(self.offsets)
        parts = self.coefficients.reshape(folds, self.lanes, self.rounds, -1, self.products)
        return to_integers(pack(parts.transpose(0, 2, 3, 1, 4).reshape(-1, self.products), self.coefficient_format))

    @property
    def offset_words(self) -> list[int]:
        """What each sum starts from, in order."""
        return [int(offset) & ((1 << self.sum_format.bits) - 1) for offset in self.offsets.reshape(-1)]


class CoefficientSums(wiring.Component):
    """Multiplies the totals of each lane's bases by coefficients and adds them to an offset.

    The totals of a beat leave a shift register base by base, lane by lane; so one multiplier serves all lanes, and the
    sums, too, stand in a ring of registers, of which the first is added to. Finished sums follow one another, lane 0
    first. Beats come `config.steps` cycles apart or more.

    Latency `config.latency` cycles from the last beat of a fold to the sum of the last lane.

    Parameters
    ----------
    config : CoefficientSumsConfig

    Members
    -------
    i : In(Tagged)
        Totals: of each lane the bases at once.
    o : Out(Tagged)
        Sums, one lane a beat.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: CoefficientSumsConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(Tagged(lanes_of(config.total_format, config.lanes * config.at_once))),
                "o": Out(Tagged(lanes_of(config.sum_format, 1))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        active, running = Signal(), Signal()
        step = cycle(m, "step", config.steps, step=active)
        m.d.comb += active.eq(self.i.valid | running)
        with m.If(active):
            m.d.sync += running.eq(~step.is_last)
        coefficients = _rom(m, "coefficients", config.coefficient_words, config.coefficient_bits, take=active)
        # A total is in its register a cycle after the step that takes its coefficient.
        totals = [
            delayed(m, total, WEIGHT_ROM_LATENCY - 1, name=f"factor_{index}")
            for index, total in enumerate(self._shift_register(m))
        ]
        begun = delayed(m, active, WEIGHT_ROM_LATENCY, name="begun", control=True)
        product = self._product(m, begun, totals, coefficients)

        ahead = delayed(m, begun, config.product_latency - WEIGHT_ROM_LATENCY, name="ahead", control=True)
        lane = cycle(m, "lane", config.lanes, step=ahead)
        term = cycle(m, "term", config.terms, step=ahead & lane.is_last)
        offset = _rom(m, "offsets", config.offset_words, config.sum_format.bits, take=ahead & term.is_first)
        added, starts, ends = (
            delayed(m, flag, WEIGHT_ROM_LATENCY, name=name, control=True)
            for name, flag in (("added", ahead), ("starts", term.is_first), ("ends", term.is_last))
        )
        shape = element_shape(config.sum_format)
        ring = [Signal(shape, name=f"sum_{index}", reset_less=True) for index in range(config.lanes)]
        valid = Signal()
        m.d.sync += valid.eq(added & ends)
        with m.If(added):
            m.d.sync += ring[0].eq((offset if config.terms == 1 else Mux(starts, offset, ring[-1])) + product)
            m.d.sync += [later.eq(earlier) for earlier, later in pairwise(ring)]
        m.d.comb += [self.o.valid.eq(valid), self.o.payload[0].eq(ring[0])]
        return m

    def _shift_register(self, m: Module) -> list[Value]:
        """The totals of the products of a cycle."""
        config = self.config
        following: list[Value] = []
        for step in reversed(range(config.steps)):
            base, lane = divmod(step, config.lanes)
            cells: list[Value] = []
            for product in range(config.products):
                loaded = self.i.payload[lane * config.at_once + base * config.products + product]
                cell = Signal.like(loaded, name=f"total_{step}_{product}", reset_less=True)
                m.d.sync += cell.eq(Mux(self.i.valid, loaded, following[product]) if following else loaded)
                cells.append(cell)
            following = cells
        return following

    def _product(self, m: Module, begun: Value, totals: list[Value], coefficients: Value) -> Value:
        """The sum of the products of a cycle, `product_latency` cycles later."""
        config = self.config
        if config.multiplier == "lut":
            made = config.dot_product
            m.submodules.products = products = IntegerDotProduct(made)
            values = Signal(lanes_of(config.total_format, config.products), name="values")
            m.d.comb += [
                values.as_value().eq(Cat(totals)),
                products.i.valid.eq(delayed(m, begun, made.prepare_latency, name="prepared", control=True)),
                products.i.payload.activations.as_value().eq(made.prepare(m, values)),
                products.i.payload.weights[0].eq(delayed(m, coefficients, made.prepare_latency, name="weights")),
            ]
            return products.o.payload[0]
        bits = config.coefficient_format.bits
        low, high = config.product_range
        terms = [
            Term(
                value=config.multiply.build(
                    m, total, coefficients[index * bits : (index + 1) * bits].as_signed(), name=f"product_{index}"
                ),
                low=low,
                high=high,
            )
            for index, total in enumerate(totals)
        ]
        return add_tree(m, terms, name="products").value


def _rom(m: Module, name: str, words: list[int], width: int, *, take: Value) -> Value:
    """Constants, read over and over: the word `WEIGHT_ROM_LATENCY` cycles after its take."""
    if len(set(words)) == 1:
        return Const(words[0], width)
    m.submodules[name] = rom = SequentialRom(words, width, "auto")
    m.d.comb += rom.take.eq(take)
    return rom.data
