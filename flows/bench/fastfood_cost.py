"""Fastfood against the dense layer that it replaces, in hardware, at equal initiation interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, equal
from karui.flows.bench.mapped_cells import cell_figures, look_up_tables, map_design, total
from karui.flows.design import Design
from karui.flows.synthesize import SynthesisResult, TimingMissed, find_device
from karui.hw.plan.folding import fold_for_interval, total_cost
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import Graph
from karui.sw.lower.from_torch import lower
from karui.sw.nn import PowerOfTwoScale, QuantFastfood, QuantLinear, QuantReLU

DEVICE = find_device("ecp5-85f-8")
INPUTS, BITS = 1024, 8
AIM_MHZ = 220.0
SEED = 1
FRAMES = 6
# Of 8 bits; fewer than a quarter of them would tell little about the others.
LEAST_VALUES = 64

Layer = Literal["fastfood", "dense"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A layer at a rate.

    Parameters
    ----------
    outputs, interval : int
        Outputs of the layer, and cycles a vector.
    layers : tuple of {"fastfood", "dense"}
        Which are built.
    """

    outputs: int
    interval: int
    layers: tuple[Layer, ...] = ("fastfood", "dense")

    @property
    def name(self) -> str:
        """What is compared."""
        return f"{self.outputs} outputs in {self.interval} cycles"


# An element a cycle, so that 2048 outputs are two blocks in time; and these two at once, two elements a cycle.
CASES = (
    Case(outputs=1024, interval=1024),
    Case(outputs=2048, interval=2048),
    Case(outputs=2048, interval=1024, layers=("fastfood",)),
)


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Generate, play and map both layers of each case; place and route what fits the device."""
    checks: list[Check] = []
    details: dict[str, Any] = {
        "layer": f"{INPUTS} inputs, {BITS}-bit activations, weights and diagonals S and G, B of one bit, ReLU",
        "device": {"luts": DEVICE.luts, "dsps": DEVICE.dsps, "block_rams": DEVICE.block_rams},
    }
    for case in CASES:
        rows: dict[Layer, dict[str, Any]] = {}
        for layer in case.layers:
            graph, weight_bits = _graph(layer, case.outputs)
            design, found = _design(graph, case, layer, run)
            checks += found
            rows[layer] = _row(design, case, layer, run) | {"weight_bits": weight_bits}
            run.progress(f"{case.name}, {layer}: {rows[layer]}")
        details[case.name] = dict(rows)
        if "dense" in rows:
            fast, dense = rows["fastfood"], rows["dense"]
            ratios = {
                kind: round(dense[kind] / fast[kind], 1)
                for kind in ("luts", "dsp", "bram", "weight_bits")
                if fast[kind]
            }
            details[case.name]["dense over fastfood"] = ratios
            # An output's row of d weights, against its sign and two elements of the diagonals.
            theory = round(INPUTS * BITS / (1 + 2 * BITS), 1)
            compared = f"{case.name}: {{}}, dense over fastfood"
            checks.append(equal(compared.format("weight bits"), ratios["weight_bits"], theory))
            checks += [at_least(compared.format(kind), ratios[kind], 1) for kind in ("luts", "dsp", "bram")]
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


def _graph(layer: Layer, outputs: int) -> tuple[Graph, int]:
    """The layer with random weights, lowered, and the bits of its weights."""
    torch.manual_seed(SEED)
    product: nn.Module
    if layer == "fastfood":
        product = QuantFastfood(INPUTS, outputs, sigma=math.sqrt(INPUTS) / 2, bias=False, weight_bits=BITS)
        # One sign, and an element of each of the diagonals G and S.
        weight_bits = outputs * (1 + 2 * BITS)
    else:
        product = QuantLinear(INPUTS, outputs, weight_bits=BITS, per_channel=False, bias=False)
        weight_bits = outputs * INPUTS * BITS
    model = nn.Sequential(PowerOfTwoScale(fraction=BITS), product, QuantReLU(bits=BITS))
    graph = lower(model, (INPUTS,), name=layer).graph
    # The layer alone, without the choice of the largest output that ends a classifier.
    return replace(graph, nodes=graph.nodes[:-1], outputs=(graph.nodes[-2].name,), classes=()), weight_bits


def _design(graph: Graph, case: Case, layer: Layer, run: BenchmarkRun) -> tuple[Design, list[Check]]:
    """Generate the layer for the interval, and play it."""
    label = f"{case.name}, {layer}"
    pipeline = stages(graph)
    # As many multipliers as there are products: in look-up tables they would cost far more.
    folding = fold_for_interval(pipeline, case.interval, dsps=INPUTS * case.outputs // case.interval)
    run.progress(f"{label}: generating the RTL")
    design = Design.create(graph, run.folder / label.replace(", ", "-").replace(" ", "-"), folding)
    frames = np.random.default_rng(SEED).integers(0, 1 << BITS, (FRAMES, INPUTS))
    expected = evaluate(graph, frames)
    checks = [at_least(f"{label}: different outputs", len(np.unique(expected)), LEAST_VALUES)]
    for mode in (BackPressure.NONE, BackPressure.RANDOM):
        run.progress(f"{label}: simulating with {mode} pauses")
        played = run_regression(design.rtl, frames, expected, back_pressure=mode, seed=SEED, latency_frames=1)
        checks.append(equal(f"{label}: failed checks, {mode} pauses", played.failure() or "none", "none"))
        if mode is BackPressure.NONE:
            interval = played.initiation_interval
            checks.append(equal(f"{label}: cycles a vector", interval and interval.max, case.interval))
            checks.append(equal(f"{label}: cycles a vector as predicted", design.accelerator.interval, case.interval))
    return design, checks


def _row(design: Design, case: Case, layer: Layer, run: BenchmarkRun) -> dict[str, Any]:
    label = f"{case.name}, {layer}"
    folds = {name: str(fold) for name, fold in design.accelerator.folding.folds.items()}
    if layer == "fastfood":
        run.progress(f"{label}: placing and routing on {DEVICE.name}")
        result = _place(design, run)
        clock = {
            "mhz": None if result.fmax_mhz is None else round(result.fmax_mhz, 1),
            "critical_path": str(result.critical_path).split("\n"),
        }
        return {**cell_figures(result.cells), "fits": True, **clock, "folding": folds}
    run.progress(f"{label}: mapping to {DEVICE.name}")
    cells = total(map_design(design, DEVICE))
    estimate = total_cost(design.accelerator.stages, design.accelerator.folding)
    fits = cells.dsp <= DEVICE.dsps and cells.bram <= DEVICE.block_rams and look_up_tables(cells) <= DEVICE.luts
    return {**cell_figures(cells), "fits": fits, "luts_estimated": estimate.luts, "folding": folds}


def _place(design: Design, run: BenchmarkRun) -> SynthesisResult:
    try:
        return design.synthesize(DEVICE.name, clock_mhz=AIM_MHZ, folder=design.folder / "placed", progress=run.progress)
    except TimingMissed as missed:
        return missed.result


FASTFOOD_COST = Benchmark(
    name="fastfood-cost",
    description=f"Fastfood against the dense layer of {INPUTS} inputs and 1024 or 2048 outputs, {BITS} bits, at equal "
    f"cycles a vector on {DEVICE.name}; Fastfood placed and routed",
    target="RTL equal to the golden model, intervals as predicted; weight bits in the proportion of theory; fewer "
    "look-up tables, multipliers and block RAMs than the dense layer, every cost stated",
    minutes=25,
    measure=measure,
)
