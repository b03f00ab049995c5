"""Two-dimensional convolution with weights of a few bits: standard, grouped, depthwise, pointwise."""

import torch
from torch import Tensor
from torch.nn import functional

from karui.sw.nn.quant_weight import QuantWeightLayer


class QuantConv2d(QuantWeightLayer):
    """Convolution with weights ``integer * 2**-fraction`` and zero padding.

    With inputs ``integer * 2**-n`` the outputs are exact multiples of ``2**-(fraction + n)``, as long as the integer
    accumulator stays below 2**24.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input and output feature maps.
    kernel_size
        Height and width of the square window.
    stride
        Step of the window in both directions.
    padding
        Rows and columns of zeros added on every side.
    groups
        Groups of channels convolved apart; `in_channels` of them make the convolution depthwise.
    bias, weight_bits, per_channel
        See `QuantWeightLayer`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = False,
        weight_bits: int | None = None,
        per_channel: bool = True,
    ) -> None:
        if min(in_channels, out_channels, kernel_size, stride, groups) < 1 or padding < 0:
            raise ValueError(
                f"QuantConv2d needs channels, kernel_size, stride and groups of at least 1 and padding of at least 0, "
                f"not in_channels={in_channels}, out_channels={out_channels}, kernel_size={kernel_size}, "
                f"stride={stride}, groups={groups}, padding={padding}"
            )
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups must divide the channels, in_channels={in_channels} and out_channels={out_channels}, "
                f"not {groups}"
            )
        shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        super().__init__(shape, bias=bias, weight_bits=weight_bits, per_channel=per_channel)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.groups = groups

    def forward(self, feature_map: Tensor) -> Tensor:
        # Channels last is the faster order on CPUs; it propagates to the next layers.
        feature_map = feature_map.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(
            feature_map, self.forward_weight(), self.forward_bias(), self.stride, self.padding, groups=self.groups
        )

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, groups={self.groups}, bias={self.bias is not None}, "
            f"weight_bits={self.weight_bits}, per_channel={self.per_channel}"
        )
