"""Power-of-two weight quantization: grid, choice of the scale, stability."""

import itertools

import pytest
import torch

from karui.sw.nn.weight_quantizer import quantize_weight, quantized_weight

BITS = range(2, 9)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("shape", [(6, 5, 3, 3), (6, 11)])
def test_values_are_integers_on_the_grid(bits: int, per_channel: bool, shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(bits)) * 0.1
    integer, fraction = quantize_weight(weight, bits, per_channel=per_channel)
    assert torch.equal(integer, integer.round())
    assert integer.min() >= -(2 ** (bits - 1))
    assert integer.max() <= 2 ** (bits - 1) - 1
    assert fraction.dtype == torch.int64
    assert fraction.shape == ((shape[0],) if per_channel else (1,))
    rows = integer.view(len(fraction), -1).double() * 2.0 ** -fraction.double()[:, None]
    assert torch.equal(quantized_weight(weight, bits, per_channel=per_channel).double(), rows.view(shape))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("spread", ["normal", "uniform", "heavy", "positive"])
def test_no_other_power_of_two_has_a_smaller_error(bits: int, spread: str) -> None:
    """Against all scales, in float64, on rows of every size from 1 up."""
    generator = torch.Generator().manual_seed(7 * bits)
    for size in (1, 2, 3, 9, 64, 500):
        scale = 10 ** torch.empty(40, 1).uniform_(-4, 3, generator=generator)
        weight = scale * torch.randn(40, size, generator=generator)
        if spread == "uniform":
            weight = torch.rand(40, size, generator=generator) - 0.5
        elif spread == "heavy":
            weight = weight**3
        elif spread == "positive":
            weight = weight.abs()
        integer, fraction = quantize_weight(weight, bits, per_channel=True)
        reached = (weight.double() - integer.double() * 2.0 ** -fraction.double()[:, None]).square().sum(1)
        for shift in range(-4, 5):
            step = 2.0 ** -(fraction.double() + shift)[:, None]
            other = (weight.double() / step).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step
            error = (weight.double() - other).square().sum(1)
            assert torch.all(reached <= error * (1 + 1e-5)), f"{size} weights, shift {shift}"


def test_scale_of_a_layer_is_the_best_for_all_rows_together() -> None:
    weight = torch.tensor([[0.5, -0.5, 0.25], [112.0, -100.0, 100.0]])
    integer, fraction = quantize_weight(weight, 4, per_channel=False)
    assert fraction.tolist() == [-4]
    assert integer.tolist() == [[0, 0, 0], [7, -6, 6]]
    integer, fraction = quantize_weight(weight, 4, per_channel=True)
    assert fraction.tolist() == [2, -4]
    assert integer.tolist() == [[2, -2, 1], [7, -6, 6]]


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_grid_points_come_back_exhaustively(bits: int) -> None:
    """Every vector of three integers, at several scales: a checkpoint's weights are its model's, integers included."""
    values = range(-(2 ** (bits - 1)), 2 ** (bits - 1))
    grid = torch.tensor(list(itertools.product(values, repeat=3)), dtype=torch.float32)
    for exponent in (-30, -3, 0, 5):
        weight = grid * 2.0**exponent
        assert torch.equal(quantized_weight(weight, bits, per_channel=True), weight)
        integer, fraction = quantize_weight(weight, bits, per_channel=True)
        assert torch.equal(integer * 2.0 ** -fraction[:, None].float(), weight)
        odd = (integer.to(torch.int64) % 2 != 0).any(1)
        assert torch.equal(odd, (grid != 0).any(1))
        assert torch.all(fraction[~odd] == 0)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_quantizing_twice_is_quantizing_once(bits: int, per_channel: bool) -> None:
    generator = torch.Generator().manual_seed(bits)
    weight = torch.randn(3000, 3, generator=generator) * 10 ** torch.empty(3000, 1).uniform_(-3, 3, generator=generator)
    once = quantized_weight(weight, bits, per_channel=per_channel)
    assert torch.equal(quantized_weight(once, bits, per_channel=per_channel), once)
    for first, second in zip(
        quantize_weight(weight, bits, per_channel=per_channel),
        quantize_weight(once, bits, per_channel=per_channel),
        strict=True,
    ):
        assert torch.equal(first, second)


def test_ties_round_to_even_and_zero_rows_stay_zero() -> None:
    weight = torch.tensor([[101.0, 0.5, 1.5, -2.5], [0.0, 0.0, 0.0, 0.0]])
    integer, fraction = quantize_weight(weight, 8, per_channel=True)
    assert fraction[0] == 0
    assert integer.tolist() == [[101, 0, 2, -2], [0, 0, 0, 0]]


def test_vanishing_and_huge_weights_keep_finite_scales() -> None:
    weight = torch.tensor([[1e-42, -1e-40], [3e37, -1e30]])
    quantized = quantized_weight(weight, 2, per_channel=True)
    assert quantized[0].tolist() == [0, 0]
    assert torch.isfinite(quantized).all()


def test_gradient_passes_unchanged() -> None:
    weight = torch.randn(4, 9, requires_grad=True)
    upstream = torch.randn(4, 9)
    quantized_weight(weight, 2, per_channel=True).backward(upstream)
    assert weight.grad is not None
    assert torch.equal(weight.grad, upstream)
