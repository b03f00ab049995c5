"""Graphs whose streams fork and join, through generator and Verilator: words, cycles, depths of FIFOs, deadlock."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.memory.deep_fifo import LEAST_DEPTH
from karui.hw.plan.folding import fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure, RegressionResult
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import unsigned

PIXEL = unsigned(4)
FRAMES = 12


class Network(GraphBuilder):
    """Builds convolutions with random weights whose results are 4 bits again."""

    def __init__(self, name: str, size: int, channels: int) -> None:
        super().__init__(name)
        self.rng = np.random.default_rng(len(name))
        self.pixels = self.input("pixels", (size, size, channels), PIXEL)

    def conv(self, name: str, edge: str, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> str:
        if kernel > 1 or stride > 1:
            padding = (kernel // 2,) * 4
            edge = self.sliding_window(
                f"{name}.window",
                edge,
                (kernel, kernel),
                stride=(stride, stride),
                padding=padding,
                pad_value=0 if any(padding) else None,
            )
        columns = self.tensor(edge).shape[-1] // groups
        edge = self.matrix_vector(name, edge, self.rng.choice([-1, 1], (channels, columns)), groups=groups)
        return self.quantized(name, edge, columns)

    def depthwise(self, name: str, edge: str) -> str:
        weights = self.rng.choice([-1, 1], (3, 3, self.tensor(edge).shape[-1]))
        edge = self.depthwise_conv(name, edge, weights, padding=(1, 1, 1, 1), pad_value=0)
        return self.quantized(name, edge, 9)

    def quantized(self, name: str, edge: str, terms: int) -> str:
        shift = int(np.log2(terms)) // 2 + 1
        return self.requantize(f"{name}.fire", edge, np.array([3]), np.array([0]), shift=shift, output=PIXEL)


def residual() -> Graph:
    build = Network("residual", 10, 8)
    edge = build.conv("second", build.conv("first", build.pixels, 8, 3), 8, 3)
    return build.finish(build.add("sum", build.pixels, edge))


def strided() -> Graph:
    build = Network("strided", 16, 4)
    stem = build.conv("stem", build.pixels, 8, 3)
    edge = build.conv("second", build.conv("first", stem, 12, 3, stride=2), 12, 3)
    edge = build.add("sum", build.conv("shortcut", stem, 12, 1, stride=2), edge, shifts=(1, 0))
    return build.finish(build.conv("last", edge, 4, 1))


def shortcut() -> Graph:
    """A residual with stride, on a map whose rows are no multiple of anything."""
    build = Network("shortcut", 10, 4)
    edge = build.conv("second", build.conv("first", build.pixels, 6, 3, stride=2), 6, 3)
    return build.finish(build.add("sum", build.conv("shortcut", build.pixels, 6, 1, stride=2), edge))


def shuffle_unit() -> Graph:
    """ShuffleNet's: grouped pointwise, shuffle, depthwise, grouped pointwise, beside the identity."""
    build = Network("shuffle unit", 8, 12)
    edge = build.channel_shuffle("mix", build.conv("compress", build.pixels, 6, 1, groups=3), 3)
    edge = build.conv("expand", build.depthwise("depthwise", edge), 12, 1, groups=3)
    return build.finish(build.add("sum", build.pixels, edge))


def inception() -> Graph:
    build = Network("inception", 8, 8)
    one = build.conv("one", build.pixels, 8, 1)
    three = build.conv("three", build.conv("three.reduce", build.pixels, 4, 1), 8, 3)
    five = build.conv("five", build.conv("five.reduce", build.pixels, 4, 1), 4, 5)
    pool = build.conv("pool", build.pixels, 4, 1)
    return build.finish(build.concat("all", one, three, five, pool))


def shuffled() -> Graph:
    build = Network("shuffled", 8, 8)
    edge = build.concat("both", build.pixels, build.conv("branch", build.pixels, 8, 3))
    edge = build.channel_shuffle("mix", edge, 2)
    return build.finish(build.conv("last", edge, 6, 1))


def tapped() -> Graph:
    """A result that leaves and is read again: forks in a row, a join of a join, a flattened operand."""
    build = Network("tapped", 6, 4)
    first = build.conv("first", build.pixels, 4, 3)
    second = build.conv("second", first, 4, 3)
    edge = build.add("inner", first, second)
    edge = build.add("outer", build.flatten("flat", build.pixels), build.flatten("flat.inner", edge))
    return build.finish(edge)


def vectors() -> Graph:
    """Frames of two beats, many of which are under way in the dense layer at once."""
    build = GraphBuilder("vectors")
    vector = build.input("vector", (16,), PIXEL)
    edge = build.matrix_vector("dense", vector, np.random.default_rng(0).choice([-1, 1], (16, 16)))
    edge = build.requantize("relu", edge, np.array([3]), np.array([0]), shift=2, output=PIXEL)
    return build.finish(build.add("sum", vector, edge))


CASES = [
    (residual, 1500),
    pytest.param(residual, 9000, marks=pytest.mark.slow),
    (strided, 3000),
    (shortcut, 300),
    pytest.param(inception, 1700, marks=pytest.mark.slow),
    (inception, 2400),
    (shuffled, 1200),
    (shuffle_unit, 400),
    (tapped, 1000),
    (vectors, 2),
]


