"""Bit planes on binary bases against fixed-point products, at equal initiation interval: what each costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_most, equal
from karui.flows.bench.estimate import TOLERANCE, error
from karui.flows.bench.mapped_cells import look_up_tables, map_design
from karui.flows.design import Design
from karui.flows.synthesize import find_device
from karui.hw.emit.accelerator import module_name
from karui.hw.memory.resources import Resources
from karui.hw.plan.estimate import Fold, cost, cycles
from karui.hw.plan.folding import Folding, choices, worth
from karui.hw.plan.stages import Stage, stages
from karui.sim.regression import run_regression
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import unsigned

DEVICE = find_device("ecp5-85f-8")
MOST_BASES = MOST_BITS = 8
WEIGHT_BITS = (8, 4)
COEFFICIENT_BITS = 16
PRODUCTS = 32
"""Products of an activation and a weight a cycle, of either engine."""
MAPPED_BASES_AND_BITS = ((1, 1), (4, 4), (6, 4))
FRAMES = 5
SEED = 1

Multiplier = Literal["dsp", "lut"]
MULTIPLIERS: tuple[Multiplier, ...] = ("dsp", "lut")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The products of a layer: windows of a convolution, or the one vector of a dense layer."""

    name: str
    shape: tuple[int, ...]
    outputs: int

    @property
    def interval(self) -> int:
        """Cycles a frame at `PRODUCTS` a cycle."""
        return int(np.prod(self.shape)) * self.outputs // PRODUCTS


CONV = Layer(name="3x3 convolution 14x14x32 to 64", shape=(14, 14, 288), outputs=64)
LAYERS = (CONV, Layer(name="dense 3136 to 128", shape=(3136,), outputs=128))


@dataclass(frozen=True, kw_only=True)
class Option:
    """An engine for a layer, in its cheapest folding that keeps the interval."""

    name: str
    graph: Graph
    stage: Stage
    fold: Fold

    @property
    def estimate(self) -> Resources:
        """Estimated cells."""
        return cost(self.stage.op, self.stage, self.fold)

    @property
    def figures(self) -> dict[str, Any]:
        """What it costs, as it is expected."""
        found = self.estimate
        parameters = sum(self.graph.constants[name].bits for name in self.stage.node.inputs[1:3])
        fixed = self.graph.constants[self.stage.node.inputs[1]].bits
        return {
            "luts": found.luts,
            "dsps": found.dsps,
            "block_rams": found.block_rams,
            "worth": worth(found),
            "weight_bits": parameters if len(self.stage.node.inputs) == 4 else fixed,
            "fold": str(self.fold),
        }


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Estimate every engine at every number of bases and bits; generate, play and map some."""
    checks: list[Check] = []
    details: dict[str, Any] = {"products a cycle": PRODUCTS}
    for layer in LAYERS:
        run.progress(f"{layer.name}: folding")
        details[layer.name] = _table(layer, run)
    for option in _mapped():
        checks += _build(option, run, details.setdefault("mapped", {}))
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


def _table(layer: Layer, run: BenchmarkRun) -> dict[str, Any]:
    """Every engine at every number of bits, and which is worth the least."""
    table: dict[str, Any] = {"interval": layer.interval}
    wins: dict[str, str] = {}
    without_multipliers: dict[str, str] = {}
    for bits in range(1, MOST_BITS + 1):
        run.progress(f"{layer.name}: {bits} bits")
        fixed = {
            f"{weights} bits, {multiplier}": _fixed(layer, weights, bits, multiplier).figures
            for weights in WEIGHT_BITS
            for multiplier in MULTIPLIERS
        }
        planes = {bases: _bit_planes(layer, bases, bits).figures for bases in range(1, MOST_BASES + 1)}
        table[f"activations of {bits} bits"] = {"fixed point": fixed, "bit planes": planes}
        for weights in WEIGHT_BITS:
            both = [fixed[f"{weights} bits, {multiplier}"] for multiplier in MULTIPLIERS]
            for what, limit, found in (
                ("worth", min(one["worth"] for one in both), wins),
                ("luts", both[1]["luts"], without_multipliers),
            ):
                cheaper = [bases for bases, figures in planes.items() if figures[what] < limit]
                found[f"{weights}-bit weights, activations of {bits} bits"] = (
                    f"up to {max(cheaper)} bases" if cheaper else "never"
                )
    table["bit planes are worth less than fixed point"] = wins
    table["bit planes take fewer look-up tables than products in look-up tables"] = without_multipliers
    return table


def _mapped() -> list[Option]:
    bits = 4
    return [
        *(_bit_planes(CONV, bases, planes) for bases, planes in MAPPED_BASES_AND_BITS),
        *(_fixed(CONV, WEIGHT_BITS[0], bits, multiplier) for multiplier in MULTIPLIERS),
    ]


def _bit_planes(layer: Layer, bases: int, bits: int) -> Option:
    random = np.random.default_rng(SEED)
    build = GraphBuilder("planes")
    edge = build.input("vectors", layer.shape, unsigned(bits))
    signs = random.choice([-1, 1], (layer.outputs, bases, layer.shape[-1]))
    # Of falling weight, the largest of them as wide as can be.
    largest = (1 << COEFFICIENT_BITS - 1) - 1
    coefficients = np.rint(largest * 0.6 ** np.arange(bases) * random.uniform(0.7, 1, (layer.outputs, bases)))
    edge = build.binary_bases("layer", edge, signs, coefficients, random.integers(-largest, largest, layer.outputs))
    return _cheapest(f"{bases} bases, {bits} bits", layer, build, edge, bits)


def _fixed(layer: Layer, weight_bits: int, bits: int, multiplier: Multiplier) -> Option:
    random = np.random.default_rng(SEED)
    build = GraphBuilder("fixed")
    edge = build.input("vectors", layer.shape, unsigned(bits))
    half = 1 << weight_bits - 1
    weights = random.integers(-half, half, (layer.outputs, layer.shape[-1]))
    edge = build.matrix_vector("layer", edge, weights, random.integers(-half, half, layer.outputs))
    name = f"weights of {weight_bits} bits, {bits} bits, {multiplier}"
    return _cheapest(name, layer, build, edge, bits, multiplier)


def _cheapest(
    name: str, layer: Layer, build: GraphBuilder, edge: str, bits: int, multiplier: Multiplier | None = None
) -> Option:
    """Requantize by a multiplier, as networks that were not trained for it need, and fold for the layer's interval."""
    reach = build.tensor(edge).number_format.bits
    shift = reach - bits + 12
    edge = build.requantize(
        "quantize", edge, np.array([30011]), np.array([1 << shift]), shift=shift, output=unsigned(bits)
    )
    graph = build.finish(edge)
    (stage,) = stages(graph)
    folds = [fold for fold in choices(stage) if multiplier in (None, fold.multiplier)]
    fast = [fold for fold in folds if cycles(stage.op, stage, fold) <= layer.interval]
    fold = min(fast, key=lambda fold: worth(cost(stage.op, stage, fold)))
    return Option(name=name, graph=graph, stage=stage, fold=fold)


