"""The order in which weights form vectors that are shared, pruned and stored together."""

from __future__ import annotations

from torch import Tensor

# Axes of a convolution's weight: outputs, inputs, rows, columns.
_INPUTS = 1


def weight_vectors(weight: Tensor, length: int) -> Tensor:
    """Return a weight's values as vectors (n, length); rows of outputs follow one another.

    Vectors of a convolution reach over the input channels of a tap, which hardware reads together. Single weights keep
    the order of their tensor.
    """
    if length > 1 and weight.dim() > 2:
        weight = weight.movedim(_INPUTS, -1)
    return weight.reshape(-1, length)


def from_weight_vectors(vectors: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Inverse of `weight_vectors`, for a weight of that shape."""
    if vectors.shape[1] > 1 and len(shape) > 2:
        outputs, inputs, *taps = shape
        return vectors.reshape(outputs, *taps, inputs).movedim(-1, _INPUTS)
    return vectors.reshape(shape)
