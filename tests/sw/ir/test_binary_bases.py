"""Products with scaled binary bases in the graph: values bit plane by bit plane, ranges, refusals, and the disk."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.sw.golden import compute, trace
from karui.sw.ir import (
    BinaryBases,
    GraphBuilder,
    GraphError,
    Shared,
    Tensor,
    effective_weights,
    graphs_equal,
    infer,
    load_graph,
    save_graph,
    verify,
    with_storage,
)
from karui.sw.numerics import BIPOLAR, signed, unsigned

WIDE = signed(62)


def _constants(seed: int, outputs: int, bases: int, inputs: int, reach: int = 1 << 15) -> list[Any]:
    random = np.random.default_rng(seed)
    return [
        random.choice([-1, 1], (outputs, bases, inputs)),
        random.integers(-reach, reach, (outputs, bases)),
        random.integers(-(1 << 20), 1 << 20, outputs),
    ]


@settings(deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    bits=st.integers(1, 8),
    bases=st.integers(1, 6),
    groups=st.sampled_from([1, 2, 6]),
    has_bias=st.booleans(),
)
def test_value_is_counts_of_bits_times_coefficients(
    seed: int, bits: int, bases: int, groups: int, has_bias: bool
) -> None:
    outputs, inputs = 6, 12
    signs, coefficients, bias = _constants(seed, outputs, bases, inputs // groups)
    vectors = np.random.default_rng(seed + 1).integers(0, 1 << bits, (2, 3, inputs))
    operands = [vectors, signs, coefficients, bias][: 4 if has_bias else 3]
    found = compute(BinaryBases(accumulator=WIDE, groups=groups), *(torch.from_numpy(operand) for operand in operands))
    for output in range(outputs):
        first = output // (outputs // groups) * (inputs // groups)
        part = vectors[..., first : first + inputs // groups]
        expected = np.full(vectors.shape[:2], bias[output] if has_bias else 0)
        for base in range(bases):
            positive = signs[output, base] > 0
            for plane in range(bits):
                ones = (part >> plane) & 1
                counted = 2 * (ones & positive).sum(-1) - ones.sum(-1)
                expected += coefficients[output, base] * (counted << plane)
        assert np.array_equal(found[..., output].numpy(), expected)


def test_long_sums_are_exact_where_float32_is_not() -> None:
    signs, coefficients, _ = _constants(3, 2, 4, 4096)
    vectors = np.random.default_rng(4).integers(0, 256, (5, 4096))
    found = compute(BinaryBases(accumulator=WIDE), *map(torch.from_numpy, (vectors, signs, coefficients)))
    assert np.array_equal(found.numpy(), vectors @ effective_weights(signs, coefficients).T)
    assert abs(found).max() > 1 << 24


def test_accumulator_is_the_narrowest_that_the_extremes_need() -> None:
    signs, coefficients, bias = _constants(5, 3, 2, 8)
    build = GraphBuilder("extremes")
    graph = build.finish(build.binary_bases("y", build.input("x", (8,), unsigned(4)), signs, coefficients, bias))
    assert graph.constants["y.bases"].bits == 3 * 2 * 8
    weights = effective_weights(signs, coefficients)
    frames = np.concatenate([np.where(weights > 0, 15, 0), np.where(weights < 0, 15, 0)])
    outputs = trace(graph, frames)["y"]
    accumulator = graph.tensors["y"].number_format
    assert accumulator.holds_range(int(outputs.min()), int(outputs.max()))
    assert not signed(accumulator.bits - 1).holds_range(int(outputs.min()), int(outputs.max()))


def test_too_narrow_an_accumulator_is_refused() -> None:
    build = GraphBuilder("narrow")
    edge = build.input("x", (4,), unsigned(2))
    bases = build.constant("b", np.array([[[1, 1, -1, 1], [1, 1, 1, 1]]]), BIPOLAR)
    coefficients = build.constant("c", np.array([[4, 3]]))
    # Weights 7, 7, -1, 7 by words up to 3: -3 to 63.
    build.node("y", BinaryBases(accumulator=signed(7)), edge, bases, coefficients)
    build.finish("y")
    build.node("z", BinaryBases(accumulator=signed(6)), edge, bases, coefficients)
    with pytest.raises(GraphError, match="node z: sums reach from -3 to 63, more than the accumulator format s6 holds"):
        build.finish("y", "z")


@pytest.mark.parametrize(
    ("vectors", "bases", "coefficients", "message"),
    [
        ((unsigned(4), (9,)), (4, 2, 8), (4, 2), "the last axis must have 8 elements"),
        ((unsigned(4), (8,)), (4, 8), (4, 2), "bases of shape (outputs, bases, inputs) = (4, 8) do not fit"),
        ((unsigned(4), (8,)), (4, 2, 8), (4, 3), "shape (4, 3), but 4 outputs of 2 bases need (4, 2)"),
        ((signed(4), (8,)), (4, 2, 8), (4, 2), "unsigned words, whose bits it counts, not s4"),
        ((BIPOLAR, (8,)), (4, 2, 8), (4, 2), "unsigned words, whose bits it counts, not bipolar"),
    ],
)
def test_operands_that_do_not_fit_are_refused(vectors: Any, bases: Any, coefficients: Any, message: str) -> None:
    element, shape = vectors
    with pytest.raises(GraphError, match=re.escape(message)):
        infer(
            BinaryBases(accumulator=WIDE),
            Tensor(shape=shape, number_format=element),
            Tensor(shape=bases, number_format=BIPOLAR),
            Tensor(shape=coefficients, number_format=signed(16)),
        )


def test_bases_groups_and_biases_that_do_not_fit_are_refused() -> None:
    vectors = Tensor(shape=(8,), number_format=unsigned(4))
    bases = Tensor(shape=(3, 2, 4), number_format=BIPOLAR)
    coefficients = Tensor(shape=(3, 2), number_format=signed(16))
    with pytest.raises(GraphError, match="2 groups do not divide 3 outputs"):
        infer(BinaryBases(accumulator=WIDE, groups=2), vectors, bases, coefficients)
    with pytest.raises(GraphError, match="bases are bipolar, -1 or \\+1, not s2"):
        infer(
            BinaryBases(accumulator=WIDE),
            vectors,
            Tensor(shape=(3, 2, 8), number_format=signed(2)),
            coefficients,
        )
    with pytest.raises(GraphError, match="the bias has shape"):
        infer(
            BinaryBases(accumulator=WIDE),
            vectors,
            Tensor(shape=(3, 2, 8), number_format=BIPOLAR),
            coefficients,
            Tensor(shape=(2,), number_format=signed(16)),
        )


def test_constants_must_be_constants_stored_raw() -> None:
    build = GraphBuilder("storage")
    edge = build.input("x", (4,), unsigned(2))
    graph = build.finish(build.binary_bases("y", edge, np.ones((2, 1, 4)), np.array([[3], [-2]])))
    assert verify(graph) is graph
    with pytest.raises(GraphError, match="only weights of a MatrixVector"):
        with_storage(graph, {"y.bases": Shared()})
    other = GraphBuilder("activations")
    edge, coefficients = other.input("x", (4,), unsigned(2)), other.input("c", (2, 1), signed(4))
    other.node("y", BinaryBases(accumulator=WIDE), edge, other.constant("b", np.ones((2, 1, 4)), BIPOLAR), coefficients)
    with pytest.raises(GraphError, match="the coefficients 'c' are not a constant"):
        other.finish("y")


def test_grouped_bases_come_back_from_disk(tmp_path: Path) -> None:
    signs, coefficients, bias = _constants(6, 4, 3, 9)
    build = GraphBuilder("disk")
    windows = build.sliding_window("w", build.input("x", (5, 5, 2), unsigned(3)), (3, 3), groups=2)
    graph = build.finish(build.binary_bases("y", windows, signs, coefficients, bias, groups=2))
    save_graph(graph, tmp_path)
    again = load_graph(tmp_path)
    assert graphs_equal(graph, again)
    frames = np.random.default_rng(7).integers(0, 8, (2, 5, 5, 2))
    assert np.array_equal(trace(again, frames)["y"], trace(graph, frames)["y"])
