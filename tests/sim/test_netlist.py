"""A mapped netlist goes through the same benches as the RTL it came from."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from karui.hw.emit.manifest import CycleRange
from karui.hw.emit.yosys import run_yosys
from karui.sim.netlist import ecp5_models, write_netlist_design
from karui.sim.regression import run_regression
from karui.sim.stream_bench import run_stream_bench

MakeInverter = Callable[[str], Path]
Frames = npt.NDArray[Any]


@pytest.fixture
def netlist_of(make_inverter: MakeInverter) -> Callable[[str], tuple[Path, Path]]:
    """Synthesizes the inverter with a fault; returns its design folder and its netlist."""

    def synthesize(fault: str) -> tuple[Path, Path]:
        design = make_inverter(fault)
        run_yosys(
            ["read_verilog invert.v", "synth_ecp5 -top accelerator", "write_verilog -noattr mapped.v"], folder=design
        )
        return design, design / "mapped.v"

    return synthesize


def test_netlist_passes_with_the_pace_of_the_rtl(
    netlist_of: Callable[[str], tuple[Path, Path]], inverter_frames: Frames, tmp_path: Path
) -> None:
    design, netlist = netlist_of("none")
    write_netlist_design(design, netlist, tmp_path / "netlist")
    for run in (run_regression, run_stream_bench):
        result = run(tmp_path / "netlist", inverter_frames, 255 - inverter_frames, libraries=ecp5_models())
        assert result.passed, result.failure()
        assert result.initiation_interval == CycleRange.fixed(12)
        assert result.latency == CycleRange.fixed(13)


def test_flipped_bit_of_a_lookup_table_is_caught(
    netlist_of: Callable[[str], tuple[Path, Path]], inverter_frames: Frames, tmp_path: Path
) -> None:
    design, netlist = netlist_of("none")
    text = netlist.read_text()
    # The look-up table that inverts a bit on its way out; its other inputs are low, so that bits 0 and 8 are in use.
    damaged, count = re.subn(r"16'h00ff(?=[^;]*\.Z\(m_axis_tdata\[9\]\))", "16'h00fe", text)
    assert count == 1
    netlist.write_text(damaged)
    write_netlist_design(design, netlist, tmp_path / "netlist")
    result = run_regression(tmp_path / "netlist", inverter_frames, 255 - inverter_frames, libraries=ecp5_models())
    assert result.mismatches > 0
