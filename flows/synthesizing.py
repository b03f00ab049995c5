"""Stage synthesize: area, timing and a bitstream for the build's device."""

from __future__ import annotations

from collections.abc import Callable

from karui.flows.build_folder import BuildFolder, synthesis_stage
from karui.flows.design import Design
from karui.flows.device_fill import DeviceFill
from karui.flows.settings import Settings
from karui.flows.synthesize import DesignTooLarge, SynthesisResult, TimingMissed, find_device
from karui.flows.synthesize.result import RESULT_NAME
from karui.hw.plan.folding import FoldingError, fold_for_budget


class TooLargeForDevice(RuntimeError):
    """The design does not fit the device; says by how much, and which rate would fit."""


def run_synthesize(
    folder: BuildFolder, settings: Settings, *, progress: Callable[[str], None] = lambda line: None
) -> SynthesisResult:
    """Synthesize the build's design for its device, into ``synthesis/<device>``.

    Raises
    ------
    TooLargeForDevice
        If the device is too small.
    TimingMissed
        If the clock asked for is not reached; the result is recorded all the same.
    """
    folder.result("compile")
    design = Design.load(folder.design)
    hardware = settings.hardware
    device = find_device(hardware.device).name
    target = folder.synthesis(device)
    folder.begin(synthesis_stage(device))
    missed: TimingMissed | None = None
    try:
        result = design.synthesize(
            device, clock_mhz=hardware.clock_mhz, seeds=hardware.seeds, folder=target, progress=progress
        )
    except TimingMissed as error:
        missed, result = error, error.result
    except DesignTooLarge as error:
        raise TooLargeForDevice(f"{error}; {_way_out(design, device, hardware.fill)}") from error
    summary = {"clock_mhz": hardware.clock_mhz, "timing_met": result.timing_met}
    folder.finish(synthesis_stage(device), summary, inputs=[*design.files, target / RESULT_NAME])
    if missed is not None:
        raise missed
    return result


def _way_out(design: Design, device: str, fill: DeviceFill) -> str:
    accelerator = design.accelerator
    try:
        fitting = fold_for_budget(accelerator.stages, fill.budget(find_device(device)))
    except FoldingError as error:
        return str(error)
    interval = type(accelerator)(graph=design.graph, folding=fitting).interval
    return (
        f"an initiation interval of {interval} cycles (--interval {interval}; now {accelerator.interval}) is estimated "
        "to fit, and --fit chooses it"
    )
