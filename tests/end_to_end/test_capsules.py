"""Capsule networks through generator and Verilator: words and cycles, from the convolution to the class."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.memory.resources import Resources
from karui.hw.plan.estimate import Fold
from karui.hw.plan.folding import Folding, fold_for_interval, total_cost
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate, trace
from karui.sw.ir import Graph, GraphBuilder, Raw, Repeat, Shared, Storage, with_recomputed_predictions
from karui.sw.lower.agreement import compare_with_golden, to_graph_layout
from karui.sw.lower.from_torch import lower
from karui.sw.models.build import build_model
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.capsule_ranges import CapsuleRanges
from karui.sw.nn.precision import Precision
from karui.sw.numerics import signed, unsigned

PIXEL = signed(4)
CAPSULE = signed(8, fraction=7)
PREDICTION = signed(8, fraction=6)
OUTPUTS = 3
FRAMES = 12


def capsule_network(
    *, iterations: int, types: int = 3, length: int = 4, ends: str = "class", storage: Storage | None = None
) -> Graph:
    """A convolution to 2 x 2 positions of `types` capsules of 4 elements, and routing to 3 capsules."""
    rng = np.random.default_rng(iterations)
    build = GraphBuilder("capsules")
    edge = build.sliding_window("primary.window", build.input("pixels", (4, 4, 2), PIXEL), (3, 3))
    edge = build.matrix_vector("primary", edge, rng.integers(-31, 32, (4 * types, 18)))
    edge = build.requantize("primary.words", edge, np.array([1]), np.array([0]), shift=4, output=signed(8, fraction=5))
    edge = build.flatten("vectors", build.squash("squashed", edge, 4, CAPSULE))
    capsules = 4 * types
    weights = rng.integers(-120, 121, (capsules, OUTPUTS * length, 4))
    # Every capsule's matrices resemble the first one's, so that some agree.
    weights[1:] = (weights[1:] // 2 + weights[:1] // 2).clip(-127, 127)
    if isinstance(storage, Shared):
        book = weights.reshape(-1, 4)[:16]
        weights = book[rng.integers(0, 16, weights.size // 4)].reshape(weights.shape)
    edge = build.matrix_vector("predictions", edge, weights.reshape(-1, 4), groups=capsules, storage=storage or Raw())
    edge = build.requantize("predictions.words", edge, np.array([1]), np.array([0]), shift=7, output=PREDICTION)
    edge = build.routing(
        "routed",
        edge,
        outputs=OUTPUTS,
        length=length,
        iterations=iterations,
        sums=signed(16, fraction=11),
        output=CAPSULE,
        logits=signed(16, fraction=10),
    )
    if ends == "capsules":
        return build.finish(edge)
    lengths = build.squared_length("lengths", edge, length)
    return build.finish(lengths if ends == "lengths" else build.arg_max("class", lengths))


def play(
    graph: Graph, folding: Folding, folder: Path, *modes: BackPressure, words_of: Graph | None = None
) -> Accelerator:
    accelerator = Accelerator(graph=graph, folding=folding)
    write_design(accelerator, folder)
    frames = np.random.default_rng(0).integers(-8, 8, (FRAMES, 4, 4, 2))
    expected = evaluate(words_of or graph, frames)
    assert len(np.unique(expected)) > 1
    for mode in modes:
        result = run_regression(folder, frames, expected, back_pressure=mode, seed=3)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            measured = (result.initiation_interval, result.latency)
            assert measured == (accelerator.predicted.initiation_interval, accelerator.predicted.latency)
    return accelerator


@pytest.mark.parametrize(
    "iterations", [1, pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(4, marks=pytest.mark.slow)]
)
def test_iterations(iterations: int, tmp_path: Path) -> None:
    graph = capsule_network(iterations=iterations)
    folding = fold_for_interval(stages(graph), 1500)
    play(graph, folding, tmp_path, BackPressure.NONE, BackPressure.RANDOM)


@pytest.mark.parametrize(("lanes", "pe"), [(4, 4), (2, 12), pytest.param(1, 1, marks=pytest.mark.slow)])
def test_lanes_of_the_routing(lanes: int, pe: int, tmp_path: Path) -> None:
    graph = capsule_network(iterations=3, ends="capsules")
    folds = dict(fold_for_interval(stages(graph), 1500).folds)
    folds["routed"] = Fold(simd=lanes, pe=lanes, multiplier="lut" if lanes == 2 else "dsp")
    folds["predictions"] = replace(folds["predictions"], simd=4, pe=pe)
    accelerator = play(graph, Folding(folds=folds), tmp_path, BackPressure.NONE, BackPressure.RANDOM)
    slowest = {
        stage.name: engine.config.interval
        for stage, engine in zip(accelerator.stages, accelerator.engines, strict=True)
    }
    assert accelerator.interval == max(slowest.values())


@pytest.mark.parametrize(
    ("iterations", "asked", "lanes", "simd", "pe"),
    [
        pytest.param(1, 1500, None, None, None, marks=pytest.mark.slow),
        pytest.param(3, 2500, None, None, None, marks=pytest.mark.slow),
        (3, 2500, 1, 4, 12),
        (3, 2500, 4, 1, 2),
    ],
)
def test_predictions_made_anew(
    iterations: int, asked: int, lanes: int | None, simd: int | None, pe: int | None, tmp_path: Path
) -> None:
    """As folded for a rate, with predictions that come faster than they are routed, and slower, with gaps."""
    kept = capsule_network(iterations=iterations, ends="capsules")
    graph = with_recomputed_predictions(kept)
    assert isinstance(graph.node("predictions.repeated").op, Repeat)
    folding = fold_for_interval(stages(graph), asked)
    if lanes is not None and simd is not None and pe is not None:
        folds = {"routed": Fold(simd=lanes, pe=lanes), "predictions": Fold(simd=simd, pe=pe)}
        folding = Folding(folds={**folding.folds, **folds})
    accelerator = play(graph, folding, tmp_path, *BackPressure, words_of=kept)
    intervals = {stage.name: one.config.interval for stage, one in zip(stages(graph), accelerator.engines, strict=True)}
    slowest = (
        "routed" if lanes == 1 else "predictions" if lanes == 4 else max(intervals, key=lambda name: intervals[name])
    )
    assert accelerator.interval == intervals[slowest] == max(intervals.values())


def test_predictions_of_shared_vectors(tmp_path: Path) -> None:
    graph = capsule_network(iterations=2, ends="lengths", storage=Shared(vector=4))
    play(graph, fold_for_interval(stages(graph), 1500), tmp_path, BackPressure.NONE)


def test_a_wrong_gain_is_found(tmp_path: Path) -> None:
    graph = capsule_network(iterations=3, ends="capsules")
    constant = graph.constants["routed.reciprocals"]
    wrong = replace(constant, values=np.maximum(constant.values - 256, 1))
    broken = replace(graph, constants={**graph.constants, "routed.reciprocals": wrong})
    frames = np.random.default_rng(0).integers(-8, 8, (FRAMES, 4, 4, 2))
    assert np.array_equal(trace(graph, frames)["squashed"], trace(broken, frames)["squashed"])
    write_design(Accelerator(graph=broken, folding=fold_for_interval(stages(broken), 1500)), tmp_path)
    result = run_regression(tmp_path, frames, evaluate(graph, frames))
    assert not result.passed


def test_a_capsnet_from_layers_to_rtl(tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = CapsNetConfig(
        image=(1, 10, 9),
        channels=8,
        types=2,
        capsule=4,
        classes=4,
        vector=4,
        kernel=3,
        iterations=3,
        precision=Precision(weight_bits=8, activation_bits=8),
        ranges=CapsuleRanges(votes=1.0, sums=4.0),
    )
    model = build_model(config)
    with torch.no_grad():
        model.get_submodule("prediction").weight.mul_(4)
    images = np.random.default_rng(1).integers(0, 256, (FRAMES, *config.image))
    lowered = lower(model, config.image)
    agreement = compare_with_golden(model, lowered, images)
    assert agreement.mismatches == 0
    folding = fold_for_interval(stages(lowered.graph), 6000)
    accelerator = Accelerator(graph=lowered.graph, folding=folding)
    write_design(accelerator, tmp_path)
    frames = to_graph_layout(images)
    expected = evaluate(lowered.graph, frames)
    assert len(np.unique(expected)) > 1
    for mode in (BackPressure.NONE, BackPressure.BURSTY):
        result = run_regression(tmp_path, frames, expected, back_pressure=mode)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            assert result.initiation_interval == accelerator.predicted.initiation_interval
            assert result.latency == accelerator.predicted.latency


def shared_weights(rows: int, columns: int, vector: int, codes: int) -> np.ndarray:
    """Random weights of so many vectors."""
    rng = np.random.default_rng(columns)
    book = rng.integers(-100, 101, (codes, vector))
    return book[rng.integers(0, codes, rows * columns // vector)].reshape(rows, columns)


def compact_network(vector: int, codes: int, storage: Storage) -> Graph:
    """28 x 28 pixels, 64 channels, 288 capsules to 10 of 16, weights random."""
    build = GraphBuilder("compact")
    one, none = np.array([1]), np.array([0])
    edge = build.sliding_window("first.window", build.input("pixels", (28, 28, 1), unsigned(8)), (9, 9))
    edge = build.matrix_vector("first", edge, np.random.default_rng(0).integers(-100, 101, (64, 81)))
    edge = build.requantize("first.words", edge, one, none, shift=8, output=unsigned(8))
    edge = build.sliding_window("primary.window", edge, (9, 9), stride=(2, 2))
    edge = build.matrix_vector("primary", edge, shared_weights(64, 81 * 64, vector, codes), storage=storage)
    edge = build.requantize("primary.words", edge, one, none, shift=13, output=signed(8, fraction=5))
    edge = build.flatten("vectors", build.squash("squashed", edge, 8, CAPSULE))
    weights = shared_weights(288 * 160, 8, vector, codes)
    edge = build.matrix_vector("predictions", edge, weights, groups=288, storage=storage)
    edge = build.requantize("predictions.words", edge, one, none, shift=7, output=PREDICTION)
    words = {"sums": signed(16, fraction=9), "output": CAPSULE, "logits": signed(16, fraction=8)}
    edge = build.routing("routed", edge, outputs=10, length=16, iterations=3, **words)
    return build.finish(build.arg_max("class", build.squared_length("lengths", edge, 16)))


@pytest.mark.parametrize(
    ("asked", "vector", "codes", "storage", "kept", "needed"),
    [
        (145_000, 8, 64, Raw(), True, Resources(luts=19_728, block_rams=451, dsps=29)),
        (145_000, 2, 256, Shared(vector=2), True, Resources(luts=19_728, block_rams=343, dsps=29)),
        (145_000, 8, 64, Shared(vector=8), True, Resources(luts=23_824, block_rams=134, dsps=29)),
        (145_000, 8, 64, Shared(vector=8), False, Resources(luts=24_383, block_rams=91, dsps=33)),
        (186_624, 8, 64, Shared(vector=8), True, Resources(luts=9_474, block_rams=134, dsps=91)),
        (186_624, 8, 64, Shared(vector=8), False, Resources(luts=10_091, block_rams=91, dsps=97)),
    ],
)
def test_what_the_compact_size_is_estimated_to_take(
    asked: int, vector: int, codes: int, storage: Storage, kept: bool, needed: Resources
) -> None:
    """The tables of docs/capsules.md."""
    graph = compact_network(vector, codes, storage)
    pipeline = stages(graph if kept else with_recomputed_predictions(graph))
    assert total_cost(pipeline, fold_for_interval(pipeline, asked)) == needed


@pytest.mark.slow
@pytest.mark.parametrize(("kept", "latency"), [(True, 390_453), (False, 343_916)])
def test_the_compact_size(kept: bool, latency: int, tmp_path: Path) -> None:
    """Whole, at 697 frames a second and 130 MHz."""
    graph = compact_network(8, 64, Shared(vector=8))
    graph = graph if kept else with_recomputed_predictions(graph)
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), 186_624))
    assert (accelerator.interval, accelerator.latency) == (186_624, latency)
    write_design(accelerator, tmp_path)
    frames = np.random.default_rng(1).integers(0, 256, (8, 28, 28, 1))
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) > 1
    for mode in (BackPressure.NONE, BackPressure.RANDOM):
        result = run_regression(tmp_path, frames, expected, back_pressure=mode, latency_frames=1)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            assert result.initiation_interval == accelerator.predicted.initiation_interval
            assert result.latency == accelerator.predicted.latency
