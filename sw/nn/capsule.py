"""Capsule layers (Sabour et al. 2017): squashing, prediction vectors, routing by agreement, lengths.

Behind `MapToCapsules` a tensor is a batch of vectors: all capsules of an image one behind the other, the elements of a
capsule consecutive, in the order in which a stream of a convolution's outputs yields them.
"""

import torch
from torch import Tensor, nn

from karui.sw.nn.quant_weight import QuantWeightLayer
from karui.sw.nn.rounded_words import rounded_words
from karui.sw.numerics import NumberFormat

# Keeps the gradient of a length finite where it is zero; far below the square of any step of a quantized capsule.
SMALLEST_SQUARE = 1e-12
# Standard deviation of the prediction weights before training.
INITIAL_WEIGHT = 0.1


class MapToCapsules(nn.Module):
    """View a map (C, H, W) as capsules of consecutive channels, position after position: (H * W * C).

    Where convolutions compute in bfloat16, capsules from here on compute in float32.
    """

    def forward(self, feature_map: Tensor) -> Tensor:
        capsules = feature_map.permute(0, 2, 3, 1).flatten(1)
        return capsules.float() if capsules.dtype == torch.bfloat16 else capsules


class Squash(nn.Module):
    """Shrink each capsule to a length below 1 in its direction: ``s |s| / (1 + |s|**2)`` (Sabour et al. 2017, eq. 1).

    Parameters
    ----------
    length
        Elements of a capsule.
    """

    def __init__(self, *, length: int) -> None:
        super().__init__()
        if length < 1:
            raise ValueError(f"length must be at least 1, not {length}")
        self.length = length

    def forward(self, capsules: Tensor) -> Tensor:
        return squash(torch.unflatten(capsules, -1, (-1, self.length))).flatten(-2)

    def extra_repr(self) -> str:
        return f"length={self.length}"