def frames_of(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    shape = graph.inputs[graph.input_name].shape
    # Of frames that are shorter than the pipeline more are under way at once.
    count = FRAMES if len(shape) == 3 else 10 * FRAMES
    frames = np.random.default_rng(1).integers(0, 16, (count, *shape))
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) > 8
    return frames, expected


def generate(graph: Graph, interval: int, folder: Path) -> Accelerator:
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), interval))
    write_design(accelerator, folder)
    return accelerator


@pytest.mark.parametrize(("network", "interval"), CASES)
def test_branches_are_bit_exact_and_as_fast_as_predicted(
    network: Callable[[], Graph], interval: int, tmp_path: Path
) -> None:
    graph = network()
    accelerator = generate(graph, interval, tmp_path)
    frames, expected = frames_of(graph)
    for mode in BackPressure:
        result = run_regression(tmp_path, frames, expected, back_pressure=mode, seed=interval)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            measured = (result.initiation_interval, result.latency)
            assert measured == (accelerator.predicted.initiation_interval, accelerator.predicted.latency)


@pytest.mark.parametrize(
    ("network", "interval"),
    [
        pytest.param(residual, 1500, marks=pytest.mark.slow),
        pytest.param(inception, 2400, marks=pytest.mark.slow),
        (shuffle_unit, 400),
        (tapped, 1000),
        pytest.param(vectors, 2, marks=pytest.mark.slow),
    ],
)
def test_slices_change_neither_results_nor_rate(network: Callable[[], Graph], interval: int, tmp_path: Path) -> None:
    graph = network()
    plain = fold_for_interval(stages(graph), interval)
    accelerator = Accelerator(graph=graph, folding=plain.spread())
    write_design(accelerator, tmp_path)
    frames, expected = frames_of(graph)
    for mode in BackPressure:
        result = run_regression(tmp_path, frames, expected, back_pressure=mode, seed=interval)
        assert result.passed, result.failure()
        if mode is BackPressure.NONE:
            measured = (result.initiation_interval, result.latency)
            assert measured == (accelerator.predicted.initiation_interval, accelerator.predicted.latency)
    without = Accelerator(graph=graph, folding=plain)
    assert accelerator.interval == without.interval
    slices = (tmp_path / "accelerator.v").read_text().count("_slice (")
    links = [link for links in accelerator.dataflow.links.values() for link in links]
    assert slices == sum(link.sliced for link in links) > 0


def play_with_depth(
    network: Callable[[], Graph], interval: int, folder: Path, stage: str, port: int, depth: int
) -> RegressionResult:
    """Play a network one of whose FIFOs has another depth."""
    graph = network()
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), interval))
    fifos = accelerator.dataflow.fifos
    _ = accelerator.latency
    link = accelerator.dataflow.inputs[stage][port]
    fifos[link] = replace(fifos[link], depth=depth)
    write_design(accelerator, folder)
    return run_regression(folder, *frames_of(graph))


# Each FIFO of each join: one word less is too slow, but for those that have the least depth that passes a word a cycle.
DEPTHS = [
    (residual, 1500, {"sum": [352, LEAST_DEPTH]}),
    (shortcut, 300, {"sum": [32, LEAST_DEPTH]}),
    (inception, 2400, {"all": [159, 14, LEAST_DEPTH, 78]}),
    (shuffled, 1200, {"both": [116, LEAST_DEPTH]}),
    (shuffle_unit, 400, {"sum": [162, LEAST_DEPTH]}),
    (tapped, 1000, {"inner": [50, LEAST_DEPTH], "outer": [98, LEAST_DEPTH]}),
    (vectors, 2, {"sum": [21, LEAST_DEPTH]}),
]
QUICK = (shortcut, tapped)
WORDS_LESS = [
    pytest.param(network, interval, stage, port, depth - 1, marks=[] if network in QUICK else pytest.mark.slow)
    for network, interval, joins in DEPTHS
    for stage, depths in joins.items()
    for port, depth in enumerate(depths)
    if depth > LEAST_DEPTH
]


@pytest.mark.parametrize(("network", "interval", "joins"), DEPTHS)
def test_fifos_are_as_deep_as_measured_to_be_needed(
    network: Callable[[], Graph], interval: int, joins: dict[str, list[int]]
) -> None:
    graph = network()
    flow = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), interval)).dataflow
    assert {stage: [flow.fifos[link].depth for link in flow.inputs[stage]] for stage in joins} == joins
    assert len(flow.fifos) == sum(map(len, joins.values()))


@pytest.mark.parametrize(("network", "interval", "stage", "port", "depth"), WORDS_LESS)
def test_a_fifo_one_word_shallower_is_too_slow(
    network: Callable[[], Graph], interval: int, stage: str, port: int, depth: int, tmp_path: Path
) -> None:
    graph = network()
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(stages(graph), interval))
    result = play_with_depth(network, interval, tmp_path, stage, port, depth)
    if result.initiation_interval is None:
        assert "stalled" in result.failure()
    else:
        assert result.initiation_interval.mean > accelerator.interval


def test_a_fifo_far_too_shallow_is_a_deadlock_that_the_watchdog_names(tmp_path: Path) -> None:
    result = play_with_depth(residual, 1500, tmp_path, "sum", 0, 105)
    assert not result.passed
    assert "stalled: s_axis refuses beat" in result.failure()
    assert "m_axis does not give beat 0 of frame 0" in result.failure()
