"""Signed weights of a few bits with power-of-two scales."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

# Scales beyond are of no use in hardware, and 2**fraction must stay a normal float32.
LARGEST_FRACTION = 64


class _PowerOfTwoIdentity(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, bits: int, per_channel: bool) -> Tensor:
        integer, fraction = _nearest(weight, bits, per_channel)
        return integer * power_of_two(-fraction).view(-1, *[1] * (weight.dim() - 1))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return grad_outputs[0], None, None


def quantized_weight(weight: Tensor, bits: int, *, per_channel: bool) -> Tensor:
    """Return ``integer * 2**-fraction`` of `quantize_weight`; the gradient passes unchanged.

    Weights clipped by the scale keep their gradient too: it is what brings them back into range.
    """
    quantized: Tensor = _PowerOfTwoIdentity.apply(weight, bits, per_channel)  # type: ignore[no-untyped-call]
    return quantized


@torch.no_grad()
def quantize_weight(weight: Tensor, bits: int, *, per_channel: bool) -> tuple[Tensor, Tensor]:
    """Round weights to ``integer * 2**-fraction`` with the power of two of the least squared error.

    With f the largest fraction at which no magnitude reaches 2**(bits - 1), the candidates are f - 1 to f + 2, and of
    two bits f + 3 as well: finer steps at the price of clipping pay off for few bits, a coarser one where the only
    large weights are positive, whose range ends a step earlier. The fraction is then reduced until an integer is odd (0
    if all are zero), so that equal values always have equal integers: weights that lie on such a grid already come
    back as they are.

    Parameters
    ----------
    weight
        Real weights; rows along the first axis are the output channels.
    bits
        Width of the two's complement integers.
    per_channel
        Choose a fraction a row instead of one for all.

    Returns
    -------
    Tensor, Tensor
        The integers (in the weights' type and shape, -2**(bits - 1) to 2**(bits - 1) - 1, rounded half to even), and
        the fractions (int64, one a row or one in all).
    """
    integer, fraction = _nearest(weight, bits, per_channel)
    rows = integer.to(torch.int64).view(len(fraction), -1)
    # n & -n is the largest power of two that divides n, and 0 for 0.
    divisor = (rows & -rows).masked_fill_(rows == 0, 1 << bits).amin(1)
    zero = divisor == 1 << bits
    divisor.masked_fill_(zero, 1)
    exponent = torch.frexp(divisor.float())[1].to(torch.int64) - 1
    return (rows // divisor[:, None]).to(weight.dtype).view(weight.shape), (fraction - exponent).masked_fill_(zero, 0)


def _nearest(weight: Tensor, bits: int, per_channel: bool) -> tuple[Tensor, Tensor]:
    rows = weight.reshape(len(weight) if per_channel else 1, -1)
    limit = 1 << (bits - 1)
    # frexp: the largest magnitude is in [2**(exponent - 1), 2**exponent)
    _, exponent = torch.frexp(rows.abs().amax(1))
    finer = 3 if bits == 2 else 2
    finest = (bits - 1 + finer - exponent.to(torch.int64)).clamp_(-LARGEST_FRACTION, LARGEST_FRACTION)
    coarser = torch.arange(finer + 1, -1, -1)[:, None]
    candidates = finest - coarser
    scaled = rows * power_of_two(candidates)[..., None]
    integers = scaled.round().clamp_(-limit, limit - 1)
    # Squared errors in steps, times the square of the step in units of the finest.
    errors = (scaled - integers).square_().sum(2) * 4.0**coarser
    best = errors.argmin(0, keepdim=True)
    integer = integers.gather(0, best[..., None].expand(1, *rows.shape))[0]
    return integer.view(weight.shape), candidates.gather(0, best)[0]


def power_of_two(exponent: Tensor) -> Tensor:
    """Return ``2**exponent`` of integers from -126 to 127 as exact float32, which torch's pow does not promise."""
    return ((exponent + 127) << 23).to(torch.int32).view(torch.float32)
