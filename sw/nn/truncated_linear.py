"""A linear layer of low rank, from the singular value decomposition of a dense one."""

import torch
from torch import nn

from karui.sw.nn.quant_linear import QuantLinear


class TruncatedLinear(nn.Sequential):
    """Two linear layers without an activation in between: ``rank * (in_features + out_features)`` weights.

    Parameters
    ----------
    in_features, out_features
        Lengths of the input and output vectors.
    rank
        Length of the vector in between, at most the lesser of the two.
    bias, weight_bits
        See `karui.sw.nn.quant_linear.QuantLinear`; the bias is the second layer's.
    """

    def __init__(
        self, in_features: int, out_features: int, *, rank: int, bias: bool = True, weight_bits: int | None = None
    ) -> None:
        if not 1 <= rank <= min(in_features, out_features):
            raise ValueError(f"rank must be 1 to {min(in_features, out_features)}, not {rank}")
        super().__init__()
        # The second layer takes words of one scale.
        self.first = QuantLinear(in_features, rank, bias=False, weight_bits=weight_bits, per_channel=False)
        self.second = QuantLinear(rank, out_features, bias=bias, weight_bits=weight_bits)
        self.rank = rank

    @classmethod
    def from_linear(cls, layer: nn.Linear | QuantLinear, rank: int) -> "TruncatedLinear":
        """The nearest matrix of that rank, in the sense of least squares (Eckart & Young 1936), ready for fine-tuning.

        Both factors take the square roots of the singular values, so that their gradients are of one size.
        """
        outputs, inputs = layer.weight.shape
        truncated = cls(inputs, outputs, rank=rank, bias=layer.bias is not None)
        with torch.no_grad():
            left, values, right = torch.linalg.svd(layer.weight, full_matrices=False)
            roots = values[:rank].sqrt()
            truncated.first.weight.copy_(roots[:, None] * right[:rank])
            truncated.second.weight.copy_(left[:, :rank] * roots)
            if layer.bias is not None and truncated.second.bias is not None:
                truncated.second.bias.copy_(layer.bias)
        return truncated
