"""An engine as a design of its own: played, held against its estimate, placed, and its netlist played."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from karui.flows.bench.benchmark import BenchmarkRun, Check, equal
from karui.flows.bench.estimate import TOLERANCE, error
from karui.flows.design import Design
from karui.flows.synthesize import Device, SynthesisResult, TimingMissed, synthesize
from karui.sim.netlist import NETLIST_NAME, ecp5_models, write_netlist_design
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure

Integers = npt.NDArray[np.int64]


def play(design: Design, name: str, frames: Integers, expected: Integers, *, seed: int) -> list[Check]:
    """Every word, without pauses and with random ones, and the cycles."""
    checks = []
    for mode in (BackPressure.NONE, BackPressure.RANDOM):
        result = run_regression(design.rtl, frames, expected, back_pressure=mode, seed=seed)
        checks.append(equal(f"{name}: failed checks, {mode} pauses", result.failure() or "none", "none"))
        if mode is BackPressure.NONE:
            interval, latency = result.initiation_interval, result.latency
            accelerator = design.accelerator
            checks += [
                equal(f"{name}: cycles a frame, as predicted", interval and interval.max, accelerator.interval),
                equal(f"{name}: cycles of latency, as predicted", latency and latency.max, accelerator.latency),
            ]
    return checks


def close(what: str, estimate: float, found: float) -> Check:
    """An estimate against what was mapped."""
    off = error(estimate, found)
    return Check(
        what=f"{what}, estimate against mapped, %",
        value=round(off, 1),
        target=f"within {100 * TOLERANCE:g}",
        passed=abs(off) <= 100 * TOLERANCE,
    )


def place(design: Design, run: BenchmarkRun, *, device: Device, clock_mhz: float, seeds: int) -> SynthesisResult:
    """The best of some seeds at a clock to aim for, reached or not."""
    try:
        return synthesize(
            design.rtl, _placed(design), device=device, clock_mhz=clock_mhz, seeds=seeds, progress=run.progress
        )
    except TimingMissed as missed:
        return missed.result


def play_netlist(design: Design, frames: Integers, expected: Integers, *, seed: int) -> str | None:
    """What fails in the netlist that was placed."""
    folder = design.folder / "netlist"
    write_netlist_design(design.rtl, _placed(design) / NETLIST_NAME, folder)
    return run_regression(folder, frames, expected, seed=seed, latency_frames=1, libraries=ecp5_models()).failure()


def _placed(design: Design) -> Path:
    return design.folder / "placed"
