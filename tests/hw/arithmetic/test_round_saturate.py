"""Every value of a range, rounded half up and limited."""

from collections.abc import Callable

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator

from karui.hw.arithmetic.round_saturate import ROUND_LATENCY, round_saturate, saturated
from karui.sw.numerics import NumberFormat
from karui.sw.numerics import signed as signed_format
from karui.sw.numerics import unsigned as unsigned_format


def results(shift: int, output: NumberFormat, width: int) -> tuple[list[int], list[int]]:
    """All values of a width, and what becomes of each; with a shift of 0 they are limited alone."""
    m = Module()
    value = Signal(signed(width))
    values = list(range(-(1 << width - 1), 1 << width - 1))
    if shift:
        result = round_saturate(m, value, shift, output, low=values[0], high=values[-1], name="word")
    else:
        result = saturated(m, value, output, name="word")
    found = []

    async def bench(ctx):
        for one in values:
            ctx.set(value, one)
            await ctx.tick().repeat(ROUND_LATENCY)
            found.append(ctx.get(result))

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return values, found


@pytest.mark.parametrize("bits", [4, 9])
@pytest.mark.parametrize("kind", [signed_format, unsigned_format])
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_every_value(shift: int, kind: Callable[[int], NumberFormat], bits: int) -> None:
    output = kind(bits)
    values, found = results(shift, output, 7)
    half = 1 << shift >> 1
    assert found == [max(output.minimum, min(output.maximum, one + half >> shift)) for one in values]
