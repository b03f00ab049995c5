"""A design: a graph, its folding and its RTL in a folder, to be simulated and synthesized."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from karui.flows.device_fill import DeviceFill
from karui.flows.synthesize import synthesize
from karui.flows.synthesize.result import SynthesisResult
from karui.flows.synthesize.targets import Device, find_device
from karui.hw.arithmetic.popcount import LutInputs
from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.emit.manifest import Manifest
from karui.hw.memory.resources import Resources
from karui.hw.plan.estimate import cycles
from karui.hw.plan.folding import (
    DSPS,
    Folding,
    FoldingError,
    fold_for_budget,
    fold_for_interval,
    total_cost,
    worth,
)
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure, RegressionResult
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, load_graph, save_graph, with_recomputed_predictions
from karui.sw.lower.agreement import to_graph_layout
from karui.sw.lower.from_torch import lower
from karui.sw.numerics import NumberFormat

DEFAULT_INTERVAL = 1024

_EQUAL_RATES = 1.01
"""Initiation intervals in a proportion up to this are equal where forms of a network are compared."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast a design shall be: one of three.

    Parameters
    ----------
    initiation_interval : int or None
        Cycles a frame, at most.
    frame_rate, clock_mhz : float or None
        Frames a second, at least, at a clock.
    device : Device or None
        The best rate within this device.
    fill : DeviceFill, optional
        How much of it.
    dsps : int
        Multipliers that a folding for one of the first two may take.
    lut_inputs : {4, 6}
        Inputs of the target's look-up tables; a device given has its own.
    budget : Resources or None
        What a design for one of the first two should take at most, where it can take several forms.
    """

    initiation_interval: int | None = None
    frame_rate: float | None = None
    clock_mhz: float | None = None
    device: Device | None = None
    fill: DeviceFill = field(default_factory=DeviceFill)
    dsps: int = DSPS
    lut_inputs: LutInputs = 4
    budget: Resources | None = None

    def fold(self, graph: Graph) -> Folding:
        """The folding that meets the rate at least cost.

        Raises
        ------
        FoldingError
            If none does.
        """
        pipeline = stages(graph)
        if self.device is not None:
            fitted = fold_for_budget(pipeline, self.fill.budget(self.device))
            return fitted.built_for(self.device.lut_inputs).spread()
        if self.frame_rate is not None:
            if self.clock_mhz is None:
                raise ValueError("a frame rate needs a clock: give clock_mhz")
            interval = int(self.clock_mhz * 1e6 / self.frame_rate)
        else:
            interval = self.initiation_interval or DEFAULT_INTERVAL
        return fold_for_interval(pipeline, interval, dsps=self.dsps).built_for(self.lut_inputs)

    def with_predictions_that_pay(self, graph: Graph) -> Graph:
        """Have predictions of capsules made anew for each iteration of routing, if that is better than to keep them.

        Within a device the form of the higher rate is better, at a rate the one that is within the budget; where that
        does not tell, the one whose cells are worth less, and of equal ones that which keeps. Without device and budget
        the graph stays as it is.
        """
        anew = with_recomputed_predictions(graph)
        if anew is graph or (self.device is None and self.budget is None):
            return graph
        found: list[tuple[Graph, int, Resources]] = []
        for form in (graph, anew):
            try:
                pipeline, folds = stages(form), self.fold(form)
            except FoldingError:
                continue
            interval = max(cycles(stage.op, stage, folds.folds[stage.name]) for stage in pipeline)
            found.append((form, interval, total_cost(pipeline, folds)))
        # Where neither can be folded, the folding of the graph as it is will tell why.
        slow = _EQUAL_RATES * min((interval for _, interval, _ in found), default=0)

        def rank(one: tuple[Graph, int, Resources]) -> tuple[bool, int]:
            _, interval, cost = one
            falls_short = interval > slow if self.budget is None else not cost.fits(self.budget)
            return falls_short, worth(cost)

        return min(found, key=rank, default=(graph,))[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """A generated design.

    Parameters
    ----------
    folder : Path
        Holds ``graph.json``, ``weights.npz``, ``folding.json`` and ``rtl/``.
    graph : Graph
        What it computes.
    accelerator : Accelerator
        How: engines, predicted cycles.
    """

    folder: Path
    graph: Graph
    accelerator: Accelerator

    @classmethod
    def create(cls, graph: Graph, folder: Path, folding: Folding) -> Design:
        """Generate the RTL of a graph into a folder, in one step: an older design there is replaced."""
        accelerator = Accelerator(graph=graph, folding=folding)
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        save_graph(graph, partial)
        folding.save(partial / "folding.json")
        write_design(accelerator, partial / "rtl")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        return cls(folder=folder, graph=graph, accelerator=accelerator)

    @classmethod
    def load(cls, folder: Path) -> Design:
        """A design generated before.

        Raises
        ------
        GraphError, FoldingError, ManifestError
            If a file is missing or damaged.
        """
        graph = load_graph(folder)
        accelerator = Accelerator(graph=graph, folding=Folding.load(folder / "folding.json"))
        Manifest.load(folder / "rtl")
        return cls(folder=folder, graph=graph, accelerator=accelerator)

    @property
    def rtl(self) -> Path:
        """Folder of the Verilog, the memory images and the manifest."""
        return self.folder / "rtl"

    @cached_property
    def files(self) -> list[Path]:
        """Every file of the design: graph, weights, folding, RTL."""
        rtl = [path for path in self.rtl.rglob("*") if path.is_file()]
        return sorted([path for path in self.folder.iterdir() if path.is_file()] + rtl)

    def golden(self, images: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The golden model's outputs for images (n, C, H, W) or vectors (n, features)."""
        return evaluate(self.graph, to_graph_layout(images))

    def simulate(
        self,
        images: npt.NDArray[Any],
        *,
        back_pressure: BackPressure = BackPressure.NONE,
        seed: int = 0,
    ) -> RegressionResult:
        """Play images through the RTL on Verilator and compare every word with the golden model.

        Parameters
        ----------
        images : ndarray, shape (n, C, H, W) or (n, features)
            Integer pixels.
        back_pressure : BackPressure
            Pauses on both sides; cycles are measured without.
        seed : int
            Of the pauses.
        """
        frames = to_graph_layout(images)
        return run_regression(self.rtl, frames, evaluate(self.graph, frames), back_pressure=back_pressure, seed=seed)

    def synthesize(
        self,
        device: str = "ecp5-85f-8",
        *,
        clock_mhz: float = 100.0,
        seeds: int = 1,
        folder: Path | None = None,
        progress: Callable[[str], None] = lambda line: None,
    ) -> SynthesisResult:
        """Map, place and route the design, with a bitstream where there is a router for the device.

        Parameters
        ----------
        device : str
            Target, see `karui.flows.synthesize.targets`.
        clock_mhz : float
            Clock asked for.
        seeds : int
            Placement seeds tried at most, in order until one meets the clock; where none does, the fastest is kept.
        folder : Path, optional
            For the outputs; ``synthesis/<device>`` in the design's folder unless given.
        progress : callable
            Called with a line at each step.

        Raises
        ------
        TimingMissed
            If the clock is not reached; its ``result`` is the record.
        DesignTooLarge
            If the device is too small.
        """
        target = find_device(device)
        return synthesize(
            self.rtl,
            folder or self.folder / "synthesis" / target.name,
            device=target,
            clock_mhz=clock_mhz,
            seeds=seeds,
            progress=progress,
        )


