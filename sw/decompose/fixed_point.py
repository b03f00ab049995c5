"""Real constants of a decomposed layer as integers: its quantization sub-layer, coefficients and offsets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from karui.sw.decompose.bases import Decomposition
from karui.sw.decompose.calibrate import WordGrid
from karui.sw.nn.decomposed import QuantizationSublayer

# Words of a quantization sub-layer's offset have so many bits behind the point.
OFFSET_FRACTION = 16
# Products of a sum and a multiplier stay below 2^52, so float64 holds them with their offset and half a step.
_PRODUCT_BITS = 52


@dataclass(frozen=True, kw_only=True, eq=False)
class Meaning:
    """What the integers X of a value stand for: the real numbers ``gain * X * 2**-fraction + shift``.

    Parameters
    ----------
    gain, shift : Tensor of float64, shape (1,) or (channels,)
        1 and 0, but for values that an average pool has not divided and images that are not normalized yet.
    fraction : int
    reach : int
        The largest |X|.
    is_positive : bool
        Whether it is known that no X is negative.
    """

    gain: Tensor
    shift: Tensor
    fraction: int
    reach: int
    is_positive: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the integers are the real numbers but for a factor that all share, a positive one."""
        return len(self.gain) == 1 and float(self.gain[0]) > 0 and not bool(self.shift.any())


def plain_meaning(fraction: int, reach: int) -> Meaning:
    """Of integers times 2**-fraction."""
    one = torch.ones(1, dtype=torch.float64)
    return Meaning(gain=one, shift=0 * one, fraction=fraction, reach=reach)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerConstants:
    """Integers of a layer: see `karui.sw.nn.decomposed`."""

    coefficients: Tensor
    offset: Tensor
    fraction: int


def quantization_sublayer(grid: WordGrid, meaning: Meaning, *, multiplier_bits: int) -> QuantizationSublayer:
    """The sub-layer that makes words of a grid from values of a meaning.

    The multiplier ``gain * 2**-fraction / step`` is an integer of at most `multiplier_bits` times 2**-shift, fewer
    where the values are so wide that the product would not be exact in float64; the offset ``(shift - minimum) /
    step`` has 16 bits behind the point.
    """
    factor = meaning.gain * 2.0**-meaning.fraction / grid.step
    bits = min(multiplier_bits, _PRODUCT_BITS - meaning.reach.bit_length())
    largest = float(factor.abs().max())
    shift = max(0, bits - math.frexp(largest)[1])
    multiplier = torch.round(factor * 2.0**shift)
    if float(multiplier.abs().max()) >= 2.0**bits and shift:
        shift -= 1
        multiplier = torch.round(factor * 2.0**shift)
    fine = min(shift, OFFSET_FRACTION)
    offset = torch.round((meaning.shift - grid.minimum) / grid.step * 2.0**fine).to(torch.int64) << (shift - fine)
    return QuantizationSublayer(
        multiplier.to(torch.int64),
        offset,
        shift=shift,
        bits=grid.bits,
        input_fraction=meaning.fraction,
        zero_word=grid.zero_word,
    )


def layer_constants(
    found: Decomposition, weights: Tensor, bias: Tensor | None, grid: WordGrid, *, coefficient_bits: int
) -> LayerConstants:
    """Coefficients c * step and offsets bias + minimum * sum(weights) as integers on the finest grid that fits.

    Parameters
    ----------
    found : Decomposition
        Of the weights.
    weights : Tensor, shape (outputs, N)
        The original ones: the constant part of the inputs is multiplied by these exactly.
    bias : Tensor, shape (outputs,), or None
    grid : WordGrid
        Of the inputs.
    coefficient_bits : int
        Width of the signed coefficients.

    Raises
    ------
    ValueError
        If the coefficients are too large for whole numbers of so many bits.
    """
    real = found.coefficients * grid.step
    limit = (1 << (coefficient_bits - 1)) - 1
    largest = float(real.abs().max())
    fraction = 0 if largest == 0 else math.floor(math.log2(limit / largest))
    if fraction < 0:
        raise ValueError(
            f"a coefficient of {largest:g} does not fit {coefficient_bits} bits; scale the network's inputs down"
        )
    offset = grid.minimum * weights.double().sum(1)
    if bias is not None:
        offset = offset + bias.double()
    return LayerConstants(
        coefficients=torch.round(real * 2.0**fraction).clamp(-limit, limit).to(torch.int64),
        offset=torch.round(offset * 2.0**fraction).to(torch.int64),
        fraction=fraction,
    )
