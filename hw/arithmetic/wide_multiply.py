"""Products of any width from 18 x 18 multipliers, pipelined."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from karui.hw.streams.stream import delayed

MULTIPLIER_BITS = 18
"""Width of the signed operands of one DSP multiplier (ECP5's MULT18X18D)."""
_LIMB_BITS = MULTIPLIER_BITS - 1
NARROW_LIMB_BITS = 4
"""Widest uppermost limb whose products are made of look-up tables: as many rows as two levels of adders sum."""


@dataclass(frozen=True, kw_only=True)
class WideMultiply:
    """A signed multiplication, cut into limbs that fit the device's multipliers.

    The lower limbs are unsigned, 17 bits each, the uppermost is signed. Each multiplier has a plain register before and
    two behind it, which lie beside it or in it; a tree of adders, registered at each level, sums the partial products.
    Those with an uppermost limb of up to 4 bits take look-up tables instead, in as many cycles: a row of gates for each
    bit, two rows to an adder. Throughput a product a cycle.

    Parameters
    ----------
    left, right : int
        Widths of the signed operands.
    """

    left: int
    right: int

    @property
    def partials(self) -> list[tuple[int, int]]:
        """Bits of the limbs that are multiplied, one with another."""
        return [(left, right) for left in _limb_bits(self.left) for right in _limb_bits(self.right)]

    @property
    def multipliers(self) -> int:
        """Device multipliers of one product."""
        return sum(min(limbs) > NARROW_LIMB_BITS for limbs in self._products)

    @property
    def gates(self) -> int:
        """Single-bit products, with the adders that sum them, of those limbs that take no device multiplier."""
        return sum(left * right for left, right in self._products if min(left, right) <= NARROW_LIMB_BITS)

    @property
    def latency(self) -> int:
        """Cycles from the operands to the product."""
        return 3 + (len(self.partials) - 1).bit_length()

    @property
    def _products(self) -> list[tuple[int, int]]:
        """The partial products; a single one takes a device multiplier, however narrow."""
        return self.partials if len(self.partials) > 1 else [(MULTIPLIER_BITS, MULTIPLIER_BITS)]

    def build(self, m: Module, left: Value, right: Value, *, name: str) -> Value:
        """Add the pipeline to a module.

        Parameters
        ----------
        m : Module
            Where it goes.
        left, right : Value
            Signed operands, of the widths given, or narrower. A constant takes no registers.
        name : str
            Stem of the registers' names.

        Returns
        -------
        Value
            The product, `latency` cycles later.
        """
        terms: list[Value] = []
        left_limbs = _limbs(m, left, self.left, name=f"{name}_left")
        right_limbs = _limbs(m, right, self.right, name=f"{name}_right")
        for row, left_limb in enumerate(left_limbs):
            for column, right_limb in enumerate(right_limbs):
                place = f"{row}_{column}"
                narrow, wide = sorted((left_limb, right_limb), key=len)
                if len(left_limbs) * len(right_limbs) > 1 and len(narrow) <= NARROW_LIMB_BITS:
                    result = _product_of_gates(m, narrow, wide, name=f"{name}_rows_{place}")
                else:
                    product = left_limb * right_limb
                    partial = Signal(product.shape(), name=f"{name}_partial_{place}", reset_less=True)
                    m.d.sync += partial.eq(product)
                    result = delayed(m, partial, 1, name=f"{name}_result_{place}")
                terms.append(result << ((row + column) * _LIMB_BITS))
        level = 0
        while len(terms) > 1:
            sums: list[Value] = []
            for index in range(0, len(terms), 2):
                total = sum(terms[index : index + 2], Const(0))
                registered = Signal(signed(self.left + self.right), name=f"{name}_sum_{level}_{index}", reset_less=True)
                m.d.sync += registered.eq(total)
                sums.append(registered)
            terms, level = sums, level + 1
        return terms[0]


def _limb_count(width: int) -> int:
    return 1 if width <= MULTIPLIER_BITS else -(-(width - 1) // _LIMB_BITS)


def _limb_bits(width: int) -> list[int]:
    """Bits of the limbs of an operand, the lowest first; the lower ones have a zero sign bit besides."""
    lower = _limb_count(width) - 1
    return [MULTIPLIER_BITS] * lower + [width - lower * _LIMB_BITS]


def _product_of_gates(m: Module, narrow: Value, wide: Value, *, name: str) -> Value:
    """The product of two signed limbs, the narrow one of up to 4 bits, two cycles later."""
    bits = len(narrow)
    rows = [Mux(narrow[bit], wide, 0) << bit for bit in range(bits)]
    pairs: list[Value] = []
    for bit in range(0, bits, 2):
        # The uppermost bit counts negative.
        if bit + 1 == bits:
            pairs.append(-rows[bit])
        elif bit + 2 == bits:
            pairs.append(rows[bit] - rows[bit + 1])
        else:
            pairs.append(rows[bit] + rows[bit + 1])
    total: Value = Const(0, 1)
    for index, pair in enumerate(pairs):
        registered = Signal(signed(bits + len(wide)), name=f"{name}_{index}", reset_less=True)
        m.d.sync += registered.eq(pair)
        total = registered if index == 0 else total + registered
    result = Signal(signed(bits + len(wide)), name=name, reset_less=True)
    m.d.sync += result.eq(total)
    return result


def _limbs(m: Module, value: Value, width: int, *, name: str) -> list[Value]:
    """The signed limbs of a value, the lowest first; the lower ones have a zero sign bit."""
    whole = Signal(signed(width), name=name, reset_less=True)
    domain = m.d.comb if isinstance(value, Const) else m.d.sync
    domain += whole.eq(value)
    top = (_limb_count(width) - 1) * _LIMB_BITS
    lower = [Cat(whole[low : low + _LIMB_BITS], Const(0, 1)).as_signed() for low in range(0, top, _LIMB_BITS)]
    return [*lower, whole[top:].as_signed()]
