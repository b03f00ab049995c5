"""Fully connected layer with weights of a few bits."""

from torch import Tensor
from torch.nn import functional

from karui.sw.nn.quant_weight import QuantWeightLayer


class QuantLinear(QuantWeightLayer):
    """Matrix-vector product with weights ``integer * 2**-fraction``.

    With inputs ``integer * 2**-n`` the outputs are exact multiples of ``2**-(fraction + n)``, as long as the integer
    accumulator stays below 2**24. The scores of a classifier are comparable without shifts where one fraction is common
    to all outputs (``per_channel=False``).

    Parameters
    ----------
    in_features, out_features
        Lengths of the input and output vectors.
    bias, weight_bits, per_channel
        See `QuantWeightLayer`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        weight_bits: int | None = None,
        per_channel: bool = True,
    ) -> None:
        if in_features < 1 or out_features < 1:
            raise ValueError(
                f"QuantLinear needs at least one input and one output, not in_features={in_features}, "
                f"out_features={out_features}"
            )
        super().__init__((out_features, in_features), bias=bias, weight_bits=weight_bits, per_channel=per_channel)
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, features: Tensor) -> Tensor:
        return functional.linear(features, self.forward_weight(), self.forward_bias())

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, "
            f"weight_bits={self.weight_bits}, per_channel={self.per_channel}"
        )
