"""Models of ECP5 cells against the plain RTL that Yosys mapped to them, side by side under random stimulus."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from karui.hw.emit.yosys import run_yosys
from karui.sim.netlist import ecp5_models
from karui.sim.simulate import simulate
from karui.sim.verilator import Optimization, build_model

FIXTURES = Path(__file__).parent / "fixtures"
Edit = Callable[[str], str]


def synthesize(rtl: Path, parameters: dict[str, int | str], folder: Path) -> str:
    """Verilog of the netlist that Yosys makes of a fixture, as module ``netlist``."""
    chosen = " ".join(
        f"-set {name} {value}" if isinstance(value, int) else f'-set {name} "{value}"'
        for name, value in parameters.items()
    )
    run_yosys(
        [
            f'read_verilog "{rtl}"',
            *([f"chparam {chosen} rtl"] if chosen else []),
            "synth_ecp5 -top rtl",
            "rename rtl netlist",
            "write_verilog -noattr netlist.v",
        ],
        folder=folder,
    )
    return (folder / "netlist.v").read_text()


def cells(netlist: str) -> set[str]:
    return set(re.findall(r"^  ([A-Z]\w+) (?:#\(|\S+ \()", netlist, re.MULTILINE))


def compare(rtl: str, netlist: str, folder: Path, *, cycles: int = 20_000) -> tuple[int, str]:
    """Mismatching cycles of two modules, and the log that names the first; both must be alive."""
    (folder / "rtl.v").write_text(rtl)
    (folder / "netlist.v").write_text(netlist)
    widths = {name: re.search(rf"(?:input|output) (?:\[(\d+):0\] )?{name}\b", netlist) for name in ("in", "out")}
    model = build_model(
        top="side_by_side",
        sources=[FIXTURES / "side_by_side.sv", *ecp5_models(), folder / "rtl.v", folder / "netlist.v"],
        control=FIXTURES / "side_by_side.vlt",
        parameters={
            f"{name.upper()}_BITS": int(found[1] or 0) + 1 for name, found in widths.items() if found is not None
        },
        defines={},
        optimization=Optimization.BUILD_TIME,
    )
    log = folder / "comparison.log"
    simulate(
        model=model,
        top="side_by_side",
        test_module="karui.sim.player_clock",
        folder=folder,
        plusargs=(f"+cycles={cycles}", "+verilator+seed+7"),
        result=log,
    )
    *_, totals = log.read_text().splitlines()
    mismatches, changes = (int(number) for number in totals.split())
    assert changes > cycles / 20, "the stimulus does not move the outputs"
    return mismatches, log.read_text()


def with_defaults(rtl: Path, parameters: dict[str, int | str]) -> str:
    """A fixture's text with other defaults of its parameters."""
    text = rtl.read_text()
    for name, value in parameters.items():
        written = str(value) if isinstance(value, int) else f'"{value}"'
        text, count = re.subn(rf"(parameter {name} = )[^,)]+", rf"\g<1>{written}", text)
        assert count == 1
    return text


def check(fixture: str, parameters: dict[str, int | str], folder: Path, *contents: str, cell: str) -> str:
    """A fixture equals its netlist, which has the cell, and text that shows the feature under test; return it."""
    netlist = synthesize(FIXTURES / fixture, parameters, folder)
    assert cell in cells(netlist)
    for text in contents:
        assert text in netlist
    mismatches, log = compare(with_defaults(FIXTURES / fixture, parameters), netlist, folder)
    assert mismatches == 0, log
    return netlist


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("width", "address"),
    [
        (1, 14),
        (4, 12),
        (9, 11),
        (36, 9),
        pytest.param(2, 13, marks=SLOW),
        pytest.param(18, 10, marks=SLOW),
        pytest.param(40, 10, marks=SLOW),
    ],
)
def test_rom(width: int, address: int, tmp_path: Path) -> None:
    check("rom.v", {"WIDTH": width, "ADDRESS": address}, tmp_path, cell="DP16KD")


@pytest.mark.parametrize(
    ("width", "address"),
    [(4, 12), (18, 10), (36, 9), pytest.param(1, 14, marks=SLOW), pytest.param(9, 11, marks=SLOW)],
)
def test_one_write_port_one_read_port(width: int, address: int, tmp_path: Path) -> None:
    check("write_read.v", {"WIDTH": width, "ADDRESS": address}, tmp_path, cell="DP16KD")


@pytest.mark.parametrize(
    ("mode", "reset"),
    [
        ("NORMAL", "SYNC"),
        ("WRITETHROUGH", "NONE"),
        ("READBEFOREWRITE", "ASYNC"),
        pytest.param("WRITETHROUGH", "SYNC", marks=SLOW),
        pytest.param("WRITETHROUGH", "ASYNC", marks=SLOW),
        pytest.param("NORMAL", "ASYNC", marks=SLOW),
        pytest.param("READBEFOREWRITE", "SYNC", marks=SLOW),
    ],
)
def test_two_ports(mode: str, reset: str, tmp_path: Path) -> None:
    modes = (f'.WRITEMODE_A("{mode}")', f'.WRITEMODE_B("{mode}")')
    resets = () if reset == "NONE" else (f'.RESETMODE("{reset}")',)
    check("two_ports.v", {"MODE": mode, "RESET": reset}, tmp_path, *modes, *resets, cell="DP16KD")


@pytest.mark.parametrize(
    ("a", "b", "signed"),
    [(18, 18, 0), (18, 18, 1), (12, 9, 1), pytest.param(9, 14, 0, marks=SLOW), pytest.param(30, 24, 1, marks=SLOW)],
)
def test_product(a: int, b: int, signed: int, tmp_path: Path) -> None:
    check("product.v", {"A": a, "B": b, "SIGNED": signed}, tmp_path, cell="MULT18X18D")


def test_output_register(tmp_path: Path) -> None:
    """Yosys never uses it; a netlist in which it is switched on must be the RTL with a register more."""
    rtl = FIXTURES / "rom.v"
    netlist = synthesize(rtl, {"WIDTH": 18, "ADDRESS": 10}, tmp_path)
    registered, count = re.subn(r"\.REGMODE_([AB])\(\"NOREG\"\)", r'.REGMODE_\1("OUTREG")', netlist)
    assert count >= 2
    delayed = rtl.read_text().replace("output reg [WIDTH-1:0] out", "output [WIDTH-1:0] out")
    delayed = delayed.replace("out <= memory", "latch <= memory").replace("out = 0", "latch = 0; register = 0")
    delayed = delayed.replace(
        "    integer i;",
        "    reg [WIDTH-1:0] latch, register;\n    always @(posedge clk) register <= latch;\n"
        "    assign out = register;\n    integer i;",
    )
    mismatches, log = compare(delayed, registered, tmp_path)
    assert mismatches == 0, log


@pytest.mark.parametrize("fixture", ["multiplier_registers.v", "pseudo_dual_port.v"])
def test_cell_that_yosys_does_not_map_to(fixture: str, tmp_path: Path) -> None:
    rtl, netlist = (FIXTURES / fixture).read_text().split("\n\n", 1)
    mismatches, log = compare(rtl, netlist, tmp_path)
    assert mismatches == 0, log


def test_fabric(tmp_path: Path) -> None:
    netlist = check("fabric.v", {}, tmp_path, cell="TRELLIS_FF")
    assert {"LUT4", "CCU2C", "TRELLIS_DPR16X4"} <= cells(netlist)
