"""From a folder of RTL to area, timing and a bitstream: Yosys, block RAM registers, nextpnr."""

import shutil
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from karui.flows.synthesize.block_ram_register import absorb_output_registers
from karui.flows.synthesize.multiplier_register import absorb_multiplier_registers
from karui.flows.synthesize.nextpnr import Routed, place_and_route, write_bitstream
from karui.flows.synthesize.resources import CellCount, check_fits, count_cells
from karui.flows.synthesize.result import RESULT_NAME, Absorption, SynthesisResult
from karui.flows.synthesize.targets import Device
from karui.flows.synthesize.yosys import Netlist, map_netlist, write_netlist
from karui.hw.emit.manifest import Manifest
from karui.hw.emit.pin_shell import CORE


class TimingMissed(RuntimeError):
    """The design is routed but slower than asked; ``result`` has everything, the message ends in the critical path."""

    def __init__(self, result: SynthesisResult) -> None:
        self.result = result
        super().__init__(
            f"timing missed on {result.device}: {result.fmax_mhz:.1f} MHz reached, {result.clock_mhz:g} MHz asked, "
            f"{len(result.seeds)} tried; ask for a slower clock, a faster speed grade or more seeds\n"
            f"{result.critical_path}"
        )


def synthesize(
    design_dir: Path,
    out_dir: Path,
    *,
    device: Device,
    clock_mhz: float,
    seeds: int = 1,
    top: str | None = None,
    absorb_registers: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> SynthesisResult:
    """Synthesize a design; place and route it where there is a tool for that.

    To measure a single component::

        emit(component, folder, name="engine")
        synthesize(folder, folder / "ecp5", device=find_device("ecp5-85f-8"), clock_mhz=200, top="engine")

    and catch `TimingMissed` (its ``result`` is the same record) when the clock is only an aim.

    Parameters
    ----------
    design_dir
        A design folder with a manifest; or, with ``top``, any folder with ``<top>.v`` and the images it reads.
    out_dir
        Folder for the outputs, made anew each time: ``synthesis.json`` (the result), ``netlist.json``, ``netlist.v``
        (the mapped netlist, for simulation), ``design.bit`` or ``design.bin``, and the tools' logs. It appears when
        all of it is there; until then, and after a failure, the work is in ``<out_dir>.partial``.
    device
        Target, from `find_device`.
    clock_mhz
        Clock asked for.
    seeds
        How many seeds to place with (1, 2, ...) at most, in order until one meets the clock; where none does, the
        fastest is kept. Those tried are recorded.
    top
        Module to synthesize when the folder has no manifest; its clock is named ``clk``.
    absorb_registers
        Whether registers behind block RAMs and around multipliers move into them (ECP5 only).
    progress
        Called with a line at each step.

    Returns
    -------
    SynthesisResult
        Also saved as ``synthesis.json``. Resources are the design's own, without the pin shell that a design with more
        ports than pins is put in; ``comb`` is of all that was placed.

    Raises
    ------
    ValueError
        When ``out_dir`` holds something else than an earlier synthesis, or seeds or clock are not positive.
    ManifestError, FileNotFoundError
        When the design is not there.
    YosysError
        When Yosys refuses the design.
    DesignTooLarge
        When the device is too small; says by how much, before placement.
    PlaceAndRouteFailed
        When nextpnr fails with every seed.
    TimingMissed
        When the clock is not reached; everything is recorded as usual.
    """
    if seeds < 1 or clock_mhz <= 0:
        raise ValueError(
            f"synthesis needs 1 seed or more and a positive clock, not {seeds} seeds and {clock_mhz:g} MHz"
        )
    sources, top, clock = _design(design_dir, top)
    partial = _start_anew(out_dir)

    start = time.monotonic()
    progress(f"yosys: mapping to {device.name}")
    netlist = map_netlist(sources, top=top, clock=clock, device=device, folder=partial)
    absorption = None
    if device.family == "ecp5" and absorb_registers:
        absorption = absorb_output_registers(netlist.design)
        absorption += absorb_multiplier_registers(netlist.design, clock_mhz=clock_mhz)
    by_module = count_cells(netlist.design["cells"], device.family)
    cells = sum(by_module.values(), CellCount())
    mapped = write_netlist(netlist, partial)
    seconds = {"yosys": time.monotonic() - start}
    progress(f"yosys: {cells.lut:,} look-up tables, {cells.carry:,} carry cells, {cells.bram:g} block RAMs")
    check_fits(cells, device)

    routed: Routed | None = None
    if device.routed:
        start = time.monotonic()
        numbers = range(1, seeds + 1)
        routed = place_and_route(mapped, device=device, clock_mhz=clock_mhz, seeds=numbers, progress=progress)
        write_bitstream(partial, routed.seed, device=device)
        seconds["nextpnr"] = time.monotonic() - start

    result = _result(
        device=device, clock_mhz=clock_mhz, cells=cells, by_module=by_module,
        shell=_shell_cells(netlist, device), absorption=absorption,
        routed=routed, seconds=seconds,
    )  # fmt: skip
    result.save(partial)
    partial.rename(out_dir)
    if result.timing_met is False:
        raise TimingMissed(result)
    return result


def _design(folder: Path, top: str | None) -> tuple[list[Path], str, str]:
    """Sources, top module and clock."""
    if top is None:
        manifest = Manifest.load(folder)
        return [folder / source for source in manifest.sources], manifest.top, manifest.clock
    source = folder / f"{top}.v"
    if not source.is_file():
        raise FileNotFoundError(f"{source} is not there; emit the design first")
    return [source], top, "clk"


def _start_anew(out_dir: Path) -> Path:
    """Remove earlier outputs, lest a failure leave them to be mistaken for its own; returns the folder to work in."""
    if out_dir.exists() and any(out_dir.iterdir()) and not (out_dir / RESULT_NAME).is_file():
        raise ValueError(f"{out_dir} holds files that are not from a synthesis; choose another folder for the outputs")
    shutil.rmtree(out_dir, ignore_errors=True)
    partial = out_dir.with_name(f"{out_dir.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def _shell_cells(netlist: Netlist, device: Device) -> CellCount | None:
    if netlist.shell is None:
        return None
    own = {name: cell for name, cell in netlist.shell["cells"].items() if name != CORE}
    return sum(count_cells(own, device.family).values(), CellCount())


def _result(
    *,
    device: Device,
    clock_mhz: float,
    cells: CellCount,
    by_module: dict[str, CellCount],
    shell: CellCount | None,
    absorption: Absorption | None,
    routed: Routed | None,
    seconds: dict[str, float],
) -> SynthesisResult:
    tools = ["pyosys"]
    if device.routed:
        tools.append(f"yowasp-nextpnr-{device.family}")
    return SynthesisResult(
        device=device.name,
        lut_inputs=device.lut_inputs,
        cells=cells,
        by_module=by_module,
        shell=shell,
        absorption=absorption,
        comb=routed.comb if routed else None,
        clock_mhz=clock_mhz,
        fmax_mhz=routed.fmax_mhz if routed else None,
        timing_met=routed.fmax_mhz >= clock_mhz if routed else None,
        critical_path=routed.critical_path if routed else None,
        seeds=routed.seeds if routed else (),
        seconds={stage: round(spent, 2) for stage, spent in seconds.items()},
        versions={tool: version(tool) for tool in tools},
    )
