"""Capsule layers in floating point against the paper's equations, written as loops over capsules."""

import math

import pytest
import torch
from torch import Tensor

from karui.sw.nn.capsule import CapsulePrediction, DynamicRouting, MapToCapsules, SquaredLength, Squash


def squashed(vector: Tensor) -> Tensor:
    norm = vector.norm()
    return norm**2 / (1 + norm**2) * vector / norm


def routed(votes: Tensor, iterations: int) -> Tensor:
    """Procedure 1 of Sabour et al. 2017 on the votes (i, j, element) of one image."""
    inputs, outputs, _ = votes.shape
    logits = torch.zeros(inputs, outputs, dtype=votes.dtype)
    for iteration in range(iterations):
        shares = [[math.exp(b) / sum(math.exp(other) for other in row) for b in row] for row in logits.tolist()]
        capsules = [
            squashed(torch.stack([shares[i][j] * votes[i, j] for i in range(inputs)]).sum(0)) for j in range(outputs)
        ]
        if iteration < iterations - 1:
            for i in range(inputs):
                for j in range(outputs):
                    logits[i, j] += votes[i, j] @ capsules[j]
    return torch.stack(capsules)


def test_squash_keeps_the_direction_and_bounds_the_length() -> None:
    torch.manual_seed(1)
    capsules = torch.randn(3, 5 * 4, dtype=torch.float64) * 3
    result = Squash(length=4)(capsules).view(3, 5, 4)
    for given, got in zip(capsules.view(-1, 4), result.view(-1, 4), strict=True):
        torch.testing.assert_close(got, squashed(given))
    assert result.norm(dim=-1).max() < 1


def test_a_capsule_of_zeros_stays_zero_and_has_a_finite_gradient() -> None:
    capsules = torch.zeros(1, 8, requires_grad=True)
    result = Squash(length=4)(capsules)
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert not result.any()
    assert capsules.grad is not None
    assert capsules.grad.isfinite().all()


def test_a_maps_capsules_come_in_raster_order() -> None:
    # Channel type * 3 + element of 2 types.
    feature_map = torch.arange(6 * 2 * 4.0).view(1, 6, 2, 4)
    capsules = MapToCapsules()(feature_map).view(2 * 4 * 2, 3)
    for y in range(2):
        for x in range(4):
            for kind in range(2):
                assert torch.equal(capsules[(y * 4 + x) * 2 + kind], feature_map[0, kind * 3 : kind * 3 + 3, y, x])


def test_predictions_are_products_by_matrices_of_their_own() -> None:
    torch.manual_seed(2)
    layer = CapsulePrediction(5, 3, 2, 4).double()
    capsules = torch.randn(7, 15, dtype=torch.float64)
    votes = layer(capsules).view(7, 5, 2, 4)
    for i in range(5):
        for j in range(2):
            matrix = layer.weight.view(5, 2, 4, 3)[i, j]
            torch.testing.assert_close(votes[:, i, j], capsules.view(7, 5, 3)[:, i] @ matrix.T)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_routing_is_the_papers(iterations: int) -> None:
    torch.manual_seed(iterations)
    votes = torch.randn(3, 6, 4, 5, dtype=torch.float64)
    capsules = DynamicRouting(4, 5, iterations=iterations)(votes.flatten(1)).view(3, 4, 5)
    for given, got in zip(votes, capsules, strict=True):
        torch.testing.assert_close(got, routed(given, iterations))


def test_the_gradient_is_that_of_the_last_sums() -> None:
    torch.manual_seed(3)
    votes = torch.randn(2, 6, 4, 5, dtype=torch.float64, requires_grad=True)
    layer = DynamicRouting(4, 5)
    layer(votes.flatten(1)).sum().backward()
    coefficients = layer._coefficients(votes.detach().flatten(2))
    again = votes.detach().clone().requires_grad_()
    sums = torch.einsum("nji,nijd->njd", coefficients, again)
    norm = sums.norm(dim=2, keepdim=True)
    (sums * norm / (1 + norm**2)).sum().backward()
    assert votes.grad is not None
    assert again.grad is not None
    torch.testing.assert_close(votes.grad, again.grad)


def test_squared_lengths() -> None:
    capsules = torch.tensor([[3.0, 4.0, 0.0, 1.0, -2.0, 2.0]])
    assert SquaredLength(length=3)(capsules).tolist() == [[25.0, 9.0]]
    assert SquaredLength(length=2)(capsules).tolist() == [[25.0, 1.0, 8.0]]


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="length must be at least 1, not 0"):
        Squash(length=0)
    with pytest.raises(ValueError, match="iterations=0"):
        DynamicRouting(10, 16, iterations=0)
    with pytest.raises(ValueError, match="out_capsules=0"):
        CapsulePrediction(4, 8, 0, 16)
    with pytest.raises(ValueError, match="length must be at least 1, not -1"):
        SquaredLength(length=-1)
