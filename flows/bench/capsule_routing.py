"""Routing by agreement at the size of the compact CapsNet: words, cycles, cells and clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, equal
from karui.flows.bench.estimate import TOLERANCE, error
from karui.flows.bench.mapped_cells import cell_figures, look_up_tables, map_design
from karui.flows.design import Design
from karui.flows.synthesize import SynthesisResult, TimingMissed, find_device, synthesize
from karui.hw.emit.accelerator import module_name
from karui.hw.plan.estimate import Fold, cost
from karui.hw.plan.folding import Folding
from karui.sim.netlist import NETLIST_NAME, ecp5_models, write_netlist_design
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import signed

DEVICE = find_device("ecp5-85f-8")
CAPSULES, OUTPUTS, LENGTH, ITERATIONS = 288, 10, 16, 3
LANES = (1, 4, 16)
PLACED_LANES = 4
"""Lanes of the engine that is placed and routed: 690 frames a second and more at the clock asked for."""
CLOCK_MHZ, AIM_MHZ, SEEDS = 100.0, 150.0, 2
FRAMES, NETLIST_FRAMES = 20, 2
SEED = 1
ROUTED = "routed"

Integers = npt.NDArray[np.int64]


def routing_network() -> Graph:
    """Predictions in, squared lengths of the output capsules out."""
    build = GraphBuilder("routing")
    edge = build.input("predictions", (CAPSULES * OUTPUTS * LENGTH,), signed(8, fraction=6))
    edge = build.routing(
        ROUTED,
        edge,
        outputs=OUTPUTS,
        length=LENGTH,
        iterations=ITERATIONS,
        sums=signed(16, fraction=9),
        output=signed(8, fraction=7),
        logits=signed(16, fraction=10),
    )
    return build.finish(build.squared_length("lengths", edge, LENGTH))


def predictions(frames: int) -> Integers:
    """Frames in which a third of the capsules agree upon an output, another one in each."""
    random = np.random.default_rng(SEED)
    votes = random.integers(-40, 41, (frames, CAPSULES, OUTPUTS, LENGTH))
    agreeing = CAPSULES // 3
    for frame, of_frame in enumerate(votes):
        output = frame % OUTPUTS
        of_frame[:agreeing, output] = of_frame[0, output] + of_frame[:agreeing, output] // 8
    return votes.reshape(frames, -1)


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Play and map each folding; place one of them, and play its netlist."""
    graph, frames = routing_network(), predictions(FRAMES)
    expected = evaluate(graph, frames)
    checks: list[Check] = []
    details: dict[str, Any] = {}
    for lanes in LANES:
        name = f"{lanes} lanes"
        fold = Fold(simd=lanes, pe=lanes)
        folding = Folding(folds={ROUTED: fold, "lengths": Fold(simd=1, pe=1)})
        design = Design.create(graph, run.folder / f"lanes-{lanes}", folding)
        run.progress(f"{name}: simulating {FRAMES} frames")
        checks += _play(design, name, frames, expected)
        run.progress(f"{name}: mapping to {DEVICE.name}")
        mapped = map_design(design, DEVICE)[module_name(ROUTED)]
        stage = design.accelerator.stages[0]
        estimated = cost(stage.op, stage, fold)
        checks += [
            _close(f"{name}: look-up tables", estimated.luts, look_up_tables(mapped)),
            _close(f"{name}: block RAMs", estimated.block_rams, mapped.bram),
            equal(f"{name}: multipliers, as estimated", mapped.dsp, estimated.dsps),
        ]
        details[name] = {
            "interval": design.accelerator.interval,
            "latency": design.accelerator.latency,
            **cell_figures(mapped),
        }
        if lanes == PLACED_LANES:
            result = _place(design, run)
            reached = round(result.fmax_mhz or 0.0, 1)
            run.progress(f"{name}: simulating the netlist")
            failure = _play_netlist(design, frames[:NETLIST_FRAMES], expected[:NETLIST_FRAMES])
            checks += [
                equal(f"{name}: failed checks of the netlist", failure or "none", "none"),
                at_least(f"{name}: clock, best of {SEEDS} seeds, MHz", reached, CLOCK_MHZ),
            ]
            details[name]["frames_a_second"] = round(1e6 * reached / design.accelerator.interval)
            details[name]["critical_path"] = str(result.critical_path).split("\n")
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


def _play(design: Design, name: str, frames: Integers, expected: Integers) -> list[Check]:
    checks = []
    for mode in (BackPressure.NONE, BackPressure.RANDOM):
        result = run_regression(design.rtl, frames, expected, back_pressure=mode, seed=SEED)
        checks.append(equal(f"{name}: failed checks, {mode} pauses", result.failure() or "none", "none"))
        if mode is BackPressure.NONE:
            interval, latency = result.initiation_interval, result.latency
            accelerator = design.accelerator
            checks += [
                equal(f"{name}: cycles a frame, as predicted", interval and interval.max, accelerator.interval),
                equal(f"{name}: cycles of latency, as predicted", latency and latency.max, accelerator.latency),
            ]
    return checks


def _close(what: str, estimate: float, found: float) -> Check:
    """An estimate against what was mapped."""
    off = error(estimate, found)
    return Check(
        what=f"{what}, estimate against mapped, %",
        value=round(off, 1),
        target=f"within {100 * TOLERANCE:g}",
        passed=abs(off) <= 100 * TOLERANCE,
    )


def _placed(design: Design) -> Path:
    return design.folder / "placed"


def _place(design: Design, run: BenchmarkRun) -> SynthesisResult:
    try:
        return synthesize(
            design.rtl, _placed(design), device=DEVICE, clock_mhz=AIM_MHZ, seeds=SEEDS, progress=run.progress
        )
    except TimingMissed as missed:
        return missed.result


def _play_netlist(design: Design, frames: Integers, expected: Integers) -> str | None:
    """Play the netlist that was placed."""
    folder = design.folder / "netlist"
    write_netlist_design(design.rtl, _placed(design) / NETLIST_NAME, folder)
    return run_regression(folder, frames, expected, seed=SEED, latency_frames=1, libraries=ecp5_models()).failure()


CAPSULE_ROUTING = Benchmark(
    name="capsule-routing",
    description=f"routing by agreement of {CAPSULES} capsules to {OUTPUTS} of {LENGTH} elements, {ITERATIONS} "
    f"iterations, at {', '.join(map(str, LANES))} elements a cycle; {PLACED_LANES} placed on {DEVICE.name}",
    target=f"RTL equal to the golden model on {FRAMES} frames, netlist too; cycles as predicted; cells within "
    f"{100 * TOLERANCE:g} % of the estimate; >= {CLOCK_MHZ:g} MHz",
    minutes=15,
    measure=measure,
)
