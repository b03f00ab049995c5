"""Mean of each feature map."""

from torch import Tensor, nn


class GlobalAveragePool(nn.Module):
    """Mean over all positions: (N, C, H, W) to (N, C).

    The sum of ``integer * 2**-n`` is exact in float32 below 2**24; the one division behind it rounds once. A
    quantizing activation must follow in a quantized network.
    """

    def forward(self, feature_map: Tensor) -> Tensor:
        return feature_map.sum((2, 3)) / (feature_map.shape[2] * feature_map.shape[3])
