"""The measurement that most benchmarks share: a graph generated at a rate and played against its golden model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.flows.bench.benchmark import Check, at_most, equal
from karui.flows.design import Design, Rate
from karui.hw.arithmetic.popcount import LutInputs
from karui.sim.regression import run_regression
from karui.sim.results import RegressionResult
from karui.sw.golden import evaluate
from karui.sw.ir import Graph

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlayedDesign:
    """A design, what its golden model says, what its RTL did.

    Parameters
    ----------
    design : Design
        As generated.
    golden : ndarray
        The golden model's outputs.
    result : RegressionResult
        Of the RTL on Verilator.
    generation_seconds, build_seconds : float
        Spent on the RTL and on Verilator's model of it.
    """

    design: Design
    golden: Array
    result: RegressionResult
    generation_seconds: float
    build_seconds: float

    def checks(self, label: str, interval: int) -> tuple[Check, ...]:
        """Every word equal, the rate kept, the predictions exact."""
        result, predicted = self.result, self.design.accelerator.predicted
        words = len(self.golden) * self.design.accelerator.ports[1].beats
        compared = (
            equal(f"{label}: words compared", result.words, words),
            equal(f"{label}: words that differ from the golden model", result.mismatches, 0),
            equal(f"{label}: failed checks", result.failure() or "none", "none"),
        )
        if result.initiation_interval is None or result.latency is None:
            return compared
        measured = [result.initiation_interval.max, result.latency.max]
        expected = [predicted.initiation_interval.max, predicted.latency.max]
        reached = at_most(f"{label}: initiation interval, cycles", result.initiation_interval.max, interval)
        return (
            *compared,
            reached,
            equal(f"{label}: initiation interval and latency as predicted", measured, expected),
        )

    @property
    def details(self) -> dict[str, Any]:
        """Figures for the record."""
        folds = self.design.accelerator.folding.folds
        return {
            "images": self.result.images,
            "words": self.result.words,
            "cycles": self.result.cycles,
            "cycles_per_second": round(self.result.cycles_per_second),
            "seconds": {
                "generation": round(self.generation_seconds, 1),
                "verilator build": round(self.build_seconds, 1),
                "simulation": round(self.result.seconds, 1),
            },
            "folding": {name: str(fold) for name, fold in folds.items()},
        }


def play_at_interval(
    graph: Graph,
    frames: Array,
    *,
    interval: int,
    folder: Path,
    label: str,
    progress: Callable[[str], None],
    latency_frames: int = 4,
    lut_inputs: LutInputs = 4,
) -> PlayedDesign:
    """Generate a graph's RTL at an initiation interval and play frames through it on Verilator.

    Parameters
    ----------
    graph : Graph
        The network.
    frames : ndarray
        Input frames in the graph's layout.
    interval : int
        Cycles a frame, at most.
    folder : Path
        For the design.
    label : str
        Its name in what `progress` says.
    progress : callable
        Called with a line at each step.
    latency_frames : int
        Frames sent alone at first, on which the latency is measured.
    lut_inputs : {4, 6}
        Inputs of the look-up tables that the design is for.
    """
    progress(f"{label}: generating the RTL")
    started = time.perf_counter()
    design = Design.create(graph, folder, Rate(initiation_interval=interval, lut_inputs=lut_inputs).fold(graph))
    generated = time.perf_counter()
    progress(f"{label}: building and simulating, {len(frames):,} images")
    frames = np.asarray(frames, dtype=np.int64)
    golden = evaluate(graph, frames)
    prepared = time.perf_counter()
    result = run_regression(design.rtl, frames, golden, latency_frames=latency_frames)
    return PlayedDesign(
        design=design,
        golden=golden,
        result=result,
        generation_seconds=generated - started,
        build_seconds=time.perf_counter() - prepared - result.seconds,
    )
