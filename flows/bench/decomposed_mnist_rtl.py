"""The decomposed CNN whole in RTL through bit-plane engines, beside the same CNN on fixed-point weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, equal
from karui.flows.bench.estimate import TOLERANCE, error
from karui.flows.bench.fixed_point_twin import Floats, fixed_point_twin
from karui.flows.bench.mapped_cells import cell_figures, look_up_tables, map_design, total
from karui.flows.bench.reference_data import data_folder
from karui.flows.bench.regression import play_at_interval
from karui.flows.recipe import find_recipe
from karui.flows.synthesize import find_device
from karui.flows.training import load_network
from karui.hw.plan.estimate import cycles
from karui.hw.plan.folding import fold_for_interval, total_cost, worth
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.data.dataset import Dataset
from karui.sw.decompose.calibrate import Observed, choose_grid, observe
from karui.sw.decompose.config import DecomposeConfig
from karui.sw.decompose.convert import Known, convert_observed
from karui.sw.decompose.float_network import float_network
from karui.sw.golden import evaluate
from karui.sw.ir import Graph
from karui.sw.lower.agreement import to_graph_layout
from karui.sw.lower.from_torch import lower
from karui.sw.nn.decomposed import DecomposedLayer
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.data import load_data

RECIPE = "decomposed-mnist-cnn"
DEVICE = find_device("ecp5-85f-8")
GRID = range(1, 9)
WEIGHT_BITS = (8, 4)
IMAGES, TWIN_IMAGES = 200, 20
# Images that the golden model computes at a time.
BATCH = 250
SEED = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatCnn:
    """The float network, and what it is decomposed and rounded with."""

    model: torch.nn.Module
    dataset: Dataset
    observed: Mapping[str, Observed]
    known: Known = field(default_factory=dict)

    def decomposed(self, bases: int, bits: int) -> Graph:
        """The graph of so many bases, and words of so many bits."""
        return self._lowered(self._converted(bases, bits))

    def fixed_point(self, weight_bits: int, bits: int) -> Graph:
        """The graph on weights of so many bits, and the words of `decomposed`."""
        decomposed = self._converted(1, bits)
        weights: dict[str, Floats] = {}
        channels = self.dataset.image_shape[0]
        for name, layer in float_network(self.model, self.dataset.image_shape).weight_layers().items():
            grid = choose_grid(self.observed[name], bits, holds_zero=layer.weight.ndim == 4, clipping="mse")
            converted = decomposed.get_submodule(name)
            assert isinstance(converted, DecomposedLayer)
            # Channels are last in the graph.
            rows = layer.weight.detach().double().reshape(len(layer.weight), channels, -1).mT.flatten(1)
            weights[name] = rows.numpy() * grid.step * 2.0**converted.fraction
            channels = len(layer.weight)
        return fixed_point_twin(self._lowered(decomposed), weights, weight_bits)

    def _converted(self, bases: int, bits: int) -> torch.nn.Module:
        config = DecomposeConfig(bases=(bases,), activation_bits=(bits,))
        network = float_network(self.model, self.dataset.image_shape)
        return convert_observed(network, self.observed, config, known=self.known).model

    def _lowered(self, model: torch.nn.Module) -> Graph:
        return lower(model, self.dataset.image_shape, name=RECIPE, classes=self.dataset.classes).graph


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Play and map three designs of one rate, then estimate every number of bases and bits."""
    recipe = find_recipe(RECIPE)
    assert recipe.checkpoint is not None
    assert recipe.weights is not None
    assert recipe.decompose is not None
    interval = recipe.hardware.initiation_interval
    assert interval is not None
    dataset = load_data(recipe.training, data_folder(run.data_dir))
    model = load_checkpoint(recipe.weights).model
    images = torch.tensor(dataset.train_images[: recipe.decompose.calibration_images]).float()
    floats = FloatCnn(model=model, dataset=dataset, observed=observe(float_network(model, dataset.image_shape), images))
    (bits,) = recipe.decompose.activation_bits
    shipped = lower(load_network(recipe.checkpoint), dataset.image_shape, name=RECIPE, classes=dataset.classes).graph
    designs = {"bit planes": shipped}
    designs |= {f"weights of {width} bits": floats.fixed_point(width, bits) for width in WEIGHT_BITS}
    checks: list[Check] = []
    details: dict[str, Any] = {"interval": interval}
    for name, graph in designs.items():
        count = IMAGES if graph is shipped else TWIN_IMAGES
        found, details[name] = _build(run, name, graph, dataset, count, interval)
        checks += found
    details["estimated"] = _table(run, floats, interval)
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


