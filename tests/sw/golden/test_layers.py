"""The layers of light networks, held against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.sw.golden import compute
from karui.sw.ir import (
    Add,
    ChannelShuffle,
    Concat,
    DepthwiseConv,
    DoubleRounding,
    MatrixVector,
    MaxPool,
    MaxUnpool,
    SlidingWindow,
    SumPool,
)
from karui.sw.numerics import signed

sizes = st.integers(1, 3)
pairs = st.tuples(sizes, sizes)
margins = st.tuples(*[st.integers(0, 2)] * 4)


def random_integers(seed: int, *shape: int, extent: int = 8) -> torch.Tensor:
    return torch.randint(1 - extent, extent, shape, generator=torch.Generator().manual_seed(seed))


def channels_first(maps: torch.Tensor) -> torch.Tensor:
    return maps.permute(0, 3, 1, 2).double()


def channels_last(maps: torch.Tensor) -> torch.Tensor:
    return maps.permute(0, 2, 3, 1).long()


def padded(maps: torch.Tensor, padding: tuple[int, int, int, int], value: float) -> torch.Tensor:
    top, left, bottom, right = padding
    return functional.pad(channels_first(maps), (left, right, top, bottom), value=value)


@settings(deadline=None)
@given(groups=sizes, per_group=pairs, kernel=pairs, stride=pairs, padding=margins, seed=st.integers(0, 99))
def test_grouped_convolution_is_torchs(groups, per_group, kernel, stride, padding, seed) -> None:
    inputs, outputs = per_group
    maps = random_integers(seed, 2, 5, 6, groups * inputs)
    weights = random_integers(seed + 1, groups * outputs, inputs, *kernel)
    bias = random_integers(seed + 2, groups * outputs)
    expected = functional.conv2d(
        padded(maps, padding, 2), weights.double(), bias.double(), stride=stride, groups=groups
    )
    window = SlidingWindow(kernel=kernel, stride=stride, padding=padding, pad_value=2, groups=groups)
    rows = weights.permute(0, 2, 3, 1).flatten(start_dim=1)
    sums = compute(MatrixVector(accumulator=signed(32), groups=groups), compute(window, maps), rows, bias)
    assert torch.equal(sums, channels_last(expected))


@settings(deadline=None)
@given(channels=st.integers(1, 5), kernel=pairs, stride=pairs, padding=margins, seed=st.integers(0, 99))
def test_depthwise_convolution_is_torchs(channels, kernel, stride, padding, seed) -> None:
    maps = random_integers(seed, 2, 5, 6, channels)
    weights, bias = random_integers(seed + 1, *kernel, channels), random_integers(seed + 2, channels)
    filters = weights.permute(2, 0, 1).unsqueeze(1).double()
    surrounded = padded(maps, padding, -3)
    op = DepthwiseConv(kernel=kernel, stride=stride, padding=padding, pad_value=-3, accumulator=signed(32))
    expected = functional.conv2d(surrounded, filters, stride=stride, groups=channels)
    assert torch.equal(compute(op, maps, weights), channels_last(expected))
    expected = functional.conv2d(surrounded, filters, bias.double(), stride=stride, groups=channels)
    assert torch.equal(compute(op, maps, weights, bias), channels_last(expected))


def test_depthwise_convolution_with_a_multiplier_is_grouped() -> None:
    maps, weights = random_integers(0, 1, 5, 5, 4), random_integers(1, 12, 1, 3, 3)
    expected = functional.conv2d(channels_first(maps), weights.double(), groups=4)
    windows = compute(SlidingWindow(kernel=(3, 3), groups=4), maps)
    sums = compute(MatrixVector(accumulator=signed(32), groups=4), windows, weights.flatten(start_dim=1))
    assert torch.equal(sums, channels_last(expected))


def test_grouped_products_are_exact_above_float32() -> None:
    vectors = torch.tensor([[(1 << 24) + 1, 1, 1, (1 << 24) + 1]])
    weights = torch.tensor([[1, 2], [3, -1]])
    sums = compute(MatrixVector(accumulator=signed(40), groups=2), vectors, weights)
    assert sums.tolist() == [[(1 << 24) + 3, 3 - (1 << 24) - 1]]


@st.composite
def pools(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    return kernel, draw(pairs), tuple(draw(st.integers(0, size // 2)) for size in kernel)


@settings(deadline=None)
@given(pools(), st.integers(0, 99))
def test_padded_max_pool_is_torchs(pool, seed: int) -> None:
    kernel, stride, (rows, columns) = pool
    # Negative alone: a border of zeros would win everywhere.
    maps = random_integers(seed, 2, 7, 6, 3) - 20
    expected = functional.max_pool2d(channels_first(maps), kernel, stride, (rows, columns))
    op = MaxPool(kernel=kernel, stride=stride, padding=(rows, columns, rows, columns))
    assert torch.equal(compute(op, maps), channels_last(expected))


def test_max_pool_may_be_padded_on_one_side() -> None:
    maps = torch.tensor([[-5, -3], [-2, -9]]).reshape(1, 2, 2, 1)
    op = MaxPool(kernel=(2, 2), stride=(2, 2), padding=(1, 0, 1, 0))
    assert compute(op, maps).flatten().tolist() == [-3, -2]


@settings(deadline=None)
@given(st.tuples(st.integers(1, 3), st.integers(1, 3)), st.integers(0, 99))
def test_unpooling_is_torchs(kernel: tuple[int, int], seed: int) -> None:
    """Of few values, so that many are equal: the first of them is the place."""
    maps = random_integers(seed, 2, 2 * kernel[0], 3 * kernel[1], 3) % 4
    elements = random_integers(seed + 1, 2, 2, 3, 3)
    _, places = functional.max_pool2d(channels_first(maps), kernel, return_indices=True)
    expected = functional.max_unpool2d(channels_first(elements), places, kernel)
    assert torch.equal(compute(MaxUnpool(kernel=kernel), elements, maps), channels_last(expected))


@settings(deadline=None)
@given(pools(), st.integers(0, 99))
def test_sum_pool_is_torchs_average_times_the_window(pool, seed: int) -> None:
    kernel, stride, (rows, columns) = pool
    maps = random_integers(seed, 2, 7, 6, 3)
    expected = functional.avg_pool2d(channels_first(maps), kernel, stride, (rows, columns), divisor_override=1)
    op = SumPool(kernel=kernel, stride=stride, padding=(rows, columns, rows, columns))
    assert torch.equal(compute(op, maps), channels_last(expected))


def test_global_sum_pool_is_the_sum() -> None:
    maps = random_integers(5, 3, 4, 6, 2)
    assert torch.equal(compute(SumPool(kernel=(4, 6), stride=(1, 1)), maps), maps.sum(dim=(1, 2), keepdim=True))


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6, 12])
def test_channel_shuffle_is_torchs(groups: int) -> None:
    maps = random_integers(groups, 2, 3, 4, 12)
    expected = torch.nn.ChannelShuffle(groups)(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    op = ChannelShuffle(groups=groups)
    assert torch.equal(compute(op, maps), expected)
    assert torch.equal(compute(op, maps[:, 0, 0]), expected[:, 0, 0])


def test_add_aligns_and_concat_joins() -> None:
    one, other = random_integers(0, 2, 3, 3, 4), random_integers(1, 2, 3, 3, 4)
    assert torch.equal(compute(Add(shifts=(3, 1)), one, other), 8 * one + 2 * other)
    joined = compute(Concat(), one, other[..., :1], other)
    expected = torch.cat([maps.permute(0, 3, 1, 2) for maps in (one, other[..., :1], other)], dim=1)
    assert torch.equal(joined, expected.permute(0, 2, 3, 1))


def test_double_rounding_follows_each_channel() -> None:
    values = torch.tensor([[100, 3, -5, 7], [-100, -3, 5, 1 << 20]])
    multipliers, exponents = torch.tensor([1 << 30] * 4), torch.tensor([0, -1, 2, 0])
    op = DoubleRounding(output=signed(8), zero_point=10, minimum=-30, maximum=120)
    # Halved, ties up: 50, 2, -10, 4 and -50, -1, 10, 2**19; then the second channel halved, ties away from zero.
    assert compute(op, values, multipliers, exponents).tolist() == [[60, 11, 0, 14], [-30, 9, 20, 120]]
