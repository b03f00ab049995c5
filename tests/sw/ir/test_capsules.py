"""Squashing, routing by agreement and lengths in integers: against float64, against plain loops, and their refusals."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from karui.sw.golden import compute, evaluate, trace
from karui.sw.ir import (
    Graph,
    GraphBuilder,
    GraphError,
    Routing,
    SquaredLength,
    Squash,
    agreement_range,
    graphs_equal,
    load_graph,
    routing_sum_range,
    save_graph,
    verify,
)
from karui.sw.ir.capsule_arithmetic import couplings, route, squash
from karui.sw.numerics import (
    BIPOLAR,
    TABLE_FRACTION,
    NumberFormat,
    leading_bits,
    negative_powers,
    reciprocals,
    signed,
    squash_gains,
    unsigned,
)

CAPSULE = signed(8, fraction=7)
UNIT = 2.0**-TABLE_FRACTION


def capsule_network(*, capsules: int = 12, outputs: int = 3, length: int = 4, iterations: int = 3) -> Graph:
    rng = np.random.default_rng(5)
    build = GraphBuilder("capsules")
    edge = build.input("x", (2, capsules // 2, 8), signed(8, fraction=5))
    edge = build.flatten("vectors", build.squash("squashed", edge, 8, CAPSULE))
    weights = rng.integers(-127, 128, (capsules * outputs * length, 8))
    edge = build.matrix_vector("products", edge, weights, groups=capsules)
    edge = build.requantize("predictions", edge, np.array([1]), np.array([0]), shift=8, output=signed(8, fraction=6))
    edge = build.routing(
        "routed",
        edge,
        outputs=outputs,
        length=length,
        iterations=iterations,
        sums=signed(16, fraction=11),
        output=CAPSULE,
        logits=signed(16, fraction=10),
    )
    return build.finish(build.arg_max("class", build.squared_length("lengths", edge, length)))


def routing(outputs: int = 10, length: int = 16, iterations: int = 3) -> Routing:
    build = GraphBuilder("routing")
    edge = build.input("x", (outputs * length,), signed(8, fraction=6))
    name = build.routing(
        "routed",
        edge,
        outputs=outputs,
        length=length,
        iterations=iterations,
        sums=signed(16, fraction=11),
        output=CAPSULE,
        logits=signed(16, fraction=10),
    )
    op = build.finish(name).node("routed").op
    assert isinstance(op, Routing)
    return op


@pytest.mark.parametrize("index_bits", [3, 6])
def test_leading_bits(index_bits: int) -> None:
    values = np.concatenate([np.arange(300), np.array([(1 << 40) - 1, 1 << 40])])
    place, index = leading_bits(values, index_bits)
    for value, where, below in zip(values.tolist(), place.tolist(), index.tolist(), strict=True):
        exact = max(value.bit_length() - 1, 0)
        assert where == exact
        assert below == ((value - (1 << exact)) << index_bits >> exact if value else 0)
        assert leading_bits(value, index_bits) == (where, below)
    tensors = leading_bits(torch.from_numpy(values), index_bits)
    assert np.array_equal(tensors[0], place)
    assert np.array_equal(tensors[1], index)


@pytest.mark.parametrize(("words", "length"), [(signed(8, fraction=5), 8), (signed(16, fraction=11), 16)])
@pytest.mark.parametrize("index_bits", [4, 6])
def test_gains_keep_their_error_bound(words: NumberFormat, length: int, index_bits: int) -> None:
    gains = squash_gains(words, length, index_bits=index_bits)
    largest = length * words.minimum**2
    rng = np.random.default_rng(0)
    squares = np.concatenate([np.arange(1, 5000), np.exp2(rng.uniform(0, math.log2(largest), 20000)).astype(np.int64)])
    squares = np.append(squares, largest)
    norms = np.sqrt(squares) * 2.0**-words.fraction
    exact = norms / (1 + norms * norms)
    error = np.abs(gains[leading_bits(squares, index_bits)] * UNIT - exact)
    relative = math.expm1(2.0 ** -(index_bits + 2))
    assert np.all(error <= relative * exact + UNIT / 2)
    # The bound is not idle: a bit less of the index would break it.
    assert np.any(error > relative / 2 * exact + UNIT / 2)


def test_squash_keeps_its_error_bound() -> None:
    words = signed(10, fraction=6)
    gains, op = squash_gains(words, 8), Squash(length=8, shift=11, output=CAPSULE)
    rng = np.random.default_rng(1)
    vectors = (rng.integers(-512, 512, (4000, 8)) * np.exp2(-rng.integers(0, 9, (4000, 1)))).astype(np.int64)
    real = vectors * 2.0**-6
    norm = np.sqrt((real**2).sum(-1, keepdims=True))
    factor = norm / (1 + norm**2)
    error = np.abs(squash(op, vectors, gains) * 2.0**-7 - real * factor)
    of_gain = np.abs(real) * (math.expm1(2.0**-8) * factor + UNIT / 2)
    # Half a unit more through rounding, and a whole one where a single element is almost 1.
    assert np.all(error <= of_gain + np.where(real * factor > 1 - 2.0**-7, 2.0**-7, 2.0**-8))
    assert error.max() < 2.0**-7
    assert np.array_equal(squash(op, np.zeros((2, 8), dtype=np.int64), gains), np.zeros((2, 8)))


@pytest.mark.parametrize("outputs", [1, 2, 10])
def test_couplings_keep_their_error_bound(outputs: int) -> None:
    op = routing(outputs=outputs)
    rng = np.random.default_rng(2)
    scale = np.exp2(rng.uniform(0, 14, (20000, 1)))
    logits = (rng.normal(size=(20000, outputs)) * scale).round().astype(np.int64).clip(-(1 << 15), (1 << 15) - 1)
    exact = np.exp2((logits - logits.max(-1, keepdims=True)) * 2.0**-10)
    exact /= exact.sum(-1, keepdims=True)
    computed = couplings(op, logits, negative_powers(), reciprocals()) * UNIT
    # A share is wrong by half a step of the index and 1.5 units; so is each term of the sum, which is 1 or more.
    share = math.expm1(math.log(2) * 2.0**-7)
    of_sum = share + 1.5 * outputs * UNIT
    inverse = 2.0**-7 + UNIT
    relative = (1 + share) * (1 + inverse) / (1 - of_sum) - 1
    absolute = 1.5 * UNIT * (1 + relative) + UNIT / 2
    assert relative < 0.024
    assert np.all(np.abs(computed - exact) <= relative * exact + absolute)
    assert computed.max() <= 1 - UNIT
    error = np.abs(computed - exact)
    if outputs > 1:
        assert error.max() > absolute
    if outputs == 10:
        # What docs/capsules.md tells.
        assert (error / exact)[exact > 1 / 8].max() < 0.016
        assert error.mean() < 0.0004
        assert error.max() < 0.0081


def routed_by_loops(op: Routing, passes: list[list[list[list[int]]]], gains: list[list[int]]) -> list[list[int]]:
    """The operation's definition, an integer at a time, of the predictions of each iteration."""
    powers, inverses = negative_powers().tolist(), reciprocals().tolist()
    capsules, outputs, length = len(passes[0]), op.outputs, op.length

    def limited(value: int, words: NumberFormat) -> int:
        return max(words.minimum, min(words.maximum, value))

    def half_up(value: int, shift: int) -> int:
        return (value + (1 << (shift - 1))) >> shift

    def index(value: int) -> tuple[int, int]:
        bits = bin(value)[2:] if value else "1"
        return len(bits) - 1, int((bits[1:] + "000000")[:6], 2)

    b = [[0] * outputs for _ in range(capsules)]
    c = [[min(round(4096 / outputs), 4095)] * outputs for _ in range(capsules)]
    v: list[list[int]] = []
    for turn, votes in enumerate(passes):
        if turn:
            for i in range(capsules):
                for j in range(outputs):
                    agreement = sum(votes[i][j][d] * v[j][d] for d in range(length))
                    step = half_up(agreement * op.agreement_multiplier, op.agreement_shift)
                    b[i][j] = limited(b[i][j] + step, op.logits)
                below = [max(b[i]) - one for one in b[i]]
                p = [powers[(t >> 4) & 63] >> (t >> 10) for t in below]
                e, m = index(sum(p))
                c[i] = [min(half_up(one * inverses[m], e), 4095) for one in p]
        v = []
        for j in range(outputs):
            sums = [sum(c[i][j] * votes[i][j][d] for i in range(capsules)) for d in range(length)]
            s = [limited(half_up(one, op.sum_shift), op.sums) for one in sums]
            e, m = index(sum(one * one for one in s))
            v.append([limited(half_up(one * gains[e][m], op.squash_shift), op.output) for one in s])
    return v


