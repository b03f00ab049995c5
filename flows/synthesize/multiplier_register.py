"""Move the registers before and behind an ECP5 multiplier into the multiplier.

An 18 x 18 multiplier without registers takes 4 ns from its operands to its product, and the ways to and from the
flip-flops around it come on top (nextpnr's figures for speed grade 8); with its own registers in use the ways have a
cycle to themselves. Yosys never uses them. Here flip-flops become a multiplier's registers, in the mapped netlist,
where that is the same circuit:

- an operand whose every bit comes from a flip-flop, or is 0, takes what the flip-flops take; these stay where they have
  other loads, so that a register which feeds many multipliers becomes one in each,
- a product whose every bit in use goes to one flip-flop and nowhere else drives what these drive; and again what the
  next ones drive, if the clock needs it. Below `UNPIPELINED_MHZ` the 4 ns fit into a cycle, and the second flip-flops
  serve better on the way: multipliers stand in a few rows, up to 6 ns from the adders behind them in a full device,
- the flip-flops are on one clock's rising edge, without enable and reset, and start at 0 as the registers do.
"""

from collections import Counter
from typing import Any

from karui.flows.synthesize.flip_flop import Bit, Cell, clock_of, loads_of, obstacle
from karui.flows.synthesize.result import Absorption

_OPERAND_BITS = 18
_PRODUCT_BITS = 36


UNPIPELINED_MHZ = 200.0
"""Clock up to which a multiplier needs no register inside, between those of its operands and of its product."""


def absorb_multiplier_registers(module: dict[str, Any], *, clock_mhz: float) -> Absorption:
    """Use the registers of a module's multipliers wherever plain registers surround them.

    Parameters
    ----------
    module
        A flat ECP5 module in Yosys' JSON form, changed in place: MULT18X18D cells get ``REG_INPUTA_CLK``,
        ``REG_INPUTB_CLK``, ``REG_OUTPUT_CLK`` and ``REG_PIPELINE_CLK``, the flip-flops that nothing needs any more are
        gone.
    clock_mhz
        Clock that the design is made for.

    Returns
    -------
    Absorption
        What was moved, and why other operands and products were not.
    """
    return _Absorber(module, pipelined=clock_mhz > UNPIPELINED_MHZ).run()


class _Absorber:
    def __init__(self, module: dict[str, Any], *, pipelined: bool) -> None:
        self.pipelined = pipelined
        self.cells: dict[str, Cell] = module["cells"]
        self.loads = loads_of(module)
        self.driver: dict[Bit, str] = {
            cell["connections"]["Q"][0]: name for name, cell in self.cells.items() if cell["type"] == "TRELLIS_FF"
        }
        self.ports = 0
        self.registers = 0
        self.refused: Counter[str] = Counter()

    def run(self) -> Absorption:
        for name, cell in [(name, cell) for name, cell in self.cells.items() if cell["type"] == "MULT18X18D"]:
            clock = self._clock(cell)
            if clock is None:
                self.refused["multiplier without registers around it"] += 1
                continue
            for letter in "AB":
                self._note(self._absorb_operand(name, cell, letter, clock))
            # The register at the output first: it is the one that shortens the way out of the multiplier.
            if self._note(self._absorb_product(cell, "REG_OUTPUT_CLK", clock)) and self.pipelined:
                self._absorb_product(cell, "REG_PIPELINE_CLK", clock)
            for pin, bit in (("CLK0", clock), ("CE0", "1"), ("RST0", "0")):
                cell["connections"][pin] = [bit]
                cell["port_directions"][pin] = "input"
        return Absorption(ports=self.ports, registers=self.registers, refused=dict(sorted(self.refused.items())))

    def _note(self, reason: str | None) -> bool:
        if reason:
            self.refused[reason] += 1
            return False
        self.ports += 1
        return True

    def _clock(self, cell: Cell) -> Bit | None:
        """The clock of the first flip-flop that is found around a multiplier."""
        for bits in (pins(cell, "A", _OPERAND_BITS), pins(cell, "B", _OPERAND_BITS)):
            for bit in bits.values():
                if bit in self.driver:
                    return clock_of(self.cells[self.driver[bit]])
        for bit in pins(cell, "P", _PRODUCT_BITS).values():
            for name, pin in self.loads[bit]:
                if name and self.cells[name]["type"] == "TRELLIS_FF" and pin == "DI":
                    return clock_of(self.cells[name])
        return None

    def _absorb_operand(self, name: str, cell: Cell, letter: str, clock: Bit) -> str | None:
        operand = pins(cell, letter, _OPERAND_BITS)
        sources: dict[str, Bit] = {}
        for pin, bit in operand.items():
            if bit == "0":
                continue
            if bit not in self.driver:
                return f"operand {letter} not from a register"
            reason = obstacle(self.cells[self.driver[bit]], clock)
            if reason:
                return reason
            sources[pin] = self.cells[self.driver[bit]]["connections"]["DI"][0]
        for pin, source in sources.items():
            self.loads[operand[pin]].remove((name, pin))
            self.loads[source].append((name, pin))
            cell["connections"][pin] = [source]
        for bit in {operand[pin] for pin in sources}:
            if not self.loads[bit]:
                self._remove(self.driver[bit])
        cell["parameters"][f"REG_INPUT{letter}_CLK"] = "CLK0"
        return None

    def _absorb_product(self, cell: Cell, register: str, clock: Bit) -> str | None:
        flip_flops: dict[str, str] = {}
        for pin, bit in pins(cell, "P", _PRODUCT_BITS).items():
            if not self.loads[bit]:
                continue
            if len(self.loads[bit]) > 1:
                return "product used in several places"
            name, load = self.loads[bit][0]
            if name == "" or self.cells[name]["type"] != "TRELLIS_FF" or load != "DI":
                return "product used by logic"
            reason = obstacle(self.cells[name], clock)
            if reason:
                return reason
            flip_flops[pin] = name
        if not flip_flops:
            return "product not used"
        for pin, name in flip_flops.items():
            cell["connections"][pin] = self.cells[name]["connections"]["Q"]
            self._remove(name)
        cell["parameters"][register] = "CLK0"
        return None

    def _remove(self, name: str) -> None:
        flip_flop = self.cells.pop(name)
        self.registers += 1
        self.driver.pop(flip_flop["connections"]["Q"][0], None)
        for pin, bits in flip_flop["connections"].items():
            for bit in bits if pin != "Q" else ():
                self.loads[bit].remove((name, pin))


def pins(cell: Cell, letter: str, count: int) -> dict[str, Bit]:
    """The connected pins ``<letter>0 ...`` of a cell and their bits."""
    names = (f"{letter}{index}" for index in range(count))
    return {name: bits[0] for name in names if (bits := cell["connections"].get(name))}
