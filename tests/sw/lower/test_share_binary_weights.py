"""Binary weights of few vectors: which layers, which vectors, which thresholds; and the storage that they then have."""

import itertools

import numpy as np
import pytest

from karui.sw.golden import evaluate, trace
from karui.sw.ir import RAW, Graph, GraphBuilder, Shared
from karui.sw.lower.compressed_storage import with_compressed_storage
from karui.sw.lower.share_binary_weights import share_binary_weights
from karui.sw.numerics import BIPOLAR, unsigned

RANDOM = np.random.default_rng(3)
IMAGES = RANDOM.integers(0, 16, (400, 64))
IMAGES[:, :8] = 3


def network(hidden: np.ndarray | None = None) -> Graph:
    """The first eight inputs are the same in all images; the scores have no threshold."""
    random = np.random.default_rng(4)
    build = GraphBuilder("binary")
    edge = build.threshold("bits", build.input("pixels", (64,), unsigned(4)), np.array([[8]]), BIPOLAR)
    weights = random.choice([-1, 1], (32, 64)) if hidden is None else hidden
    edge = build.matrix_vector("hidden", edge, weights)
    edge = build.threshold("hidden.fire", edge, random.integers(-6, 7, (32, 1)), BIPOLAR)
    return build.finish(
        build.matrix_vector("scores", edge, random.choice([-1, 1], (10, 32)), random.integers(-3, 4, 10))
    )


def vectors(graph: Graph, length: int) -> np.ndarray:
    return np.unique(graph.constants["hidden.weights"].values.reshape(-1, length), axis=0)


@pytest.mark.parametrize(("vector", "codes"), [(4, 5), (8, 20), (16, 9)])
def test_rows_are_made_of_few_vectors(vector: int, codes: int) -> None:
    graph = network()
    shared = share_binary_weights(graph, IMAGES, vector=vector, codes=codes)
    assert len(vectors(graph, vector)) > codes
    assert 1 < len(vectors(shared, vector)) <= codes
    assert np.array_equal(shared.constants["scores.weights"].values, graph.constants["scores.weights"].values)


def test_vectors_enough_for_all_change_no_result() -> None:
    graph = network()
    shared = share_binary_weights(graph, IMAGES, vector=4, codes=16)
    before, after = (each.constants["hidden.weights"].values for each in (graph, shared))
    assert np.array_equal(before[:, 8:], after[:, 8:])
    assert np.array_equal(evaluate(shared, IMAGES), evaluate(graph, IMAGES))


def test_each_threshold_is_reached_as_often_as_before() -> None:
    graph = network()
    shared = share_binary_weights(graph, IMAGES, vector=8, codes=8)
    before, after = (trace(each, IMAGES)["hidden.fire"] for each in (graph, shared))
    rates = (before > 0).mean(axis=0), (after > 0).mean(axis=0)
    # Equal sums pass together: not every number of images can be had.
    assert np.abs(rates[0] - rates[1]).max() < 0.15
    assert np.abs(rates[0] - rates[1]).mean() < 0.05


def test_signs_that_nothing_depends_on_are_free() -> None:
    """Rows of one vector but for inputs that never change: nothing is lost with that vector alone."""
    hidden = np.tile(RANDOM.choice([-1, 1], 8), (32, 8))
    hidden[:, :8] = RANDOM.choice([-1, 1], (32, 8))
    graph = network(hidden)
    shared = share_binary_weights(graph, IMAGES, vector=8, codes=1)
    assert len(vectors(shared, 8)) == 1
    assert np.array_equal(trace(shared, IMAGES)["hidden.fire"], trace(graph, IMAGES)["hidden.fire"])


def test_no_exchange_of_one_vector_comes_closer() -> None:
    graph = network()
    shared = share_binary_weights(graph, IMAGES, vector=16, codes=6)
    bits = trace(graph, IMAGES)["bits"].astype(float)
    bits -= bits.mean(axis=0)
    given, found = (each.constants["hidden.weights"].values for each in (graph, shared))

    def error(weights: np.ndarray) -> float:
        return float(np.square(bits @ (given - weights).T).sum())

    for row, place, vector in itertools.product((0, 13), range(0, 64, 16), vectors(shared, 16)):
        changed = found.copy()
        changed[row, place : place + 16] = vector
        assert error(changed) >= error(found) * (1 - 1e-5)


def test_storage_is_shared_where_it_takes_fewer_bits() -> None:
    wide = np.random.default_rng(5).choice([-1, 1], (256, 64))
    build = GraphBuilder("layer")
    edge = build.matrix_vector("hidden", build.input("bits", (64,), BIPOLAR), wide)
    graph = build.finish(build.threshold("fire", edge, np.zeros((256, 1), dtype=np.int64), BIPOLAR))
    assert with_compressed_storage(graph).constants["hidden.weights"].storage == RAW
    images = np.random.default_rng(6).choice([-1, 1], (200, 64))
    shared = with_compressed_storage(share_binary_weights(graph, images, vector=8, codes=16))
    assert shared.constants["hidden.weights"].storage == Shared(vector=8)
