"""Synthesis with native Yosys: Verilog to a mapped, flat netlist."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karui.flows.synthesize.targets import Device
from karui.hw.emit.pin_shell import SHELL_TOP, Port, pin_shell_rtlil
from karui.hw.emit.yosys import run_yosys


@dataclass(kw_only=True)
class Netlist:
    """A mapped design: one flat module, and the pin shell around it if it has one.

    Parameters
    ----------
    top : str
        The design's module.
    modules : dict
        Modules in Yosys' JSON form, by name, the device's cells among them; to be changed before the netlist is
        written.
    """

    top: str
    modules: dict[str, Any]

    @property
    def design(self) -> dict[str, Any]:
        """The design's module."""
        module: dict[str, Any] = self.modules[self.top]
        return module

    @property
    def shell(self) -> dict[str, Any] | None:
        """The pin shell's module."""
        return self.modules.get(SHELL_TOP)


def map_netlist(sources: Sequence[Path], *, top: str, clock: str, device: Device, folder: Path) -> Netlist:
    """Synthesize Verilog for a device.

    Parameters
    ----------
    sources
        Verilog files; memory images they read lie beside them.
    top
        Top module.
    clock
        Its clock port.
    device
        What to map to. When it is to be placed and routed and has fewer pins than the design, the design is put in a
        pin shell.
    folder
        Where logs go.

    Raises
    ------
    YosysError
        When Yosys refuses the design; the message names the log.
    """
    read = [f'read_verilog "{source.resolve()}"' for source in sources]
    run_yosys(
        [*read, f"hierarchy -check -top {top}", "write_rtlil design.il", f"tee -q -o ports.txt portlist {top}"],
        folder=folder,
        name="read",
    )
    ports = read_ports((folder / "ports.txt").read_text())
    shelled = device.routed and sum(port.bits for port in ports.values()) > device.pins
    children = _children((folder / "design.il").read_text(), top)
    commands = ["read_rtlil design.il"]
    if shelled:
        (folder / "shell.il").write_text(pin_shell_rtlil(top, ports, clock=clock))
        commands += ["read_rtlil shell.il", f"setattr -mod -set keep_hierarchy 1 {top}"]
    # Mapped module by module, so that every cell is known to be of one layer, and flattened at the end.
    commands += [f"setattr -mod -set keep_hierarchy 1 {module}" for module in children]
    commands.append(_synthesis(device, SHELL_TOP if shelled else top))
    commands += [f"setattr -mod -unset keep_hierarchy {module}" for module in children]
    run_yosys([*commands, "flatten", "opt_clean", "write_json mapped.json"], folder=folder)
    modules = json.loads((folder / "mapped.json").read_text())["modules"]
    for name in ("design.il", "mapped.json"):
        (folder / name).unlink()
    return Netlist(top=top, modules=modules)


def write_netlist(netlist: Netlist, folder: Path) -> Path:
    """Write ``netlist.v``, the design to be simulated, and ``netlist.json``, the design in its shell to be placed.

    Returns
    -------
    Path
        The JSON.
    """
    (folder / "mapped.json").write_text(json.dumps({"modules": netlist.modules}))
    commands = [
        "read_json mapped.json",
        f"select {netlist.top}",
        "write_verilog -noattr -selected netlist.v",
        "select *",
    ]
    if netlist.shell is not None:
        commands += [f"setattr -mod -unset keep_hierarchy {netlist.top}", "flatten", "opt_clean"]
    run_yosys([*commands, "write_json netlist.json"], folder=folder, name="write")
    (folder / "mapped.json").unlink()
    return folder / "netlist.json"


def read_ports(portlist: str) -> dict[str, Port]:
    """Ports by name, from what Yosys' ``portlist`` prints of one module: ``input [7:0] tdata``."""
    ports: dict[str, Port] = {}
    for line in portlist.splitlines():
        words = line.split()
        if words and words[0] in ("input", "output"):
            high, low = (int(index) for index in words[1].strip("[]").split(":"))
            ports[words[2]] = Port(direction="input" if words[0] == "input" else "output", bits=high - low + 1)
    return ports


def _children(rtlil: str, top: str) -> list[str]:
    """Modules that the top instantiates itself."""
    modules = dict(re.findall(r"^module \\(\S+)\n(.*?)^end$", rtlil, re.MULTILINE | re.DOTALL))
    used = re.findall(r"^  cell \\(\S+) ", modules[top], re.MULTILINE)
    return [module for module in dict.fromkeys(used) if module in modules]


def _synthesis(device: Device, top: str) -> str:
    if device.family == "ecp5":
        return f"synth_ecp5 -top {top}"
    if device.family == "ice40":
        part = "u -dsp" if device.size.startswith("up") else "hx"
        # There is no memory in look-up tables: what asks for it becomes block RAM or flip-flops.
        return f"setattr -unset ram_style m:*\nsynth_ice40 -device {part} -top {top}"
    # Without pads and clock buffers: only the area is read.
    return f"synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -top {top}"
