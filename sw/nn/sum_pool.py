"""Sums over windows: an average pool whose successor divides."""

from torch import Tensor, nn
from torch.nn import functional

Pair = tuple[int, int]


class SumPool2d(nn.Module):
    """Sum over windows of a feature map, exact where float64 holds the sums; padding counts as zero.

    Parameters
    ----------
    kernel_size, stride, padding : (int, int)
        Vertical, horizontal.
    """

    def __init__(self, kernel_size: Pair, stride: Pair, padding: Pair = (0, 0)) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding

    def forward(self, feature_map: Tensor) -> Tensor:
        return functional.avg_pool2d(
            feature_map.double(), self.kernel_size, self.stride, self.padding, divisor_override=1
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