@pytest.mark.parametrize(("outputs", "length"), [(3, 4), (1, 2), (4, 1)])
@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_routing_is_its_definition(outputs: int, length: int, iterations: int) -> None:
    op = routing(outputs, length, iterations)
    gains = squash_gains(op.sums, length)
    tables = gains, negative_powers(), reciprocals()
    rng = np.random.default_rng(3)
    # Small, large enough that logits part, and of one sign so that sums saturate.
    for low, high in ((-20, 20), (-128, 128), (120, 128)):
        votes = rng.integers(low, high, (5, 9, outputs, length))
        expected = np.array([routed_by_loops(op, [one] * iterations, gains.tolist()) for one in votes.tolist()])
        assert np.array_equal(route(op, votes, *tables), expected)
        of_kernel = compute(op, torch.from_numpy(votes).flatten(1), *map(torch.from_numpy, tables))
        assert np.array_equal(of_kernel, expected.reshape(5, -1))


@pytest.mark.parametrize("iterations", [1, 3])
def test_an_iteration_knows_its_row_of_predictions_alone(iterations: int) -> None:
    op = routing(3, 4, iterations)
    gains = squash_gains(op.sums, 4)
    tables = gains, negative_powers(), reciprocals()
    passes = np.random.default_rng(4).integers(-128, 128, (5, iterations, 9, 3, 4))
    expected = np.array([routed_by_loops(op, one, gains.tolist()) for one in passes.tolist()])
    rows = torch.from_numpy(passes).flatten(2)
    of_kernel = compute(op, rows, *map(torch.from_numpy, tables))
    assert np.array_equal(of_kernel, expected.reshape(5, -1))
    if iterations > 1:
        of_first = compute(op, rows[:, 0], *map(torch.from_numpy, tables))
        assert not np.array_equal(of_first, of_kernel)


