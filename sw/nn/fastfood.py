"""Fastfood: products of structured random matrices in place of dense ones (Le et al. 2013; Yang et al. 2015)."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from karui.sw.nn.walsh_hadamard import walsh_hadamard


class _Permute(Function):
    # Gathers in both directions: index_select's own gradient scatters, and takes several times as long.
    @staticmethod
    def forward(ctx: Any, values: Tensor, permutation: Tensor) -> Tensor:
        ctx.save_for_backward(permutation)
        return values.index_select(-1, permutation)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (permutation,) = ctx.saved_tensors
        inverse = torch.empty_like(permutation)
        inverse[permutation] = torch.arange(len(permutation), device=permutation.device)
        return permute(grad_outputs[0], inverse), None


class Fastfood(nn.Module):
    """Fixed random features ``y = S H G P H B x / (sigma * sqrt(d))`` (Le et al. 2013, eq. 7; Yang et al. 2015, eq. 4).

    H is the Walsh-Hadamard matrix of size d, the power of two that holds the padded input; B has random signs, P is a
    random permutation, G is Gaussian, and S gives the rows the lengths of Gaussian vectors. ``ceil(out_features / d)``
    independent blocks are stacked and truncated. Each row is then distributed almost as one of independent Gaussians of
    standard deviation 1 / sigma, in O(n) memory and O(n log d) time.

    Parameters
    ----------
    in_features, out_features
        Lengths of the input and output vectors, any.
    sigma
        Width of the Gaussian kernel ``exp(-|x - x'|**2 / (2 sigma**2))`` that `KitchenSinkFeatures` of this layer
        approximate.
    bias
        Whether there is a trained bias, zero at first.

    Attributes
    ----------
    signs, gaussian
        Diagonals of B and G, one element for each of the stacked blocks' inputs.
    scale
        Diagonal of S, one element an output.
    permutation
        P of all blocks: element i of what G multiplies is element ``permutation[i]`` of what the first H yields.
    """

    signs: Tensor
    gaussian: Tensor
    scale: Tensor
    permutation: Tensor
    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, *, sigma: float = 1.0, bias: bool = False) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1 or not sigma > 0:
            raise ValueError(
                f"{type(self).__name__} needs at least one input and one output and a positive sigma, not "
                f"in_features={in_features}, out_features={out_features}, sigma={sigma:g}"
            )
        self.in_features = in_features
        self.out_features = out_features
        self.sigma = sigma
        self.size = 1 << (in_features - 1).bit_length()
        self.blocks = -(-out_features // self.size)
        shape = self.blocks, self.size
        self.register_buffer("signs", torch.randint(0, 2, shape).float().mul_(2).sub_(1).flatten())
        gaussian = torch.randn(shape)
        self.register_buffer("gaussian", gaussian.flatten())
        # The length of a Gaussian vector of d elements has a chi distribution of d degrees of freedom.
        lengths = torch.distributions.Chi2(torch.tensor(float(self.size)), validate_args=False).sample(shape).sqrt()
        self.register_buffer("scale", (lengths / gaussian.norm(dim=1, keepdim=True)).flatten()[:out_features].clone())
        orders = torch.stack([torch.randperm(self.size) + block * self.size for block in range(self.blocks)])
        self.register_buffer("permutation", orders.flatten())
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    @property
    def coefficients(self) -> int:
        """Elements of the diagonals B, G and S, trained or not."""
        return self.signs.numel() + self.gaussian.numel() + self.scale.numel()

    @property
    def normalization(self) -> float:
        """The constant factor behind the diagonals and transforms."""
        return 1 / (self.sigma * math.sqrt(self.size))

    def forward(self, features: Tensor) -> Tensor:
        mixed = self._transform(self._stacked(features, self.signs))
        projected = self._transform(permute(mixed, self.permutation) * self.gaussian)
        scaled = projected[..., : self.out_features] * (self.scale * self.normalization)
        return scaled if self.bias is None else scaled + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, sigma={self.sigma:g}, bias={self.bias is not None}"

    def _stacked(self, features: Tensor, signs: Tensor) -> Tensor:
        """B's products with the padded input, block behind block."""
        if features.shape[-1] != self.in_features:
            raise ValueError(f"{self} takes vectors of {self.in_features} features, not of {features.shape[-1]}")
        if self.in_features < self.size:
            features = functional.pad(features, (0, self.size - self.in_features))
        return (features.unsqueeze(-2) * signs.view(self.blocks, self.size)).flatten(-2)

    def _transform(self, values: Tensor) -> Tensor:
        """Every block transformed."""
        blocks = values.reshape(*values.shape[:-1], self.blocks, self.size)
        return walsh_hadamard(blocks).flatten(-2)

    def _train_diagonals(self) -> None:
        for name in ("signs", "gaussian", "scale"):
            value = getattr(self, name)
            delattr(self, name)
            self.register_parameter(name, nn.Parameter(value))


class AdaptiveFastfood(Fastfood):
    """`Fastfood` whose diagonals S, G and B are trained; the permutation stays fixed (Yang et al. 2015, section 3).

    With the number of outputs a multiple of the padded input's size it has three parameters an output.

    Parameters
    ----------
    in_features, out_features, sigma, bias
        See `Fastfood`, whose random values are those that training starts from.
    """

    def __init__(self, in_features: int, out_features: int, *, sigma: float = 1.0, bias: bool = False) -> None:
        super().__init__(in_features, out_features, sigma=sigma, bias=bias)
        self._train_diagonals()


def permute(values: Tensor, permutation: Tensor) -> Tensor:
    """Element i of the result's last axis is element ``permutation[i]``; the permutation has every index once."""
    permuted: Tensor = _Permute.apply(values, permutation)  # type: ignore[no-untyped-call]
    return permuted