def _build(
    run: BenchmarkRun, name: str, graph: Graph, dataset: Dataset, count: int, interval: int
) -> tuple[list[Check], dict[str, Any]]:
    """Evaluate a graph on all test images, play some of them through its RTL, and map that."""
    frames = to_graph_layout(dataset.test_images)
    run.progress(f"{name}: golden model, {len(frames):,} images")
    classes = np.concatenate([evaluate(graph, frames[at : at + BATCH]).ravel() for at in range(0, len(frames), BATCH)])
    played = play_at_interval(
        graph, frames[:count], interval=interval, folder=run.folder / name, label=name, progress=run.progress
    )
    checks = list(played.checks(name, interval))
    run.progress(f"{name}: the same under random back-pressure")
    paused = run_regression(
        played.design.rtl, frames[:count], played.golden, back_pressure=BackPressure.RANDOM, seed=SEED
    )
    checks.append(equal(f"{name}: failed checks under random back-pressure", paused.failure() or "none", "none"))
    run.progress(f"{name}: mapping to {DEVICE.name}")
    cells = total(map_design(played.design, DEVICE))
    accelerator = played.design.accelerator
    expected = total_cost(accelerator.stages, accelerator.folding)
    off = error(expected.luts, look_up_tables(cells))
    checks += [
        Check(
            what=f"{name}: look-up tables, estimate against mapped, %",
            value=round(off, 1),
            target=f"within {100 * TOLERANCE:g}",
            passed=abs(off) <= 100 * TOLERANCE,
        ),
        equal(f"{name}: multipliers, mapped as estimated", cells.dsp, expected.dsps),
    ]
    figures = {
        **played.details,
        "accuracy": float((classes == dataset.test_labels).mean()),
        "initiation_interval": accelerator.predicted.initiation_interval.max,
        "latency": accelerator.predicted.latency.max,
        "constant_bits": graph.constant_bits,
        "mapped": cell_figures(cells),
        "estimated": _figures(graph, interval),
    }
    return checks, figures


def _table(run: BenchmarkRun, floats: FloatCnn, interval: int) -> dict[str, Any]:
    """The whole network at every number of bases and bits, and on weights of 8 and 4 bits with these words."""
    table: dict[str, Any] = {}
    for bits in GRID:
        run.progress(f"words of {bits} bits: folding")
        twins = {
            f"weights of {width} bits": _figures(floats.fixed_point(width, bits), interval) for width in WEIGHT_BITS
        }
        planes = {bases: _figures(floats.decomposed(bases, bits), interval) for bases in GRID}
        wins = {
            f"worth less than {name}": [bases for bases, one in planes.items() if one["worth"] < twin["worth"]]
            for name, twin in twins.items()
        }
        table[f"words of {bits} bits"] = {"bases": planes, **twins, **wins}
    return table


def _figures(graph: Graph, interval: int) -> dict[str, Any]:
    pipeline = stages(graph)
    folding = fold_for_interval(pipeline, interval)
    cells = total_cost(pipeline, folding)
    return {
        "luts": cells.luts,
        "dsps": cells.dsps,
        "block_rams": cells.block_rams,
        "worth": worth(cells),
        "cycles": max(cycles(stage.op, stage, folding.folds[stage.name]) for stage in pipeline),
    }


DECOMPOSED_MNIST_RTL = Benchmark(
    name="decomposed-mnist-rtl",
    description=f"{RECIPE} whole in RTL through bit-plane engines, {IMAGES} MNIST test images; beside it the same CNN "
    "on weights of 8 and 4 bits at the same interval, mapped; 1 to 8 bases by 1 to 8 bits estimated",
    target="every word equal, also under random back-pressure, cycles as predicted; mapped look-up tables within 25 % "
    "of the estimate; where each costs less stated",
    minutes=30,
    measure=measure,
)
