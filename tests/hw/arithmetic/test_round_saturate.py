"""Every value of a range, rounded half up and limited."""

from collections.abc import Callable

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator

from karui.hw.arithmetic.round_saturate import ROUND_LATENCY, round_saturate, rounded
from karui.sw.numerics import NumberFormat
from karui.sw.numerics import signed as signed_format
from karui.sw.numerics import unsigned as unsigned_format

VALUES = list(range(-64, 64))
Build = Callable[[Module, Signal], Signal]


def results(build: Build, latency: int) -> list[int]:
    """What becomes of each value, given one a cycle, `latency` cycles later."""
    m = Module()
    value = Signal(signed(7))
    result = build(m, value)
    found = []

    async def bench(ctx):
        for one in VALUES + [0] * latency:
            ctx.set(value, one)
            found.append(ctx.get(result))
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found[latency:]


@pytest.mark.parametrize("bits", [4, 9])
@pytest.mark.parametrize("kind", [signed_format, unsigned_format])
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_every_value(shift: int, kind: Callable[[int], NumberFormat], bits: int) -> None:
    """Each value is rounded and limited, as many cycles later with every shift."""
    output = kind(bits)

    def build(m: Module, value: Signal) -> Signal:
        return round_saturate(m, value, shift, output, low=VALUES[0], high=VALUES[-1], name="word")

    half = 1 << shift >> 1
    expected = [max(output.minimum, min(output.maximum, one + half >> shift)) for one in VALUES]
    assert results(build, ROUND_LATENCY) == expected


@pytest.mark.parametrize("shift", [0, 1, 3, 9])
def test_every_value_unlimited(shift: int) -> None:
    """Each value is rounded, a cycle later, and no bit of the result is lost."""

    def build(m: Module, value: Signal) -> Signal:
        return rounded(m, value, shift, low=VALUES[0], high=VALUES[-1], name="word")

    assert results(build, 1) == [one + (1 << shift >> 1) >> shift for one in VALUES]
