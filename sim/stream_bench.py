"""The cocotb bench for any design: frames good and malformed, pauses on both sides, every output word compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from karui.hw.emit.manifest import Manifest
from karui.sim.results import BackPressure, RegressionResult
from karui.sim.stream_coroutines import JOB_VARIABLE, BenchJob
from karui.sim.testbench import (
    EVENTS,
    Array,
    Bytes,
    Vectors,
    build_testbench,
    choose_optimization,
    drain_cycles,
    play,
    watchdog_cycles,
    working_folder,
)
from karui.sim.verilator import Optimization


@dataclass(frozen=True, kw_only=True)
class SentFrame:
    """A frame as it is sent, and what must come back.

    Parameters
    ----------
    beats : ndarray of uint8, shape (n, bytes)
        Input beats; TLAST goes with the last. `n` differs from the port's beats in a malformed frame.
    reference : int
        Number of the frame whose output is due; a frame's own number where nothing is known beforehand.
    known : ndarray of uint8, shape (beats, bytes), or None
        Output beats, where they are known beforehand.
    malformed : bool
        Whether the last output beat must carry TUSER.
    """

    beats: Bytes
    reference: int
    known: Bytes | None
    malformed: bool = False


def good_frames(vectors: Vectors) -> list[SentFrame]:
    """The frames of the vectors."""
    pairs = zip(vectors.inputs, vectors.outputs, strict=True)
    return [SentFrame(beats=beats, reference=index, known=known) for index, (beats, known) in enumerate(pairs)]


def protocol_frames(vectors: Vectors, *, first: int) -> list[SentFrame]:
    """Frames that break the length, each followed by a good one, to be sent from number `first` on.

    A long frame must give the output of its good beginning; a short one that of the same beats completed with zeros,
    which is sent as a good frame before it. Both must carry TUSER, and the frame after each must be right.
    """
    plan: list[SentFrame] = []
    count, beats = vectors.inputs.shape[:2]

    def add(sent: Bytes, *, known: Bytes | None, reference: int | None = None, malformed: bool = False) -> int:
        number = first + len(plan)
        reference = number if reference is None else reference
        plan.append(SentFrame(beats=sent, reference=reference, known=known, malformed=malformed))
        return number

    def add_good(index: int) -> None:
        add(vectors.inputs[index % count], known=vectors.outputs[index % count])

    for index, length in enumerate(sorted({1, beats // 2, beats - 1} - {0, beats})):
        whole = vectors.inputs[index % count]
        completed = whole.copy()
        completed[length:] = 0
        reference = add(completed, known=None)
        add(whole[:length], known=None, reference=reference, malformed=True)
        add_good(index + 1)
    for index, surplus in enumerate((1, beats + 1)):
        whole, known = vectors.inputs[index % count], vectors.outputs[index % count]
        # The surplus repeats the beginning of the frame, as a lost TLAST between two frames would.
        add(np.resize(whole, (beats + surplus, whole.shape[1])), known=known, malformed=True)
        add_good(index + 1)
    return plan


def run_stream_bench(
    design_dir: Path,
    inputs: Array,
    outputs: Array,
    *,
    frames: int | None = None,
    back_pressure: BackPressure | str = BackPressure.NONE,
    seed: int = 0,
    latency_frames: int = 4,
    protocol: bool = True,
    optimization: Optimization | None = None,
    libraries: Sequence[Path] = (),
) -> RegressionResult:
    """Drive a design from Python, beat by beat, and compare every output word, TLAST and TUSER.

    Slower than `karui.sim.regression.run_regression`, and independent of it; it also sends short and long frames.

    Parameters
    ----------
    design_dir, inputs, outputs, frames, back_pressure, seed, latency_frames, optimization, libraries
        As for `karui.sim.regression.run_regression`.
    protocol : bool
        Whether to send short and long frames after the good ones.

    Returns
    -------
    RegressionResult
        ``images`` counts the malformed frames and their companions too.

    Raises
    ------
    ManifestError, ValueError, ToolchainError, BuildError, SimulationError
        As for `karui.sim.regression.run_regression`.
    """
    manifest = Manifest.load(design_dir)
    mode = BackPressure(back_pressure)
    vectors = Vectors.for_design(manifest, inputs, outputs, frames)
    good = len(vectors.inputs)
    plan = good_frames(vectors) + (protocol_frames(vectors, first=good) if protocol else [])
    optimization = optimization or choose_optimization(manifest, len(plan))
    model = build_testbench(design_dir, manifest, optimization=optimization, libraries=libraries)
    solo = min(latency_frames, good - 1) if mode is BackPressure.NONE else 0
    job = BenchJob(
        beats=np.concatenate([frame.beats for frame in plan]),
        lengths=np.array([len(frame.beats) for frame in plan]),
        expected=_expected(plan, manifest.output.beats, manifest.output.beat_bytes),
        known=np.array([frame.known is not None for frame in plan]),
        reference=np.array([frame.reference for frame in plan]),
        malformed=np.array([frame.malformed for frame in plan]),
        solo=solo,
        back_pressure=mode.value,
        seed=seed,
        watchdog=watchdog_cycles(manifest),
        drain=drain_cycles(manifest),
        # A malformed frame's pace says nothing of the design's.
        timed=good,
        log=EVENTS,
    )
    with working_folder(design_dir, manifest) as folder:
        job.save(folder / "job.npz")
        return play(
            model=model,
            test_module="karui.sim.stream_coroutines",
            folder=folder,
            environment={JOB_VARIABLE: str(folder / "job.npz")},
            words=len(plan) * manifest.output.beats,
            frames=len(plan),
            beats=manifest.output.beats,
            solo=solo,
            back_pressure=mode,
            seed=seed,
        )


def _expected(plan: Sequence[SentFrame], beats: int, size: int) -> npt.NDArray[np.uint8]:
    """Output beats of all frames; zeros where they become known only when the reference has come out."""
    nothing = np.zeros((beats, size), dtype=np.uint8)
    return np.stack([nothing if frame.known is None else frame.known for frame in plan])
