"""Puppet networks from torch through the whole accelerator: images of mixed depths, words and cycles."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.plan.folding import fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate, trace
from karui.sw.ir import GeneratedLayers, Graph
from karui.sw.ir.generated_kernels import depths_of
from karui.sw.lower.agreement import compare_with_golden, to_graph_layout
from karui.sw.lower.from_torch import lower
from karui.sw.models.build import build_model
from karui.sw.models.puppet import PuppetConfig
from karui.sw.nn.precision import Precision

SMALL = PuppetConfig(
    image=(1, 8, 8),
    classes=5,
    channels=4,
    first_depth=2,
    last_depth=4,
    pattern_rank=5,
    rank=6,
    terms=4,
    precision=Precision(weight_bits=8, activation_bits=8),
)
DEPTHS = (2, 3, 4)
INTERVAL = 2400


def images(config: PuppetConfig, count: int) -> np.ndarray:
    """Images of few and of many greys, so of several depths."""
    random = np.random.default_rng(4)
    greys = 2 ** random.integers(1, 9, count)
    noise = random.random((count, *config.image)) * greys[:, None, None, None]
    return noise.astype(np.uint8) * (255 // greys).astype(np.uint8)[:, None, None, None]


def network(config: PuppetConfig) -> nn.Sequential:
    """A network whose batch norms have seen images."""
    torch.manual_seed(2)
    model = build_model(config)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(std=0.3)
                norm.momentum = None
        model.train()
        model(torch.from_numpy(images(config, 100)).float())
    return model.eval()


def frames_of_each_depth(config: PuppetConfig, graph: Graph, count: int) -> dict[int, np.ndarray]:
    frames = to_graph_layout(images(config, 300))
    (node,) = (node for node in graph.nodes if isinstance(node.op, GeneratedLayers))
    depths = depths_of(node.op, trace(graph, frames)[node.inputs[1]][:, 0])
    found = {depth: frames[depths == depth][:count] for depth in DEPTHS}
    assert all(len(alike) == count for alike in found.values())
    return found


def graph_of(config: PuppetConfig, *, scores: bool = False) -> Graph:
    """The network's graph, proven equal to it; optionally without its arg max."""
    model = network(config)
    lowered = lower(model, config.image)
    assert compare_with_golden(model, lowered, images(config, 60)).mismatches == 0
    graph = lowered.graph
    if not scores:
        return graph
    assert graph.nodes[-1].inputs == (lowered.scores,)
    return replace(graph, nodes=graph.nodes[:-1], outputs=(lowered.scores,))


def accelerator_in(folder: Path, graph: Graph) -> Accelerator:
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), INTERVAL))
    write_design(accelerator, folder)
    return accelerator


@pytest.mark.parametrize(
    ("generator", "puppet", "colours", "scores"),
    [
        ("euler", "plain", 1, False),
        ("sines", "residual", 3, True),
        pytest.param("euler", "residual", 1, True, marks=pytest.mark.slow),
        pytest.param("euler", "plain", 3, True, marks=pytest.mark.slow),
        pytest.param("sines", "plain", 1, True, marks=pytest.mark.slow),
        pytest.param("polynomials", "residual", 1, False, marks=pytest.mark.slow),
    ],
)
def test_image_to_class(generator: str, puppet: str, colours: int, scores: bool, tmp_path: Path) -> None:
    config = replace(SMALL, generator=generator, puppet=puppet, image=(colours, 8, 8))
    graph = graph_of(config, scores=scores)
    accelerator = accelerator_in(tmp_path, graph)
    by_depth = frames_of_each_depth(config, graph, 12)
    for depth, frames in by_depth.items():
        result = run_regression(tmp_path, frames, evaluate(graph, frames))
        assert result.passed, result.failure()
        interval, latency = accelerator.by_depth[depth]
        assert (result.initiation_interval.min, result.initiation_interval.max) == (interval, interval)
        assert (result.latency.min, result.latency.max) == (latency, latency)
        assert interval <= INTERVAL
    mixed = np.random.default_rng(3).permutation(np.concatenate(list(by_depth.values())))
    expected = evaluate(graph, mixed)
    assert len(np.unique(expected, axis=0)) >= (20 if scores else 2)
    result = run_regression(tmp_path, mixed, expected, back_pressure=BackPressure.RANDOM, seed=6)
    assert result.passed, result.failure()


@pytest.mark.parametrize(
    ("generator", "constant"),
    [
        pytest.param("euler", "step", marks=pytest.mark.slow),
        pytest.param("sines", "phi", marks=pytest.mark.slow),
        ("sines", "growth"),
    ],
)
def test_wrong_constants_are_found(generator: str, constant: str, tmp_path: Path) -> None:
    graph = graph_of(replace(SMALL, generator=generator), scores=True)
    frames = np.concatenate(list(frames_of_each_depth(SMALL, graph, 3).values()))
    constants = dict(graph.constants)
    (name,) = (one for one in constants if one.endswith(f".{constant}"))
    constants[name] = replace(constants[name], values=constants[name].values // 2)
    accelerator_in(tmp_path, replace(graph, constants=constants))
    result = run_regression(tmp_path, frames, evaluate(graph, frames))
    assert not result.passed
    assert not result.stall
