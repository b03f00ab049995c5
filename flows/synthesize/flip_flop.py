"""Flip-flops of a mapped ECP5 netlist: which of them a hard block's own register can stand for."""

from collections import defaultdict
from typing import Any

Cell = dict[str, Any]
"""A cell in Yosys' JSON form."""

Bit = int | str
"""A wire's number, or a constant: "0", "1", "x"."""


def loads_of(module: dict[str, Any]) -> defaultdict[Bit, list[tuple[str, str]]]:
    """Bit -> the (cell, pin) it goes to; an output of the module is a load without a cell."""
    loads: defaultdict[Bit, list[tuple[str, str]]] = defaultdict(list)
    for name, cell in module["cells"].items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] != "output":
                for bit in bits:
                    loads[bit].append((name, pin))
    for name, port in module["ports"].items():
        if port["direction"] != "input":
            for bit in port["bits"]:
                loads[bit].append(("", name))
    return loads


def clock_of(flip_flop: Cell) -> Bit:
    """The net of a flip-flop's clock."""
    bit: Bit = flip_flop["connections"]["CLK"][0]
    return bit


def obstacle(flip_flop: Cell, clock: Bit, *, rising: bool = True, enable: Bit = "1") -> str | None:
    """Why a register of a hard block, on a clock, with an enable and without reset, is not this flip-flop; or None."""
    parameters = flip_flop["parameters"]
    if clock_of(flip_flop) != clock or (parameters.get("CLKMUX", "CLK") == "CLK") != rising:
        return "register on another clock"
    if _enable_of(flip_flop) != enable:
        return "enable on the register" if enable == "1" else "register with another enable"
    if not tied(flip_flop, "LSR", "0"):
        return "reset on the register"
    if parameters.get("REGSET", "RESET") != "RESET":
        return "register starts at 1"
    return None


def _enable_of(flip_flop: Cell) -> Bit | None:
    """The net that enables a flip-flop, "1" where it has no enable; None if the net disables it."""
    use = flip_flop["parameters"].get("CEMUX", "CE")
    if use == "1" or tied(flip_flop, "CE", "1"):
        return "1"
    bit: Bit = flip_flop["connections"]["CE"][0]
    return bit if use == "CE" else None


def tied(cell: Cell, pin: str, level: str) -> bool:
    """Whether a pin is at a constant level: unconnected enables are 1, unconnected resets 0."""
    return all(bit == level for bit in cell["connections"].get(pin, []))
