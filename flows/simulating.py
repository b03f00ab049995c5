"""Stages simulate and netlist: the RTL, and what synthesis made of it, on Verilator against the golden model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from karui.flows.build_folder import BuildError, BuildFolder
from karui.flows.design import Design
from karui.flows.settings import Settings
from karui.flows.synthesize.targets import find_device
from karui.sim.netlist import ecp5_models, write_netlist_design
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure, RegressionResult
from karui.sim.stream_bench import run_stream_bench

# Images played with pauses on both sides: cycles are not measured there, the protocol is what is proven.
PAUSED_IMAGES = 200
# Images that the cocotb bench drives beat by beat, with malformed frames among them.
BENCH_IMAGES = 20


class Mismatch(RuntimeError):
    """A simulation gave other words than the golden model, or stalled."""


def run_simulate(
    folder: BuildFolder, settings: Settings, *, progress: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Play the test images through the RTL and compare every output word.

    All images (or as many as the settings say) at full speed; some of them again with random and with bursty pauses;
    some through the cocotb bench, which also sends frames that are too short and too long.

    Returns
    -------
    dict
        The stage's result, as ``simulate.json`` has it.

    Raises
    ------
    Mismatch
        If a word differs, is missing or surplus, or a stream stalls; names the first differences.
    """
    folder.result("compile")
    folder.begin("simulate")
    started = time.monotonic()
    design = Design.load(folder.design)
    inputs, outputs = _vectors(folder, settings.hardware.images)
    runs = []
    for mode in BackPressure:
        count = len(inputs) if mode is BackPressure.NONE else min(len(inputs), PAUSED_IMAGES)
        progress(f"RTL: {count:,} images" + ("" if mode is BackPressure.NONE else f", {mode} pauses"))
        result = run_regression(design.rtl, inputs[:count], outputs[:count], back_pressure=mode, seed=1)
        runs.append(_run(result, mode, "RTL"))
    count = min(len(inputs), BENCH_IMAGES)
    progress(f"RTL: {count} images and malformed frames, driven beat by beat")
    bench = run_stream_bench(design.rtl, inputs[:count], outputs[:count], back_pressure=BackPressure.RANDOM, seed=1)
    runs.append({**_run(bench, BackPressure.RANDOM, "cocotb bench"), "malformed_frames": True})
    record = {"runs": runs, "seconds": round(time.monotonic() - started, 2)}
    folder.finish("simulate", record, inputs=[folder.vectors, *design.files])
    return record


def run_netlist(
    folder: BuildFolder, settings: Settings, *, progress: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Play test images through the synthesized netlist and compare every output word.

    Parameters
    ----------
    folder : BuildFolder
        With the stages compile and synthesize done.
    settings : Settings
        Of the build.
    progress : callable
        Called with a line at each step.

    Returns
    -------
    dict
        The stage's result, as ``netlist.json`` has it.
    """
    folder.result("compile")
    folder.begin("netlist")
    started = time.monotonic()
    design = Design.load(folder.design)
    device = settings.hardware.device
    netlist = folder.synthesis(device) / "netlist.v"
    if find_device(device).family != "ecp5":
        raise BuildError(f"netlists of {device} cannot be simulated: there are models of the cells of ECP5 only")
    if not netlist.is_file():
        raise BuildError(f"{folder.path} has no netlist for {device}: run `karui synthesize {folder.path}` first")
    inputs, outputs = _vectors(folder, settings.hardware.netlist_images)
    progress(f"netlist: {len(inputs)} images")
    mapped = folder.synthesis(device) / "simulation"
    write_netlist_design(design.rtl, netlist, mapped)
    result = run_regression(mapped, inputs, outputs, libraries=ecp5_models())
    run = _run(result, BackPressure.NONE, f"{device} netlist")
    record = {"device": device, **run, "seconds": round(time.monotonic() - started, 2)}
    folder.finish("netlist", record, inputs=[folder.vectors, netlist])
    return record


def _vectors(folder: BuildFolder, images: int | None) -> tuple[Any, Any]:
    with np.load(folder.vectors) as archive:
        inputs, outputs = archive["inputs"], archive["outputs"]
    if images is not None and images > len(inputs):
        raise BuildError(f"there are {len(inputs)} test images, not {images}: give --images {len(inputs)} or less")
    return inputs[:images], outputs[:images]


def _run(result: RegressionResult, mode: BackPressure, what: str) -> dict[str, Any]:
    if not result.passed:
        raise Mismatch(f"{what} with {mode} pauses is not bit-exact:\n{result.failure()}")
    measured = {
        name: None if cycles is None else cycles.to_dict()
        for name, cycles in (("initiation_interval", result.initiation_interval), ("latency", result.latency))
    }
    return {
        "back_pressure": str(mode),
        "images": result.images,
        "words": result.words,
        "mismatches": result.mismatches,
        **measured,
        "cycles": result.cycles,
        "cycles_per_second": round(result.cycles_per_second),
        "seconds": round(result.seconds, 2),
        "seed": result.seed,
    }
