"""Layers of binary bases: words of a few bits in, products with sums of scaled sign patterns, exact integers inside.

A layer computes y_m = sum_k C_mk D_mk + O_m with D_mk = sum_n s_mkn q_n, all integers: s in {-1, +1}, q the words of
its quantization sub-layer, C and O its coefficients and offsets on a grid of 2**-fraction. Everything is computed in
float64, which holds these integers exactly, whatever type the input has; so are the layers between two such layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

Pair = tuple[int, int]


class QuantizationSublayer(nn.Module):
    """Words of 0 .. 2**bits - 1: ``clamp(round_half_up((X * multiplier + offset) / 2**shift))``, X = x * 2**fraction.

    Parameters
    ----------
    multiplier, offset : Tensor of int64, shape (1,) or (channels,)
    shift : int
        0 or more.
    bits : int
        1 to 8.
    input_fraction : int
        The input x is a multiple of 2**-input_fraction.
    zero_word : int
        The word of the real number zero, with which convolutions pad.
    """

    multiplier: Tensor
    offset: Tensor

    def __init__(
        self, multiplier: Tensor, offset: Tensor, *, shift: int, bits: int, input_fraction: int, zero_word: int
    ) -> None:
        super().__init__()
        if not 1 <= bits <= 8:
            raise ValueError(f"a quantization sub-layer has 1 to 8 bits, not {bits}")
        if shift < 0:
            raise ValueError(f"a quantization sub-layer shifts right by 0 or more, not {shift}")
        self.register_buffer("multiplier", multiplier)
        self.register_buffer("offset", offset)
        self.shift = shift
        self.bits = bits
        self.input_fraction = input_fraction
        self.zero_word = zero_word

    def forward(self, real: Tensor) -> Tensor:
        shape = (-1, *[1] * (real.ndim - 2))
        scaled = real.double() * 2.0**self.input_fraction * self.multiplier.double().view(shape)
        words = torch.floor((scaled + self.offset.double().view(shape)) * 2.0**-self.shift + 0.5)
        return words.clamp_(0, (1 << self.bits) - 1)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, shift={self.shift}, zero_word={self.zero_word}"


class DecomposedLayer(nn.Module):
    """Base of the layers of binary bases.

    Parameters
    ----------
    codes : Tensor of uint8, shape (outputs, N)
        Bit j of a weight's code is its sign in base j: 1 for +1.
    coefficients : Tensor of int64, shape (outputs, k)
    offset : Tensor of int64, shape (outputs,)
    fraction : int
        Outputs are integers times 2**-fraction.
    quantizer : QuantizationSublayer
        Of the inputs.
    """

    codes: Tensor
    coefficients: Tensor
    offset: Tensor

    def __init__(
        self, codes: Tensor, coefficients: Tensor, offset: Tensor, *, fraction: int, quantizer: QuantizationSublayer
    ) -> None:
        super().__init__()
        if len(codes) != len(coefficients) or len(codes) != len(offset):
            raise ValueError(
                f"codes, coefficients and offsets are of as many outputs, not {len(codes)}, {len(coefficients)} and "
                f"{len(offset)}"
            )
        self.register_buffer("codes", codes)
        self.register_buffer("coefficients", coefficients)
        self.register_buffer("offset", offset)
        self.fraction = fraction
        self.quantizer = quantizer

    @property
    def bases(self) -> int:
        """Number of bases k."""
        return self.coefficients.shape[1]

    def signs(self) -> Tensor:
        """The bases as int8, (outputs, k, N)."""
        bits = (self.codes[:, None] >> torch.arange(self.bases, dtype=torch.uint8)[:, None]) & 1
        return 2 * bits.to(torch.int8) - 1

    def integer_weight(self) -> Tensor:
        """The matrix that the bases add up to, int64 of shape (outputs, N)."""
        every = torch.arange(1 << self.bases)[:, None]
        patterns = 2 * ((every >> torch.arange(self.bases)) & 1) - 1
        return (self.coefficients @ patterns.T).gather(1, self.codes.long())

    def extra_repr(self) -> str:
        return f"{len(self.codes)} x {self.codes.shape[1]}, bases={self.bases}, fraction={self.fraction}"


class DecomposedLinear(DecomposedLayer):
    """Fully connected layer of binary bases; see `DecomposedLayer`."""

    def forward(self, real: Tensor) -> Tensor:
        words = self.quantizer(real)
        sums = functional.linear(words, self.integer_weight().double(), self.offset.double())
        return sums * 2.0**-self.fraction


class DecomposedConv2d(DecomposedLayer):
    """Convolution of binary bases, padded with the word of zero.

    Parameters
    ----------
    codes : Tensor of uint8
        A row is in order (channel within the group, ky, kx).
    kernel_size, stride, padding, dilation : (int, int)
        Vertical, horizontal.
    groups : int
        Of channels convolved apart.
    coefficients, offset, fraction, quantizer
        See `DecomposedLayer`.
    """

    def __init__(
        self,
        codes: Tensor,
        coefficients: Tensor,
        offset: Tensor,
        *,
        fraction: int,
        quantizer: QuantizationSublayer,
        kernel_size: Pair,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> None:
        super().__init__(codes, coefficients, offset, fraction=fraction, quantizer=quantizer)
        if codes.shape[1] % (kernel_size[0] * kernel_size[1]) or len(codes) % groups:
            raise ValueError(f"{tuple(codes.shape)} codes are no {groups} groups of kernels of {kernel_size}")
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.groups * self.codes.shape[1] // (self.kernel_size[0] * self.kernel_size[1])

    def forward(self, real: Tensor) -> Tensor:
        words = self.quantizer(real)
        vertical, horizontal = self.padding
        words = functional.pad(words, (horizontal, horizontal, vertical, vertical), value=self.quantizer.zero_word)
        weight = self.integer_weight().double().view(len(self.codes), -1, *self.kernel_size)
        sums = functional.conv2d(
            words, weight, self.offset.double(), self.stride, dilation=self.dilation, groups=self.groups
        )
        return sums * 2.0**-self.fraction

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"groups={self.groups}"
        )
