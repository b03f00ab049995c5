"""Activations of a few bits in a fixed power-of-two range."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from karui.sw.nn.precision import check_bits, check_power_of_two


class _RoundClamped(Function):
    # In place on one new tensor: thirty times as fast on CPUs as torch's fake_quantize_per_tensor_affine.
    @staticmethod
    def forward(ctx: Any, real: Tensor, step: float, minimum: float, maximum: float) -> Tensor:
        ctx.save_for_backward(real)
        ctx.bounds = minimum * step, (maximum + 1) * step
        # Both products are exact: the step is a power of two.
        return (real * (1 / step)).round_().clamp_(minimum, maximum).mul_(step)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (real,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad_outputs[0], real, *ctx.bounds), None, None, None


class QuantActivation(nn.Module):
    """Clamp, then round to multiples of ``step = span / 2**bits``, half to even.

    The range is fixed: batch norm in front learns to use it. The gradient passes strictly within the range
    (straight-through, Bengio et al. 2013). No state.

    Parameters
    ----------
    bits
        Width of the output, 2 to 8; None clamps without rounding.
    limit
        End of the range, a power of two.
    signed
        Whether the range is -limit to limit - step in two's complement, or 0 to limit - step.
    """

    def __init__(self, *, bits: int | None, limit: float, signed: bool) -> None:
        super().__init__()
        check_bits("bits", bits)
        self.bits = bits
        self.limit = check_power_of_two("limit", limit)
        self.signed = signed

    @property
    def fraction(self) -> int:
        """n of ``value = integer * 2**-n``."""
        if self.bits is None:
            raise ValueError(f"{type(self).__name__} without bits has real values; build it with bits")
        return self.bits - int(self.signed) - (math.frexp(self.limit)[1] - 1)

    def forward(self, real: Tensor) -> Tensor:
        if self.bits is None:
            return functional.hardtanh(real, -self.limit if self.signed else 0.0, self.limit)
        minimum = -(1 << (self.bits - 1)) if self.signed else 0
        quantized: Tensor = _RoundClamped.apply(  # type: ignore[no-untyped-call]
            real, 2.0**-self.fraction, float(minimum), float(minimum + (1 << self.bits) - 1)
        )
        return quantized

    def extra_repr(self) -> str:
        return f"bits={self.bits}, limit={self.limit:g}"


class QuantReLU(QuantActivation):
    """Rectified activation: unsigned multiples of ``limit / 2**bits``, 0 to limit less a step.

    Parameters
    ----------
    bits
        Width, 2 to 8; None for real values clamped to 0 .. limit.
    limit
        End of the range, a power of two.
    """

    def __init__(self, *, bits: int | None = None, limit: float = 4.0) -> None:
        super().__init__(bits=bits, limit=limit, signed=False)


class QuantIdentity(QuantActivation):
    """Signed multiples of ``2 * limit / 2**bits``, -limit to limit less a step: a linear layer's quantized output.

    Parameters
    ----------
    bits
        Width, 2 to 8; None for real values clamped to -limit .. limit.
    limit
        End of the range, a power of two.
    """

    def __init__(self, *, bits: int | None = None, limit: float = 4.0) -> None:
        super().__init__(bits=bits, limit=limit, signed=True)
