"""Puppet networks whole in RTL, image to class: words and cycles by depth, and memory beside networks of ROMs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, equal
from karui.flows.bench.puppet_table import CONTINUOUS, JUDGED
from karui.flows.bench.reference_data import data_folder
from karui.flows.design import Design
from karui.flows.recipe import Recipe, find_recipe
from karui.flows.recipe_accelerator import accelerator_of
from karui.hw.emit.accelerator import Accelerator
from karui.hw.plan.folding import Folding, total_cost
from karui.hw.plan.generated_stage import GeneratedStageConfig
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.data.dataset import Dataset
from karui.sw.golden import evaluate, trace
from karui.sw.ir import GeneratedLayers, Graph
from karui.sw.ir.generated_kernels import depths_of
from karui.sw.lower.agreement import to_graph_layout
from karui.sw.models.build import build_model
from karui.sw.models.puppet import PuppetConfig, fixed_twin
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.data import load_data
from karui.sw.train.seeding import seeded

DEPTHS, IMAGES_A_DEPTH = 3, 17
LATENCY_IMAGES = 4
"""Images of each depth that find the pipeline empty."""
CLASSES = 3
"""Classes that must be among the words compared, for their equality to say anything."""
TIMES_FEWER = 10
SEED = 1

Integers = npt.NDArray[np.int64]


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Play the network of Euler steps, and count what it stores."""
    return _measure(run, "Euler", JUDGED)


def measure_continuous(run: BenchmarkRun) -> BenchmarkResult:
    """Play the network of kernels made at once, and count what it stores."""
    return _measure(run, "continuous", CONTINUOUS)


def _measure(run: BenchmarkRun, title: str, name: str) -> BenchmarkResult:
    recipe = find_recipe(name)
    if recipe.checkpoint is None:
        missing = Check(what=f"{name} ships", value=False, target="True", passed=False)
        return BenchmarkResult(checks=(missing,), details={}, seed=SEED)
    checks, details = _network(run, title, recipe)
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


def generated_node(graph: Graph) -> str:
    """The name of a graph's generated layers."""
    (name,) = (node.name for node in graph.nodes if isinstance(node.op, GeneratedLayers))
    return name


def depths_in(graph: Graph, frames: Integers) -> Integers:
    """How deep each frame goes."""
    node = graph.node(generated_node(graph))
    assert isinstance(node.op, GeneratedLayers)
    complexity = node.inputs[1]
    return depths_of(node.op, evaluate(up_to(graph, complexity), frames)[:, 0])


def up_to(graph: Graph, edge: str) -> Graph:
    """The part of a graph that makes one of its edges."""
    needed = {edge}
    for node in reversed(graph.nodes):
        needed |= set(node.inputs) if node.name in needed else set()
    return replace(
        graph,
        constants={name: constant for name, constant in graph.constants.items() if name in needed},
        nodes=tuple(node for node in graph.nodes if node.name in needed),
        outputs=(edge,),
        classes=(),
    )


def _up_to(accelerator: Accelerator, edge: str) -> Accelerator:
    """The part of an accelerator that makes one of its graph's edges."""
    graph, folds = up_to(accelerator.graph, edge), accelerator.folding.folds
    return Accelerator(graph=graph, folding=Folding(folds={stage.name: folds[stage.name] for stage in stages(graph)}))


def first_of_each_depth(depths: Integers, count: int) -> Integers:
    """Places of the first images of each depth, in the order of the data."""
    return np.sort(np.concatenate([np.flatnonzero(depths == depth)[:count] for depth in np.unique(depths)]))


def _network(run: BenchmarkRun, title: str, recipe: Recipe) -> tuple[list[Check], dict[str, Any]]:
    assert recipe.checkpoint is not None
    checkpoint = load_checkpoint(recipe.checkpoint)
    assert isinstance(checkpoint.config, PuppetConfig)
    dataset = load_data(recipe.training, data_folder(run.data_dir))
    run.progress(f"{title}: generating RTL")
    accelerator = accelerator_of(recipe, checkpoint.model, dataset)
    every = to_graph_layout(dataset.test_images)
    depths = depths_in(accelerator.graph, every)
    chosen = first_of_each_depth(depths, IMAGES_A_DEPTH)
    checks, measured = _play(run, title, accelerator, every[chosen], depths[chosen])
    stored = {depth: _memory(recipe, checkpoint.config, accelerator, depth, dataset) for depth in accelerator.by_depth}
    of_mean = stored[round(float(depths.mean()))]["times fewer"]
    checks.append(at_least(f"{title}: times fewer bits than stored kernels of the mean depth", of_mean, TIMES_FEWER))
    intervals = [accelerator.by_depth[int(depth)][0] for depth in depths]
    return checks, {
        "recipe": recipe.name,
        "test images played, by place": chosen.tolist(),
        "mean cycles a test image": round(float(np.mean(intervals))),
        "by depth": {
            str(depth): {
                "test images": int((depths == depth).sum()),
                "cycles": _cycles(accelerator, depth) | measured.get(depth, {}),
                **stored[depth],
            }
            for depth in accelerator.by_depth
        },
        "folding": {name: str(fold) for name, fold in accelerator.folding.folds.items()},
    }


