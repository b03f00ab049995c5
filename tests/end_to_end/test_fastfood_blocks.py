"""Fastfood through folding: gathers, diagonals and transforms as stages of one design, in time and in parallel."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from karui.flows.design import Design
from karui.flows.device_fill import DeviceFill
from karui.flows.synthesize import find_device
from karui.hw.plan.folding import Folding, fold_for_budget, fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.lower.from_torch import lower
from karui.sw.nn import PowerOfTwoScale, QuantFastfood, QuantReLU
from karui.sw.numerics import Rounding, signed


def layer(inputs: int, outputs: int) -> Graph:
    """A quantized layer as it is lowered: gathers, B, H, P, G, H, and S with the ReLU."""
    torch.manual_seed(1)
    fastfood = QuantFastfood(inputs, outputs, sigma=math.sqrt(inputs) / 2, bias=True)
    model = nn.Sequential(PowerOfTwoScale(fraction=8), fastfood, QuantReLU(bits=8))
    graph = lower(model, (inputs,), name="fastfood").graph
    return replace(graph, nodes=graph.nodes[:-1], outputs=(graph.nodes[-2].name,), classes=())


def play(graph: Graph, folding: Folding, folder: Path, interval: int, frames: np.ndarray) -> None:
    """Every word equal to the golden model's, and the rate as predicted."""
    design = Design.create(graph, folder / "design", folding)
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) > 16
    for mode in (BackPressure.NONE, BackPressure.RANDOM):
        result = run_regression(design.rtl, frames, expected, back_pressure=mode, seed=1)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            assert result.initiation_interval is not None
            assert result.initiation_interval.max == design.accelerator.interval == interval


@pytest.mark.parametrize("interval", [64, 32])
def test_blocks_in_time(tmp_path: Path, interval: int) -> None:
    random = np.random.default_rng(0)
    build = GraphBuilder("blocks")
    edge = build.input("x", (24,), signed(6))
    padded = np.concatenate((np.arange(24), np.full(8, -1)))
    edge = build.gather("stack", edge, np.tile(padded, 2))
    edge = build.walsh_hadamard("first", edge, 32, (0, 0, 1, 0, 1), Rounding.HALF_EVEN)
    edge = build.gather("permute", edge, np.concatenate([random.permutation(32), 32 + random.permutation(32)]))
    edge = build.walsh_hadamard("second", edge, 32)
    graph = build.finish(build.gather("truncate", edge, np.arange(48)))
    play(graph, fold_for_interval(stages(graph), interval), tmp_path, interval, random.integers(-32, 32, (20, 24)))


@pytest.mark.parametrize(
    ("inputs", "lanes"),
    [
        pytest.param(inputs, lanes, marks=[] if (inputs, lanes) in ((24, 2), (16, 16)) else pytest.mark.slow)
        for inputs, lanes in ((24, 1), (24, 2), (24, 4), (24, 8), (16, 8), (16, 16))
    ],
)
def test_the_layer_at_several_elements_a_cycle(tmp_path: Path, inputs: int, lanes: int) -> None:
    """The solver gives every stage the lanes that the rate takes; with 16 a beat is a whole transform."""
    graph, interval = layer(inputs, 64), 64 // lanes
    folding = fold_for_interval(stages(graph), interval)
    # A gather of more lanes may be the cheaper one: its memories have fewer words.
    assert {fold.simd for name, fold in folding.folds.items() if name.endswith(("mix", "project"))} == {lanes}
    assert min(fold.simd for fold in folding.folds.values()) == lanes
    frames = np.random.default_rng(lanes).integers(0, 256, (30, inputs))
    play(graph, folding, tmp_path, interval, frames)


def test_the_best_rate_for_a_device() -> None:
    """More of a device buys more lanes, in all stages alike."""
    pipeline = stages(layer(128, 256))
    lanes = [
        {fold.simd for fold in fold_for_budget(pipeline, DeviceFill().budget(find_device(name))).folds.values()}
        for name in ("ecp5-25f-6", "ecp5-85f-8")
    ]
    assert lanes == [{8}, {16}]
