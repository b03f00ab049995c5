"""The test bench around a design: its build, its frames, its working folder. ``testbench.sv`` is the Verilog side."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.hw.emit.manifest import Manifest
from karui.sim.player_log import PlayerLog
from karui.sim.results import BackPressure, Mismatch, RegressionResult, measure_initiation_interval, measure_latency
from karui.sim.simulate import simulate
from karui.sim.verilator import Optimization, build_model
from karui.sw.numerics import pack_beats

TOP = "karui_testbench"
EVENTS = "events.log"

# Cycles from which on a build for speed saves more than it costs. The faster code of a large model saves a tenth of the
# run time and takes twice the build time; both grow with the size of the Verilog, which thus does not matter.
_CYCLES_WORTH_OPTIMIZING = 3e7

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Frames as the beats that travel on a design's ports.

    Parameters
    ----------
    inputs, outputs : ndarray of uint8, shape (frames, beats, bytes)
        Beats of both streams.
    """

    inputs: Bytes
    outputs: Bytes

    @classmethod
    def for_design(cls, manifest: Manifest, inputs: Array, outputs: Array, frames: int | None) -> Vectors:
        """Pack the first `frames` integer frames (None: all) for a design's ports.

        Raises
        ------
        ValueError
            If the arrays are not frames of the design, or so many of them are not there.
        """
        for name, array, port in (("inputs", inputs, manifest.input), ("outputs", outputs, manifest.output)):
            if array.shape[1:] != port.shape:
                raise ValueError(
                    f"{name} of design {manifest.name!r} have the shape {port.shape} a frame, not {array.shape[1:]}"
                )
        if len(inputs) != len(outputs):
            raise ValueError(f"there must be as many inputs as outputs, not {len(inputs)} and {len(outputs)}")
        count = len(inputs) if frames is None else frames
        if not 1 <= count <= len(inputs):
            raise ValueError(f"frames to play must be 1 to {len(inputs)}, not {count}")
        return cls(
            inputs=pack_beats(inputs[:count], manifest.input.format, manifest.input.lanes),
            outputs=pack_beats(outputs[:count], manifest.output.format, manifest.output.lanes),
        )


def build_testbench(
    design: Path, manifest: Manifest, *, optimization: Optimization, libraries: Sequence[Path] = ()
) -> Path:
    """Build a design's model with the test bench around it; one model serves both benches, any frames, any weights.

    Parameters
    ----------
    design : Path
        Design folder.
    manifest : Manifest
        Its manifest.
    optimization : Optimization
        What to save.
    libraries : sequence of Path
        Verilog models of the cells of a netlist.
    """
    if (manifest.clock, manifest.reset) != ("clk", "rst"):
        raise ValueError(f"the test bench drives clk and rst, not {manifest.clock!r} and {manifest.reset!r}")
    here = Path(__file__).parent
    return build_model(
        top=TOP,
        sources=[here / "testbench.sv", *libraries, *(design / source for source in manifest.sources)],
        control=here / "testbench.vlt",
        parameters={
            "S_BYTES": manifest.input.beat_bytes,
            "S_BEATS": manifest.input.beats,
            "M_BYTES": manifest.output.beat_bytes,
            "M_BEATS": manifest.output.beats,
        },
        defines={"KARUI_DUT": manifest.top},
        optimization=optimization,
    )


def choose_optimization(manifest: Manifest, frames: int) -> Optimization:
    """Whether to save build time or run time."""
    cycles = frames * manifest.predicted.initiation_interval.mean
    return Optimization.RUN_TIME if cycles > _CYCLES_WORTH_OPTIMIZING else Optimization.BUILD_TIME


def watchdog_cycles(manifest: Manifest) -> int:
    """Cycles without a transfer after which a design counts as stalled: far above its longest predicted silence."""
    return int(10 * (manifest.predicted.latency.max + manifest.predicted.initiation_interval.max)) + 10_000


def drain_cycles(manifest: Manifest) -> int:
    """Cycles to watch for surplus words: a frame more than was sent would come out within them."""
    return int(2 * (manifest.predicted.latency.max + manifest.predicted.initiation_interval.max)) + 100


@contextmanager
def working_folder(design: Path, manifest: Manifest) -> Iterator[Path]:
    """A scratch folder in which the design finds its memory images; runs side by side have one each."""
    with tempfile.TemporaryDirectory(prefix="karui-simulation-") as name:
        folder = Path(name)
        for memory in manifest.memories:
            link = folder / memory
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((design / memory).resolve())
        yield folder


def play(
    *,
    model: Path,
    test_module: str,
    folder: Path,
    plusargs: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    words: int,
    frames: int,
    beats: int,
    solo: int,
    back_pressure: BackPressure,
    seed: int,
) -> RegressionResult:
    """Run a bench to its end and judge its log.

    Parameters
    ----------
    model, test_module, folder, plusargs, environment
        As for `karui.sim.simulate.simulate`.
    words, frames, beats : int
        Output beats that must come; frames that are played; output beats a frame.
    solo : int
        Frames that were sent alone.
    back_pressure, seed : BackPressure, int
        Pauses of both sides, and their seed.
    """
    begin = time.perf_counter()
    simulate(
        model=model,
        top=TOP,
        test_module=test_module,
        folder=folder,
        plusargs=plusargs,
        environment=environment,
        result=folder / EVENTS,
    )
    seconds = time.perf_counter() - begin
    log = PlayerLog.read(folder / EVENTS)
    mismatches = log.mismatches
    missing = words - log.words
    if missing:
        frame, beat = divmod(log.words, beats)
        mismatches = (*mismatches, Mismatch(check="missing", frame=frame, beat=beat, expected=words, got=log.words))
    # Cycles of frames that were held up, came out wrong or at the wrong time mean nothing.
    measure = back_pressure is BackPressure.NONE and not log.mismatch_count and log.stall is None
    return RegressionResult(
        images=frames,
        words=log.words,
        mismatches=log.mismatch_count + missing,
        first_mismatches=mismatches,
        stall=f"stalled: {log.stall}" if log.stall else "",
        initiation_interval=measure_initiation_interval(log.starts, log.ends, solo=solo) if measure else None,
        latency=measure_latency(log.starts, log.ends, solo=solo) if measure else None,
        cycles=log.cycles,
        seconds=seconds,
        back_pressure=back_pressure,
        seed=seed,
    )
