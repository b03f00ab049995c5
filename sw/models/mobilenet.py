"""MobileNet version 1 (Howard et al. 2017, arXiv:1704.04861) and version 2 (Sandler et al. 2018, arXiv:1801.04381)."""

from dataclasses import dataclass

from torch import nn

from karui.sw.models.blocks import Blocks, Residual, Stage, check_multiplier, check_network, scaled_image
from karui.sw.nn.precision import FLOAT, Precision

# Table 1 of the paper.
V1_STAGES = (
    Stage(channels=64),
    Stage(channels=128, stride=2, repeat=2),
    Stage(channels=256, stride=2, repeat=2),
    Stage(channels=512, stride=2, repeat=6),
    Stage(channels=1024, stride=2, repeat=2),
)

# For images of 28x28 and 32x32; with a stem of 32 channels and stride 1 they leave a map of 7x7 or 8x8.
V1_SMALL_STAGES = (
    Stage(channels=64),
    Stage(channels=128, stride=2, repeat=2),
    Stage(channels=256, stride=2, repeat=2),
)


@dataclass(frozen=True, kw_only=True)
class MobileNetConfig:
    """MobileNet version 1: a standard convolution, then depthwise-separable blocks.

    Parameters
    ----------
    image
        Channels, height and width of the images before the resolution multiplier.
    classes
        Number of classes.
    alpha
        Width multiplier: every layer has ``int(alpha * channels)`` channels.
    rho
        Resolution multiplier: the network takes images of rho times the height and width, see `input_image`.
    stem, stem_stride
        Channels and stride of the first convolution, 3x3.
    stages
        Depthwise-separable blocks.
    precision
        Widths of weights and activations.
    """

    image: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000
    alpha: float = 1.0
    rho: float = 1.0
    stem: int = 32
    stem_stride: int = 2
    stages: tuple[Stage, ...] = V1_STAGES
    precision: Precision = FLOAT

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        check_multiplier("alpha", self.alpha)
        check_multiplier("rho", self.rho)

    @property
    def input_image(self) -> tuple[int, int, int]:
        """Channels, height and width of what the network takes."""
        return scaled_image(self.image, self.rho)

    def width(self, channels: int) -> int:
        """Channels after the width multiplier."""
        return max(1, int(self.alpha * channels))


def build_mobilenet(config: MobileNetConfig) -> nn.Sequential:
    """Build the first convolution, the depthwise-separable blocks, and the classifier."""
    blocks = Blocks(precision=config.precision)
    channels = config.width(config.stem)
    layers = blocks.conv_relu(config.image[0], channels, 3, stride=config.stem_stride, edge=True)
    for stage in config.stages:
        width = config.width(stage.channels)
        for stride in stage.strides:
            layers += blocks.separable(channels, width, stride=stride)
            channels = width
    return nn.Sequential(*layers, *blocks.classifier(channels, config.classes))


@dataclass(frozen=True, kw_only=True)
class BottleneckStage(Stage):
    """Equal inverted residuals in a row.

    Parameters
    ----------
    expansion
        Channels inside a block over the channels at its input.
    """

    expansion: int = 6


# Table 2 of the paper.
V2_STAGES = (
    BottleneckStage(channels=16, expansion=1),
    BottleneckStage(channels=24, stride=2, repeat=2),
    BottleneckStage(channels=32, stride=2, repeat=3),
    BottleneckStage(channels=64, stride=2, repeat=4),
    BottleneckStage(channels=96, repeat=3),
    BottleneckStage(channels=160, stride=2, repeat=3),
    BottleneckStage(channels=320),
)

# For images of 28x28 and 32x32, with a stem of 32 channels and stride 1 and a head of 256.
V2_SMALL_STAGES = (
    BottleneckStage(channels=16, expansion=1),
    BottleneckStage(channels=24, stride=2, repeat=2),
    BottleneckStage(channels=40, stride=2, repeat=3),
)


@dataclass(frozen=True, kw_only=True)
class MobileNetV2Config:
    """MobileNet version 2: inverted residuals with linear bottlenecks.

    Parameters
    ----------
    image
        Channels, height and width of the images before the resolution multiplier.
    classes
        Number of classes.
    alpha
        Width multiplier; widths are rounded to multiples of 8, at most 10 % down, and the head never shrinks.
    rho
        Resolution multiplier, see `input_image`.
    stem, stem_stride
        Channels and stride of the first convolution, 3x3.
    stages
        Inverted residuals.
    head
        Channels of the 1x1 convolution in front of the classifier.
    precision
        Widths of weights and activations.
    """

    image: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000
    alpha: float = 1.0
    rho: float = 1.0
    stem: int = 32
    stem_stride: int = 2
    stages: tuple[BottleneckStage, ...] = V2_STAGES
    head: int = 1280
    precision: Precision = FLOAT

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        check_multiplier("alpha", self.alpha)
        check_multiplier("rho", self.rho)

    @property
    def input_image(self) -> tuple[int, int, int]:
        """Channels, height and width of what the network takes."""
        return scaled_image(self.image, self.rho)

    def width(self, channels: int) -> int:
        """Channels after the width multiplier."""
        exact = self.alpha * channels
        rounded = max(8, int(exact + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * exact else rounded


def build_mobilenet_v2(config: MobileNetV2Config) -> nn.Sequential:
    """Build the first convolution, the inverted residuals, the head and the classifier."""
    blocks = Blocks(precision=config.precision)
    channels = config.width(config.stem)
    layers = blocks.conv_relu(config.image[0], channels, 3, stride=config.stem_stride, edge=True)
    for stage in config.stages:
        width = config.width(stage.channels)
        for stride in stage.strides:
            layers += _inverted_residual(blocks, channels, width, stride, stage.expansion)
            channels = width
    head = max(config.head, config.width(config.head))
    layers += blocks.conv_relu(channels, head, 1)
    return nn.Sequential(*layers, *blocks.classifier(head, config.classes))


def _inverted_residual(
    blocks: Blocks, in_channels: int, out_channels: int, stride: int, expansion: int
) -> list[nn.Module]:
    """Pointwise to wide, depthwise, pointwise to narrow without a nonlinearity; a shortcut where the shapes agree."""
    hidden = expansion * in_channels
    body = blocks.conv_relu(in_channels, hidden, 1) if expansion > 1 else []
    body += blocks.conv_relu(hidden, hidden, 3, stride=stride, groups=hidden)
    body += [*blocks.conv(hidden, out_channels, 1), blocks.identity()]
    return [Residual(body, blocks.identity())] if stride == 1 and in_channels == out_channels else body
