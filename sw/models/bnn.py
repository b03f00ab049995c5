"""Networks with binary weights and binary activations: fully connected and convolutional.

The binary networks follow Hubara et al. 2016; TFC, SFC and LFC (three hidden layers of 64, 256 and 1024) and CNV are
the sizes that FINN (Umuroglu et al. 2017) made the common yardstick.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from karui.sw.nn.binary_activation import BinaryActivation, InputBinarize
from karui.sw.nn.binary_conv import BinaryConv2d
from karui.sw.nn.binary_linear import BinaryLinear
from karui.sw.nn.logit_scale import LogitScale

BATCH_NORM_EPS = 1e-4


@dataclass(frozen=True, kw_only=True)
class BinaryMLPConfig:
    """Binary multi-layer perceptron.

    Parameters
    ----------
    in_features
        Pixels of the flattened image.
    hidden
        Width of each hidden layer.
    classes
        Number of classes.
    input
        ``"binary"``: pixels of at least `threshold` become +1, the others -1. ``"pixels"``: the first layer multiplies
        the integer pixels themselves.
    threshold
        Smallest pixel that becomes +1; read only with ``input = "binary"``.
    """

    in_features: int
    hidden: tuple[int, ...]
    classes: int = 10
    input: Literal["binary", "pixels"] = "binary"
    threshold: int = 128

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must name at least one width of 1 or more, not {list(self.hidden)}")
        if self.input not in ("binary", "pixels"):
            raise ValueError(f'input must be "binary" or "pixels", not {self.input!r}')


@dataclass(frozen=True, kw_only=True)
class ConvStage:
    """Convolutions of one resolution, then a 2x2 max pool on bits if `pool` is set.

    Parameters
    ----------
    channels
        Output channels of each convolution.
    kernel_size
        Window of each convolution.
    padding
        Border of each convolution: zero pixels on the image, -1 on bipolar maps.
    pool
        Whether a 2x2 max pool follows the last convolution.
    """

    channels: tuple[int, ...]
    kernel_size: int = 3
    padding: int = 0
    pool: bool = True

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels must name at least one width of 1 or more, not {list(self.channels)}")


@dataclass(frozen=True, kw_only=True)
class BinaryCNNConfig:
    """Binary convolutional network with an integer-pixel first layer.

    Parameters
    ----------
    image
        Channels, height and width of the input.
    stages
        The convolutional part.
    hidden
        Widths of the fully connected layers before the output; may be empty.
    classes
        Number of classes.
    """

    image: tuple[int, int, int]
    stages: tuple[ConvStage, ...]
    hidden: tuple[int, ...] = ()
    classes: int = 10


CNV_STAGES = (
    ConvStage(channels=(64, 64)),
    ConvStage(channels=(128, 128)),
    ConvStage(channels=(256, 256), pool=False),
)


def build_binary_mlp(config: BinaryMLPConfig) -> nn.Sequential:
    """Build BinaryLinear, BatchNorm1d, BinaryActivation a hidden layer, then BinaryLinear and LogitScale."""
    layers: list[nn.Module] = [nn.Flatten()]
    if config.input == "binary":
        layers.append(InputBinarize(config.threshold))
    layers += _dense_layers(config.in_features, config.hidden, config.classes)
    return nn.Sequential(*layers)


def build_binary_cnn(config: BinaryCNNConfig) -> nn.Sequential:
    """Build BinaryConv2d, BatchNorm2d, BinaryActivation a convolution, pools between stages, then the dense layers."""
    channels, height, width = config.image
    layers: list[nn.Module] = []
    for stage in config.stages:
        for out_channels in stage.channels:
            pad_value = -1 if layers else 0
            layers += [
                BinaryConv2d(channels, out_channels, stage.kernel_size, padding=stage.padding, pad_value=pad_value),
                nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS),
                BinaryActivation(),
            ]
            channels = out_channels
            height += 2 * stage.padding - stage.kernel_size + 1
            width += 2 * stage.padding - stage.kernel_size + 1
            if min(height, width) < 1:
                raise ValueError(
                    f"stages shrink the {config.image[1]}x{config.image[2]} image to {height}x{width}; "
                    f"use fewer convolutions, smaller kernels or padding"
                )
        if stage.pool:
            if height % 2 or width % 2:
                raise ValueError(
                    f"a 2x2 max pool needs an even map, not {height}x{width} after {list(stage.channels)}; "
                    f"change kernel_size or padding of the stage"
                )
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    layers.append(nn.Flatten())
    layers += _dense_layers(channels * height * width, config.hidden, config.classes)
    return nn.Sequential(*layers)


def _dense_layers(in_features: int, hidden: tuple[int, ...], classes: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for out_features in hidden:
        layers += [
            BinaryLinear(in_features, out_features),
            nn.BatchNorm1d(out_features, eps=BATCH_NORM_EPS),
            BinaryActivation(),
        ]
        in_features = out_features
    layers += [
        BinaryLinear(in_features, classes),
        LogitScale(classes, initial_scale=in_features**-0.5),
    ]
    return layers
