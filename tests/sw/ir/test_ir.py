import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from karui.sw.ir import (
    Constant,
    Graph,
    GraphBuilder,
    GraphError,
    MatrixVector,
    Node,
    SlidingWindow,
    accumulator_range,
    graphs_equal,
    load_graph,
    save_graph,
    verify,
)
from karui.sw.numerics import BIPOLAR, signed, unsigned


def small_network() -> Graph:
    rng = np.random.default_rng(1)
    build = GraphBuilder("small")
    edge = build.input("image", (6, 6, 2), unsigned(4))
    edge = build.sliding_window("window", edge, (3, 3), padding=(1, 1, 1, 1), pad_value=0)
    edge = build.matrix_vector("conv", edge, rng.integers(-3, 4, (4, 18)), bias=rng.integers(-5, 6, 4))
    edge = build.threshold("fire", edge, np.sort(rng.integers(-50, 50, (4, 1)), axis=1), BIPOLAR)
    edge = build.max_pool("pool", edge, (2, 2))
    edge = build.flatten("flat", edge)
    edge = build.matrix_vector("fc", edge, rng.choice([-1, 1], (5, 36)))
    edge = build.requantize("scale", edge, rng.integers(1, 9, 5), rng.integers(-9, 9, 5), shift=3, output=signed(6))
    return build.finish(build.arg_max("class", edge), classes="abcde")


def test_shapes_and_formats_are_inferred() -> None:
    tensors = small_network().tensors
    assert {name: str(tensors[name]) for name in ("window", "fire", "pool", "fc", "class")} == {
        "window": "6x6x18 u4",
        "fire": "6x6x4 bipolar",
        "pool": "3x3x4 bipolar",
        "fc": "5 s7",
        "class": "1 u3",
    }


def test_graph_survives_the_disk(tmp_path: Path) -> None:
    graph = small_network()
    save_graph(graph, tmp_path)
    assert graphs_equal(load_graph(tmp_path), graph)
    constants = dict(graph.constants)
    changed = constants["fc.weights"].values.copy()
    changed[2, 3] *= -1
    constants["fc.weights"] = Constant(values=changed, number_format=BIPOLAR)
    assert not graphs_equal(replace(graph, constants=constants), graph)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "weights.npz").write_bytes(b"PK"), r"weights\.npz is not the file"),
        (lambda folder: (folder / "weights.npz").unlink(), r"weights\.npz is missing"),
        (lambda folder: (folder / "graph.json").write_text("{"), r"graph\.json is damaged"),
        (lambda folder: _edit(folder, version=99), "has version 99, this karui reads version 1"),
        (lambda folder: _edit(folder, outputs=["nowhere"]), "output 'nowhere' is neither"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, damage, message: str) -> None:
    save_graph(small_network(), tmp_path)
    damage(tmp_path)
    with pytest.raises(GraphError, match=message):
        load_graph(tmp_path)


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "graph.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_accumulator_range_is_attained() -> None:
    rng = np.random.default_rng(2)
    weights = rng.integers(-4, 5, (1, 6))
    bias = np.array([3])
    inputs = np.stack(np.meshgrid(*[[0, 3]] * 6), axis=-1).reshape(-1, 6)
    sums = inputs @ weights[0] + 3
    low, high = accumulator_range(weights, unsigned(2), bias)
    assert (low, high) == (sums.min(), sums.max())


def test_a_narrow_accumulator_is_refused() -> None:
    graph = small_network()
    nodes = tuple(
        replace(node, op=MatrixVector(accumulator=signed(6))) if node.name == "fc" else node for node in graph.nodes
    )
    with pytest.raises(GraphError, match="node fc: sums reach from -36 to 36, more than the accumulator format s6"):
        verify(replace(graph, nodes=nodes))


def test_illegal_graphs_are_named() -> None:
    graph = small_network()
    with pytest.raises(GraphError, match="node pool: operand 'fire' is neither"):
        verify(replace(graph, nodes=tuple(node for node in graph.nodes if node.name != "fire")))
    with pytest.raises(GraphError, match="node class: operand 'scale' is neither"):
        verify(replace(graph, nodes=tuple(reversed(graph.nodes))))
    unused = Node(name="spare", op=graph.node("pool").op, inputs=("fire",))
    with pytest.raises(GraphError, match="'spare' is used by no node and is no output"):
        verify(replace(graph, nodes=(*graph.nodes, unused)))
    twice = Node(name="pool", op=graph.node("pool").op, inputs=("fire",))
    with pytest.raises(GraphError, match="the name 'pool' is taken"):
        verify(replace(graph, nodes=(*graph.nodes, twice)))


def test_operands_that_do_not_fit_are_named() -> None:
    build = GraphBuilder("wrong")
    edge = build.input("bits", (4, 4, 1), BIPOLAR)
    with pytest.raises(GraphError, match=r"weights of shape \(outputs, inputs\) = \(2, 3\) do not fit"):
        build.matrix_vector("fc", edge, np.ones((2, 3)))
    with pytest.raises(GraphError, match="a kernel of 5x5 does not fit a map of 4x4"):
        build.sliding_window("window", edge, (5, 5))
    with pytest.raises(ValueError, match="needs a pad_value"):
        SlidingWindow(kernel=(3, 3), padding=(1, 1, 1, 1))
    with pytest.raises(GraphError, match="pad_value 0 is not a word of the map's format bipolar"):
        build.sliding_window("window", edge, (3, 3), padding=(1, 1, 1, 1), pad_value=0)
    with pytest.raises(GraphError, match="thresholds of shape"):
        build.threshold("fire", edge, np.zeros((1, 3)), BIPOLAR)
    with pytest.raises(ValueError, match="values that are not integers"):
        build.constant("c", np.array([0.5]))


def test_thresholds_must_ascend() -> None:
    build = GraphBuilder("ladder")
    edge = build.input("x", (1,), unsigned(4))
    with pytest.raises(GraphError, match="node ladder: the thresholds of channel 0 do not ascend"):
        build.finish(build.threshold("ladder", edge, np.array([[3, 2, 5]]), unsigned(2)))