def test_routing_agrees_with_real_numbers() -> None:
    """At the size of the compact CapsNet: rounding the results alone would be 0.29 units off."""
    build = GraphBuilder("routing")
    edge = build.input("x", (288 * 10 * 16,), signed(8, fraction=6))
    words = {"sums": signed(16, fraction=8), "output": CAPSULE, "logits": signed(16, fraction=8)}
    graph = build.finish(build.routing("routed", edge, outputs=10, length=16, iterations=3, **words))
    votes = np.random.default_rng(6).integers(-50, 51, (20, 288, 10, 16))
    # A third of the capsules agree upon one output.
    votes[:, :96, 1] = votes[:, :1, 1] + votes[:, :96, 1] // 6
    real = votes * 2.0**-6
    logits, capsules = np.zeros((20, 288, 10)), np.zeros((20, 10, 16))
    for _ in range(3):
        logits += (real * capsules[:, None]).sum(-1)
        coefficients = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        sums = (coefficients[..., None] * real).sum(1)
        norm = np.sqrt((sums**2).sum(-1, keepdims=True))
        capsules = sums * norm / (1 + norm**2)
    error = evaluate(graph, votes.reshape(20, -1)) - 2**7 * capsules.reshape(20, -1)
    # What docs/capsules.md tells.
    assert np.sqrt((error**2).mean()) < 0.385
    assert np.abs(error).max() < 1.4
    assert np.linalg.norm(capsules, axis=-1)[:, 1].min() > 0.99


def test_predictions_are_a_grouped_product() -> None:
    graph = capsule_network()
    frames = np.random.default_rng(0).integers(-128, 128, (3, 2, 6, 8))
    edges = trace(graph, frames)
    weights = graph.constants["products.weights"].values.reshape(12, 12, 8)
    vectors = edges["squashed"].reshape(3, 12, 8)
    assert np.array_equal(edges["products"].reshape(3, 12, 12), np.einsum("iok,nik->nio", weights, vectors))


def test_shapes_formats_and_the_disk(tmp_path: Path) -> None:
    graph = capsule_network()
    names = ("squashed", "products", "routed", "lengths", "class")
    assert {name: str(graph.tensors[name]) for name in names} == {
        "squashed": "2x6x8 s8 / 2^7",
        "products": "144 s18",
        "routed": "12 s8 / 2^7",
        "lengths": "3 u17 / 2^14",
        "class": "1 u2",
    }
    save_graph(graph, tmp_path)
    loaded = load_graph(tmp_path)
    assert graphs_equal(loaded, graph)
    frames = np.random.default_rng(0).integers(-128, 128, (20, 2, 6, 8))
    assert np.array_equal(evaluate(loaded, frames), evaluate(graph, frames))


