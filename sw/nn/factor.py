"""Constants of generators: real or words of a few bits; and the rounding of what is computed of them."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from karui.sw.nn.quant_weight import QuantWeightLayer
from karui.sw.nn.rounded_words import rounded_words
from karui.sw.numerics import NumberFormat


class Factor(QuantWeightLayer):
    """A tensor of constants, ``integer * 2**-fraction`` with one fraction for all; it multiplies nothing by itself.

    Parameters
    ----------
    shape
        Of the tensor.
    bits
        Width of the integers, 2 to 8; None for real constants.
    """

    def __init__(self, shape: tuple[int, ...], *, bits: int | None) -> None:
        super().__init__(shape, bias=False, weight_bits=bits, per_channel=False)

    def forward(self) -> Tensor:
        return self.forward_weight()

    def extra_repr(self) -> str:
        return f"{' x '.join(map(str, self.weight.shape))}, bits={self.weight_bits}"


def rounded_or_limited(values: Tensor, words: NumberFormat, *, exact: bool, in_place: bool = False) -> Tensor:
    """Round to words of a signed format, straight through; or, of real values, limit them to its range alone.

    Parameters
    ----------
    values
        Any shape.
    words
        The format.
    exact
        Whether to round.
    in_place
        Whether real values may be overwritten.
    """
    if exact:
        return rounded_words(values, words)
    assert isinstance(words.fraction, int)
    bound = -words.minimum * 2.0**-words.fraction
    return functional.hardtanh(values, -bound, bound, inplace=in_place)
