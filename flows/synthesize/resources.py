"""Cells of a mapped netlist, counted by kind and by module, and held against a device."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from karui.flows.synthesize.targets import Device, Family

# Kind -> cell type -> how many of the kind a cell is, in halves where a cell is half a block RAM.
_KINDS: dict[Family, dict[str, dict[str, float]]] = {
    "ecp5": {
        "lut": {"LUT4": 1},
        "carry": {"CCU2C": 1},
        "ff": {"TRELLIS_FF": 1},
        "lutram": {"TRELLIS_DPR16X4": 1},
        "bram": {"DP16KD": 1, "PDPW16KD": 1},
        "dsp": {"MULT18X18D": 1},
    },
    "ice40": {
        "lut": {"SB_LUT4": 1},
        "carry": {"SB_CARRY": 1},
        "ff": {f"SB_DFF{kind}": 1 for kind in (
            "", "E", "SR", "R", "SS", "S", "ESR", "ER", "ESS", "ES", "N", "NE", "NSR", "NR", "NSS", "NS", "NESR", "NER",
            "NESS", "NES",
        )},
        "lutram": {},
        "bram": {f"SB_RAM40_4K{kind}": 1 for kind in ("", "NR", "NW", "NRNW")},
        "dsp": {"SB_MAC16": 1},
    },
    "xc7": {
        "lut": {**{f"LUT{inputs}": 1 for inputs in range(1, 7)}, "INV": 1},
        "carry": {"CARRY4": 1},
        "ff": dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE", "FDRE_1", "FDSE_1", "FDCE_1", "FDPE_1"), 1),
        "lutram": {"RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM32M": 4, "RAM64M": 4, "RAM32X1S": 1,
                   "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4, "SRL16E": 1, "SRLC16E": 1, "SRLC32E": 1},
        "bram": {"RAMB36E1": 1, "RAMB18E1": 0.5},
        "dsp": {"DSP48E1": 1},
    },
}  # fmt: skip

# Cells that neither cost anything nor are counted: what LUTs are built into, scope markers, clock and pin buffers.
_UNCOUNTED = {"PFUMX", "L6MUX21", "MUXF7", "MUXF8", "MUXF9", "$scopeinfo", "BUFG", "SB_GB", "GSR", "PUR", "VCC", "GND"}


@dataclass(frozen=True, kw_only=True)
class CellCount:
    """Cells of a netlist or of a part of it.

    Parameters
    ----------
    lut : int
        Look-up tables: of four inputs (LUT4, SB_LUT4) on ECP5 and iCE40, of up to six on xc7.
    carry : int
        Carry cells: CCU2C (two bits, and two look-up tables each), SB_CARRY (one bit), CARRY4.
    ff : int
        Flip-flops.
    lutram : int
        Memory in look-up tables: TRELLIS_DPR16X4 on ECP5 (16 x 4 bits), look-up tables used so on xc7.
    bram : float
        Block memories; on xc7 of 36 Kibit, where an 18 Kibit one counts a half.
    dsp : int
        Multiplier blocks.
    """

    lut: int = 0
    carry: int = 0
    ff: int = 0
    lutram: int = 0
    bram: float = 0
    dsp: int = 0

    def __add__(self, other: "CellCount") -> "CellCount":
        return CellCount(**{name: value + getattr(other, name) for name, value in asdict(self).items()})


class DesignTooLarge(ValueError):
    """A design needs more than its device has; ``excess`` maps each short resource to (asked, there)."""

    def __init__(self, device: Device, excess: Mapping[str, tuple[float, float]]) -> None:
        self.device = device
        self.excess = dict(excess)
        parts = [
            f"{asked:,g} {what} asked, {there:,g} there ({asked - there:,g} too many)"
            for what, (asked, there) in excess.items()
        ]
        super().__init__(
            f"the design is too large for {device.name}: {'; '.join(parts)}; choose a larger device or fold it more"
        )


def count_cells(netlist: Mapping[str, Any], family: Family) -> dict[str, CellCount]:
    """Count a flat netlist's cells by the instance they came from.

    Parameters
    ----------
    netlist
        Name -> cell, of the top module of a flat netlist in Yosys' JSON form.
    family
        Whose cells they are.

    Returns
    -------
    dict
        Instance directly under the top -> its cells; the top's own are under ``top``. A look-up table belongs
        to the instance whose signal it drives, so that one absorbed across a boundary counts on one side of it.

    Raises
    ------
    ValueError
        If a cell is of a type nobody counted.
    """
    share_of = {cell: {kind: share} for kind, cells in _KINDS[family].items() for cell, share in cells.items()}
    instances = {name for name, cell in netlist.items() if cell["type"] == "$scopeinfo" and "." not in name}
    tally: Counter[tuple[str, str]] = Counter()
    for name, cell in netlist.items():
        if cell["type"] in _UNCOUNTED:
            continue
        if cell["type"] not in share_of:
            raise ValueError(f"cell {name} is a {cell['type']}, which is no {family} cell that is known here")
        # Yosys calls a nameless cell of instance `a` `$flatten\\a.<number>`.
        scope = name.removeprefix("$flatten\\").split(".")[0]
        tally[scope if scope in instances else "top", cell["type"]] += 1
    counts: dict[str, CellCount] = {}
    for (scope, cell_type), number in sorted(tally.items()):
        cells: dict[str, Any] = {kind: _whole(share * number) for kind, share in share_of[cell_type].items()}
        counts[scope] = counts.get(scope, CellCount()) + CellCount(**cells)
    return counts


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def check_fits(count: CellCount, device: Device) -> None:
    """Refuse a netlist that cannot fit its device, before hours of placement.

    The look-up tables compared are a lower bound of what placement takes: it adds carry chain ends and constants.

    Raises
    ------
    DesignTooLarge
        If a resource is short; names each, with what is asked and what is there.
    """
    if device.family == "ecp5":
        # A carry cell and a distributed RAM occupy two and (with its write logic) six TRELLIS_COMB.
        luts = count.lut + 2 * count.carry + 6 * count.lutram
    elif device.family == "ice40":
        # A logic cell is LUT, carry and flip-flop in one.
        luts = max(count.lut, count.carry, count.ff)
    else:
        luts = count.lut + count.lutram
    asked = {
        "look-up tables": (luts, device.luts),
        "flip-flops": (count.ff, device.ffs),
        "block RAMs": (count.bram, device.block_rams),
        "multipliers": (count.dsp, device.dsps),
    }
    excess = {what: (need, there) for what, (need, there) in asked.items() if need > there}
    if excess:
        raise DesignTooLarge(device, excess)
