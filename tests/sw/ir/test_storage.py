import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from karui.sw.golden import evaluate
from karui.sw.ir import (
    Graph,
    GraphBuilder,
    GraphError,
    Huffman,
    Raw,
    Shared,
    Sparse,
    Storage,
    graphs_equal,
    load_graph,
    save_graph,
    with_storage,
)
from karui.sw.numerics import BIPOLAR, unsigned

STORAGES = [Raw(), Shared(), Shared(vector=4), Sparse(gap_bits=3), Huffman(gap_bits=4, max_length=9)]


def layer(storage: Storage, *, groups: int = 1, distinct: int = 9) -> Graph:
    rng = np.random.default_rng(3)
    build = GraphBuilder("layer")
    edge = build.input("x", (3, 16), unsigned(4))
    weights = rng.integers(1, distinct, (6, 16 // groups)) * (rng.random((6, 16 // groups)) < 0.5)
    return build.finish(
        build.matrix_vector("fc", edge, weights, rng.integers(-4, 5, 6), groups=groups, storage=storage)
    )


@pytest.mark.parametrize("storage", STORAGES)
def test_storage_survives_the_disk_and_changes_no_result(storage: Storage, tmp_path: Path) -> None:
    graph = layer(storage)
    save_graph(graph, tmp_path)
    loaded = load_graph(tmp_path)
    assert loaded.constants["fc.weights"].storage == storage
    assert graphs_equal(loaded, graph)
    assert graphs_equal(with_storage(layer(Raw()), {"fc.weights": storage}), graph)
    assert graphs_equal(graph, layer(Raw())) == (storage == Raw())
    frames = np.random.default_rng(4).integers(0, 16, (5, 3, 16))
    assert np.array_equal(evaluate(graph, frames), evaluate(layer(Raw()), frames))


def test_a_graph_without_storage_on_disk_is_raw(tmp_path: Path) -> None:
    save_graph(layer(Raw()), tmp_path)
    document = json.loads((tmp_path / "graph.json").read_text())
    assert all("storage" not in entry for entry in document["constants"].values())


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"kind": "zip"}, "'zip' is not a storage of this karui; it knows raw, shared, sparse, huffman"),
        ({"kind": "sparse"}, "storage sparse: .*gap_bits"),
        ({"kind": "huffman", "gap_bits": 99}, "Huffman-coded gaps have 1 to 8 bits, not 99"),
        ({"kind": "huffman", "gap_bits": 4, "max_length": 16}, "code words have at most 1 to 15 bits, not 16"),
        ({"kind": "shared", "vector": 0}, "vectors have 1 or more values, not 0"),
    ],
)
def test_unknown_storage_on_disk_is_refused(stored: dict[str, object], message: str, tmp_path: Path) -> None:
    save_graph(layer(Raw()), tmp_path)
    path = tmp_path / "graph.json"
    document = json.loads(path.read_text())
    document["constants"]["fc.weights"]["storage"] = stored
    path.write_text(json.dumps(document))
    with pytest.raises(GraphError, match=message):
        load_graph(tmp_path)


def test_storage_that_is_not_legal_names_the_node() -> None:
    with pytest.raises(GraphError, match=r"node fc: .*'fc.bias' has storage Sparse; only weights of a MatrixVector"):
        with_storage(layer(Raw()), {"fc.bias": Sparse(gap_bits=4)})
    with pytest.raises(GraphError, match=r"node fc: .*share vectors of 5, which do not divide 16"):
        layer(Shared(vector=5))
    with pytest.raises(GraphError, match=r"node fc: .*of 2 groups; Huffman storage is of one"):
        layer(Huffman(gap_bits=3), groups=2)
    with pytest.raises(GraphError, match=r"node fc: .* symbols, more than a code of 256 symbols and 3 bits has"):
        layer(Huffman(gap_bits=2, max_length=3), distinct=20)
    with pytest.raises(GraphError, match=r"node fc: .*gaps of 5 bits would skip whole rows: use 4 bits at most"):
        layer(Sparse(gap_bits=5))
    with pytest.raises(GraphError, match=r"has no constant 'fc.weight'; it has fc.weights, fc.bias"):
        with_storage(layer(Raw()), {"fc.weight": Shared()})
    graph = layer(Raw())
    weights = replace(graph.constants["fc.weights"], values=np.zeros((6, 16), dtype=np.int64))
    empty = replace(graph, constants=dict(graph.constants) | {"fc.weights": weights})
    with pytest.raises(GraphError, match=r"node fc: .*have no zeros to leave out, or nothing else"):
        with_storage(empty, {"fc.weights": Sparse(gap_bits=4)})


def test_bits_have_no_zeros_to_leave_out() -> None:
    build = GraphBuilder("bits")
    edge = build.input("x", (4,), BIPOLAR)
    edge = build.matrix_vector("fc", edge, np.array([[1, -1, 1, 1]]), storage=Sparse(gap_bits=2))
    with pytest.raises(GraphError, match=r"node fc: .*no zeros to leave out"):
        build.finish(edge)