def _build(option: Option, run: BenchmarkRun, mapped: dict[str, Any]) -> tuple[Check, ...]:
    """Generate an engine, play frames through it, map it, and hold it against what was expected."""
    run.progress(f"{option.name}: generating and simulating")
    design = Design.create(
        option.graph, run.folder / option.name.replace(", ", "-"), Folding(folds={"layer": option.fold})
    )
    source = option.stage.source
    frames = np.random.default_rng(SEED).integers(0, source.number_format.maximum + 1, (FRAMES, *source.shape))
    played = run_regression(design.rtl, frames, evaluate(option.graph, frames), latency_frames=1)
    interval = None if played.initiation_interval is None else played.initiation_interval.max
    run.progress(f"{option.name}: mapping to {DEVICE.name}")
    cells = map_design(design, DEVICE)[module_name("layer")]
    expected, found = option.estimate, look_up_tables(cells)
    mapped[option.name] = {
        **option.figures,
        "luts_mapped": found,
        "carry_cells_mapped": cells.carry,
        "flip_flops_mapped": cells.ff,
        "dsps_mapped": cells.dsp,
        "block_rams_mapped": cells.bram,
    }
    off = error(expected.luts, found)
    return (
        equal(f"{option.name}: failed checks of the RTL", played.failure() or "none", "none"),
        at_most(f"{option.name}: initiation interval, cycles", interval or CONV.interval + 1, CONV.interval),
        Check(
            what=f"{option.name}: look-up tables, estimate against mapped, %",
            value=round(off, 1),
            target=f"within {100 * TOLERANCE:g}",
            passed=abs(off) <= 100 * TOLERANCE,
        ),
        equal(f"{option.name}: multipliers, mapped as estimated", cells.dsp, expected.dsps),
        equal(f"{option.name}: block RAMs, mapped as estimated", cells.bram, expected.block_rams),
    )


BIT_PLANE_COST = Benchmark(
    name="bit-plane-cost",
    description=f"1 to {MOST_BASES} binary bases by 1 to {MOST_BITS} bit planes against 8- and 4-bit weights in DSP "
    f"blocks and look-up tables, {PRODUCTS} products a cycle: {' and '.join(layer.name for layer in LAYERS)}",
    target="RTL equal to the golden model at the interval asked for; mapped look-up tables within 25 % of the "
    "estimate; where each engine costs less stated",
    minutes=15,
    measure=measure,
)
