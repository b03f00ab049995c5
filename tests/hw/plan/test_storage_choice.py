"""Storages that cost more than the raw weights they replace are given up, by the estimate and at the rate asked for."""

import numpy as np
import pytest

from karui.hw.plan.estimate import cost, cycles
from karui.hw.plan.folding import choices, fold_for_interval, worth
from karui.hw.plan.stages import stages
from karui.hw.plan.storage_choice import with_storage_that_pays
from karui.sw.ir import RAW, Graph, GraphBuilder, Huffman, Shared, Storage, graphs_equal, with_storage
from karui.sw.numerics import BIPOLAR, unsigned

HUFFMAN = Huffman(gap_bits=4)


def network() -> Graph:
    """A large and a small layer of few non-zero weights."""
    random = np.random.default_rng(1)
    build = GraphBuilder("pruned")
    edge = build.input("x", (256,), unsigned(4))
    for name, inputs, outputs in (("large", 256, 160), ("small", 160, 10)):
        weights = random.choice([-70, -20, 33, 55], (outputs, inputs)) * (random.random((outputs, inputs)) < 0.04)
        edge = build.matrix_vector(name, edge, weights, storage=HUFFMAN)
        if name == "large":
            edge = build.requantize("scale", edge, np.array([1]), np.array([0]), shift=4, output=unsigned(6))
    return build.finish(edge)


def binary(codes: int) -> Graph:
    random = np.random.default_rng(2)
    book = random.choice([-1, 1], (codes, 8))
    weights = book[random.integers(0, codes, (512, 64))].reshape(512, 512)
    build = GraphBuilder("binary")
    edge = build.matrix_vector("fc", build.input("x", (512,), BIPOLAR), weights, storage=Shared(vector=8))
    return build.finish(build.threshold("fire", edge, np.zeros((512, 1), dtype=np.int64), BIPOLAR))


def chosen(graph: Graph, interval: int) -> dict[str, Storage]:
    kept = with_storage_that_pays(graph, fold_for_interval(stages(graph), interval))
    assert all(np.array_equal(kept.constants[name].values, one.values) for name, one in graph.constants.items())
    return {name: one.storage for name, one in kept.constants.items() if name.endswith("weights")}


def least(graph: Graph, name: str, interval: int) -> int:
    (stage,) = (stage for stage in stages(graph) if stage.name == name)
    folds = [fold for fold in choices(stage) if cycles(stage.op, stage, fold) <= interval]
    return min(worth(cost(stage.op, stage, fold)) for fold in folds)


def test_a_small_layer_is_not_worth_its_decoders() -> None:
    graph = network()
    assert chosen(graph, 2000) == {"large.weights": HUFFMAN, "small.weights": RAW}
    raw = with_storage(graph, {"large.weights": RAW, "small.weights": RAW})
    interval = max(
        cycles(stage.op, stage, fold_for_interval(stages(graph), 2000).folds[stage.name]) for stage in stages(graph)
    )
    assert least(graph, "large", interval) < least(raw, "large", interval)
    assert least(graph, "small", interval) >= least(raw, "small", interval)


@pytest.mark.parametrize(("codes", "storage"), [(16, Shared(vector=8)), (200, RAW)])
def test_long_code_books_cost_more_than_the_bits_they_save(codes: int, storage: Storage) -> None:
    assert chosen(binary(codes), 2048) == {"fc.weights": storage}


def test_raw_weights_are_left_alone() -> None:
    graph = with_storage(network(), {"large.weights": RAW, "small.weights": RAW})
    assert graphs_equal(with_storage_that_pays(graph, fold_for_interval(stages(graph), 5000)), graph)
