"""Predictions that are made anew for each iteration: another graph of the same words."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from karui.sw.golden import evaluate, trace
from karui.sw.ir import (
    Graph,
    GraphBuilder,
    GraphError,
    Repeat,
    graphs_equal,
    load_graph,
    save_graph,
    verify,
    with_recomputed_predictions,
)
from karui.sw.numerics import signed

FRAMES = np.random.default_rng(0).integers(-128, 128, (20, 4, 8))
WORDS = {"sums": signed(16, fraction=11), "output": signed(8, fraction=7), "logits": signed(16, fraction=10)}


def capsule_network(*, iterations: int = 3, ends: str = "class") -> Graph:
    """4 capsules of 8 to 3 of 4; predictions have scales of their own."""
    rng = np.random.default_rng(5)
    build = GraphBuilder("capsules")
    edge = build.flatten("vectors", build.input("x", (4, 8), signed(8, fraction=7)))
    edge = build.matrix_vector("products", edge, rng.integers(-127, 128, (48, 8)), groups=4)
    scales = rng.integers(1, 4, 48), rng.integers(-9, 9, 48)
    predictions = build.requantize("predictions", edge, *scales, shift=8, output=signed(8, fraction=6))
    edge = build.routing("routed", predictions, outputs=3, length=4, iterations=iterations, **WORDS)
    if ends == "class":
        return build.finish(build.arg_max("class", build.squared_length("lengths", edge, 4)))
    return build.finish(build.add("sum", edge, build.gather("few", predictions, np.arange(12))))


@pytest.mark.parametrize("iterations", [1, 3])
def test_words_are_the_same(iterations: int) -> None:
    kept = capsule_network(iterations=iterations)
    anew = with_recomputed_predictions(kept)
    edges, of_kept = trace(anew, FRAMES), trace(kept, FRAMES)
    assert np.array_equal(edges["routed"], of_kept["routed"])
    assert np.array_equal(edges["class"], of_kept["class"])
    assert edges["predictions"].shape == (20, iterations, 48)
    assert all(np.array_equal(edges["predictions"][:, row], of_kept["predictions"]) for row in range(iterations))


def test_the_product_alone_is_repeated() -> None:
    kept = capsule_network()
    anew = with_recomputed_predictions(kept)
    assert [node.name for node in anew.nodes] == [
        *("vectors", "products.repeated", "products", "predictions", "routed", "lengths", "class")
    ]
    assert anew.node("products.repeated").op == Repeat(times=3)
    assert str(anew.tensors["products.repeated"]) == "3x32 s8 / 2^7"
    assert str(anew.tensors["predictions"]) == "3x48 s8 / 2^6"
    assert anew.constants == kept.constants
    assert graphs_equal(with_recomputed_predictions(anew), anew)


def test_the_disk(tmp_path: Path) -> None:
    anew = with_recomputed_predictions(capsule_network())
    save_graph(anew, tmp_path)
    loaded = load_graph(tmp_path)
    assert graphs_equal(loaded, anew)
    assert np.array_equal(evaluate(loaded, FRAMES), evaluate(anew, FRAMES))


def test_predictions_that_are_read_elsewhere_too_stay() -> None:
    graph = capsule_network(ends="predictions")
    assert with_recomputed_predictions(graph) is graph


def test_predictions_that_come_from_outside_stay() -> None:
    build = GraphBuilder("outside")
    edge = build.routing(
        "y", build.input("x", (24,), signed(8, fraction=6)), outputs=3, length=4, iterations=3, **WORDS
    )
    graph = build.finish(edge)
    assert with_recomputed_predictions(graph) is graph


def test_refusals() -> None:
    with pytest.raises(ValueError, match="repeat has a times of 1 or more, not 0"):
        Repeat(times=0)
    anew = with_recomputed_predictions(capsule_network())
    nodes = tuple(replace(node, op=Repeat(times=2)) if "repeated" in node.name else node for node in anew.nodes)
    with pytest.raises(GraphError, match=r"as many times those as it has iterations, 3, not \(2, 48\)"):
        verify(replace(anew, nodes=nodes))