def compile_model(
    model: nn.Module,
    input_shape: Sequence[int],
    folder: Path | str,
    *,
    initiation_interval: int | None = None,
    frame_rate: float | None = None,
    clock_mhz: float | None = None,
    fit_device: str | None = None,
    fill: DeviceFill | None = None,
    input_format: NumberFormat | None = None,
    classes: Sequence[str] = (),
) -> Design:
    """Compile a trained network of karui's layers to a design.

    Parameters
    ----------
    model : nn.Module
        Any module that chains layers of `karui.sw.nn` and the supported ones of torch.
    input_shape : sequence of int
        Channels, height, width; or the length of a vector.
    folder : Path or str
        Where the design goes.
    initiation_interval, frame_rate, fit_device
        One of: cycles a frame; frames a second at `clock_mhz`; the best rate within a device.
    fill : DeviceFill, optional
        How much of that device the design may take.
    input_format : NumberFormat, optional
        Of a pixel; unsigned 8 bits unless given.
    classes : sequence of str
        Names of the classes, in order.

    Raises
    ------
    UnsupportedLayer
        If a layer cannot be lowered.
    FoldingError
        If the rate cannot be met.
    """
    given = [initiation_interval is not None, frame_rate is not None, fit_device is not None]
    if sum(given) > 1:
        raise ValueError("give one of initiation_interval, frame_rate and fit_device, not several")
    folder = Path(folder)
    lowered = lower(model, input_shape, name=folder.name, input_format=input_format, classes=classes)
    rate = Rate(
        initiation_interval=initiation_interval,
        frame_rate=frame_rate,
        clock_mhz=clock_mhz,
        device=None if fit_device is None else find_device(fit_device),
        fill=fill or DeviceFill(),
    )
    graph = rate.with_predictions_that_pay(lowered.graph)
    return Design.create(graph, folder, rate.fold(graph))
