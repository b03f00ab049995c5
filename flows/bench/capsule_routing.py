"""Routing by agreement at the size of the compact CapsNet: words, cycles, cells and clock."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, equal
from karui.flows.bench.estimate import TOLERANCE
from karui.flows.bench.lone_engine import close, place, play, play_netlist
from karui.flows.bench.mapped_cells import cell_figures, look_up_tables, map_design
from karui.flows.design import Design
from karui.flows.synthesize import find_device
from karui.hw.emit.accelerator import module_name
from karui.hw.plan.estimate import Fold, cost
from karui.hw.plan.folding import Folding
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
        checks += play(design, name, frames, expected, seed=SEED)
        run.progress(f"{name}: mapping to {DEVICE.name}")
        mapped = map_design(design, DEVICE)[module_name(ROUTED)]
        stage = design.accelerator.stages[0]
        estimated = cost(stage.op, stage, fold)
        checks += [
            close(f"{name}: look-up tables", estimated.luts, look_up_tables(mapped)),
            close(f"{name}: block RAMs", estimated.block_rams, mapped.bram),
            equal(f"{name}: multipliers, as estimated", mapped.dsp, estimated.dsps),
        ]
        details[name] = {
            "interval": design.accelerator.interval,
            "latency": design.accelerator.latency,
            **cell_figures(mapped),
        }
        if lanes == PLACED_LANES:
            result = place(design, run, device=DEVICE, clock_mhz=AIM_MHZ, seeds=SEEDS)
            reached = round(result.fmax_mhz or 0.0, 1)
            run.progress(f"{name}: simulating the netlist")
            failure = play_netlist(design, frames[:NETLIST_FRAMES], expected[:NETLIST_FRAMES], seed=SEED)
            checks += [
                equal(f"{name}: failed checks of the netlist", failure or "none", "none"),
                at_least(f"{name}: clock, best of {SEEDS} seeds, MHz", reached, CLOCK_MHZ),
            ]
            details[name]["frames_a_second"] = round(1e6 * reached / design.accelerator.interval)
            details[name]["critical_path"] = str(result.critical_path).split("\n")
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


CAPSULE_ROUTING = Benchmark(
    name="capsule-routing",
    description=f"routing by agreement of {CAPSULES} capsules to {OUTPUTS} of {LENGTH} elements, {ITERATIONS} "
    f"iterations, at {', '.join(map(str, LANES))} elements a cycle; {PLACED_LANES} placed on {DEVICE.name}",
    target=f"RTL equal to the golden model on {FRAMES} frames, netlist too; cycles as predicted; cells within "
    f"{100 * TOLERANCE:g} % of the estimate; >= {CLOCK_MHZ:g} MHz",
    minutes=15,
    measure=measure,
)
