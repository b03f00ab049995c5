"""Vectors of weights lie as hardware reads them."""

import pytest
import torch

from karui.sw.nn.weight_vectors import from_weight_vectors, weight_vectors


def test_vectors_of_a_convolution_reach_over_the_channels_of_a_tap() -> None:
    weight = torch.arange(3 * 8 * 2 * 2).view(3, 8, 2, 2)
    vectors = weight_vectors(weight, 4)
    assert vectors.shape == (24, 4)
    assert torch.equal(vectors[0], weight[0, :4, 0, 0])
    assert torch.equal(vectors[1], weight[0, 4:, 0, 0])
    assert torch.equal(vectors[2], weight[0, :4, 0, 1])
    assert torch.equal(vectors[-1], weight[2, 4:, 1, 1])


def test_single_weights_and_matrices_keep_their_order() -> None:
    kernel, matrix = torch.arange(24).view(2, 3, 2, 2), torch.arange(24).view(6, 4)
    assert torch.equal(weight_vectors(kernel, 1), torch.arange(24)[:, None])
    assert torch.equal(weight_vectors(matrix, 2), torch.arange(24).view(12, 2))


@pytest.mark.parametrize("shape", [(6, 8), (4, 8, 3, 3)])
@pytest.mark.parametrize("length", [1, 4, 8])
def test_the_inverse(shape: tuple[int, ...], length: int) -> None:
    weight = torch.randn(shape)
    assert torch.equal(from_weight_vectors(weight_vectors(weight, length), shape), weight)
