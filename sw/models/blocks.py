"""Blocks that the light architectures are built from: convolutions with batch norm and activation, branches, shortcuts.

Every value that a block hands on is the output of a `QuantReLU` or `QuantIdentity`, so that in a quantized network it
is an integer of the precision's width: the places where hardware requantizes are visible in the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from karui.sw.nn.global_average_pool import GlobalAveragePool
from karui.sw.nn.precision import FLOAT, Precision
from karui.sw.nn.quant_activation import QuantIdentity, QuantReLU
from karui.sw.nn.quant_conv import QuantConv2d
from karui.sw.nn.quant_linear import QuantLinear

# Batch norm brings values to zero mean and unit variance: four standard deviations.
ACTIVATION_LIMIT = 4.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Equal blocks in a row.

    Parameters
    ----------
    channels
        Output channels of each block, before any width multiplier.
    stride
        Step of the first block; the others have 1.
    repeat
        Number of blocks.
    """

    channels: int
    stride: int = 1
    repeat: int = 1

    def __post_init__(self) -> None:
        for name in ("channels", "stride", "repeat"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a stage must be at least 1, not {getattr(self, name)}")

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each block."""
        return (self.stride, *[1] * (self.repeat - 1))


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A convolution with its ReLU at the beginning of a network.

    Parameters
    ----------
    channels
        Output channels.
    kernel_size, stride
        Window and its step.
    padded
        Whether zeros around the map keep its size, but for the stride. The pool follows suit: without padding it rounds
        the size of its output up.
    pool
        Whether a 3x3 max pool of stride 2 follows.
    """

    channels: int
    kernel_size: int = 3
    stride: int = 1
    padded: bool = True
    pool: bool = False

    def __post_init__(self) -> None:
        for name in ("channels", "kernel_size", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a convolution must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Factory of blocks in one precision.

    Parameters
    ----------
    precision
        Widths of weights and activations; `FLOAT` for none.
    batch_norm
        Whether a batch norm follows each convolution; a bias takes its place otherwise.
    """

    precision: Precision = FLOAT
    batch_norm: bool = True

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        edge: bool = False,
    ) -> list[nn.Module]:
        """Convolution and batch norm, without activation.

        Parameters
        ----------
        padding
            Rows and columns of zeros on every side; ``kernel_size // 2`` unless given.
        edge
            Whether it is the network's first layer, whose weights have the precision's `edge_bits`.
        """
        conv = QuantConv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2 if padding is None else padding,
            groups=groups,
            bias=not self.batch_norm,
            weight_bits=self.precision.edge_weight_bits if edge else self.precision.weight_bits,
            per_channel=self.precision.per_channel,
        )
        return [conv, nn.BatchNorm2d(out_channels)] if self.batch_norm else [conv]

    def conv_relu(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        edge: bool = False,
    ) -> list[nn.Module]:
        """Convolution, batch norm, `QuantReLU`."""
        conv = self.conv(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, groups=groups, edge=edge
        )
        return [*conv, self.relu()]

    def stem(self, in_channels: int, convolutions: Sequence[Convolution]) -> list[nn.Module]:
        """The convolutions at the beginning of a network; the first has edge weights."""
        layers: list[nn.Module] = []
        for index, conv in enumerate(convolutions):
            layers += self.conv_relu(
                in_channels,
                conv.channels,
                conv.kernel_size,
                stride=conv.stride,
                padding=None if conv.padded else 0,
                edge=index == 0,
            )
            if conv.pool:
                layers.append(max_pool(padded=conv.padded))
            in_channels = conv.channels
        return layers

    def separable(self, in_channels: int, out_channels: int, *, stride: int = 1) -> list[nn.Module]:
        """MobileNet's block: depthwise 3x3, batch norm, ReLU, pointwise, batch norm, ReLU (Howard et al. 2017)."""
        return [
            *self.conv_relu(in_channels, in_channels, 3, stride=stride, groups=in_channels),
            *self.conv_relu(in_channels, out_channels, 1),
        ]

    def relu(self) -> QuantReLU:
        """Unsigned activation."""
        return QuantReLU(bits=self.precision.activation_bits, limit=ACTIVATION_LIMIT)

    def identity(self) -> QuantIdentity:
        """Signed requantization without a nonlinearity."""
        return QuantIdentity(bits=self.precision.activation_bits, limit=ACTIVATION_LIMIT)

    def addend(self) -> QuantIdentity:
        """Signed requantization with the step of `relu`, for what is added to the output of a `relu`."""
        return QuantIdentity(bits=self.precision.activation_bits, limit=ACTIVATION_LIMIT / 2)

    def classifier(self, in_channels: int, classes: int) -> list[nn.Module]:
        """Global average pool and linear layer, whose scores share one scale.

        The pooled features have the precision's `edge_bits`: means of many activations lie close together, and need
        finer steps than these.
        """
        bits = self.precision.activation_bits
        return [
            GlobalAveragePool(),
            QuantReLU(bits=None if bits is None else self.precision.edge_bits or bits, limit=ACTIVATION_LIMIT),
            QuantLinear(in_channels, classes, weight_bits=self.precision.edge_weight_bits, per_channel=False),
        ]


class Branches(nn.Module):
    """Branches over one input, concatenated along the channels.

    Parameters
    ----------
    branches
        Layers of each branch; an empty branch hands the input on.
    """

    def __init__(self, *branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*branch) for branch in branches)

    def forward(self, feature_map: Tensor) -> Tensor:
        return torch.cat([branch(feature_map) for branch in self.branches], dim=1)


class Residual(nn.Module):
    """Layers with a shortcut around them, added, then an activation.

    Parameters
    ----------
    body
        Layers of the long way.
    activation
        Requantizes the sum.
    shortcut
        Layers of the short way; the input itself unless given.
    """

    def __init__(self, body: Sequence[nn.Module], activation: nn.Module, shortcut: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = activation

    def forward(self, feature_map: Tensor) -> Tensor:
        total: Tensor = self.activation(self.body(feature_map) + self.shortcut(feature_map))
        return total


def max_pool(*, stride: int = 2, padded: bool = True) -> nn.MaxPool2d:
    """3x3 max pool: padded by one on every side, or not padded and rounding the size of its output up."""
    return nn.MaxPool2d(3, stride, padding=1) if padded else nn.MaxPool2d(3, stride, ceil_mode=True)


def check_network(image: tuple[int, int, int], classes: int) -> None:
    """Refuse an image or a number of classes that no network can have."""
    if min(image) < 1:
        raise ValueError(f"image must be channels, height and width of at least 1, not {list(image)}")
    if classes < 1:
        raise ValueError(f"classes must be at least 1, not {classes}")


def check_multiplier(name: str, value: float) -> None:
    """Refuse a width or resolution multiplier that is not positive."""
    if not value > 0:
        raise ValueError(f"{name} must be positive, not {value}; 1.0 leaves the network as it is")


def scaled_image(image: tuple[int, int, int], rho: float) -> tuple[int, int, int]:
    """Channels, height and width of an image after the resolution multiplier."""
    channels, height, width = image
    return channels, max(1, round(rho * height)), max(1, round(rho * width))
