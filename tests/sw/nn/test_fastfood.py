"""Fastfood layers: the definition, gradients by the formulas, kernels, random projections, truncated layers."""

from itertools import pairwise

import pytest
import torch
from scipy.linalg import hadamard
from torch import Tensor, nn

from karui.sw.nn.fastfood import AdaptiveFastfood, Fastfood
from karui.sw.nn.quant_linear import QuantLinear
from karui.sw.nn.random_projection import KitchenSinkFeatures, RandomProjection
from karui.sw.nn.truncated_linear import TruncatedLinear


def block_matrices(layer: Fastfood, block: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """H, G, P and B of a block as dense matrices."""
    part = slice(block * layer.size, (block + 1) * layer.size)
    transform = torch.tensor(hadamard(layer.size), dtype=torch.float64)
    permutation = torch.eye(layer.size, dtype=torch.float64)[layer.permutation[part] - block * layer.size]
    return transform, layer.gaussian[part].diag(), permutation, layer.signs[part].diag()


@pytest.mark.parametrize(("inputs", "outputs"), [(8, 8), (5, 3), (16, 40), (1, 3), (800, 1024)])
def test_layer_is_its_definition(inputs: int, outputs: int) -> None:
    torch.manual_seed(inputs)
    layer = Fastfood(inputs, outputs, sigma=1.5).double()
    features = torch.randn(2, 3, inputs, dtype=torch.float64)
    padded = torch.nn.functional.pad(features, (0, layer.size - inputs))
    rows = []
    for block in range(layer.blocks):
        h, g, p, b = block_matrices(layer, block)
        rows.append(padded @ (h @ g @ p @ h @ b).T)
    expected = torch.cat(rows, -1)[..., :outputs] * layer.scale / (1.5 * layer.size**0.5)
    assert torch.allclose(layer(features), expected, rtol=1e-12, atol=1e-12)


def test_rows_have_the_lengths_of_gaussian_vectors() -> None:
    torch.manual_seed(0)
    layer = Fastfood(512, 4096, sigma=2.0)
    squares = (layer(torch.eye(512)) * 2).square().sum(0)
    # Chi squared of 512 degrees of freedom has the variance 1024.
    assert abs(squares.mean() - 512) < 4 * 32 / 64
    assert 0.85 < squares.var() / 1024 < 1.15


def test_gradients_are_those_of_the_formulas() -> None:
    torch.manual_seed(1)
    layer = AdaptiveFastfood(8, 8, sigma=0.7).double()
    features = torch.randn(8, dtype=torch.float64, requires_grad=True)
    h, g, p, b = block_matrices(layer, 0)
    gradient = torch.randn(8, dtype=torch.float64)
    layer(features).backward(gradient)
    dy, s = gradient * layer.normalization, layer.scale.diag()
    assert torch.allclose(layer.scale.grad, dy * (h @ g @ p @ h @ b @ features))
    assert torch.allclose(layer.gaussian.grad, (h.T @ s @ dy) * (p @ h @ b @ features))
    assert torch.allclose(layer.signs.grad, (h.T @ p.T @ g @ h.T @ s @ dy) * features)
    assert torch.allclose(features.grad, b @ h.T @ p.T @ g @ h.T @ s @ dy)


def test_gradients_by_differences() -> None:
    torch.manual_seed(2)
    layer = AdaptiveFastfood(5, 11, bias=True).double()
    features = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    names = ["signs", "gaussian", "scale", "bias"]

    def output(features: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (features,))

    values = [getattr(layer, name) for name in names]
    assert [name for name, _ in layer.named_parameters()] == ["bias", *names[:3]]
    assert torch.autograd.gradcheck(output, (features, *values))


def test_adaptive_layer_has_three_parameters_an_output() -> None:
    for outputs in (1024, 2048):
        layer = AdaptiveFastfood(800, outputs)
        assert sum(parameter.numel() for parameter in layer.parameters()) == 3 * outputs == layer.coefficients
        fixed = Fastfood(800, outputs)
        assert not list(fixed.parameters())
        assert fixed.coefficients == 3 * outputs


def kernel_error(projection: nn.Module, sigma: float) -> float:
    features = torch.randn(60, 24, generator=torch.Generator().manual_seed(3))
    phi = KitchenSinkFeatures()(projection(features))
    exact = torch.exp(-torch.cdist(features, features).square() / (2 * sigma**2))
    return (phi @ phi.T - exact).square().mean().sqrt().item()


@pytest.mark.parametrize("projection", [Fastfood, RandomProjection])
def test_kernel_error_falls_as_the_root_of_the_features(projection: type[Fastfood] | type[RandomProjection]) -> None:
    torch.manual_seed(4)
    sigma = 5.0
    sizes = [64 << (2 * step) for step in range(5)]
    errors = [sum(kernel_error(projection(24, size, sigma=sigma), sigma) for _ in range(4)) / 4 for size in sizes]
    # Four times the features, half the error.
    for large, small in pairwise(errors):
        assert 1.6 < large / small < 2.5
    # One feature's variance is at most a half, and those of a block are a little correlated.
    assert errors[-1] < (1 / sizes[-1]) ** 0.5


@pytest.mark.parametrize("arguments", [(0, 4, 1.0), (4, 0, 1.0), (4, 4, 0.0)])
def test_impossible_layers_are_refused(arguments: tuple[int, int, float]) -> None:
    for layer in (Fastfood, AdaptiveFastfood, RandomProjection):
        with pytest.raises(ValueError, match=f"{layer.__name__} needs at least one"):
            layer(*arguments[:2], sigma=arguments[2])


def test_vectors_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="takes vectors of 5 features, not of 6"):
        Fastfood(5, 8)(torch.zeros(2, 6))


def test_truncated_layer_is_the_nearest_of_its_rank() -> None:
    torch.manual_seed(5)
    dense = QuantLinear(12, 9)
    nn.init.normal_(dense.bias)
    features = torch.randn(20, 12)
    values = torch.linalg.svdvals(dense.weight)
    for rank in (1, 4, 9):
        layer = TruncatedLinear.from_linear(dense, rank)
        product = layer.second.weight @ layer.first.weight
        assert torch.allclose((product - dense.weight).norm(), values[rank:].norm(), atol=1e-5)
        assert torch.allclose(layer(features), features @ product.T + dense.bias, atol=1e-5)
        assert layer.first.weight.numel() + layer.second.weight.numel() == rank * 21
    with pytest.raises(ValueError, match="rank must be 1 to 9, not 10"):
        TruncatedLinear.from_linear(dense, 10)