def test_bounds_hold_and_are_reached() -> None:
    op, words = routing(outputs=1, length=4), signed(8, fraction=6)
    low, high = routing_sum_range(op, words, 30)
    assert (low, high) == (30 * op.first_coupling * -128, 30 * op.first_coupling * 127)
    low, high = agreement_range(op, words)
    corners = [4 * one * other for one in (-128, 127) for other in (-128, 127)]
    assert (low, high) == (min(corners), max(corners))
    build = GraphBuilder("lengths")
    edge = build.squared_length("length", build.input("x", (4,), signed(5)), 4)
    graph = build.finish(edge)
    assert graph.tensors["length"].number_format == unsigned(11)
    assert evaluate(graph, np.full((1, 4), -16)).tolist() == [[1024]]


def test_refusals() -> None:
    build = GraphBuilder("wrong")
    edge = build.input("x", (2, 12), signed(8, fraction=7))
    with pytest.raises(GraphError, match=r"Squash takes runs of 5 elements, which do not divide \(2, 12\)"):
        build.squash("squashed", edge, 5, CAPSULE)
    with pytest.raises(GraphError, match=r"SquaredLength takes runs of 8 elements"):
        build.squared_length("length", edge, 8)
    with pytest.raises(GraphError, match="Squash takes signed words of one fraction, not bipolar"):
        build.squash("squashed", build.input("bits", (4,), BIPOLAR), 4, CAPSULE)
    gains = squash_gains(signed(8, fraction=7), 4)
    with pytest.raises(GraphError, match="the gains have 12 fractional bits, not 0 as u12 says"):
        build.node("squashed", Squash(length=4, shift=12, output=CAPSULE), edge, build.constant("plain", gains))
    table = build.constant("gains", gains, unsigned(12, fraction=12))
    with pytest.raises(GraphError, match="the squashed vectors have 8 fractional bits, not 7"):
        build.node("squashed", Squash(length=4, shift=11, output=CAPSULE), edge, table)
    with pytest.raises(GraphError, match=r"have shape \(16, 2\*\*index_bits\), not \(17, 64\)"):
        build.node("squashed", Squash(length=2, shift=12, output=CAPSULE), edge, table)
    with pytest.raises(ValueError, match="squash has a shift of 1 or more, not 0"):
        Squash(length=4, shift=0, output=CAPSULE)
    with pytest.raises(ValueError, match="squash yields signed words, not u8"):
        Squash(length=4, shift=1, output=unsigned(8))
    with pytest.raises(ValueError, match="a squared length has a length of 1 or more, not 0"):
        SquaredLength(length=0)
    with pytest.raises(ValueError, match="routing has a iterations of 1 or more, not 0"):
        routing(iterations=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sum_shift": 8}, "the sums have 10 fractional bits, not 11"),
        ({"squash_shift": 15}, "the squashed vectors have 8 fractional bits, not 7"),
        ({"agreement_multiplier": 1024}, "takes a multiplier of 1477 and a shift of 13"),
        ({"agreement_shift": 12}, "takes a multiplier of 739 and a shift of 12"),
        ({"logits": signed(16, fraction=4)}, "the powers are a table of"),
        ({"length": 5}, "Routing takes runs of 15 elements"),
    ],
)
def test_routing_refuses_what_does_not_fit(change: dict[str, int], message: str) -> None:
    graph = capsule_network()
    nodes = tuple(
        replace(node, op=replace(node.op, **change)) if node.name == "routed" else node for node in graph.nodes
    )
    with pytest.raises(GraphError, match=f"node routed: .*{message}"):
        verify(replace(graph, nodes=nodes))


def test_tables_are_constants_in_range() -> None:
    graph = capsule_network()
    constant = graph.constants["routed.reciprocals"]
    broken = replace(constant, values=constant.values * 0)
    with pytest.raises(GraphError, match="node routed: reciprocals are 1 to 4096, not 0 to 0"):
        verify(replace(graph, constants={**graph.constants, "routed.reciprocals": broken}))
