"""Registers of block RAMs and multipliers: used where it is the same circuit, which simulation shows, else refused."""

import re
from pathlib import Path

import pytest

from karui.flows.synthesize.block_ram_register import absorb_output_registers
from karui.flows.synthesize.multiplier_register import absorb_multiplier_registers
from karui.flows.synthesize.result import Absorption
from karui.flows.synthesize.targets import find_device
from karui.flows.synthesize.yosys import Netlist, map_netlist, write_netlist
from karui.sim.netlist import ecp5_models
from karui.sim.simulate import simulate
from karui.sim.verilator import Optimization, build_model

FIXTURES = Path(__file__).parent / "fixtures"
SIDE_BY_SIDE = Path(__file__).parents[1] / "sim" / "primitives" / "fixtures"
CYCLES = 5000


def mapped(fixture: str, folder: Path, **parameters: int | str) -> Netlist:
    """A fixture with other defaults of its parameters, mapped to an ECP5; ``rtl.v`` is what was mapped."""
    text = (FIXTURES / fixture).read_text()
    for name, value in parameters.items():
        written = f'"{value}"' if isinstance(value, str) else str(value)
        text, count = re.subn(rf"(parameter {name} = )[^,\n]+", rf"\g<1>{written}", text)
        assert count == 1
    (folder / "rtl.v").write_text(text)
    device = find_device("ecp5-85f-8")
    return map_netlist([folder / "rtl.v"], top="rtl", clock="clk", device=device, folder=folder)


def mismatches(netlist: Netlist, folder: Path) -> int:
    """Cycles in which the mapped netlist and the RTL differ under random stimulus."""
    write_netlist(netlist, folder)
    text = (folder / "netlist.v").read_text()
    (folder / "netlist.v").write_text(text.replace("module rtl(", "module netlist("))
    ports = netlist.design["ports"]
    model = build_model(
        top="side_by_side",
        sources=[SIDE_BY_SIDE / "side_by_side.sv", *ecp5_models(), folder / "rtl.v", folder / "netlist.v"],
        control=SIDE_BY_SIDE / "side_by_side.vlt",
        parameters={f"{name.upper()}_BITS": len(ports[name]["bits"]) for name in ("in", "out")},
        defines={},
        optimization=Optimization.BUILD_TIME,
    )
    simulate(
        model=model,
        top="side_by_side",
        test_module="karui.sim.player_clock",
        folder=folder,
        plusargs=(f"+cycles={CYCLES}", "+verilator+seed+7"),
        result=folder / "comparison.log",
    )
    differing, changes = (int(number) for number in (folder / "comparison.log").read_text().splitlines()[-1].split())
    assert changes > CYCLES / 2, "the stimulus does not move the outputs"
    return differing


@pytest.mark.parametrize(
    ("width", "address", "written", "ports"), [(36, 9, 0, 1), (40, 9, 0, 2), (36, 9, 1, 1), (9, 11, 1, 1)]
)
def test_plain_register_is_absorbed_and_nothing_changes(
    width: int, address: int, written: int, ports: int, tmp_path: Path
) -> None:
    netlist = mapped("registered_memory.v", tmp_path, WIDTH=width, ADDRESS=address, WRITTEN=written)
    before = [cell["type"] for cell in netlist.design["cells"].values()].count("TRELLIS_FF")
    absorption = absorb_output_registers(netlist.design)
    assert absorption == Absorption(ports=ports, registers=width, refused={})
    after = [cell["type"] for cell in netlist.design["cells"].values()].count("TRELLIS_FF")
    assert before - after == width
    assert mismatches(netlist, tmp_path) == 0


@pytest.mark.parametrize("width", [18, 36])
def test_register_that_the_read_port_s_enable_holds_too_is_absorbed(width: int, tmp_path: Path) -> None:
    netlist = mapped("registered_memory.v", tmp_path, KIND="ENABLED", WIDTH=width)
    assert absorb_output_registers(netlist.design) == Absorption(ports=1, registers=width, refused={})
    assert mismatches(netlist, tmp_path) == 0


def test_both_ports_of_a_dual_port_memory_are_absorbed(tmp_path: Path) -> None:
    netlist = mapped("registered_ports.v", tmp_path)
    assert absorb_output_registers(netlist.design) == Absorption(ports=2, registers=36, refused={})
    assert mismatches(netlist, tmp_path) == 0


