"""Simulating a mapped netlist: the models of its cells, and a design folder that any bench takes."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from pathlib import Path

from karui.hw.emit.manifest import Manifest

NETLIST_NAME = "netlist.v"


def ecp5_models() -> tuple[Path, ...]:
    """Verilog models of the cells that Yosys maps to on the ECP5, for the `libraries` of a bench.

    Fabric cells are Yosys' own models; block RAMs and multipliers, of which it has none, are karui's.
    """
    package = importlib.util.find_spec("pyosys")
    assert package is not None
    assert package.origin is not None
    yosys = Path(package.origin).parent / "share" / "ecp5"
    own = Path(__file__).parent / "primitives"
    return (
        own / "fabric_cells.v",
        yosys / "common_sim.vh",
        yosys / "ccu2c_sim.vh",
        own / "dp16kd.v",
        own / "pdpw16kd.v",
        own / "mult18x18d.v",
    )


def write_netlist_design(design_dir: Path, netlist: Path, folder: Path) -> Manifest:
    """Write a design folder in which a netlist stands for the RTL; the netlist carries its memories in itself.

    Parameters
    ----------
    design_dir : Path
        The design that was synthesized.
    netlist : Path
        Verilog of the netlist; its top module has the design's name and ports.
    folder : Path
        Folder to write, made if need be.

    Raises
    ------
    ManifestError
        If `design_dir` is not in order.
    """
    design = Manifest.load(design_dir)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(netlist, folder / NETLIST_NAME)
    manifest = dataclasses.replace(design, sources=(NETLIST_NAME,), memories=())
    manifest.save(folder)
    return manifest
