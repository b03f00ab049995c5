"""What a design is made of when Yosys has mapped it, as the benchmarks tell it."""

from __future__ import annotations

from pathlib import Path

from karui.flows.design import Design
from karui.flows.synthesize import CellCount, Device
from karui.flows.synthesize.resources import count_cells
from karui.flows.synthesize.yosys import map_netlist
from karui.hw.emit.manifest import Manifest


def map_design(design: Design, device: Device) -> dict[str, CellCount]:
    """Map a design in its folder's ``mapped``; cells by the module under the top."""
    manifest = Manifest.load(design.rtl)
    sources = [design.rtl / source for source in manifest.sources]
    folder = design.folder / "mapped"
    folder.mkdir()
    return map_sources(sources, top=manifest.top, clock=manifest.clock, device=device, folder=folder)


def map_sources(sources: list[Path], *, top: str, clock: str, device: Device, folder: Path) -> dict[str, CellCount]:
    """Map Verilog; cells by the module under the top."""
    netlist = map_netlist(sources, top=top, clock=clock, device=device, folder=folder)
    return count_cells(netlist.design["cells"], device.family)


def total(cells: dict[str, CellCount]) -> CellCount:
    """All modules together."""
    return sum(cells.values(), CellCount())


def look_up_tables(cells: CellCount) -> int:
    """Look-up tables with those of carry cells and distributed memory, as the cost model counts them."""
    return cells.lut + 2 * cells.carry + 6 * cells.lutram


def cell_figures(cells: CellCount) -> dict[str, float]:
    """The figures of a record."""
    return {
        "luts": look_up_tables(cells),
        "lut4": cells.lut,
        "carry": cells.carry,
        "lutram": cells.lutram,
        "ff": cells.ff,
        "dsp": cells.dsp,
        "bram": cells.bram,
    }
