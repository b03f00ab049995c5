"""Fastfood in integers: signs of one bit, diagonals of a few bits, words of fixed width between the transforms."""

import torch
from torch import Tensor

from karui.sw.nn.fastfood import Fastfood, permute
from karui.sw.nn.precision import check_bits
from karui.sw.nn.rounded_words import rounded_words
from karui.sw.nn.straight_through import round_identity, sign_hard_tanh
from karui.sw.nn.walsh_hadamard import rounded_walsh_hadamard, walsh_hadamard
from karui.sw.nn.weight_quantizer import power_of_two, quantize_weight, quantized_weight
from karui.sw.numerics import Rounding, signed

SMALLEST_WORD, LARGEST_WORD = 2, 18


class QuantFastfood(Fastfood):
    """Fastfood whose forward values are integers times powers of two, with straight-through gradients.

    With inputs ``integer * 2**-f``: B has signs, and the first transform grows to exact words (or is rounded behind
    chosen stages); G has `weight_bits` and one power-of-two scale, and its products are rounded and saturated to words
    of `word_bits`; the second transform works on these as the first one did; S, normalization included, has
    `weight_bits` and one scale, and its products are exact: a `QuantReLU` behind the layer rounds them.

    Parameters
    ----------
    in_features, out_features, sigma, bias
        See `Fastfood`. The bias lies on the grid of the products by S.
    adaptive
        Whether the diagonals are trained.
    weight_bits
        Width of the elements of S and G, 2 to 8.
    word_bits
        Width of the words between G and the second transform, 2 to 18.
    limit_exponent
        These words reach from ``-2**limit_exponent`` up to a step below ``2**limit_exponent``. Unless given it is 2
        above half of log2 d, rounded up: four times the length of an input vector whose elements have unit variance.
    input_fraction
        f of the inputs; needed only with `mixing_shifts`.
    mixing_shifts, projecting_shifts
        Bits dropped behind each stage of the first and of the second transform, log2(size) numbers; None for exact
        growth. See `karui.sw.ir.WalshHadamard`.
    rounding
        Of dropped bits, between two words: behind stages and behind G.

    Attributes
    ----------
    signs
        Latent real values of B; their signs are what the layer computes with, 0 counting as +1.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        sigma: float = 1.0,
        bias: bool = False,
        adaptive: bool = True,
        weight_bits: int = 8,
        word_bits: int = 8,
        limit_exponent: int | None = None,
        input_fraction: int | None = None,
        mixing_shifts: tuple[int, ...] | None = None,
        projecting_shifts: tuple[int, ...] | None = None,
        rounding: Rounding = Rounding.HALF_UP,
    ) -> None:
        super().__init__(in_features, out_features, sigma=sigma, bias=bias)
        check_bits("weight_bits", weight_bits)
        if not SMALLEST_WORD <= word_bits <= LARGEST_WORD:
            raise ValueError(f"word_bits must be {SMALLEST_WORD} to {LARGEST_WORD}, not {word_bits}")
        stages = self.size.bit_length() - 1
        for name, shifts in (("mixing_shifts", mixing_shifts), ("projecting_shifts", projecting_shifts)):
            if shifts is not None and (len(shifts) != stages or min(shifts, default=0) < 0):
                raise ValueError(f"{name} must be {stages} shifts of 0 or more, one a stage, not {list(shifts)}")
        if mixing_shifts is not None and input_fraction is None:
            raise ValueError("mixing_shifts need the input_fraction: rounding depends on the grid of the inputs")
        self.weight_bits = weight_bits
        self.word_bits = word_bits
        self.word_fraction = word_bits - 1 - (2 + (stages + 1) // 2 if limit_exponent is None else limit_exponent)
        self.input_fraction = input_fraction
        self.mixing_shifts = mixing_shifts
        self.projecting_shifts = projecting_shifts
        self.rounding = rounding
        # Signs that can flip: latent values all over the range in which they have a gradient.
        self.signs.mul_(torch.rand_like(self.signs))
        if adaptive:
            self._train_diagonals()

    def integer_signs(self) -> Tensor:
        """Return the diagonal of B, -1 and +1 in int64."""
        return sign_hard_tanh(self.signs.detach()).to(torch.int64)

    def integer_gaussian(self) -> tuple[Tensor, int]:
        """Return the diagonal of G as int64, and n of ``value = integer * 2**-n``."""
        return self._integers(self.gaussian)

    def integer_scale(self) -> tuple[Tensor, int]:
        """Return the diagonal of S, normalization included, as int64, and n of ``value = integer * 2**-n``."""
        return self._integers(self.scale * self.normalization)

    @property
    def projected_fraction(self) -> int:
        """n of the second transform's words ``integer * 2**-n``."""
        return self.word_fraction - sum(self.projecting_shifts or ())

    def integer_bias(self) -> Tensor:
        """Return the bias in steps of the products by S, as int64; zeros without a bias."""
        if self.bias is None:
            return torch.zeros(self.out_features, dtype=torch.int64)
        return (self.bias.detach() * 2.0 ** self._output_fraction()).round().to(torch.int64)

    def forward(self, features: Tensor) -> Tensor:
        flipped = self._stacked(features, sign_hard_tanh(self.signs))
        mixed = self._rounded_transform(flipped, self.input_fraction or 0, self.mixing_shifts)
        gaussian = self._quantized(self.gaussian)
        words = rounded_words(
            permute(mixed, self.permutation) * gaussian, signed(self.word_bits, self.word_fraction), self.rounding
        )
        projected = self._rounded_transform(words, self.word_fraction, self.projecting_shifts)
        scaled = projected[..., : self.out_features] * self._quantized(self.scale * self.normalization)
        if self.bias is None:
            return scaled
        # A tensor, not a number: shapes can be computed without values.
        _, fraction = quantize_weight(self.scale * self.normalization, self.weight_bits, per_channel=False)
        step = power_of_two(-(fraction + self.projected_fraction))
        return scaled + round_identity(self.bias / step) * step

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, weight_bits={self.weight_bits}, word_bits={self.word_bits}"

    def _rounded_transform(self, values: Tensor, fraction: int, shifts: tuple[int, ...] | None) -> Tensor:
        blocks = values.reshape(*values.shape[:-1], self.blocks, self.size)
        if shifts is None:
            return walsh_hadamard(blocks).flatten(-2)
        return rounded_walsh_hadamard(blocks, fraction=fraction, shifts=shifts, rounding=self.rounding).flatten(-2)

    def _quantized(self, diagonal: Tensor) -> Tensor:
        return quantized_weight(diagonal, self.weight_bits, per_channel=False)

    def _integers(self, diagonal: Tensor) -> tuple[Tensor, int]:
        integer, fraction = quantize_weight(diagonal, self.weight_bits, per_channel=False)
        return integer.to(torch.int64), int(fraction)

    def _output_fraction(self) -> int:
        return self.integer_scale()[1] + self.projected_fraction
