"""Dense random projections, and the random features of the Gaussian kernel."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class RandomProjection(nn.Module):
    """Multiplication by a fixed matrix of independent Gaussians of standard deviation 1 / sigma.

    Parameters
    ----------
    in_features, out_features
        Lengths of the input and output vectors.
    sigma
        See `karui.sw.nn.fastfood.Fastfood`, which approximates this layer.
    """

    weight: Tensor

    def __init__(self, in_features: int, out_features: int, *, sigma: float = 1.0) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1 or not sigma > 0:
            raise ValueError(
                f"RandomProjection needs at least one input and one output and a positive sigma, not "
                f"in_features={in_features}, out_features={out_features}, sigma={sigma:g}"
            )
        self.in_features = in_features
        self.out_features = out_features
        self.sigma = sigma
        self.register_buffer("weight", torch.randn(out_features, in_features) / sigma)

    def forward(self, features: Tensor) -> Tensor:
        return functional.linear(features, self.weight)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, sigma={self.sigma:g}"


class KitchenSinkFeatures(nn.Module):
    """Random kitchen sinks: ``phi = [cos(y), sin(y)] / sqrt(n)`` of n projections y (Rahimi & Recht 2008).

    Behind projections by Gaussians of standard deviation 1 / sigma, ``phi(x) @ phi(x')`` has the mean
    ``exp(-|x - x'|**2 / (2 sigma**2))`` and an error that falls as 1 / sqrt(n).
    """

    def forward(self, projections: Tensor) -> Tensor:
        return torch.cat([projections.cos(), projections.sin()], dim=-1) / math.sqrt(projections.shape[-1])