def test_comparison_sees_a_register_that_was_lost(tmp_path: Path) -> None:
    netlist = mapped("registered_memory.v", tmp_path)
    absorb_output_registers(netlist.design)
    for cell in netlist.design["cells"].values():
        if cell["type"] == "DP16KD":
            cell["parameters"].update(REGMODE_A="NOREG", REGMODE_B="NOREG")
    assert mismatches(netlist, tmp_path) > CYCLES / 2


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("READ_ENABLE", "register with another enable"),
        ("OTHER_ENABLE", "register with another enable"),
        ("ENABLE", "enable on the register"),
        ("RESET", "reset on the register"),
        ("LOGIC", "data used in several places"),
        ("SHARED", "data used in several places"),
        ("STARTS_AT_1", "register starts at 1"),
        ("FALLING", "register on another clock"),
    ],
)
def test_other_registers_are_refused_with_the_reason(kind: str, reason: str, tmp_path: Path) -> None:
    netlist = mapped("registered_memory.v", tmp_path, KIND=kind)
    cells = {name: str(cell) for name, cell in netlist.design["cells"].items()}
    absorption = absorb_output_registers(netlist.design)
    assert absorption == Absorption(ports=0, registers=0, refused={reason: 1})
    assert {name: str(cell) for name, cell in netlist.design["cells"].items()} == cells


def flip_flops(netlist: Netlist) -> int:
    return [cell["type"] for cell in netlist.design["cells"].values()].count("TRELLIS_FF")


def test_plain_registers_around_multipliers_are_absorbed_and_nothing_changes(tmp_path: Path) -> None:
    netlist = mapped("registered_multiplier.v", tmp_path)
    # Operand a (13 bits) feeds both; b and c have 10 bits, the products 23, twice registered.
    assert flip_flops(netlist) == 13 + 2 * 10 + 4 * 23
    assert absorb_multiplier_registers(netlist.design, clock_mhz=250) == Absorption(ports=6, registers=125, refused={})
    assert flip_flops(netlist) == 0
    registers = [f"REG_{name}_CLK" for name in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")]
    multipliers = [cell["parameters"] for cell in netlist.design["cells"].values() if cell["type"] == "MULT18X18D"]
    assert [[each.get(name) for name in registers] for each in multipliers] == [["CLK0"] * 4] * 2
    assert mismatches(netlist, tmp_path) == 0


def test_register_behind_a_product_stays_on_its_way_where_the_clock_leaves_time(tmp_path: Path) -> None:
    netlist = mapped("registered_multiplier.v", tmp_path)
    absorption = absorb_multiplier_registers(netlist.design, clock_mhz=150)
    assert absorption == Absorption(ports=6, registers=125 - 2 * 23, refused={})
    multipliers = [cell["parameters"] for cell in netlist.design["cells"].values() if cell["type"] == "MULT18X18D"]
    assert [each.get("REG_PIPELINE_CLK", "NONE") for each in multipliers] == ["NONE"] * 2
    assert mismatches(netlist, tmp_path) == 0


def test_comparison_sees_a_multiplier_register_that_was_lost(tmp_path: Path) -> None:
    netlist = mapped("registered_multiplier.v", tmp_path)
    absorb_multiplier_registers(netlist.design, clock_mhz=250)
    for cell in netlist.design["cells"].values():
        if cell["type"] == "MULT18X18D":
            cell["parameters"]["REG_PIPELINE_CLK"] = "NONE"
    assert mismatches(netlist, tmp_path) > CYCLES / 2


@pytest.mark.parametrize(
    ("kind", "left", "refused"),
    [
        ("ENABLE", 13, {"enable on the register": 2}),
        ("RESET", 13, {"reset on the register": 2}),
        ("STARTS_AT_1", 13, {"register starts at 1": 2}),
        ("FALLING", 13, {"register on another clock": 2}),
        ("DIRECT", 0, {"operand A not from a register": 2}),
        ("OPERAND_OUT", 13, {}),
        ("PRODUCT_LOGIC", 46, {"product used by logic": 1}),
        ("PRODUCT_OUT", 23, {}),
    ],
)
def test_other_registers_around_multipliers_stay_and_nothing_changes(
    kind: str, left: int, refused: dict[str, int], tmp_path: Path
) -> None:
    netlist = mapped("registered_multiplier.v", tmp_path, KIND=kind)
    assert absorb_multiplier_registers(netlist.design, clock_mhz=250).refused == refused
    assert flip_flops(netlist) == left
    assert mismatches(netlist, tmp_path) == 0
