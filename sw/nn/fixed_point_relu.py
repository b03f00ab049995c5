"""Batch norm and ReLU in integers: multiply, add, shift, clamp."""

import torch
from torch import Tensor, nn

from karui.sw.numerics import Rounding, saturate, shift_right

MULTIPLIER_BITS = 16


class FixedPointReLU(nn.Module):
    """Requantize integer accumulators: ``clamp((x * multiplier + offset) / 2**shift, 0, 2**bits - 1)``.

    The quotient is rounded to the nearest integer, ties upwards (`Rounding.HALF_UP`). Input and output are integers
    in float32; the arithmetic in between is int64, hence exact. The layer has no gradient: it replaces batch norm and
    ReLU after training, see `karui.sw.train.calibrate`.

    Parameters
    ----------
    features
        Channels; the last axis of the input.
    bits
        Width of the unsigned output.

    Attributes
    ----------
    multiplier, offset
        One integer a channel; multipliers are signed integers of at most 16 bits.
    shift
        One integer for all channels, 0 or more.
    """

    multiplier: Tensor
    offset: Tensor
    shift: Tensor

    def __init__(self, features: int, *, bits: int = 8) -> None:
        super().__init__()
        if not 1 <= bits <= 16:
            raise ValueError(f"FixedPointReLU has outputs of 1 to 16 bits, not {bits}")
        self.features = features
        self.bits = bits
        self.register_buffer("multiplier", torch.ones(features, dtype=torch.int64))
        self.register_buffer("offset", torch.zeros(features, dtype=torch.int64))
        self.register_buffer("shift", torch.tensor(0, dtype=torch.int64))

    def set_parameters(self, multiplier: Tensor, offset: Tensor, shift: int) -> None:
        """Set multipliers and offsets (integers, one a channel) and the shift.

        Raises
        ------
        ValueError
            If a multiplier does not fit 16 bits, or the shift is negative.
        """
        limit = 1 << (MULTIPLIER_BITS - 1)
        if int(multiplier.min()) < -limit or int(multiplier.max()) >= limit:
            raise ValueError(
                f"multipliers from {int(multiplier.min())} to {int(multiplier.max())} do not fit "
                f"{MULTIPLIER_BITS} signed bits; use a smaller shift"
            )
        if shift < 0:
            raise ValueError(f"shift must be 0 or more, not {shift}")
        self.multiplier.copy_(multiplier)
        self.offset.copy_(offset)
        self.shift.fill_(shift)

    def forward(self, accumulators: Tensor) -> Tensor:
        scaled = accumulators.to(torch.int64) * self.multiplier + self.offset
        rounded = shift_right(scaled, int(self.shift), Rounding.HALF_UP)
        clamped: Tensor = saturate(rounded, 0, (1 << self.bits) - 1)
        return clamped.to(accumulators.dtype)

    def extra_repr(self) -> str:
        return f"{self.features}, bits={self.bits}"
