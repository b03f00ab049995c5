"""Fastfood in integers: its forward values word by word, its gradients, its refusals."""

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard

from karui.sw.nn.fastfood import AdaptiveFastfood
from karui.sw.nn.quant_fastfood import QuantFastfood
from karui.sw.numerics import Rounding, saturate, shift_right


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize(("inputs", "outputs", "word_bits"), [(16, 16, 8), (13, 40, 5), (64, 50, 12)])
def test_values_are_those_of_integers(inputs: int, outputs: int, word_bits: int, rounding: Rounding) -> None:
    torch.manual_seed(inputs)
    layer = QuantFastfood(inputs, outputs, sigma=3.0, bias=True, word_bits=word_bits, rounding=rounding).double()
    layer.bias.data.normal_()
    words = torch.randint(0, 256, (20, inputs))
    transform, d = hadamard(layer.size, dtype=np.int64), layer.size
    gaussian, gaussian_fraction = layer.integer_gaussian()
    scale, scale_fraction = layer.integer_scale()
    shift = gaussian_fraction + 6 - layer.word_fraction
    assert shift > 0
    padded = np.pad(words.numpy(), ((0, 0), (0, d - inputs)))
    rows = []
    for block in range(layer.blocks):
        part = slice(block * d, (block + 1) * d)
        mixed = (padded * layer.integer_signs()[part].numpy()) @ transform
        products = mixed[:, layer.permutation[part].numpy() - block * d] * gaussian[part].numpy()
        limit = 1 << (word_bits - 1)
        rows.append(saturate(shift_right(products, shift, rounding), -limit, limit - 1) @ transform)
    sums = np.concatenate(rows, 1)[:, :outputs] * scale.numpy() + layer.integer_bias().numpy()
    assert np.array_equal(
        layer(words.double() / 64).detach().numpy(), sums * 2.0 ** -(scale_fraction + layer.word_fraction)
    )


def test_wide_words_come_near_the_real_layer() -> None:
    torch.manual_seed(0)
    layer = QuantFastfood(100, 200, word_bits=16)
    real = AdaptiveFastfood(100, 200)
    real.load_state_dict(layer.state_dict() | {"signs": layer.integer_signs().float()})
    features = torch.rand(50, 100)
    expected = real(features)
    assert (layer(features) - expected).norm() < 0.02 * expected.norm()


def test_gradients_are_those_of_the_real_layer_with_its_values() -> None:
    torch.manual_seed(1)
    layer = QuantFastfood(12, 24, limit_exponent=12, word_bits=18, mixing_shifts=(0,) * 4, input_fraction=8, bias=True)
    features = (torch.randint(0, 256, (5, 12)) / 256).requires_grad_()
    gaussian, gaussian_fraction = layer.integer_gaussian()
    scale, scale_fraction = layer.integer_scale()
    real = AdaptiveFastfood(12, 24, bias=True)
    values = {
        "signs": layer.integer_signs().float(),
        "gaussian": gaussian * 2.0**-gaussian_fraction,
        "scale": scale * 2.0**-scale_fraction / real.normalization,
        "permutation": layer.permutation,
        "bias": torch.zeros(24),
    }
    real.load_state_dict(values)
    gradient = torch.randn(5, 24)
    same = features.detach().clone().requires_grad_()
    layer(features).backward(gradient)
    real(same).backward(gradient)
    assert torch.allclose(features.grad, same.grad, atol=1e-4)
    for name in ("signs", "gaussian", "bias"):
        assert torch.allclose(getattr(layer, name).grad, getattr(real, name).grad, rtol=1e-3, atol=1e-3)
    # S multiplies rounded words.
    assert torch.allclose(layer.scale.grad, real.scale.grad, atol=0.1)


def test_words_out_of_range_pass_no_gradient() -> None:
    torch.manual_seed(2)
    layer = QuantFastfood(4, 4, limit_exponent=-6, word_bits=2)
    layer(torch.ones(1, 4)).sum().backward()
    mixed = torch.tensor(hadamard(4)) @ layer.integer_signs()
    outside = (mixed[layer.permutation] * layer.gaussian).abs() > 2**-5
    assert outside.any()
    assert not layer.gaussian.grad[outside].any()


def test_a_layer_that_is_not_adaptive_trains_its_bias_alone() -> None:
    layer = QuantFastfood(8, 8, adaptive=False, bias=True)
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    assert len(list(QuantFastfood(8, 8).parameters())) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_bits": 9}, "weight_bits must be 2 to 8, not 9"),
        ({"word_bits": 1}, "word_bits must be 2 to 18, not 1"),
        ({"projecting_shifts": (1, 1)}, "projecting_shifts must be 3 shifts"),
        ({"mixing_shifts": (1, -1, 0), "input_fraction": 0}, "mixing_shifts must be 3 shifts"),
        ({"mixing_shifts": (1, 1, 1)}, "need the input_fraction"),
    ],
)
def test_wrong_parameters_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantFastfood(8, 8, **arguments)
