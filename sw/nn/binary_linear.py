"""Fully connected layer with 1-bit weights."""

from torch import Tensor
from torch.nn import functional

from karui.sw.nn.binary_weight import BinaryWeightLayer


class BinaryLinear(BinaryWeightLayer):
    """Matrix-vector product with weights +1 or -1 and no bias.

    With integer inputs the outputs are exact integers in float32 as long as ``in_features * max|x| < 2**24``.

    Parameters
    ----------
    in_features, out_features
        Lengths of the input and output vectors.
    stochastic
        Draw the weights at random while training, see `BinaryWeightLayer`.
    """

    def __init__(self, in_features: int, out_features: int, *, stochastic: bool = False) -> None:
        if in_features < 1 or out_features < 1:
            raise ValueError(
                f"BinaryLinear needs at least one input and one output, not in_features={in_features}, "
                f"out_features={out_features}"
            )
        super().__init__((out_features, in_features), stochastic=stochastic)
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, features: Tensor) -> Tensor:
        return functional.linear(features, self.forward_weight())

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, stochastic={self.stochastic}"
