import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator

from karui.hw.memory.ring import ring


@pytest.mark.parametrize("length", [1, 2, 3, 7, 40])
def test_values_come_again(length: int) -> None:
    m = Module()
    value, step = Signal(signed(9)), Signal()
    again = Signal(signed(9))
    m.d.comb += again.eq(ring(m, "ring", value, length, step=step))
    random = np.random.default_rng(length)
    values, steps = random.integers(-256, 256, 400).tolist(), random.integers(0, 2, 400).tolist()
    taken: list[int] = []

    async def bench(context) -> None:
        for number, steps_now in zip(values, steps, strict=True):
            context.set(value, number)
            context.set(step, steps_now)
            if steps_now:
                if len(taken) >= length:
                    assert context.get(again) == taken[-length]
                taken.append(number)
            await context.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(taken) > 3 * length
