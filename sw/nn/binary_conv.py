"""Two-dimensional convolution with 1-bit weights."""

import torch
from torch import Tensor
from torch.nn import functional

from karui.sw.nn.binary_weight import BinaryWeightLayer


class BinaryConv2d(BinaryWeightLayer):
    """Convolution with weights +1 or -1, no bias, and a declared padding value.

    A bipolar feature map has no zero, so the border is filled with `pad_value`, which hardware can represent.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and output feature maps.
    kernel_size
        Height and width of the square window.
    stride
        Step of the window in both directions.
    padding
        Rows and columns added on every side.
    pad_value
        Their content: -1 or +1 for a bipolar map, 0 for unsigned pixels.
    stochastic
        Draw the weights at random while training, see `BinaryWeightLayer`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        pad_value: int = -1,
        stochastic: bool = False,
    ) -> None:
        if min(in_channels, out_channels, kernel_size, stride) < 1 or padding < 0:
            raise ValueError(
                f"BinaryConv2d needs channels, kernel_size and stride of at least 1 and padding of at least 0, not "
                f"in_channels={in_channels}, out_channels={out_channels}, kernel_size={kernel_size}, stride={stride}, "
                f"padding={padding}"
            )
        if pad_value not in (-1, 0, 1):
            raise ValueError(
                f"pad_value must be -1 or +1 for a bipolar feature map, or 0 for unsigned pixels, not {pad_value}"
            )
        super().__init__((out_channels, in_channels, kernel_size, kernel_size), stochastic=stochastic)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.pad_value = pad_value

    def forward(self, feature_map: Tensor) -> Tensor:
        if self.padding:
            feature_map = functional.pad(feature_map, (self.padding,) * 4, value=float(self.pad_value))
        # Channels last: 1.2 times as fast on CPUs, forward and backward together. It propagates to the next layers.
        feature_map = feature_map.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(feature_map, self.forward_weight(), stride=self.stride)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, pad_value={self.pad_value}, stochastic={self.stochastic}"
        )