def _play(
    run: BenchmarkRun, title: str, accelerator: Accelerator, frames: Integers, depths: Integers
) -> tuple[list[Check], dict[int, dict[str, Any]]]:
    """Images of each depth in a row, for their cycles; all mixed with pauses; and the maps that layers end in."""
    graph = accelerator.graph
    design = Design.create(graph, run.folder / title, accelerator.folding)
    maps = generated_node(graph)
    edges = trace(graph, frames)
    expected = edges[graph.output_name]
    found = np.unique(depths).tolist()
    checks = [
        at_least(f"{title}: images played", len(frames), DEPTHS * IMAGES_A_DEPTH),
        at_least(f"{title}: their depths", len(found), DEPTHS),
        at_least(f"{title}: classes among their words", len(np.unique(expected)), CLASSES),
    ]
    measured: dict[int, dict[str, Any]] = {}
    for depth in found:
        alike = depths == depth
        name = f"{title}, depth {depth}"
        run.progress(f"{name}: simulating {alike.sum()} images")
        result = run_regression(design.rtl, frames[alike], expected[alike], latency_frames=LATENCY_IMAGES)
        checks.append(equal(f"{name}: failed checks", result.failure() or "none", "none"))
        if result.initiation_interval is None or result.latency is None:
            continue
        interval, latency = result.initiation_interval, result.latency
        measured[depth] = {"interval": interval.max, "latency": latency.max}
        predicted = accelerator.by_depth[depth]
        checks += [
            equal(f"{name}: cycles a frame, as predicted", [interval.min, interval.max], [predicted[0]] * 2),
            equal(f"{name}: cycles of latency, as predicted", [latency.min, latency.max], [predicted[1]] * 2),
            equal(f"{name}: cycles a frame, its convolutions alone", interval.max, _convolution(accelerator, depth)),
        ]
    cut = _up_to(accelerator, maps)
    ends_in_maps = Design.create(cut.graph, run.folder / f"{title}-maps", cut.folding)
    for what, built, words in (("classes", design, expected), ("maps", ends_in_maps, edges[maps])):
        run.progress(f"{title}: simulating {len(frames)} images of mixed depths, {what} out, with pauses")
        result = run_regression(built.rtl, frames, words, back_pressure=BackPressure.RANDOM, seed=SEED)
        compared = len(frames) * built.accelerator.ports[1].beats
        checks += [
            equal(f"{title}, mixed depths, random pauses: failed checks of {what}", result.failure() or "none", "none"),
            equal(f"{title}, mixed depths, random pauses: beats of {what} compared", result.words, compared),
        ]
    return checks, measured


def _stage(accelerator: Accelerator, depth: int) -> GeneratedStageConfig:
    (config,) = (one.config for one in accelerator.engines if isinstance(one.config, GeneratedStageConfig))
    return replace(config, depth=depth)


def _convolution(accelerator: Accelerator, depth: int) -> int:
    return depth * _stage(accelerator, depth).layers.convolution.interval


def _cycles(accelerator: Accelerator, depth: int) -> dict[str, Any]:
    """What parts take by themselves; the meter's and the generators' predictions are tested against their RTL alone."""
    graph, stage = accelerator.graph, _stage(accelerator, depth)
    meter = _up_to(accelerator, graph.node(generated_node(graph)).inputs[1])
    return {
        "complexity": meter.latency,
        "complexity, image after image": meter.interval,
        "generation of all kernels": stage.generation,
        "generation, layer after layer": depth * stage.layers.kernels.layer_cycles,
        "convolution": _convolution(accelerator, depth),
    }


def _memory(
    recipe: Recipe, config: PuppetConfig, accelerator: Accelerator, depth: int, dataset: Dataset
) -> dict[str, Any]:
    """Kernels and block RAMs, beside those of a network of this one depth, at its rate, with kernels in ROMs."""
    graph = accelerator.graph
    node = graph.node(generated_node(graph))
    assert isinstance(node.op, GeneratedLayers)
    kept = [name for name in node.inputs[2:] if not name.endswith((".multipliers", ".offsets"))]
    hardware = replace(recipe.hardware, initiation_interval=accelerator.by_depth[depth][0], frame_rate=None, fit=False)
    # Which kernels makes no difference to what they take, but for a few cells; those of one seed are always the same.
    network = seeded(SEED, lambda: build_model(fixed_twin(config, depth))).eval()
    twin = accelerator_of(replace(recipe, hardware=hardware), network, dataset)
    pairs = {"generator": accelerator, "stored": twin}
    costs = {name: total_cost(one.stages, one.folding) for name, one in pairs.items()}
    bits = {
        "generator": sum(graph.constants[name].bits for name in kept),
        "stored": 8 * depth * 9 * config.channels**2,
    }
    return {
        "kernels, bits": bits,
        "times fewer": round(bits["stored"] / bits["generator"], 1),
        "all constants, bits": {name: one.graph.constant_bits for name, one in pairs.items()},
        "block RAMs, estimated": {name: one.block_rams for name, one in costs.items()},
        "look-up tables, estimated": {name: one.luts for name, one in costs.items()},
        "multipliers, estimated": {name: one.dsps for name, one in costs.items()},
    }


_TARGET = (
    f">= {DEPTHS * IMAGES_A_DEPTH} images of >= {DEPTHS} depths, every class and every word of the maps equal to the "
    "golden model, without pauses and mixed with random ones; interval and latency of each depth as predicted, the "
    f"interval that of the convolutions alone; kernels in >= {TIMES_FEWER} times fewer bits than those "
    "stored of the mean depth"
)
PUPPET_HARDWARE = Benchmark(
    name="puppet-hardware",
    description="the shipped network of kernels generated by Euler steps whole in RTL: the first "
    f"{IMAGES_A_DEPTH} test images of each depth; cycles by depth of meter, generator, convolution and frame; bits of "
    "kernels and block RAMs beside networks of one depth with kernels in ROMs",
    target=_TARGET,
    minutes=10,
    measure=measure,
)
PUPPET_HARDWARE_CONTINUOUS = Benchmark(
    name="puppet-hardware-continuous",
    description="the same of the network whose kernels are made at once",
    target=_TARGET,
    minutes=10,
    measure=measure_continuous,
)
