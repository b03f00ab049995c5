"""Move the register behind an ECP5 block RAM's read port into the block RAM.

A block RAM's data leaves it 4.3 ns after the clock, its output register's after 0.7 ns (nextpnr's figures for speed
grade 8), but Yosys never uses that register. Here the flip-flops that take a read port's data become the port's output
register, in the mapped netlist, where that is the same circuit:

- every data bit in use goes to one flip-flop and nowhere else,
- the flip-flops have the port's clock and edge, no reset, and start at 0 as the output register does,
- the flip-flops and the port have the same clock enable, or none. Whether the output register waits for the port's
  enable too is then all the same; of different ones it would matter,
- the port has no reset: it would act on the output register in another way than on a flip-flop.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from karui.flows.synthesize.flip_flop import Bit, Cell, loads_of, obstacle, tied
from karui.flows.synthesize.result import Absorption

_WIDE = 36
_HALF = 18


@dataclass(frozen=True, kw_only=True)
class _ReadPort:
    """Data pins that share a clock; a 36-bit wide memory has one read port, B, on the pins of both halves."""

    letter: str
    halves: str

    def data(self, memory: Cell) -> Iterator[tuple[str, Bit]]:
        """Names of the connected data pins and the bits they drive."""
        for half in self.halves:
            for index in range(_HALF):
                for bit in memory["connections"].get(f"DO{half}{index}", []):
                    yield f"DO{half}{index}", bit


def absorb_output_registers(module: dict[str, Any]) -> Absorption:
    """Use the output registers of a module's block RAMs wherever a plain register follows.

    Parameters
    ----------
    module
        A flat ECP5 module in Yosys' JSON form, changed in place: DP16KD cells get ``REGMODE_<port>`` ``OUTREG``, their
        data pins drive what the flip-flops drove, and these are gone.

    Returns
    -------
    Absorption
        What was moved, and why the other read ports in use were not.
    """
    cells: dict[str, Cell] = module["cells"]
    loads = loads_of(module)
    ports = 0
    registers = 0
    refused: Counter[str] = Counter()
    for memory in [cell for cell in cells.values() if cell["type"] == "DP16KD"]:
        for port in _read_ports(memory):
            used = {pin: bit for pin, bit in port.data(memory) if loads[bit]}
            if not used:
                continue
            reason = _port_obstacle(memory, port)
            flip_flops: dict[str, str] = {}
            for pin, bit in used.items():
                reason = reason or _load_obstacle(loads[bit], cells, memory, port)
                flip_flops[pin] = loads[bit][0][0]
            if reason:
                refused[reason] += 1
                continue
            for pin, name in flip_flops.items():
                memory["connections"][pin] = cells.pop(name)["connections"]["Q"]
            for half in port.halves:
                memory["parameters"][f"REGMODE_{half}"] = "OUTREG"
                memory["connections"][f"OCE{half}"] = [_enable(memory, port)]
            ports += 1
            registers += len(flip_flops)
    return Absorption(ports=ports, registers=registers, refused=dict(sorted(refused.items())))


def _read_ports(memory: Cell) -> tuple[_ReadPort, ...]:
    if int(memory["parameters"]["DATA_WIDTH_A"], 2) == _WIDE:
        return (_ReadPort(letter="B", halves="AB"),)
    return (_ReadPort(letter="A", halves="A"), _ReadPort(letter="B", halves="B"))


def _port_obstacle(memory: Cell, port: _ReadPort) -> str | None:
    if any(memory["parameters"].get(f"REGMODE_{half}", "NOREG") != "NOREG" for half in port.halves):
        return "output register in use"
    if any(not tied(memory, f"RST{half}", "0") for half in port.halves):
        return "reset on the block RAM"
    return None


def _enable(memory: Cell, port: _ReadPort) -> Bit:
    bits: list[Bit] = memory["connections"].get(f"CE{port.letter}", [])
    return bits[0] if bits else "1"


def _load_obstacle(loads: list[tuple[str, str]], cells: dict[str, Cell], memory: Cell, port: _ReadPort) -> str | None:
    if len(loads) > 1:
        return "data used in several places"
    name, pin = loads[0]
    if name == "" or cells[name]["type"] != "TRELLIS_FF" or pin != "DI":
        return "data used by logic"
    rising = memory["parameters"].get(f"CLK{port.letter}MUX", f"CLK{port.letter}") == f"CLK{port.letter}"
    clock = memory["connections"][f"CLK{port.letter}"][0]
    return obstacle(cells[name], clock, rising=rising, enable=_enable(memory, port))
