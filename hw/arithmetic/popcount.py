"""Population count as a pipelined adder tree whose first levels are look-up tables.

Sums of at most as many input bits as a look-up table has are written as logic, a table for each output bit; wider sums
are carry chains. Every level ends in a register. With four inputs, a pair of bits becomes a two-bit count (2 LUT4) and
two such counts a three-bit one (3 LUT4). With six, three bits become a two-bit count and three such counts a four-bit
one (4 LUT6). The first level leaves room for a two-input function before each bit: an XNOR costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from amaranth.hdl import Cat, Const, Module, Signal, Value

LutInputs = Literal[4, 6]
"""Inputs of the target's look-up tables."""


def popcount(m: Module, bits: Value, lut_inputs: LutInputs) -> Signal:
    """The number of set bits, `popcount_latency(len(bits), lut_inputs)` cycles later."""
    terms: list[Value] = list(bits)
    maxima = [1] * len(terms)
    for level, sizes in enumerate(_levels(len(terms), lut_inputs)):
        sums: list[Value] = []
        bounds: list[int] = []
        for index, size in enumerate(sizes):
            start = sum(sizes[:index])
            group, limits = terms[start : start + size], maxima[start : start + size]
            total = Signal(range(sum(limits) + 1), name=f"level_{level}_{index}", reset_less=True)
            m.d.sync += total.eq(_sum(group, limits, lut_inputs))
            sums.append(total)
            bounds.append(sum(limits))
        terms, maxima = sums, bounds
    count = terms[0]
    assert isinstance(count, Signal)
    return count


def popcount_latency(bits: int, lut_inputs: LutInputs) -> int:
    """Cycles that `popcount` takes."""
    return len(_levels(bits, lut_inputs))


def _levels(bits: int, lut_inputs: LutInputs) -> list[list[int]]:
    """For each level of the tree, how many neighbouring terms each of its sums takes."""
    first = lut_inputs // 2
    levels = [_groups([1] * bits, first, first)]
    maxima = levels[0]
    while len(maxima) > 1:
        sizes = _groups([maximum.bit_length() for maximum in maxima], lut_inputs, len(maxima))
        levels.append(sizes)
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        maxima = [sum(maxima[start : start + size]) for start, size in zip(starts, sizes, strict=True)]
    return levels


def _groups(widths: Sequence[int], inputs: int, largest: int) -> list[int]:
    """Cut a row of terms into groups: as many terms as fit a table together, or else two."""
    sizes: list[int] = []
    start = 0
    while start < len(widths):
        size = 1
        while start + size < len(widths) and size < largest and sum(widths[start : start + size + 1]) <= inputs:
            size += 1
        if size == 1 and largest > 1:
            size = min(2, len(widths) - start)
        sizes.append(size)
        start += size
    return sizes


def _sum(terms: Sequence[Value], maxima: Sequence[int], lut_inputs: LutInputs) -> Value:
    if len(terms) == 1 or sum(len(term) for term in terms) > lut_inputs:
        return sum(terms[1:], terms[0])
    return _as_logic(terms, sum(maxima))


def _as_logic(terms: Sequence[Value], maximum: int) -> Value:
    """The sum of a few bits, written out as half and full adders: what `+` would make is carry cells."""
    columns: list[list[Value]] = [[] for _ in range(maximum.bit_length() + 1)]
    for term in terms:
        for bit in range(len(term)):
            columns[bit].append(term[bit])
    for column, carries in pairwise(columns):
        while len(column) > 1:
            a, b, c = column.pop(0), column.pop(0), column.pop(0) if column else Const(0, 1)
            column.append(a ^ b ^ c)
            carries.append((a & b) | ((a ^ b) & c))
    # The last column collects carries that the maximum rules out.
    return Cat(column[0] for column in columns[:-1])
