from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.sw.golden import evaluate
from karui.sw.ir import ChannelShuffle, Constant, Graph, GraphBuilder, MatrixVector, Requantize, Threshold
from karui.sw.lower.absorb_channel_shuffle import absorb_channel_shuffle, shuffled_channels
from karui.sw.lower.narrow_weights import narrow_weights
from karui.sw.lower.requantize_from_ladder import ladders, requantize_from_ladder
from karui.sw.numerics import Rounding, signed, unsigned


def frames_of(graph: Graph, seed: int) -> np.ndarray:
    tensor = graph.inputs[graph.input_name]
    low, high = tensor.number_format.minimum, tensor.number_format.maximum
    return np.random.default_rng(seed).integers(low, high + 1, (20, *tensor.shape))


def same(one: Graph, other: Graph) -> bool:
    frames = frames_of(one, 0)
    return bool(np.array_equal(evaluate(one, frames), evaluate(other, frames)))


def count(graph: Graph, op: type) -> int:
    return sum(isinstance(node.op, op) for node in graph.nodes)


def quantized_product(levels_bits: int, *, bend: int = 0) -> Graph:
    rng = np.random.default_rng(levels_bits)
    build = GraphBuilder("product")
    edge = build.input("input", (9,), unsigned(4))
    edge = build.matrix_vector("dense", edge, rng.integers(-8, 8, (6, 9)), rng.integers(-20, 20, 6))
    levels = 1 << levels_bits
    thresholds = np.floor(np.linspace(-200, 200, levels - 1) * rng.uniform(0.5, 1, (6, 1))).astype(np.int64)
    thresholds[2, levels // 2 :] += bend
    return build.finish(build.threshold("fire", edge, thresholds, unsigned(levels_bits)))


def test_thresholds_become_a_multiplier() -> None:
    graph = quantized_product(5)
    found = requantize_from_ladder(graph)
    assert isinstance(found.node("fire").op, Requantize)
    assert "fire.thresholds" not in found.constants
    assert same(graph, found)
    wrong = dict(found.constants)
    wrong["fire.offset"] = Constant(values=wrong["fire.offset"].values + (1 << 9), number_format=signed(48))
    assert not same(graph, replace(found, constants=wrong))


def test_thresholds_stay_where_one_of_them_is_off_the_line() -> None:
    graph = quantized_product(5, bend=3)
    assert requantize_from_ladder(graph).node("fire").op == graph.node("fire").op
    assert ladders(graph) == ("fire",)


def test_few_levels_keep_their_thresholds_unless_a_shift_will_do() -> None:
    graph = quantized_product(3)
    assert count(requantize_from_ladder(graph), Threshold) == 1
    assert count(requantize_from_ladder(graph, few_levels=4), Threshold) == 0
    build = GraphBuilder("shift")
    edge = build.input("input", (4,), signed(6))
    words = np.arange(-32, 32)
    halves = [words[np.flatnonzero(np.rint(words / 8) >= level)[0]] for level in (-1, 0, 1)]
    graph = build.finish(build.threshold("round", edge, np.array([halves]), signed(2)))
    op = requantize_from_ladder(graph).node("round").op
    assert isinstance(op, Requantize)
    assert (op.shift, op.rounding) == (3, Rounding.HALF_EVEN)
    assert same(graph, requantize_from_ladder(graph))


@pytest.mark.parametrize("bias", [0, 40])
def test_only_sums_that_the_weights_can_reach_count(bias: int) -> None:
    # The second row's sums less the bias stay below 16: what its thresholds do beyond is no matter.
    weights = np.array([[7, 7, 7, 7], [1, 0, 0, 0]])
    build = GraphBuilder("ranges")
    edge = build.matrix_vector("dense", build.input("input", (4,), unsigned(4)), weights, np.array([0, bias]))
    thresholds = np.stack([np.arange(1, 16) * 20, np.concatenate([bias + np.arange(1, 8) * 2, np.full(8, 90)])])
    graph = build.finish(build.threshold("fire", edge, thresholds, unsigned(4)))
    assert count(requantize_from_ladder(graph), Requantize) == 1
    assert same(graph, requantize_from_ladder(graph))


@pytest.mark.parametrize("depthwise", [False, True])
def test_negated_rows_turn_back_where_that_narrows_the_weights(depthwise: bool) -> None:
    rng = np.random.default_rng(5)
    build = GraphBuilder("narrow")
    edge = build.input("input", (5, 5, 4), unsigned(4))
    rows = rng.integers(-8, 8, (4, 9))
    rows[1] *= -1
    rows[1, 0], rows[2, 0] = 8, -8
    bias = rng.integers(-30, 30, 4)
    if depthwise:
        edge = build.depthwise_conv("conv", edge, rows.T.reshape(3, 3, 4), bias=bias, padding=(1,) * 4, pad_value=0)
    else:
        edge = build.matrix_vector("conv", edge, rows[:, :4], bias)
        rows = rows[:, :4]
    multiplier, offset = np.array([3, 5, 6, 7]), rng.integers(0, 9, 4)
    graph = build.finish(build.requantize("fire", edge, multiplier, offset, shift=4, output=unsigned(4)))
    assert graph.constants["conv.weights"].number_format == signed(5)
    narrowed = narrow_weights(graph)
    assert narrowed.constants["conv.weights"].number_format == signed(4)
    assert narrowed.constants["fire.multiplier"].values.tolist() == [3, -5, 6, 7]
    assert same(graph, narrowed)


def test_rows_with_both_ends_of_the_range_stay() -> None:
    build = GraphBuilder("wide")
    edge = build.matrix_vector("dense", build.input("input", (2,), unsigned(4)), np.array([[8, -8], [1, 2]]))
    graph = build.finish(build.requantize("fire", edge, np.array([3]), np.array([0]), shift=2, output=unsigned(4)))
    assert narrow_weights(graph).constants["dense.weights"].number_format == signed(5)


def test_a_shuffle_is_torchs() -> None:
    assert shuffled_channels(2, 6).tolist() == [0, 3, 1, 4, 2, 5]


def shuffled(seed: int, tail: str, *, head: str = "input", channelwise: int = 0) -> Graph:
    """A shuffle of 6 channels in 2 or 3 groups between a head and a tail, with operations on single channels around."""
    rng = np.random.default_rng(seed)
    build = GraphBuilder("shuffled")
    edge = build.input("input", (4, 4, 6), unsigned(3))

    def quantize(name: str, edge: str) -> str:
        steps = np.sort(rng.integers(-30, 40, (6, 7)), axis=1)
        return build.threshold(name, edge, steps, unsigned(3))

    def scale(name: str, edge: str) -> str:
        return build.requantize(
            name, edge, rng.integers(-9, 9, 6), rng.integers(-9, 9, 6), shift=3, output=unsigned(3)
        )  # fmt: skip

    def depthwise(name: str, edge: str) -> str:
        weights = rng.integers(-4, 4, (3, 3, 6))
        return build.depthwise_conv(name, edge, weights, padding=(1,) * 4, pad_value=0, bias=rng.integers(-9, 9, 6))

    if head != "input":
        groups = 1 if head == "dense" else 2
        edge = build.matrix_vector(
            "head", edge, rng.integers(-4, 4, (6, 6 // groups)), rng.integers(-9, 9, 6), groups=groups
        )
        edge = quantize("head.fire", edge)
    edge = build.channel_shuffle("shuffle", edge, int(rng.choice([2, 3])))
    steps = [
        lambda name, edge: quantize(f"{name}.fire", depthwise(name, edge)),
        lambda name, edge: build.max_pool(name, edge, (3, 3), (1, 1), (1, 1, 1, 1)),
        lambda name, edge: scale(f"{name}.scale", build.sum_pool(name, edge, (2, 2), (1, 1), (1, 0, 0, 1))),
        scale,
    ]
    for index in range(channelwise):
        edge = steps[int(rng.integers(len(steps)))](f"between{index}", edge)
    size = build.tensor(edge).shape
    match tail:
        case "pointwise":
            edge = build.matrix_vector("tail", edge, rng.integers(-4, 4, (5, 6)))
        case "window":
            edge = build.sliding_window("tail.window", edge, (3, 3), padding=(1,) * 4, pad_value=0)
            edge = build.matrix_vector("tail", edge, rng.integers(-4, 4, (5, 54)))
        case "flatten":
            edge = build.flatten("flatten", edge)
            edge = build.matrix_vector("tail", edge, rng.integers(-4, 4, (5, 6 * size[0] * size[1])))
        case "grouped":
            edge = build.matrix_vector("tail", edge, rng.integers(-4, 4, (4, 3)), groups=2)
        case "both":
            one = build.matrix_vector("tail", edge, rng.integers(-4, 4, (6, 6)))
            other = build.matrix_vector("other", edge, rng.integers(-4, 4, (6, 6)))
            edge = build.add("add", one, other)
        case "shortcut":
            edge = build.add("add", build.matrix_vector("tail", edge, rng.integers(-4, 4, (6, 6))), edge)
    return build.finish(edge)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["pointwise", "window", "flatten", "both"]),
    st.sampled_from(["input", "dense", "grouped"]),
    st.integers(0, 3),
)
def test_dense_weights_behind_absorb_a_shuffle(seed: int, tail: str, head: str, channelwise: int) -> None:
    graph = shuffled(seed, tail, head=head, channelwise=channelwise)
    absorbed = absorb_channel_shuffle(graph)
    assert count(absorbed, ChannelShuffle) == 0
    assert same(graph, absorbed)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["grouped", "shortcut"]), st.integers(0, 2))
