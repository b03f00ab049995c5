"""Layers with generated kernels through generator and Verilator: words, and cycles depth by depth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.plan.folding import Folding, fold_for_interval
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


def check_depths(graph: Graph, folding: Folding, folder: Path) -> Accelerator:
    """Words and cycles of frames of each depth, and of a mixture of all; its words also with pauses."""
    accelerator = Accelerator(graph=graph, folding=folding)
    write_design(accelerator, folder)
    for step, (depth, (interval, latency)) in enumerate(accelerator.by_depth.items()):
        frames = frames_of(graph, [step] * 8)
        assert depths(graph, frames) == [depth] * 8
        result = run_regression(folder, frames, evaluate(graph, frames))
        assert result.passed, result.failure()
        assert (result.initiation_interval.min, result.initiation_interval.max) == (interval, interval)
        assert (result.latency.min, result.latency.max) == (latency, latency)
    mixed = frames_of(graph, [0, 1, 2, 2, 0, 2, 1, 0, 0, 1, 2, 0, 1, 1, 2, 0])
    expected = evaluate(graph, mixed)
    for mode in BackPressure:
        result = run_regression(folder, mixed, expected, back_pressure=mode, seed=5)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            # Four frames go alone; of those that follow one another each takes the cycles of its own depth.
            predicted = [accelerator.by_depth[depth][0] for depth in depths(graph, mixed)]
            assert result.initiation_interval.min == min(predicted)
            assert result.initiation_interval.max == max(predicted)
            assert result.initiation_interval.mean == pytest.approx(np.mean(predicted), rel=0.25)
            assert result.latency.max <= max(latency for _, latency in accelerator.by_depth.values())
    assert accelerator.predicted.initiation_interval.min == accelerator.by_depth[graph.node("layers").op.depths[0]][0]
    assert accelerator.predicted.initiation_interval.max == accelerator.interval
    return accelerator


@GENERATORS
@pytest.mark.parametrize("residual", [False, True])
def test_depths(generator: Generator, residual: bool, tmp_path: Path) -> None:
    graph = network(generator, residual=residual)
    accelerator = check_depths(graph, folded(graph, 6000, simd=2, pe=2), tmp_path)
    # The convolution's pace: 36 positions, 144 weights, four at a time.
    assert {depth: interval for depth, (interval, _) in accelerator.by_depth.items()} == {
        depth: depth * 36 * 144 // 4 for depth in (2, 3, 4)
    }
