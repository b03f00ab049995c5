"""A shell that lets a design with more ports than its device has pins be placed and routed whole.

Every port bit gets a register beside the core, and the registers are reached through shift chains from four pins, so
that no logic of the core can be removed and every path of the core starts and ends in a register, as it would between
neighbours on the same chip. The shell's own cells are not the design's: they lie outside the instance ``core``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from amaranth.back import rtlil
from amaranth.hdl import Cat, ClockSignal, Instance, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

SHELL_TOP = "pin_shell"
CORE = "core"


@dataclass(frozen=True, kw_only=True)
class Port:
    """A port of the module inside the shell."""

    direction: Literal["input", "output"]
    bits: int


class PinShell(wiring.Component):
    """Registers and shift chains around one instance of a Verilog module.

    Parameters
    ----------
    module : str
        Module to instantiate.
    ports : mapping of str to Port
        All its ports.
    clock : str
        Which port is the clock.

    Members
    -------
    serial_in, load : In(1)
        Contents of the input chain; ``load`` moves the chain to the core's inputs and the core's outputs to the output
        chain. Holding and capturing registers are enabled by it, so that they cannot merge with registers of the core.
    serial_out : Out(1)
        End of the output chain.
    """

    def __init__(self, module: str, ports: Mapping[str, Port], *, clock: str = "clk") -> None:
        super().__init__({"serial_in": In(1), "load": In(1), "serial_out": Out(1)})
        self.module = module
        self.ports = dict(ports)
        self.clock = clock

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        connections: dict[str, object] = {f"i_{self.clock}": ClockSignal()}
        inputs: list[Signal] = []
        outputs: list[Signal] = []
        for name, port in self.ports.items():
            if name == self.clock:
                continue
            signal = Signal(port.bits, name=f"shell_{name}", reset_less=port.direction == "input")
            connections[f"{port.direction[0]}_{name}"] = signal
            (inputs if port.direction == "input" else outputs).append(signal)
        m.submodules[CORE] = Instance(self.module, **connections)

        chain_in = Signal(sum(map(len, inputs)), reset_less=True)
        m.d.sync += chain_in.eq(Cat(self.serial_in, chain_in))
        captured = Signal(sum(map(len, outputs)), reset_less=True)
        chain_out = Signal(len(captured), reset_less=True)
        load = Signal(reset_less=True)
        move = Signal(reset_less=True)
        m.d.sync += [load.eq(self.load), move.eq(load)]
        with m.If(load):
            m.d.sync += [Cat(*inputs).eq(chain_in), captured.eq(Cat(*outputs))]
        m.d.sync += chain_out.eq(Mux(move, captured, chain_out >> 1))
        m.d.comb += self.serial_out.eq(chain_out[0])
        return m


def pin_shell_rtlil(module: str, ports: Mapping[str, Port], *, clock: str = "clk") -> str:
    """RTLIL of a shell around a module; the module ``SHELL_TOP`` holds the instance ``CORE``."""
    return str(rtlil.convert(PinShell(module, ports, clock=clock), name=SHELL_TOP, emit_src=False))