def test_dense_weights_before_absorb_a_shuffle_that_none_behind_can(seed: int, tail: str, channelwise: int) -> None:
    graph = shuffled(seed, tail, head="dense", channelwise=channelwise)
    absorbed = absorb_channel_shuffle(graph)
    assert count(absorbed, ChannelShuffle) == 0
    assert same(graph, absorbed)


@pytest.mark.parametrize(("tail", "head"), [("grouped", "grouped"), ("grouped", "input"), ("shortcut", "grouped")])
def test_between_grouped_products_a_shuffle_stays(tail: str, head: str) -> None:
    graph = shuffled(1, tail, head=head, channelwise=1)
    assert absorb_channel_shuffle(graph) is graph


def test_a_shuffle_stays_where_others_read_its_operand() -> None:
    build = GraphBuilder("read twice")
    edge = build.input("input", (2, 2, 4), unsigned(3))
    edge = build.matrix_vector("dense", edge, np.arange(16).reshape(4, 4))
    shuffle = build.channel_shuffle("shuffle", edge, 2)
    graph = build.finish(build.add("add", edge, shuffle))
    assert absorb_channel_shuffle(graph) is graph


def test_shuffles_in_a_row_are_absorbed_one_by_one() -> None:
    rng = np.random.default_rng(0)
    build = GraphBuilder("twice")
    edge = build.input("input", (2, 2, 6), unsigned(3))
    for name, groups in (("one", 2), ("two", 3)):
        edge = build.channel_shuffle(f"{name}.shuffle", edge, groups)
        edge = build.matrix_vector(name, edge, rng.integers(-4, 4, (6, 6)))
    graph = build.finish(edge)
    absorbed = absorb_channel_shuffle(graph)
    assert [type(node.op) for node in absorbed.nodes] == [MatrixVector, MatrixVector]
    assert same(graph, absorbed)
