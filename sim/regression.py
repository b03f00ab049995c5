"""The full-speed regression: recorded frames played and compared in HDL, tens of thousands of images in minutes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from karui.hw.emit.manifest import Manifest
from karui.sim.results import BackPressure, RegressionResult
from karui.sim.testbench import (
    EVENTS,
    Array,
    Vectors,
    build_testbench,
    choose_optimization,
    drain_cycles,
    play,
    watchdog_cycles,
    working_folder,
)
from karui.sim.verilator import Optimization

_MODES = {BackPressure.NONE: 0, BackPressure.RANDOM: 1, BackPressure.BURSTY: 2}


def run_regression(
    design_dir: Path,
    inputs: Array,
    outputs: Array,
    *,
    frames: int | None = None,
    back_pressure: BackPressure | str = BackPressure.NONE,
    seed: int = 0,
    latency_frames: int = 4,
    optimization: Optimization | None = None,
    libraries: Sequence[Path] = (),
) -> RegressionResult:
    """Play frames through a design on Verilator and compare every output word, TLAST and TUSER.

    Parameters
    ----------
    design_dir : Path
        Folder with ``manifest.json``, Verilog and memory images.
    inputs, outputs : ndarray, shape (frames, ...)
        Integer frames and what must come out (bipolar: -1 and +1).
    frames : int, optional
        Play only the first ones.
    back_pressure : BackPressure
        Pauses on both sides. Initiation interval and latency are measured without pauses only.
    seed : int
        Seed of the pauses.
    latency_frames : int
        Frames sent alone at first, on which the latency is measured.
    optimization : Optimization, optional
        What the build saves; by default chosen from the size of the run.
    libraries : sequence of Path
        Verilog models of the cells, where the design is a netlist.

    Returns
    -------
    RegressionResult
        Mismatches and stalls are part of the result, not exceptions: see ``passed`` and ``failure()``.

    Raises
    ------
    ManifestError, ValueError
        If the design folder or the frames are not in order.
    ToolchainError, BuildError, SimulationError
        If there is no simulation.
    """
    manifest = Manifest.load(design_dir)
    mode = BackPressure(back_pressure)
    vectors = Vectors.for_design(manifest, inputs, outputs, frames)
    count = len(vectors.inputs)
    optimization = optimization or choose_optimization(manifest, count)
    model = build_testbench(design_dir, manifest, optimization=optimization, libraries=libraries)
    solo = min(latency_frames, count - 1) if mode is BackPressure.NONE else 0
    with working_folder(design_dir, manifest) as folder:
        # $fread fills a word from its most significant byte on.
        (folder / "stimulus.bin").write_bytes(vectors.inputs[..., ::-1].tobytes())
        (folder / "expected.bin").write_bytes(vectors.outputs[..., ::-1].tobytes())
        return play(
            model=model,
            test_module="karui.sim.player_clock",
            folder=folder,
            plusargs=(
                "+stimulus=stimulus.bin",
                "+expected=expected.bin",
                f"+log={EVENTS}",
                f"+frames={count}",
                f"+solo={solo}",
                f"+source={_MODES[mode]}",
                f"+sink={_MODES[mode]}",
                f"+seed={_generator_seed(seed)}",
                f"+watchdog={watchdog_cycles(manifest)}",
                f"+drain={drain_cycles(manifest)}",
            ),
            words=count * manifest.output.beats,
            frames=count,
            beats=manifest.output.beats,
            solo=solo,
            back_pressure=mode,
            seed=seed,
        )


def _generator_seed(seed: int) -> int:
    """Spread a seed over 32 bits (Knuth's multiplicative hash); a xorshift generator must not start at 0."""
    return ((seed + 1) * 2654435761) % 2**32 or 1