class CapsulePrediction(QuantWeightLayer):
    """Prediction vectors ``W[i, j] u[i]`` of each input capsule i for each output capsule j, in order (i, j, element).

    Row ``(i * out_capsules + j) * out_length + element`` of the weights holds the `in_length` weights of one element.

    Parameters
    ----------
    in_capsules, in_length
        Capsules and their elements.
    out_capsules, out_length
        Capsules that are predicted, and their elements.
    weight_bits
        See `QuantWeightLayer`; all weights have one scale, as the predictions are added up.
    votes
        Format of the predictions, which are rounded (half up) and saturated; given with `weight_bits`, and only then.
    """

    def __init__(
        self,
        in_capsules: int,
        in_length: int,
        out_capsules: int,
        out_length: int,
        *,
        weight_bits: int | None = None,
        votes: NumberFormat | None = None,
    ) -> None:
        if min(in_capsules, in_length, out_capsules, out_length) < 1:
            raise ValueError(
                f"CapsulePrediction needs capsules and lengths of at least 1, not in_capsules={in_capsules}, "
                f"in_length={in_length}, out_capsules={out_capsules}, out_length={out_length}"
            )
        if (weight_bits is None) != (votes is None):
            raise ValueError(f"give weight_bits = {weight_bits} and votes = {votes} together, or neither")
        shape = (in_capsules * out_capsules * out_length, in_length)
        super().__init__(shape, bias=False, weight_bits=weight_bits, per_channel=False)
        nn.init.normal_(self.weight, std=INITIAL_WEIGHT)
        self.in_capsules = in_capsules
        self.in_length = in_length
        self.out_capsules = out_capsules
        self.out_length = out_length
        self.votes = votes

    @property
    def vector_rows(self) -> int:
        """A matrix ``W[i, j]`` is a row: a vector of shared weights may reach over several elements of a prediction."""
        return self.in_capsules * self.out_capsules

    def forward(self, capsules: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            vectors = torch.unflatten(capsules, -1, (self.in_capsules, self.in_length)).transpose(0, 1)
            matrices = self.forward_weight().view(self.in_capsules, -1, self.in_length)
            votes = torch.bmm(vectors, matrices.transpose(1, 2)).transpose(0, 1).flatten(1)
            return votes if self.votes is None else rounded_words(votes, self.votes)

    def extra_repr(self) -> str:
        return (
            f"{self.in_capsules} x {self.in_length}, {self.out_capsules} x {self.out_length}, "
            f"weight_bits={self.weight_bits}"
        )


class DynamicRouting(nn.Module):
    """Routing by agreement (Sabour et al. 2017, procedure 1): predictions (i, j, element) to capsules (j, element).

    The coefficients are constants to the gradient, which reaches the predictions through the last iteration's sums.

    Parameters
    ----------
    out_capsules, out_length
        Capsules that are predicted, and their elements.
    iterations
        Weighted sums of the predictions; 1 weights all alike.
    """

    def __init__(self, out_capsules: int, out_length: int, *, iterations: int = 3) -> None:
        super().__init__()
        if min(out_capsules, out_length, iterations) < 1:
            raise ValueError(
                f"DynamicRouting needs capsules, a length and iterations of at least 1, not "
                f"out_capsules={out_capsules}, out_length={out_length}, iterations={iterations}"
            )
        self.out_capsules = out_capsules
        self.out_length = out_length
        self.iterations = iterations

    def forward(self, predictions: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            votes = torch.unflatten(predictions, -1, (-1, self.out_capsules * self.out_length))
            return squash(weighted_sums(votes, self._coefficients(votes))).flatten(1)

    @torch.no_grad()
    def all_sums(self, predictions: Tensor) -> list[Tensor]:
        """Return the weighted sums of each iteration before squashing, (batch, j, element)."""
        votes = torch.unflatten(predictions, -1, (-1, self.out_capsules * self.out_length))
        return [weighted_sums(votes, coefficients) for coefficients in self._all_coefficients(votes)]

    def _coefficients(self, votes: Tensor) -> Tensor:
        """Coefficients of the last iteration, (batch, j, i)."""
        return self._all_coefficients(votes)[-1]

    @torch.no_grad()
    def _all_coefficients(self, votes: Tensor) -> list[Tensor]:
        logits = votes.new_zeros(len(votes), self.out_capsules, votes.shape[1])
        coefficients = [torch.full_like(logits, 1 / self.out_capsules)]
        for _ in range(self.iterations - 1):
            logits = logits + agreements(votes, squash(weighted_sums(votes, coefficients[-1])))
            coefficients.append(logits.softmax(1))
        return coefficients

    def extra_repr(self) -> str:
        return f"{self.out_capsules} x {self.out_length}, iterations={self.iterations}"


class SquaredLength(nn.Module):
    """Sum of the squares of each capsule's elements; it orders capsules as their lengths do.

    Parameters
    ----------
    length
        Elements of a capsule.
    """

    def __init__(self, *, length: int) -> None:
        super().__init__()
        if length < 1:
            raise ValueError(f"length must be at least 1, not {length}")
        self.length = length

    def forward(self, capsules: Tensor) -> Tensor:
        return torch.unflatten(capsules, -1, (-1, self.length)).square().sum(-1)

    def extra_repr(self) -> str:
        return f"length={self.length}"


def squash(vectors: Tensor) -> Tensor:
    """Squash along the last axis."""
    square = vectors.square().sum(-1, keepdim=True)
    return vectors * ((square + SMALLEST_SQUARE).sqrt() / (1 + square))


def weighted_sums(votes: Tensor, coefficients: Tensor) -> Tensor:
    """``s[j] = sum over i of c[j, i] * u[i, j]``: votes (n, i, j * d), coefficients (n, j, i), to (n, j, d).

    A product by all coefficients of which the diagonal is kept: as a matrix product it is several times as fast as the
    sums alone.
    """
    count = coefficients.shape[1]
    sums = torch.unflatten(torch.bmm(coefficients, votes), -1, (count, -1))
    return torch.diagonal(sums, dim1=1, dim2=2).transpose(1, 2)


def agreements(votes: Tensor, capsules: Tensor) -> Tensor:
    """``a[j, i] = u[i, j] . v[j]``: votes (n, i, j * d), capsules (n, j, d), to (n, j, i)."""
    identity = torch.eye(capsules.shape[1], dtype=capsules.dtype)
    blocks = identity[:, :, None] * capsules[:, None, :, :]
    return torch.bmm(blocks.flatten(2), votes.transpose(1, 2))
