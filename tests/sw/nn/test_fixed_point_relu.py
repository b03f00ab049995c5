"""Integer requantization against Python's own integers."""

import pytest
import torch

from karui.sw.nn.fixed_point_relu import FixedPointReLU


def test_equals_integer_arithmetic() -> None:
    generator = torch.Generator().manual_seed(0)
    multiplier = torch.tensor([32767, -32768, 1, 0, 12345])
    offset = torch.tensor([-(2**20), 2**40, 2**18, 77 << 19, -1])
    layer = FixedPointReLU(5, bits=8)
    layer.set_parameters(multiplier, offset, 19)
    accumulators = torch.randint(-200_000, 200_000, (1000, 5), generator=generator)
    outputs = layer(accumulators.float())
    for row, values in zip(accumulators.tolist(), outputs.tolist(), strict=True):
        for x, y, m, b in zip(row, values, multiplier.tolist(), offset.tolist(), strict=True):
            assert y == min(max((2 * (x * m + b) + 2**19) // 2**20, 0), 255)


def test_ties_round_up() -> None:
    layer = FixedPointReLU(1, bits=4)
    layer.set_parameters(torch.tensor([1]), torch.tensor([0]), 1)
    assert layer(torch.tensor([[-1.0], [1.0], [3.0], [30.0], [29.0], [40.0]])).flatten().tolist() == [
        0,
        1,
        2,
        15,
        15,
        15,
    ]


def test_no_shift_is_the_identity_within_range() -> None:
    layer = FixedPointReLU(2, bits=8)
    assert layer(torch.tensor([[3.0, -3.0]])).tolist() == [[3, 0]]


def test_wide_multipliers_are_refused() -> None:
    layer = FixedPointReLU(1)
    with pytest.raises(ValueError, match="32768 do not fit 16 signed bits"):
        layer.set_parameters(torch.tensor([32768]), torch.tensor([0]), 0)
    with pytest.raises(ValueError, match="shift must be 0 or more, not -1"):
        layer.set_parameters(torch.tensor([1]), torch.tensor([0]), -1)
    with pytest.raises(ValueError, match="1 to 16 bits, not 0"):
        FixedPointReLU(1, bits=0)
