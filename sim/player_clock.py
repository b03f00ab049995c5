"""Runs inside the simulator: starts the clock of the full-speed regression and waits for its end.

Everything else happens in ``testbench.sv``; a Python coroutine woken in each cycle would be several times slower.
"""

from __future__ import annotations

import cocotb
from cocotb.clock import Clock
from cocotb.handle import LogicObject
from cocotb.triggers import ClockCycles, RisingEdge


class Player:
    """Handles of the simulation top that the player uses."""

    clk: LogicObject
    rst: LogicObject
    external: LogicObject
    done: LogicObject


@cocotb.test()
async def play(dut: Player) -> None:
    """Reset, then let the recorded frames run."""
    dut.external.value = 0
    dut.rst.value = 1
    Clock(dut.clk, 2, unit="step", impl="gpi").start()
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await RisingEdge(dut.done)
