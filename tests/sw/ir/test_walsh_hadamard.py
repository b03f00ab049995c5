"""Walsh-Hadamard transform and gather in the graph: values, ranges, refusals, and their way over the disk."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from karui.sw.golden import compute, trace
from karui.sw.ir import (
    Gather,
    GraphBuilder,
    GraphError,
    Tensor,
    WalshHadamard,
    butterfly_ranges,
    graphs_equal,
    infer,
    load_graph,
    save_graph,
)
from karui.sw.numerics import BIPOLAR, NumberFormat, Rounding, shift_right, signed, unsigned

FORMATS = [unsigned(1), unsigned(8), signed(2), signed(8), BIPOLAR]


@pytest.mark.parametrize("stages", range(1, 13))
def test_transform_is_the_hadamard_matrix(stages: int) -> None:
    size = 1 << stages
    values = np.random.default_rng(stages).integers(-(1 << 15), 1 << 15, (3, 2, 2 * size))
    expected = values.reshape(3, 2, 2, size) @ hadamard(size, dtype=np.int64)
    transformed = compute(WalshHadamard(size=size), torch.from_numpy(values))
    assert np.array_equal(transformed.numpy(), expected.reshape(values.shape))


@settings(deadline=None)
@given(
    stages=st.integers(1, 5),
    rounding=st.sampled_from(Rounding),
    shifts=st.tuples(*[st.integers(0, 3)] * 5),
    data=st.data(),
)
def test_each_stage_rounds_by_itself(
    stages: int, rounding: Rounding, shifts: tuple[int, ...], data: st.DataObject
) -> None:
    size = 1 << stages
    op = WalshHadamard(size=size, shifts=shifts[:stages], rounding=rounding)
    values = data.draw(st.lists(st.integers(-128, 127), min_size=size, max_size=size))
    expected = list(values)
    for stage in range(stages):
        distance = size >> (stage + 1)
        before = list(expected)
        for index in range(size):
            upper = index & ~distance
            term = (
                before[upper] - before[upper | distance]
                if index & distance
                else before[index] + before[index + distance]
            )
            expected[index] = shift_right(term, shifts[stage], rounding)
    outputs = compute(op, torch.tensor([values]))[0].tolist()
    assert outputs == expected
    word = infer(op, Tensor(shape=(size,), number_format=signed(8))).number_format
    assert word.holds_range(min(outputs), max(outputs))


@pytest.mark.parametrize("element", FORMATS, ids=str)
def test_formats_are_the_narrowest_of_exact_sums(element: NumberFormat) -> None:
    op = WalshHadamard(size=4)
    build = GraphBuilder("ends")
    graph = build.finish(build.walsh_hadamard("h", build.input("x", (4,), element), 4))
    frames = np.array(list(itertools.product((element.minimum, element.maximum), repeat=4)))
    outputs = trace(graph, frames)["h"]
    found = graph.tensors["h"].number_format
    low, high = butterfly_ranges(op, element)[-1]
    assert low <= outputs.min()
    assert outputs.max() <= high
    assert found.kind == "signed"
    assert found.holds_range(low, high)
    assert not signed(found.bits - 1).holds_range(int(outputs.min()), int(outputs.max()))


def test_floors_of_halves_keep_the_width() -> None:
    sizes = {rounding: WalshHadamard(size=1024, shifts=(1,) * 10, rounding=rounding) for rounding in Rounding}
    words = Tensor(shape=(1024,), number_format=signed(16, 12))
    assert infer(sizes[Rounding.FLOOR], words).number_format == signed(16, 2)
    # (32767 + 32768) / 2 rounds up to 32768.
    assert infer(sizes[Rounding.HALF_UP], words).number_format == signed(17, 2)
    assert infer(WalshHadamard(size=1024), words).number_format == signed(26, 12)


def test_gather_pads_repeats_and_permutes(tmp_path: Path) -> None:
    build = GraphBuilder("picks")
    edge = build.input("x", (2, 3), unsigned(4, 1))
    picked = build.gather("picked", edge, np.array([2, -1, 0, 0, -1, 1, 1, -1]))
    shifted = build.walsh_hadamard("shifted", picked, 8, shifts=(0, 1, 2), rounding=Rounding.HALF_EVEN)
    exact = build.walsh_hadamard("exact", picked, 4)
    graph = build.finish(shifted, exact)
    outputs = trace(graph, np.array([[[1, 2, 3], [4, 5, 6]]]))
    assert outputs["picked"].tolist() == [[[3, 0, 1, 1, 0, 2, 2, 0], [6, 0, 4, 4, 0, 5, 5, 0]]]
    assert str(graph.tensors["picked"]) == "2x8 u4 / 2^1"
    save_graph(graph, tmp_path)
    loaded = load_graph(tmp_path)
    assert graphs_equal(loaded, graph)
    assert loaded.node("shifted").op == WalshHadamard(size=8, shifts=(0, 1, 2), rounding=Rounding.HALF_EVEN)
    assert loaded.node("exact").op == WalshHadamard(size=4)


@pytest.mark.parametrize("size", [-2, 0, 1, 3, 24])
def test_sizes_are_powers_of_two(size: int) -> None:
    with pytest.raises(ValueError, match=f"not {size}"):
        WalshHadamard(size=size)


@pytest.mark.parametrize("shifts", [(), (1,), (1, 1, 1), (0, -1)])
def test_every_stage_has_a_shift(shifts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="2 stages"):
        WalshHadamard(size=4, shifts=shifts)


def test_operands_that_do_not_fit_are_named() -> None:
    with pytest.raises(GraphError, match="does not divide"):
        infer(WalshHadamard(size=8), Tensor(shape=(12,), number_format=signed(8)))
    with pytest.raises(GraphError, match="give its stages shifts"):
        infer(WalshHadamard(size=1024), Tensor(shape=(1024,), number_format=signed(54)))
    vector = Tensor(shape=(4,), number_format=signed(8))
    with pytest.raises(GraphError, match="vector of indices"):
        infer(Gather(), vector, Tensor(shape=(2, 2), number_format=signed(8)))


@pytest.mark.parametrize(
    ("element", "indices", "message"),
    [
        (signed(4), [0, 4], "indices are -1 to 3, not 0 to 4"),
        (signed(4), [0, -2], "indices are -1 to 3, not -2 to 0"),
        (BIPOLAR, [0, -1], "bipolar words have no zero"),
    ],
)
def test_indices_outside_are_refused(element: NumberFormat, indices: list[int], message: str) -> None:
    build = GraphBuilder("picks")
    edge = build.gather("picked", build.input("x", (4,), element), np.array(indices))
    with pytest.raises(GraphError, match=f"node picked: {message}"):
        build.finish(edge)


def test_indices_are_constant_and_activations_are_not() -> None:
    build = GraphBuilder("picks")
    one, other = build.input("x", (4,), unsigned(2)), build.input("y", (2,), unsigned(2))
    with pytest.raises(GraphError, match="'y' are not a constant"):
        build.finish(build.node("picked", Gather(), one, other))
    build = GraphBuilder("fixed")
    edge = build.constant("c", np.array([1, 2]))
    with pytest.raises(GraphError, match="'c' is a constant; WalshHadamard takes activations"):
        build.finish(build.walsh_hadamard("h", edge, 2))
