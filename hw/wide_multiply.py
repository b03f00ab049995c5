"""Products of any width from 18 x 18 multipliers, pipelined."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed

from karui.hw.stream import delayed

MULTIPLIER_BITS = 18
"""Width of the signed operands of one DSP multiplier (ECP5's MULT18X18D)."""
_LIMB_BITS = MULTIPLIER_BITS - 1


@dataclass(frozen=True, kw_only=True)
class WideMultiply:
    """A signed multiplication, cut into limbs that fit the device's multipliers.

    The lower limbs are unsigned, 17 bits each, the uppermost is signed. Each multiplier has a plain register before and
    two behind it, which lie beside it or in it; a tree of adders, registered at each level, sums the partial products.
    Throughput a product a cycle.

    Parameters
    ----------
    left, right : int
        Widths of the signed operands.
    """

    left: int
    right: int

    @property
    def multipliers(self) -> int:
        """Device multipliers of one product."""
        return _limb_count(self.left) * _limb_count(self.right)

    @property
    def latency(self) -> int:
        """Cycles from the operands to the product."""
        return 3 + (self.multipliers - 1).bit_length()

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
        right_limbs = _limbs(m, right, self.right, name=f"{name}_right")
        for row, left_limb in enumerate(_limbs(m, left, self.left, name=f"{name}_left")):
            for column, right_limb in enumerate(right_limbs):
                product = left_limb * right_limb
                partial = Signal(product.shape(), name=f"{name}_partial_{row}_{column}", reset_less=True)
                m.d.sync += partial.eq(product)
                result = delayed(m, partial, 1, name=f"{name}_result_{row}_{column}")
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


def _limbs(m: Module, value: Value, width: int, *, name: str) -> list[Value]:
    """The signed limbs of a value, the lowest first; the lower ones have a zero sign bit."""
    whole = Signal(signed(width), name=name, reset_less=True)
    domain = m.d.comb if isinstance(value, Const) else m.d.sync
    domain += whole.eq(value)
    top = (_limb_count(width) - 1) * _LIMB_BITS
    lower = [Cat(whole[low : low + _LIMB_BITS], Const(0, 1)).as_signed() for low in range(0, top, _LIMB_BITS)]
    return [*lower, whole[top:].as_signed()]
