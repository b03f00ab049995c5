"""Shapes, formats, bounds and refusals of the operations of integer networks, and their way over the disk."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from karui.sw.golden import trace
from karui.sw.ir import (
    Add,
    ChannelShuffle,
    Concat,
    DepthwiseConv,
    DoubleRounding,
    Graph,
    GraphBuilder,
    GraphError,
    MatrixVector,
    MaxPool,
    MaxUnpool,
    SlidingWindow,
    SumPool,
    accumulator_range,
    depthwise_rows,
    graphs_equal,
    load_graph,
    save_graph,
    verify,
)
from karui.sw.numerics import BIPOLAR, NumberFormat, signed, unsigned


def branching_network() -> Graph:
    rng = np.random.default_rng(3)
    build = GraphBuilder("branching")
    image = build.input("image", (6, 5, 4), unsigned(3))
    windows = build.sliding_window("window", image, (3, 3), padding=(1, 1, 1, 1), pad_value=0, groups=2)
    grouped = build.matrix_vector(
        "grouped", windows, rng.integers(-3, 4, (8, 18)), bias=rng.integers(-9, 9, 8), groups=2
    )
    multipliers, exponents = rng.integers(1 << 30, 1 << 31, 8), rng.integers(-4, 1, 8)
    words = build.double_rounding("words", grouped, multipliers, exponents, output=signed(8), zero_point=-3)
    depthwise = build.depthwise_conv(
        "depthwise",
        words,
        rng.integers(-2, 3, (3, 2, 8)),
        padding=(1, 0, 1, 1),
        pad_value=-3,
        bias=rng.integers(0, 5, 8),
    )
    narrow = build.requantize("narrow", depthwise, np.array([1]), np.array([0]), shift=4, output=signed(8))
    pooled = build.max_pool("pooled", words, (3, 3), (1, 1), padding=(1, 1, 1, 1))
    both = build.concat("both", build.channel_shuffle("shuffled", pooled, 4), words)
    total = build.add("total", words, pooled, shifts=(2, 0))
    mean = build.sum_pool("mean", total, (6, 5))
    return build.finish(mean, both, narrow)


def test_shapes_and_formats_are_inferred() -> None:
    tensors = branching_network().tensors
    names = ("window", "grouped", "words", "depthwise", "pooled", "shuffled", "both", "total", "mean")
    assert {name: str(tensors[name]) for name in names} == {
        "window": "6x5x36 u3",
        "grouped": "6x5x8 s9",
        "words": "6x5x8 s8",
        "depthwise": "6x5x8 s12",
        "pooled": "6x5x8 s8",
        "shuffled": "6x5x8 s8",
        "both": "6x5x16 s8",
        "total": "6x5x8 s11",
        "mean": "1x1x8 s16",
    }


def test_graph_survives_the_disk(tmp_path: Path) -> None:
    graph = branching_network()
    save_graph(graph, tmp_path)
    loaded = load_graph(tmp_path)
    assert graphs_equal(loaded, graph)
    assert loaded.node("total").op == Add(shifts=(2, 0))
    frames = np.random.default_rng(0).integers(0, 8, (2, 6, 5, 4))
    one, other = trace(graph, frames), trace(loaded, frames)
    assert all(np.array_equal(one[name], other[name]) for name in graph.outputs)


def test_grouped_and_depthwise_accumulators_are_attained() -> None:
    rng = np.random.default_rng(4)
    element = signed(2)
    build = GraphBuilder("bounds")
    edge = build.input("x", (1, 2, 4), element)
    grouped = build.matrix_vector("grouped", edge, rng.integers(-9, 10, (6, 2)), rng.integers(-5, 6, 6), groups=2)
    depthwise = build.depthwise_conv("depthwise", edge, rng.integers(-9, 10, (1, 2, 4)), bias=rng.integers(-5, 6, 4))
    graph = build.finish(grouped, depthwise)
    ends = (element.minimum, element.maximum)
    frames = np.array(list(itertools.product(ends, repeat=8))).reshape(-1, 1, 2, 4)
    outputs = trace(graph, frames)
    rows = {
        "grouped": graph.constants["grouped.weights"].values,
        "depthwise": depthwise_rows(graph.constants["depthwise.weights"].values),
    }
    for name, weights in rows.items():
        low, high = accumulator_range(weights, element, graph.constants[f"{name}.bias"].values)
        assert (low, high) == (outputs[name].min(), outputs[name].max())
        accumulator = graph.tensors[name].number_format
        assert accumulator.holds_range(low, high)
        assert not signed(accumulator.bits - 1).holds_range(low, high)


@pytest.mark.parametrize("name", ["grouped", "depthwise"])
def test_a_narrow_accumulator_is_refused(name: str) -> None:
    graph = branching_network()
    bits = graph.tensors[name].number_format.bits
    nodes = tuple(
        replace(node, op=replace(node.op, accumulator=signed(bits - 1))) if node.name == name else node
        for node in graph.nodes
    )
    with pytest.raises(
        GraphError, match=f"node {name}: sums reach from .* more than the accumulator format s{bits - 1}"
    ):
        verify(replace(graph, nodes=nodes))


def test_weights_of_ones_are_stored_as_bits() -> None:
    build = GraphBuilder("bits")
    edge = build.input("x", (2, 2, 4), signed(3))
    build.depthwise_conv("depthwise", edge, np.ones((2, 2, 4)))
    build.matrix_vector("grouped", edge, np.array([[1, -1], [1, 1], [-1, -1], [1, 1]]), groups=2)
    assert build.tensor("depthwise.weights").number_format == BIPOLAR
    assert build.tensor("grouped.weights").number_format == BIPOLAR


@pytest.mark.parametrize("element", [unsigned(2), signed(3, fraction=2)])
def test_sum_pool_and_add_formats_are_the_narrowest(element: NumberFormat) -> None:
    build = GraphBuilder("sums")
    edge = build.input("x", (3, 4, 1), element)
    # The windows reach over the border: 2 of the 3 rows and 3 of the 4 columns are the most that one covers.
    build.sum_pool("pool", edge, (3, 4), (2, 2), padding=(2, 1, 0, 0))
    build.add("add", edge, edge, shifts=(3, 0))
    graph = build.finish("pool", "add")
    ends = np.array([element.minimum, element.maximum])
    outputs = trace(graph, np.broadcast_to(ends[:, None, None, None], (2, 3, 4, 1)))
    for name in ("pool", "add"):
        low, high = outputs[name].min(), outputs[name].max()
        number_format = graph.tensors[name].number_format
        assert number_format.holds_range(low, high)
        narrower = replace(number_format, bits=number_format.bits - 1)
        assert not narrower.holds_range(low, high)
    assert graph.tensors["pool"].number_format.fraction == element.fraction


def test_fractions_are_kept_where_they_mean_something() -> None:
    build = GraphBuilder("fractions")
    fine, coarse = (
        build.input("fine", (4,), signed(6, fraction=3)),
        build.input("coarse", (4,), unsigned(4, fraction=1)),
    )
    assert build.tensor(build.add("aligned", fine, coarse, shifts=(0, 2))).number_format == signed(8, fraction=3)
    assert build.tensor(build.add("not_aligned", fine, coarse)).number_format == signed(7)
    with pytest.raises(GraphError, match=r"of equal format, not s6 / 2\^3 and s6 / 2\^2; requantize one"):
        build.concat("joined", fine, build.input("other", (4,), signed(6, fraction=2)))


def test_operands_that_do_not_fit_are_named() -> None:
    build = GraphBuilder("wrong")
    edge = build.input("x", (4, 4, 6), unsigned(4))
    bits = build.input("bits", (4, 4, 6), BIPOLAR)
    with pytest.raises(GraphError, match="4 groups do not divide 6 channels"):
        build.sliding_window("window", edge, (2, 2), groups=4)
    with pytest.raises(GraphError, match=r"\(4, 2\) in 2 groups do not fit .* the last axis must have 4 elements"):
        build.matrix_vector("fc", edge, np.ones((4, 2)), groups=2)
    with pytest.raises(GraphError, match="2 groups do not divide 3 outputs"):
        build.matrix_vector("fc", edge, np.ones((3, 3)), groups=2)
    with pytest.raises(GraphError, match=r"the bias has shape \(2,\), but 6 outputs need \(6,\)"):
        build.depthwise_conv("depthwise", edge, np.ones((2, 2, 6)), bias=np.ones(2))
    with pytest.raises(GraphError, match=r"the bias has shape \(2,\), but 6 outputs need \(6,\)"):
        build.matrix_vector("fc", edge, np.ones((6, 3)), np.ones(2), groups=2)
    with pytest.raises(GraphError, match=r"weights of shape \(2, 2, 5\) .* the shape must be \(2, 2, 6\)"):
        build.depthwise_conv("depthwise", edge, np.ones((2, 2, 5)))
    with pytest.raises(GraphError, match="pad_value 0 is not a word of the map's format bipolar"):
        build.depthwise_conv("depthwise", bits, np.ones((2, 2, 6)), padding=(1, 1, 1, 1), pad_value=0)
    with pytest.raises(GraphError, match="SumPool takes unsigned or signed words, not bipolar ones"):
        build.sum_pool("pool", bits, (2, 2))
    with pytest.raises(GraphError, match="Add takes unsigned or signed words, not bipolar ones"):
        build.add("add", edge, bits)
    with pytest.raises(GraphError, match=r"of equal shape, not of \(4, 4, 6\) and \(2, 2, 6\)"):
        build.add("add", edge, build.max_pool("pool", edge, (2, 2)))
    with pytest.raises(GraphError, match=r"equal but for their channels, not of \(4, 4, 6\) and \(2, 2, 6\)"):
        build.concat("joined", edge, "pool")
    with pytest.raises(GraphError, match="Concat takes 2 operands or more, not 1"):
        build.concat("joined", edge)
    with pytest.raises(GraphError, match=r"no places in windows of 2x1 of a map of shape \(4, 4, 6\)"):
        build.max_unpool("unpooled", "pool", edge, (2, 1))
    with pytest.raises(GraphError, match="MaxUnpool takes unsigned or signed words, not bipolar ones"):
        build.max_unpool("unpooled", bits, edge, (1, 1))
    with pytest.raises(GraphError, match="4 groups do not divide 6 channels"):
        build.channel_shuffle("shuffled", edge, 4)
    with pytest.raises(GraphError, match=r"exponents of shape \(2,\) do not fit 6 channels"):
        build.double_rounding("words", edge, np.array([1]), np.array([0, 0]), output=signed(8))


def test_parameters_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"less than its kernel \(2, 2\), not \(2, 0, 0, 0\)"):
        MaxPool(kernel=(2, 2), stride=(1, 1), padding=(2, 0, 0, 0))
    with pytest.raises(ValueError, match=r"less than its kernel \(3, 2\), not \(0, 0, 0, 2\)"):
        SumPool(kernel=(3, 2), stride=(1, 1), padding=(0, 0, 0, 2))
    with pytest.raises(ValueError, match=r"kernel and stride are 1 or more, not \(0, 2\)"):
        MaxUnpool(kernel=(0, 2))
    with pytest.raises(ValueError, match="needs a pad_value"):
        DepthwiseConv(kernel=(3, 3), padding=(1, 1, 1, 1), accumulator=signed(9))
    with pytest.raises(ValueError, match=r"left by 0 or more, not by \(0, -1\)"):
        Add(shifts=(0, -1))
    with pytest.raises(ValueError, match="use a threshold for a bipolar output"):
        DoubleRounding(output=BIPOLAR, zero_point=0, minimum=-1, maximum=1)
    with pytest.raises(ValueError, match=r"clamps to words of s8, not to -129 \.\. 127"):
        DoubleRounding(output=signed(8), zero_point=0, minimum=-129, maximum=127)
    for op in (SlidingWindow, ChannelShuffle):
        with pytest.raises(ValueError, match="groups are 1 or more, not 0"):
            op(groups=0, **({"kernel": (1, 1)} if op is SlidingWindow else {}))
    with pytest.raises(ValueError, match="groups are 1 or more, not -1"):
        MatrixVector(accumulator=signed(8), groups=-1)


@pytest.mark.parametrize(
    ("bits", "multiplier", "exponent", "message"),
    [
        (16, -1, 0, "the multipliers are 0 to 2147483647, not -1 to -1"),
        (16, 1, -32, "the exponents are -31 to 31, not -32 to -32"),
        (16, 1, 17, "values shifted left by 17 reach from -4294967296 to .*, more than 32 bits hold"),
        (33, 1, 0, "values shifted left by 0 reach from -4294967296 to .*, more than 32 bits hold"),
    ],
)
def test_double_rounding_keeps_to_32_bits(bits: int, multiplier: int, exponent: int, message: str) -> None:
    build = GraphBuilder("words")
    edge = build.input("x", (1,), signed(bits))
    edge = build.double_rounding("words", edge, np.array([multiplier]), np.array([exponent]), output=signed(8))
    with pytest.raises(GraphError, match=f"node words: {message}"):
        build.finish(edge)


@pytest.mark.parametrize("op", [Add(), Concat()])
def test_joins_take_activations(op: Add | Concat) -> None:
    build = GraphBuilder("joins")
    edge = build.input("x", (2,), signed(2))
    constant = build.constant("c", np.array([-1, 1]), signed(2))
    with pytest.raises(GraphError, match=f"node join: the operand 'c' is a constant; {type(op).__name__} takes"):
        build.finish(build.node("join", op, edge, constant))


def test_parameters_of_an_activation_are_constants() -> None:
    build = GraphBuilder("parameters")
    edge, other = build.input("x", (2,), signed(4)), build.input("other", (2,), signed(4))
    op = DoubleRounding(output=signed(8), zero_point=0, minimum=-9, maximum=9)
    with pytest.raises(GraphError, match="node words: the exponents 'other' are not a constant"):
        build.finish(build.node("words", op, edge, build.constant("multipliers", np.array([1])), other))
