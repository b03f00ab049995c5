"""Weights and bias of the quantized layers: latent real values, integers on power-of-two grids in the forward pass."""

import torch
from torch import Tensor, nn

from karui.sw.nn.precision import check_bits
from karui.sw.nn.straight_through import round_identity
from karui.sw.nn.weight_quantizer import power_of_two, quantize_weight, quantized_weight


class QuantWeightLayer(nn.Module):
    """Base of the layers whose weights are ``integer * 2**-fraction`` in the forward pass.

    Parameters
    ----------
    shape
        Shape of the weight tensor; the first axis are the outputs.
    bias
        Whether there is a bias. It lies on the grid of its row's weights, as the weight of an input that is always 1,
        but is as wide as it need be: with inputs ``integer * 2**-n``, n >= 0, the accumulator's grid
        ``2**-(fraction + n)`` holds it exactly, shifted n to the left.
    weight_bits
        Width of the signed weights, 2 to 8; None for real weights and bias.
    per_channel
        Whether each output has a scale of its own.

    Attributes
    ----------
    weight, bias
        Latent real values, which accumulate gradients.
    """

    bias: nn.Parameter | None

    def __init__(self, shape: tuple[int, ...], *, bias: bool, weight_bits: int | None, per_channel: bool) -> None:
        super().__init__()
        check_bits("weight_bits", weight_bits)
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
        self.weight_bits = weight_bits
        self.per_channel = per_channel

    @property
    def vector_rows(self) -> int:
        """Rows of equal length that the weights form where vectors of them are shared; an output's are one."""
        return len(self.weight)

    def integer_weight(self) -> Tensor:
        """Return the integers of the deployed weights, as int64 of the weight's shape."""
        return self._quantize()[0].to(torch.int64)

    def weight_fraction(self) -> Tensor:
        """Return n of ``weight = integer * 2**-n``, as int64: one an output, or one in all."""
        return self._quantize()[1]

    def integer_bias(self) -> Tensor:
        """Return the bias in steps of ``2**-weight_fraction()``, as int64; zeros without a bias."""
        if self.bias is None:
            return torch.zeros(len(self.weight), dtype=torch.int64)
        return (self.bias.detach() * power_of_two(self.weight_fraction())).round().to(torch.int64)

    def forward_weight(self) -> Tensor:
        """Return the weights that the forward pass multiplies by, with their straight-through gradient."""
        if self.weight_bits is None:
            return self.weight
        return quantized_weight(self.weight, self.weight_bits, per_channel=self.per_channel)

    def forward_bias(self) -> Tensor | None:
        """Return the bias that the forward pass adds, with its straight-through gradient."""
        if self.bias is None or self.weight_bits is None:
            return self.bias
        fraction = self.weight_fraction()
        return round_identity(self.bias * power_of_two(fraction)) * power_of_two(-fraction)

    def _quantize(self) -> tuple[Tensor, Tensor]:
        if self.weight_bits is None:
            raise ValueError("a layer with real weights has no integer ones; build it with weight_bits")
        return quantize_weight(self.weight, self.weight_bits, per_channel=self.per_channel)


def quant_weight_layers(model: nn.Module) -> list[QuantWeightLayer]:
    """Return the layers with integer or real latent weights in the order of the model's modules."""
    return [module for module in model.modules() if isinstance(module, QuantWeightLayer)]
