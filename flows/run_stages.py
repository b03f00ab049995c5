"""The stages with their progress on the terminal, one function a stage, and the whole build."""

from __future__ import annotations

from pathlib import Path

from karui.flows.build_folder import BuildFolder
from karui.flows.compiling import run_compile
from karui.flows.importing import run_import
from karui.flows.progress import console, done, stage_display
from karui.flows.report.html import write_report
from karui.flows.settings import Settings
from karui.flows.simulating import run_netlist, run_simulate
from karui.flows.synthesize import SynthesisResult, TimingMissed, find_device
from karui.flows.synthesizing import run_synthesize
from karui.flows.training import run_train
from karui.sw.train.loop import EpochRecord


def train(folder: BuildFolder, settings: Settings, data_dir: Path | None) -> None:
    """Stage train."""
    with stage_display("train") as display:

        def on_epoch(phase: str, record: EpochRecord) -> None:
            display.count(f"{phase}: loss {record.loss:.4f}", record.epoch, record.epochs)

        display.line("checkpoint")
        result = run_train(folder, settings, data_dir=data_dir, on_epoch=on_epoch, on_search=display.count)
    done("train", f"{result['source']} network, {result['accuracy']:.2%} of the test images right")


def compile_(folder: BuildFolder, settings: Settings, data_dir: Path | None) -> None:
    """Stage compile."""
    with stage_display("compile") as display:
        result = run_compile(
            folder,
            settings,
            data_dir=data_dir,
            progress=lambda images, total: display.count("network against golden model, images", images, total),
        )
    proof, predicted = result["golden_vs_model"], result["predicted"]
    done(
        "compile",
        f"golden = network on {proof['images']:,} images; initiation interval "
        f"{predicted['initiation_interval']['max']:.0f}, latency {predicted['latency']['max']:.0f} cycles predicted",
    )


def import_(folder: BuildFolder, settings: Settings, model: Path, inputs: Path | None) -> None:
    """Stage import."""
    with stage_display("import") as display:
        display.line(f"{model.name} to RTL")
        result = run_import(folder, settings, model, inputs=inputs)
    predicted = result["predicted"]
    done(
        "import",
        f"{result['dialect']}, {len(result['layers'])} engines; initiation interval "
        f"{predicted['initiation_interval']['max']:.0f}, latency {predicted['latency']['max']:.0f} cycles predicted",
    )


def simulate(folder: BuildFolder, settings: Settings) -> None:
    """Stage simulate."""
    with stage_display("simulate") as display:
        result = run_simulate(folder, settings, progress=display.line)
    full = result["runs"][0]
    done(
        "simulate",
        f"RTL = golden on {full['images']:,} images, every word; initiation interval "
        f"{full['initiation_interval']['mean']:.0f}, latency {full['latency']['mean']:.0f} cycles measured",
    )


def synthesize(folder: BuildFolder, settings: Settings) -> SynthesisResult:
    """Stage synthesize; a missed clock is reported after its record is complete.

    Raises
    ------
    TimingMissed
        If the clock asked for is not reached.
    """
    with stage_display("synthesize") as display:
        result = run_synthesize(folder, settings, progress=display.line)
    cells = f"{result.cells.lut:,} LUT{result.lut_inputs}, {result.cells.bram:g} block RAMs"
    timing = "" if result.fmax_mhz is None else f", {result.fmax_mhz:.1f} MHz of {result.clock_mhz:g} MHz asked"
    done("synthesize", f"{result.device}: {cells}{timing}")
    return result


def netlist(folder: BuildFolder, settings: Settings) -> None:
    """Stage netlist."""
    with stage_display("netlist") as display:
        result = run_netlist(folder, settings, progress=display.line)
    done("netlist", f"netlist = golden on {result['images']} images, every word")


def report(folder: BuildFolder) -> None:
    """Stage report."""
    _, page = write_report(folder.path)
    done("report", str(page))


def build(folder: BuildFolder, settings: Settings, data_dir: Path | None) -> None:
    """All stages. The report is written even when the clock is missed; the miss is raised after it.

    Raises
    ------
    TimingMissed
        If the clock asked for is not reached.
    """
    settings.save(folder)
    console.print(f"[bold]karui build {settings.recipe}[/bold] -> {folder.path}", highlight=False)
    train(folder, settings, data_dir)
    compile_(folder, settings, data_dir)
    simulate(folder, settings)
    missed: TimingMissed | None = None
    try:
        synthesize(folder, settings)
    except TimingMissed as error:
        missed = error
    if find_device(settings.hardware.device).family == "ecp5":
        netlist(folder, settings)
    report(folder)
    if missed is not None:
        raise missed
