"""Quantizing functions whose gradients are straight-through estimators."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

# The kernel behind hard tanh's gradient excludes its bounds; the first float32 above 1 includes 1.
_ABOVE_ONE = 1 + 2**-23


class _SignIdentity(Function):
    @staticmethod
    def forward(ctx: Any, real: Tensor) -> Tensor:
        return _signs(real >= 0, real.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return grad_outputs[0]


class _SampledSignIdentity(Function):
    @staticmethod
    def forward(ctx: Any, real: Tensor) -> Tensor:
        return _signs(torch.rand_like(real) < (real + 1) / 2, real.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return grad_outputs[0]


class _SignHardTanh(Function):
    @staticmethod
    def forward(ctx: Any, real: Tensor) -> Tensor:
        ctx.save_for_backward(real)
        return _signs(real >= 0, real.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (real,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad_outputs[0], real, -_ABOVE_ONE, _ABOVE_ONE)


class _NearestVectorIdentity(Function):
    @staticmethod
    def forward(ctx: Any, real: Tensor, code_book: Tensor) -> Tensor:
        rows = real.movedim(1, -1)
        # Vectors of signs are all of one length: the nearest has the largest product.
        nearest = (rows.reshape(-1, code_book.shape[1]) @ code_book.T).argmax(dim=1)
        return functional.embedding(nearest, code_book).view(rows.shape).movedim(-1, 1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return grad_outputs[0], None


class _RoundIdentity(Function):
    @staticmethod
    def forward(ctx: Any, real: Tensor) -> Tensor:
        return torch.round(real)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return grad_outputs[0]


def sign_identity(real: Tensor) -> Tensor:
    """Sign with ``real >= 0 -> +1``; the gradient passes unchanged.

    The deterministic weight binarization of BinaryConnect (Courbariaux et al. 2015, eq. 1). The gradient needs no
    clipping here because the latent weights themselves are clipped to [-1, 1] after every update.
    """
    return _apply(_SignIdentity, real)


def sampled_sign_identity(real: Tensor) -> Tensor:
    """Draw +1 with probability ``clip((real + 1) / 2, 0, 1)``, else -1; the gradient passes unchanged.

    The stochastic weight binarization of BinaryConnect (Courbariaux et al. 2015, eq. 2 and 3).
    """
    return _apply(_SampledSignIdentity, real)


def sign_hard_tanh(real: Tensor) -> Tensor:
    """Sign with ``real >= 0 -> +1``; the gradient is that of hard tanh: zero where ``|real| > 1``.

    The activation of binarized networks (Hubara et al. 2016, eq. 4).
    """
    return _apply(_SignHardTanh, real)


def nearest_vector_identity(real: Tensor, code_book: Tensor) -> Tensor:
    """Replace neighbouring weights by the nearest vector of a code book of signs; the gradient passes unchanged.

    Parameters
    ----------
    real
        Weights (outputs, inputs, ...); neighbours along the inputs form the vectors.
    code_book
        -1 and +1, (k, d); d divides the inputs.
    """
    return _apply(_NearestVectorIdentity, real, code_book)


def round_identity(real: Tensor) -> Tensor:
    """Round to the nearest integer, ties to even; the gradient passes unchanged (Bengio et al. 2013)."""
    return _apply(_RoundIdentity, real)


def _signs(positive: Tensor, dtype: torch.dtype) -> Tensor:
    # Several times as fast on CPUs as torch.where with two scalars, which took a third of a training's time.
    return positive.to(dtype).mul_(2).sub_(1)


def _apply(function: type[Function], *operands: Tensor) -> Tensor:
    quantized: Tensor = function.apply(*operands)  # type: ignore[no-untyped-call]
    return quantized
