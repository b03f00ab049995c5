"""Words of a signed format in the forward pass, with the gradient of the clamp that they are saturated by."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from karui.sw.numerics import NumberFormat, Rounding


class _RoundedWords(Function):
    @staticmethod
    def forward(ctx: Any, real: Tensor, fraction: int, limit: int, rounding: Rounding) -> Tensor:
        ctx.save_for_backward(real)
        ctx.bound = limit * 2.0**-fraction
        return round_words(real * 2.0**fraction, rounding).clamp_(-limit, limit - 1) * 2.0**-fraction

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (real,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad_outputs[0], real, -ctx.bound, ctx.bound), None, None, None


class _Replaced(Function):
    @staticmethod
    def forward(ctx: Any, real: Tensor, exact: Tensor) -> Tensor:
        return exact.to(real.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return grad_outputs[0], None


def rounded_words(real: Tensor, words: NumberFormat, rounding: Rounding = Rounding.HALF_UP) -> Tensor:
    """Round to multiples of ``2**-fraction`` and saturate at the limits of a signed format.

    The gradient passes strictly within the limits (straight-through, Bengio et al. 2013).
    """
    assert isinstance(words.fraction, int)
    rounded: Tensor = _RoundedWords.apply(real, words.fraction, -words.minimum, rounding)  # type: ignore[no-untyped-call]
    return rounded


def round_words(values: Tensor, rounding: Rounding) -> Tensor:
    """Round floats to integers, without a gradient."""
    match rounding:
        case Rounding.FLOOR:
            return values.floor()
        case Rounding.HALF_UP:
            return (values + 0.5).floor_()
        case Rounding.HALF_EVEN:
            return values.round()


def replaced(real: Tensor, exact: Tensor) -> Tensor:
    """Return the values of `exact` with the gradient of `real`, which they stand for."""
    values: Tensor = _Replaced.apply(real, exact)  # type: ignore[no-untyped-call]
    return values
