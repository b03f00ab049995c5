import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from karui.hw.arithmetic.normalize import Normalize
from karui.sw.numerics import leading_bits


@pytest.mark.parametrize(
    ("width", "index_bits", "least"), [(1, 2, 0), (2, 1, 0), (7, 3, 0), (8, 6, 0), (9, 4, 5), (10, 0, 9), (6, 8, 2)]
)
def test_finds_the_leading_bits(width: int, index_bits: int, least: int) -> None:
    config = Normalize(width=width, index_bits=index_bits, least=least)
    m = Module()
    value, places, index = Signal(width), Signal(8), Signal(16)
    built = config.build(m, value, name="normalized")
    m.d.comb += [places.eq(built[0]), index.eq(built[1])]
    # Where nothing has to be shifted there are no registers.
    m.d.sync += Signal(name="clocked").eq(1)
    values = list(range(1 << least, 1 << width))
    found: list[tuple[int, int]] = []

    async def bench(context) -> None:
        for number in (*values, *[1] * config.latency):
            context.set(value, number)
            found.append((context.get(places), context.get(index)))
            await context.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    expected = [leading_bits(number, index_bits) for number in values]
    assert found[config.latency :] == [(width - 1 - place, bits) for place, bits in expected]


def test_refuses_a_leading_one_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="of 4 bits is in place 0 to 3, not 4"):
        Normalize(width=4, index_bits=2, least=4)
