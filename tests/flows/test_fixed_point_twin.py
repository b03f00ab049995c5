"""Fixed-point weights in the place of binary bases: the same function, as fine as the weights' bits."""

import numpy as np
import pytest

from karui.flows.bench.fixed_point_twin import fixed_point_twin
from karui.sw.golden import evaluate, trace
from karui.sw.ir import BinaryBases, Graph, GraphBuilder, MatrixVector, Requantize, effective_weights
from karui.sw.numerics import unsigned


def network() -> Graph:
    """A convolution, a pool and two dense layers; the last one's sums are scores of uneven scales."""
    random = np.random.default_rng(0)
    build = GraphBuilder("bases")
    edge = build.input("pixels", (6, 6, 2), unsigned(8))
    edge = build.sliding_window("window", edge, (3, 3))
    for name, outputs, inputs in (("conv", 4, 18), ("fc", 8, 16)):
        signs = random.choice([-1, 1], (outputs, 3, inputs))
        coefficients = random.integers(50, 900, (outputs, 3)) * np.array([4, 2, 1])
        edge = build.binary_bases(name, edge, signs, coefficients, random.integers(-900_000, 900_000, outputs))
        low, high = np.quantile(evaluate(build.finish(edge), frames()), (0.02, 0.98)).astype(int)
        multiplier = (255 << 24) // (high - low)
        edge = build.requantize(
            f"{name}.words", edge, np.array([multiplier]), np.array([-low * multiplier]), shift=24, output=unsigned(8)
        )
        if name == "conv":
            edge = build.flatten("flat", build.max_pool("pool", edge, (2, 2)))
    coefficients = np.array([[900], [300], [400], [200]])
    signs = random.choice([-1, 1], (4, 1, 8))
    middle = np.median(evaluate(build.finish(edge), frames()), axis=0).astype(int)
    bias = -coefficients[:, 0] * (signs[:, 0] @ middle)
    edge = build.binary_bases("last", edge, signs, coefficients, bias)
    return build.finish(build.arg_max("class", edge))


def frames() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (200, 6, 6, 2))


def twin_of(graph: Graph, bits: int) -> Graph:
    rows = {
        node.name: effective_weights(*(graph.constants[name].values for name in node.inputs[1:3])).astype(float)
        for node in graph.nodes
        if isinstance(node.op, BinaryBases)
    }
    return fixed_point_twin(graph, rows, bits)


@pytest.mark.parametrize(("bits", "off"), [(16, 1), (8, 5)])
def test_the_twin_has_the_words_of_the_graph(bits: int, off: int) -> None:
    graph = network()
    twin = twin_of(graph, bits)
    assert [node.name for node in twin.nodes] == [node.name for node in graph.nodes]
    assert not any(isinstance(node.op, BinaryBases) for node in twin.nodes)
    one, other = trace(graph, frames()), trace(twin, frames())
    for node in twin.nodes:
        if isinstance(node.op, Requantize):
            assert len(np.unique(one[node.name])) > 100
            assert int(np.abs(one[node.name] - other[node.name]).max()) <= off
        if isinstance(node.op, MatrixVector):
            assert twin.constants[node.inputs[1]].number_format.bits <= bits
    # Scores of one step: a large one stays larger.
    assert len(np.unique(one["class"])) == 4
    assert float((one["class"] == other["class"]).mean()) > 0.9
