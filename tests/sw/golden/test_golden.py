import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given
from hypothesis import strategies as st

from karui.sw.golden import compute, evaluate, trace
from karui.sw.ir import ArgMax, GraphBuilder, GraphError, MatrixVector, MaxPool, Requantize, SlidingWindow, Threshold
from karui.sw.numerics import BIPOLAR, Overflow, Rounding, signed, unsigned


@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    pad_value=st.sampled_from([-1, 0, 3]),
    seed=st.integers(0, 9),
)
def test_sliding_window_and_matrix_vector_are_a_convolution(kernel, stride, padding, pad_value, seed) -> None:
    rng = torch.Generator().manual_seed(seed)
    maps = torch.randint(-7, 8, (2, 5, 6, 3), generator=rng)
    weights = torch.randint(-7, 8, (4, 3, *kernel), generator=rng)
    top, left, bottom, right = padding
    padded = functional.pad(maps.permute(0, 3, 1, 2), (left, right, top, bottom), value=pad_value)
    expected = functional.conv2d(padded.double(), weights.double(), stride=stride).long().permute(0, 2, 3, 1)
    window = SlidingWindow(kernel=kernel, stride=stride, padding=padding, pad_value=pad_value)
    matrix = weights.permute(0, 2, 3, 1).flatten(start_dim=1)
    sums = compute(MatrixVector(accumulator=signed(32)), compute(window, maps), matrix)
    assert torch.equal(sums, expected)


def test_matrix_vector_is_exact_above_float32() -> None:
    vectors = torch.tensor([[(1 << 24) + 1, 1]])
    weights = torch.tensor([[1, 2], [3, -1]])
    assert compute(MatrixVector(accumulator=signed(40)), vectors, weights).tolist() == [
        [(1 << 24) + 3, 3 * ((1 << 24) + 1) - 1]
    ]
    with pytest.raises(OverflowError, match="more than float64 holds exactly"):
        compute(MatrixVector(accumulator=signed(64)), torch.tensor([[1 << 53]]), torch.tensor([[1]]))


def test_threshold_counts_thresholds_reached() -> None:
    values = torch.tensor([[[-3, 0], [2, 5]]])
    thresholds = torch.tensor([[-3, 0, 2], [1, 5, 5]])
    assert compute(Threshold(output=unsigned(2)), values, thresholds).tolist() == [[[1, 0], [3, 3]]]
    assert compute(Threshold(output=BIPOLAR), values, torch.tensor([[0]])).tolist() == [[[-1, 1], [1, 1]]]


@pytest.mark.parametrize("rounding", Rounding)
def test_requantize_is_the_rounded_scaled_value(rounding: Rounding) -> None:
    values = torch.arange(-200, 200).reshape(-1, 2)
    multiplier, offset = torch.tensor([5, -3]), torch.tensor([7, 0])
    exact = (values * multiplier + offset).double() / 8
    rounded = {
        Rounding.FLOOR: exact.floor(),
        Rounding.HALF_UP: (exact + 0.5).floor(),
        Rounding.HALF_EVEN: exact.round(),
    }[rounding].long()
    for overflow, expected in (
        (Overflow.SATURATE, rounded.clip(-8, 7)),
        (Overflow.WRAP, (rounded + 8) % 16 - 8),
    ):
        op = Requantize(shift=3, rounding=rounding, overflow=overflow, output=signed(4))
        assert torch.equal(compute(op, values, multiplier, offset), expected)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_max_pool_is_torchs(kernel: int, stride: int, seed: int) -> None:
    maps = torch.randint(-50, 50, (2, 7, 6, 3), generator=torch.Generator().manual_seed(seed))
    expected = functional.max_pool2d(maps.permute(0, 3, 1, 2).double(), kernel, stride).long().permute(0, 2, 3, 1)
    assert torch.equal(compute(MaxPool(kernel=(kernel, kernel), stride=(stride, stride)), maps), expected)


def test_arg_max_names_the_lowest_of_equals() -> None:
    assert compute(ArgMax(), torch.tensor([[1, 5, 5, 0], [-2, -2, -2, -2]])).tolist() == [[1], [0]]


def test_interpreter_runs_in_chunks_and_checks_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    build = GraphBuilder("pair")
    edge = build.input("x", (3,), unsigned(2))
    graph = build.finish(build.matrix_vector("sum", edge, np.array([[1, 2, 3], [0, -1, 4]])))
    frames = np.random.default_rng(0).integers(0, 4, (7, 3))
    monkeypatch.setattr("karui.sw.golden.interpreter._CHUNK_ELEMENTS", 6)
    done: list[int] = []
    outputs = evaluate(graph, frames, progress=done.append)
    assert np.array_equal(outputs, frames @ np.array([[1, 2, 3], [0, -1, 4]]).T)
    assert done == [2, 4, 6, 7]
    with pytest.raises(GraphError, match=r"input x: frames have shape \(2,\), not \(3,\)"):
        trace(graph, frames[:, :2])
    with pytest.raises(GraphError, match="input x: values from 0 to 4 are not all words of the format u2"):
        trace(graph, np.array([[0, 4, 1]]))
