"""Population count as a pipelined adder tree whose first levels are look-up tables.

Sums of at most four input bits are written as logic, one four-input function an output bit: a pair of bits becomes a
two-bit count (2 LUT4), two such counts a three-bit one (3 LUT4). Wider sums are carry chains. Every level ends in a
register. For n bits that is 1.75 n LUT4 and 0.6 n carry cells.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Signal, Value


@dataclass(frozen=True, kw_only=True, eq=False)
class Count:
    """A partial count: an unsigned value and the largest number that it can be."""

    value: Value
    maximum: int


def count_pairs(bits: Value) -> list[Count]:
    """The first level: the counts of neighbouring bits, and of the last bit where their number is odd.

    The expressions are not registered; `count_tree` takes them as they are.
    """
    pairs = [
        Count(value=Cat(bits[low] ^ bits[low + 1], bits[low] & bits[low + 1]), maximum=2)
        for low in range(0, len(bits) - 1, 2)
    ]
    return pairs + ([Count(value=bits[-1], maximum=1)] if len(bits) % 2 else [])


def count_tree(m: Module, counts: list[Count]) -> Signal:
    """Register the counts and add them up, two by two, with a register after each level.

    The result is valid `tree_latency(len(counts))` cycles after the counts.
    """
    level = 0
    current = [_registered(m, count, f"level_0_{index}") for index, count in enumerate(counts)]
    while len(current) > 1:
        level += 1
        sums = [_sum(*current[low : low + 2]) for low in range(0, len(current), 2)]
        current = [_registered(m, count, f"level_{level}_{index}") for index, count in enumerate(sums)]
    total = current[0].value
    assert isinstance(total, Signal)
    return total


def tree_latency(counts: int) -> int:
    """Cycles that `count_tree` takes for so many counts."""
    return 1 + (counts - 1).bit_length()


def _registered(m: Module, count: Count, name: str) -> Count:
    register = Signal(range(count.maximum + 1), name=name, reset_less=True)
    m.d.sync += register.eq(count.value)
    return Count(value=register, maximum=count.maximum)


def _sum(first: Count, second: Count | None = None) -> Count:
    if second is None:
        return first
    maximum = first.maximum + second.maximum
    if first.maximum > 2 or second.maximum > 2:
        return Count(value=first.value + second.value, maximum=maximum)
    # Two counts of 0 to 2: written out, since an adder would take carry cells for what is one LUT4 a bit.
    a, b = (
        [count.value[bit] if bit < len(count.value) else Const(0, 1) for bit in range(2)] for count in (first, second)
    )
    carry = a[0] & b[0]
    return Count(
        value=Cat(a[0] ^ b[0], a[1] ^ b[1] ^ carry, (a[1] & b[1]) | ((a[1] | b[1]) & carry)),
        maximum=maximum,
    )
