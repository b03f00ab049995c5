"""Graphs through generator and Verilator: every output word, and the predicted cycles."""

from pathlib import Path

import numpy as np
import pytest

from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.emit.manifest import CycleRange, Manifest
from karui.hw.plan.folding import fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import BIPOLAR, read_memory_image, signed, unsigned


def perceptron(seed: int) -> Graph:
    rng = np.random.default_rng(seed)
    build = GraphBuilder("perceptron")
    edge = build.input("pixels", (8, 8, 1), unsigned(5))
    edge = build.threshold("binarize", edge, np.array([[9]]), BIPOLAR)
    edge = build.flatten("flat", edge)
    for name, inputs, outputs in (("first", 64, 24), ("second", 24, 12)):
        edge = build.matrix_vector(name, edge, rng.choice([-1, 1], (outputs, inputs)))
        edge = build.threshold(f"{name}.fire", edge, rng.integers(-6, 7, (outputs, 1)), BIPOLAR)
    edge = build.matrix_vector("last", edge, rng.choice([-1, 1], (10, 12)), rng.integers(-3, 4, 10))
    return build.finish(build.arg_max("class", edge))


def generate(graph: Graph, interval: int, folder: Path) -> Accelerator:
    pipeline = stages(graph)
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(pipeline, interval))
    write_design(accelerator, folder)
    return accelerator


def frames_of(graph: Graph, count: int, seed: int) -> np.ndarray:
    tensor = graph.inputs[graph.input_name]
    rng = np.random.default_rng(seed)
    return rng.integers(tensor.number_format.minimum, tensor.number_format.maximum + 1, (count, *tensor.shape))


@pytest.mark.parametrize("interval", [24, 200])
def test_perceptron_is_bit_exact_and_as_fast_as_predicted(interval: int, tmp_path: Path) -> None:
    graph = perceptron(interval)
    accelerator = generate(graph, interval, tmp_path)
    frames = frames_of(graph, 150, seed=1)
    expected = evaluate(graph, frames)
    assert len(np.unique(expected)) > 2
    for mode in BackPressure:
        result = run_regression(tmp_path, frames, expected, back_pressure=mode, seed=interval)
        assert result.passed, result.failure()
        assert result.words == 150
        if mode is BackPressure.NONE:
            assert result.initiation_interval == CycleRange.fixed(accelerator.interval)
            assert result.latency == CycleRange.fixed(accelerator.latency)


def test_frames_of_one_beat_keep_full_rate(tmp_path: Path) -> None:
    build = GraphBuilder("scores")
    graph = build.finish(build.arg_max("class", build.input("scores", (4,), signed(6))))
    accelerator = generate(graph, 1, tmp_path)
    frames = frames_of(graph, 300, seed=2)
    result = run_regression(tmp_path, frames, evaluate(graph, frames))
    assert result.passed, result.failure()
    assert (result.initiation_interval, accelerator.interval) == (CycleRange.fixed(1), 1)


def test_a_corrupted_weight_is_caught(tmp_path: Path) -> None:
    graph = perceptron(0)
    generate(graph, 200, tmp_path)
    frames = frames_of(graph, 150, seed=1)
    expected = evaluate(graph, frames)
    image = next(tmp_path / name for name in Manifest.load(tmp_path).memories if name.startswith("first_weights"))
    words = read_memory_image(image)
    words[0] ^= 1
    digits = len(image.read_text().splitlines()[0])
    image.write_text("".join(f"{word:0{digits}x}\n" for word in words))
    result = run_regression(tmp_path, frames, expected)
    assert not result.passed
    assert "word: frame" in result.failure()


def test_a_corrupted_expected_word_is_caught(tmp_path: Path) -> None:
    graph = perceptron(0)
    generate(graph, 200, tmp_path)
    frames = frames_of(graph, 150, seed=1)
    expected = evaluate(graph, frames)
    expected[77, 0] = (expected[77, 0] + 1) % 10
    result = run_regression(tmp_path, frames, expected)
    assert (result.mismatches, result.first_mismatches[0].frame) == (1, 77)
