"""Synthesis with the real tools, on a design that maps and routes in seconds."""

import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from karui.flows.synthesize import (
    DEVICES,
    DesignTooLarge,
    PlaceAndRouteFailed,
    SeedResult,
    SynthesisResult,
    TimingMissed,
    find_device,
    nextpnr,
    synthesize,
)
from karui.hw.emit.manifest import ManifestError
from karui.hw.emit.verilog import emit
from karui.hw.emit.yosys import YosysError

ECP5 = find_device("ecp5-25f-8")


class Sum(wiring.Component):
    """Adds up the words of a ROM that stand at given addresses; the adder is an instance of its own."""

    def __init__(self) -> None:
        super().__init__({"address": In(9), "first": In(1), "total": Out(24)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        words = [(index * 40503) % 2**16 for index in range(512)]
        m.submodules.rom = rom = memory.Memory(shape=16, depth=512, init=words, attrs={"rom_style": "block"})
        port = rom.read_port()
        data = [Signal(16, reset_less=True, name=f"data_{stage}") for stage in range(2)]
        m.submodules.adder = adder = Adder()
        m.d.comb += [port.addr.eq(self.address), adder.term.eq(data[1]), adder.first.eq(self.first)]
        m.d.sync += [data[0].eq(port.data), data[1].eq(data[0])]
        m.d.comb += self.total.eq(adder.total)
        return m


class Adder(wiring.Component):
    def __init__(self) -> None:
        super().__init__({"term": In(16), "first": In(1), "total": Out(24)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        with m.If(self.first):
            m.d.sync += self.total.eq(self.term)
        with m.Else():
            m.d.sync += self.total.eq(self.total + self.term)
        return m


class Delay(wiring.Component):
    """A small memory that asks for look-up tables."""

    def __init__(self) -> None:
        super().__init__({"i": In(8), "o": Out(8)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        attributes: dict[str, str | int] = {"ram_style": "distributed", "no_rw_check": 1}
        m.submodules.words = words = memory.Memory(shape=8, depth=16, init=[], attrs=attributes)
        address = Signal(4)
        write, read = words.write_port(), words.read_port(domain="comb")
        m.d.comb += [write.addr.eq(address), read.addr.eq(address + 1), write.data.eq(self.i), write.en.eq(1)]
        m.d.sync += [address.eq(address + 1), self.o.eq(read.data)]
        return m


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("design")
    emit(Sum(), folder, name="sum")
    return folder


@pytest.fixture(scope="module")
def ecp5(design: Path) -> SynthesisResult:
    return synthesize(design, design / "ecp5", device=ECP5, clock_mhz=50, seeds=2, top="sum")


def test_ecp5_is_mapped_routed_and_packed(design: Path, ecp5: SynthesisResult) -> None:
    assert (ecp5.cells.bram, ecp5.cells.dsp, ecp5.cells.carry) == (1, 0, 12)
    assert ecp5.absorption is not None
    assert (ecp5.absorption.ports, ecp5.absorption.registers, ecp5.absorption.refused) == (1, 16, {})
    assert ecp5.cells.ff == 16 + 24
    assert ecp5.by_module["top"].bram == 1
    assert ecp5.by_module["adder"].ff == 24
    assert ecp5.comb is not None
    assert ecp5.comb >= ecp5.cells.lut + 2 * ecp5.cells.carry
    assert ecp5.timing_met
    assert (design / "ecp5" / "design.bit").stat().st_size > 1000
    assert "module sum(" in (design / "ecp5" / "netlist.v").read_text()
    assert '"OUTREG"' in (design / "ecp5" / "netlist.v").read_text()


def test_seeds_behind_one_that_meets_the_clock_are_left_out(ecp5: SynthesisResult) -> None:
    assert [(seed.seed, seed.fmax_mhz) for seed in ecp5.seeds] == [(1, ecp5.fmax_mhz)]
    assert ecp5.critical_path is not None
    assert ecp5.critical_path.delay_ns == pytest.approx(1000 / ecp5.fmax_mhz, abs=0.01)


def test_seeds_before_one_that_meets_the_clock_are_tried_to_their_end(
    design: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 1, which misses the clock, is still running when seed 2 meets it; seed 3 is ended then."""
    met = threading.Event()

    def route(*_: object, seed: int, needless: Callable[[], bool], **__: object) -> SeedResult:
        if seed == 2:
            met.set()
            return SeedResult(seed=2, fmax_mhz=60.0, seconds=0.0)
        assert met.wait(timeout=60)
        if seed == 3:
            while not needless():
                time.sleep(0.01)
            raise nextpnr._LeftOut
        time.sleep(0.2)
        assert not needless()
        return SeedResult(seed=1, fmax_mhz=49.0, seconds=0.0)

    monkeypatch.setattr(nextpnr, "_run_seed", route)
    monkeypatch.setattr(nextpnr.os, "cpu_count", lambda: 3)
    report = {"utilization": {"TRELLIS_COMB": {"used": 1}}, "critical_paths": [{"from": "c", "to": "c", "path": []}]}
    for seed in (1, 2):
        (tmp_path / f"seed-{seed}.json").write_text(json.dumps(report))
    arguments: dict[str, Any] = {"device": ECP5, "seeds": (1, 2, 3), "progress": lambda _: None}
    routed = nextpnr.place_and_route(tmp_path / "netlist.json", clock_mhz=50, **arguments)
    assert (routed.seed, [seed.seed for seed in routed.seeds]) == (2, [1, 2])


def test_running_tool_is_ended_once_needless(tmp_path: Path) -> None:
    (tmp_path / "slow_tool.py").write_text(
        "import pathlib, time\ndef run(arguments):\n    pathlib.Path('begun').touch()\n    time.sleep(600)\n"
    )
    with pytest.raises(nextpnr._LeftOut):
        nextpnr._run(
            "slow_tool", "run", [], folder=tmp_path, log=tmp_path / "log", needless=(tmp_path / "begun").exists
        )
    assert (tmp_path / "begun").exists()


def test_record_is_read_back_equal(design: Path, ecp5: SynthesisResult) -> None:
    assert SynthesisResult.load(design / "ecp5") == ecp5
    record = json.loads((design / "ecp5" / "synthesis.json").read_text())
    assert {"lut4", "carry", "comb", "ff", "bram", "dsp", "clock_mhz", "fmax_mhz", "timing_met"} <= set(record)


def test_ice40_is_mapped_routed_and_packed(design: Path) -> None:
    device = find_device("ice40-hx8k")
    result = synthesize(design, design / "ice40", device=device, clock_mhz=20, top="sum")
    assert result.cells.bram == 2
    assert result.absorption is None
    assert result.timing_met
    assert (design / "ice40" / "design.bin").stat().st_size > 1000


@pytest.mark.parametrize(("device", "lutram", "bram"), [("ecp5-25f", 2, 0), ("ice40-hx8k", 0, 1), ("xc7z020", 8, 0)])
def test_memory_in_look_up_tables_maps_everywhere(device: str, lutram: int, bram: int, tmp_path: Path) -> None:
    """Where a family has none, the memory goes elsewhere."""
    emit(Delay(), tmp_path, name="delay")
    result = synthesize(tmp_path, tmp_path / "out", device=find_device(device), clock_mhz=20, top="delay")
    assert (result.cells.lutram, result.cells.bram) == (lutram, bram)


def test_xc7_is_area_alone(design: Path) -> None:
    result = synthesize(design, design / "xc7", device=find_device("xc7z020"), clock_mhz=200, top="sum")
    assert result.cells.bram == 0.5
    assert result.cells.lut > 0
    assert result.by_module["adder"].ff == 24
    assert (result.comb, result.fmax_mhz, result.timing_met, result.seeds) == (None, None, None, ())
    assert "lut6" in json.loads((design / "xc7" / "synthesis.json").read_text())
    assert SynthesisResult.load(design / "xc7") == result


def test_more_ports_than_pins_are_routed_in_a_shell(design: Path, ecp5: SynthesisResult) -> None:
    """Nothing of the core is lost in the shell, nor does the shell count as the core's."""
    result = synthesize(design, design / "shelled", device=replace(ECP5, pins=35), clock_mhz=50, top="sum")
    assert ecp5.shell is None
    assert result.cells == ecp5.cells
    assert result.by_module == ecp5.by_module
    assert result.shell is not None
    assert result.shell.ff >= 2 * (1 + 9 + 1) + 2 * 24
    ports = r"module sum\(clk, rst, address, first, total\);"
    assert re.search(ports, (design / "shelled" / "netlist.v").read_text()), "the netlist to simulate has no shell"
    assert "module pin_shell" not in (design / "shelled" / "netlist.v").read_text()


def test_missed_clock_is_an_error_with_its_path_and_its_record(design: Path) -> None:
    with pytest.raises(
        TimingMissed, match=r"MHz reached, 2000 MHz asked[\s\S]*critical path: .* to adder\.total"
    ) as missed:
        synthesize(design, design / "fast", device=ECP5, clock_mhz=2000, seeds=2, top="sum")
    assert missed.value.result.timing_met is False
    seeds = missed.value.result.seeds
    assert [seed.seed for seed in seeds] == [1, 2]
    assert missed.value.result.fmax_mhz == max(seed.fmax_mhz or 0 for seed in seeds)
    assert missed.value.result.critical_path is not None
    assert missed.value.result.critical_path.delay_ns == pytest.approx(1000 / missed.value.result.fmax_mhz, abs=0.01)
    assert SynthesisResult.load(design / "fast") == missed.value.result


def test_missed_clock_is_routed_again_for_its_critical_paths(design: Path, tmp_path: Path) -> None:
    with pytest.raises(TimingMissed) as missed:
        synthesize(design, tmp_path / "out", device=ECP5, clock_mhz=1000, top="sum")
    logs = {path.name: path.read_text() for path in (tmp_path / "out").glob("seed-1*.log")}
    assert any("tmgfail" in log for log in logs.values())
    kept = json.loads((tmp_path / "out" / "seed-1.json").read_text())["fmax"]
    assert [clock["achieved"] for clock in kept.values()] == [missed.value.result.fmax_mhz]
    discarded = [json.loads(path.read_text())["fmax"] for path in (tmp_path / "out").glob("seed-1-again.json")]
    assert all(clock["achieved"] <= missed.value.result.fmax_mhz for fmax in discarded for clock in fmax.values())


def test_too_large_a_design_is_refused_before_placement(design: Path) -> None:
    with pytest.raises(
        DesignTooLarge, match=r"ecp5-25f-8: .*look-up tables asked, 20 there.*; 1 block RAMs asked, 0"
    ) as large:
        synthesize(design, design / "small", device=replace(ECP5, luts=20, block_rams=0), clock_mhz=50, top="sum")
    assert large.value.excess["block RAMs"] == (1, 0)
    assert not (design / "small").exists()
    assert not list((design / "small.partial").glob("seed-*"))


def test_failure_leaves_no_earlier_outputs(design: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    device = find_device("xc7z020")
    synthesize(design, out, device=device, clock_mhz=50, top="sum")
    (tmp_path / "broken.v").write_text("module broken(input clk; endmodule\n")
    with pytest.raises(YosysError, match="syntax error"):
        synthesize(tmp_path, out, device=device, clock_mhz=50, top="broken")
    assert not out.exists()


def test_failed_seed_is_recorded_and_another_tried(
    design: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = nextpnr._run

    def fail_first_seed(package: str, tool: str, arguments: Sequence[str], *, log: Path, **others: Any) -> int:
        if log.name == "seed-1.log":
            log.write_text("Info: routing\nERROR: Failed to route clock pad\n")
            return 1
        return run(package, tool, arguments, log=log, **others)

    monkeypatch.setattr(nextpnr, "_run", fail_first_seed)
    result = synthesize(design, tmp_path / "out", device=ECP5, clock_mhz=50, top="sum")
    assert [(seed.seed, seed.reason) for seed in result.seeds] == [(1, "Failed to route clock pad"), (2, None)]
    assert result.seeds[0].fmax_mhz is None
    assert result.fmax_mhz == result.seeds[1].fmax_mhz


def test_failure_of_every_seed_says_why(design: Path, tmp_path: Path) -> None:
    with pytest.raises(PlaceAndRouteFailed, match=r"seeds 1, 2, 3, 4: .*CABGA999"):
        synthesize(design, tmp_path / "out", device=replace(ECP5, package="CABGA999"), clock_mhz=50, top="sum")


def test_missing_design_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"engine\.v is not there; emit the design first"):
        synthesize(tmp_path, tmp_path / "out", device=ECP5, clock_mhz=50, top="engine")
    with pytest.raises(ManifestError, match=r"has no manifest\.json"):
        synthesize(tmp_path, tmp_path / "out", device=ECP5, clock_mhz=50)


def test_outputs_replace_only_outputs(design: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work\n")
    with pytest.raises(ValueError, match="not from a synthesis"):
        synthesize(design, tmp_path, device=ECP5, clock_mhz=50, top="sum")
    assert (tmp_path / "thesis.txt").exists()


def test_bad_figures_are_refused(design: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not 0 seeds and 50 MHz"):
        synthesize(design, tmp_path / "out", device=ECP5, clock_mhz=50, seeds=0, top="sum")


def test_devices_are_found_by_name_and_guessed_by_likeness() -> None:
    assert find_device("ecp5-85f").name == "ecp5-85f-6"
    assert all(find_device(name).name == name for name in DEVICES)
    with pytest.raises(ValueError, match="unknown device 'ecp5-85'; did you mean 'ecp5-85f"):
        find_device("ecp5-85")
