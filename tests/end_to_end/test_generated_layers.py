"""Layers with generated kernels through generator and Verilator: words, and cycles depth by depth."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.memory.resources import Resources
from karui.hw.plan.folding import Folding, fold_for_interval, total_cost
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate, trace
from karui.sw.ir import EulerGenerator, Graph, GraphBuilder, LowRankGenerator
from karui.sw.ir.generated_kernels import depths_of
from karui.sw.ir.puppet_ops import Generator
from karui.sw.numerics import unsigned

EULER = EulerGenerator(
    levels=5,
    rank=2,
    pattern_shift=6,
    depthwise_shift=7,
    pointwise_shift=8,
    limit=1 << 12,
    step_shift=10,
    kernel_shift=6,
)
LOW_RANK = LowRankGenerator(levels=5, rank=6, terms=4, centre=2, h_shift=2, a_shift=8, u_shift=7, kernel_shift=15)
GENERATORS = pytest.mark.parametrize("generator", [EULER, LOW_RANK])
ENDS = {
    "base": (-1500, 1500),
    "step": (500, 1000),
    "phi": (-2048, 2048),
    "multipliers": (3, 12),
    "offsets": (-400_000, 500_000),
}
# Brightness of frames, from dark to bright, that makes them one layer deeper than darker ones.
STEPS = (60, 100)


def network(
    generator: Generator,
    *,
    size: int = 6,
    channels: int = 4,
    shift: int = 12,
    first_depth: int = 2,
    residual: bool = False,
    classes: int = 0,
) -> Graph:
    """A map, made as complex as it is bright, and optionally the class that its layers end in."""
    rng = np.random.default_rng(7)
    build = GraphBuilder("puppet")
    edge = build.input("x", (size, size, channels), unsigned(8))
    bright = build.flatten("brightness", build.sum_pool("pooled", edge, (size, size), (size, size)))
    bright = build.matrix_vector("weighed", bright, np.ones((1, channels), dtype=np.int64) * 3)
    unit = 3 * channels * size**2
    bits = (255 * unit).bit_length()
    bright = build.requantize("h", bright, np.array([1]), np.array([0]), shift=0, output=unsigned(bits))
    rows = sum(range(first_depth, first_depth + len(STEPS) + 1))
    shapes = generator.constants(channels, range(first_depth, first_depth + len(STEPS) + 1))
    shapes |= dict.fromkeys(("multipliers", "offsets"), (first_depth + len(STEPS), channels))
    assert shapes.get("phi", (rows,))[0] == rows
    edge = build.generated_layers(
        "layers",
        edge,
        bright,
        generator,
        {name: rng.integers(*ENDS.get(name, (-128, 128)), shape) for name, shape in shapes.items()},
        first_depth=first_depth,
        depth_steps=[step * unit for step in STEPS],
        level_shift=bits - 4,
        first_level=1,
        shift=shift,
        residual=residual,
    )
    if classes:
        edge = build.flatten("features", build.sum_pool("mean", edge, (size, size), (size, size)))
        edge = build.arg_max("class", build.matrix_vector("fc", edge, rng.integers(-127, 128, (classes, channels))))
    return build.finish(edge)


def frames_of(graph: Graph, steps: list[int]) -> np.ndarray:
    """Frames that reach so many steps of the depth each."""
    rng = np.random.default_rng(len(steps))
    shape = graph.tensors["x"].shape
    brightness = np.array([40, 80, 120])[steps]
    noise = rng.integers(-40, 41, (len(steps), *shape))
    return noise + brightness[:, None, None, None]


def depths(graph: Graph, frames: np.ndarray) -> list[int]:
    op = graph.node("layers").op
    return depths_of(op, trace(graph, frames)["h"][:, 0]).tolist()


def folded(graph: Graph, interval: int, **layers: int) -> Folding:
    folds = dict(fold_for_interval(stages(graph), interval).folds)
    if layers:
        folds["layers"] = replace(folds["layers"], **layers)
    return Folding(folds=folds)


def check_depths(
    graph: Graph, folding: Folding, folder: Path, *, frames: int = 8, modes: Iterable[BackPressure] = BackPressure
) -> Accelerator:
    """Words and cycles of frames of each depth, and of a mixture of all; its words also with pauses."""
    accelerator = Accelerator(graph=graph, folding=folding)
    write_design(accelerator, folder)
    alone = frames // 2
    for step, (depth, (interval, latency)) in enumerate(accelerator.by_depth.items()):
        alike = frames_of(graph, [step] * frames)
        assert depths(graph, alike) == [depth] * frames
        result = run_regression(folder, alike, evaluate(graph, alike), latency_frames=alone)
        assert result.passed, result.failure()
        assert (result.initiation_interval.min, result.initiation_interval.max) == (interval, interval)
        assert (result.latency.min, result.latency.max) == (latency, latency)
    mixed = frames_of(graph, [0, 1, 2, 2, 0, 2, 1, 0, 0, 1, 2, 0, 1, 1, 2, 0][: 2 * frames])
    expected = evaluate(graph, mixed)
    predicted = [accelerator.by_depth[depth] for depth in depths(graph, mixed)]
    for mode in modes:
        result = run_regression(folder, mixed, expected, back_pressure=mode, seed=5, latency_frames=alone)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            # The first of the frames that follow one another is alone too; those behind it take the cycles of their own
            # depths, counted from one on that came when the pipeline was full.
            intervals, latencies = zip(*predicted, strict=True)
            assert result.latency.mean == np.mean(latencies[: alone + 1])
            assert result.initiation_interval.mean in [np.mean(intervals[alone + first :]) for first in (1, 2, 3)]
            assert {result.initiation_interval.min, result.initiation_interval.max} <= set(intervals)
    assert accelerator.predicted.initiation_interval.min == accelerator.by_depth[graph.node("layers").op.depths[0]][0]
    assert accelerator.predicted.initiation_interval.max == accelerator.interval
    return accelerator


@GENERATORS
@pytest.mark.parametrize("residual", [pytest.param(False, marks=pytest.mark.slow), True])
def test_depths(generator: Generator, residual: bool, tmp_path: Path) -> None:
    graph = network(generator, residual=residual)
    accelerator = check_depths(graph, folded(graph, 6000, simd=2, pe=2), tmp_path)
    # The convolution's pace: 36 positions, 144 weights, four at a time.
    assert {depth: interval for depth, (interval, _) in accelerator.by_depth.items()} == {
        depth: depth * 36 * 144 // 4 for depth in (2, 3, 4)
    }


@GENERATORS
def test_a_class_at_the_end(generator: Generator, tmp_path: Path) -> None:
    graph = network(generator, first_depth=1, classes=5)
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), 4000))
    assert accelerator.interval <= 4000
    write_design(accelerator, tmp_path)
    frames = frames_of(graph, [0, 2, 1, 1, 0, 2])
    result = run_regression(tmp_path, frames, evaluate(graph, frames), back_pressure=BackPressure.BURSTY, seed=2)
    assert result.passed, result.failure()


def test_a_wrong_step_is_found(tmp_path: Path) -> None:
    graph = network(EULER)
    constant = graph.constants["layers.step"]
    wrong = replace(constant, values=constant.values + 64)
    broken = replace(graph, constants={**graph.constants, "layers.step": wrong})
    write_design(Accelerator(graph=broken, folding=folded(broken, 6000)), tmp_path)
    frames = frames_of(graph, [0, 1, 2])
    assert not run_regression(tmp_path, frames, evaluate(graph, frames)).passed


def full_size(generator: Generator) -> tuple[Graph, Folding]:
    """14 x 14 positions, 32 channels, 4 to 6 layers, and 64 products a cycle."""
    graph = network(generator, size=14, channels=32, shift=14, first_depth=4)
    return graph, folded(graph, LAYER * 6, simd=8, pe=8)


LAYER = 14 * 14 * 9 * 32 * 32 // 64
FULL_SIZE = pytest.mark.parametrize(
    "generator", [replace(EULER, levels=16, rank=4), replace(LOW_RANK, levels=16, rank=16, terms=8, centre=8)]
)


@FULL_SIZE
def test_full_size_is_estimated_to_fit(generator: Generator) -> None:
    graph, folding = full_size(generator)
    accelerator = Accelerator(graph=graph, folding=folding)
    # What a lone frame waits for beside its convolutions: the first layer's kernels, by Euler steps behind the pattern.
    before = 35_283 if isinstance(generator, EulerGenerator) else 25_663
    assert accelerator.by_depth == {depth: (depth * LAYER, depth * LAYER + before) for depth in (4, 5, 6)}
    # Three fifths of an ECP5-85F.
    assert total_cost(accelerator.stages, folding).fits(Resources(luts=50_184, block_rams=124, dsps=93))


@pytest.mark.slow
@FULL_SIZE
def test_full_size(generator: Generator, tmp_path: Path) -> None:
    graph, folding = full_size(generator)
    accelerator = check_depths(graph, folding, tmp_path, frames=4, modes=(BackPressure.NONE, BackPressure.RANDOM))
    # The first layer's kernels are the only ones that a lone frame waits for.
    assert {depth: latency - depth * LAYER for depth, (_, latency) in accelerator.by_depth.items()} == dict.fromkeys(
        (4, 5, 6), accelerator.by_depth[4][1] - 4 * LAYER
    )
