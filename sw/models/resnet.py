"""Residual networks of bottleneck blocks (He et al. 2015, arXiv:1512.03385)."""

from dataclasses import dataclass

from torch import nn

from karui.sw.models.blocks import Blocks, Convolution, Residual, Stage, check_network
from karui.sw.nn.precision import FLOAT, Precision

# Channels of a block's output over those of its bottleneck.
EXPANSION = 4

# Table 1 of the paper, 50 and 152 layers; channels are those of the bottlenecks.
STEM = (Convolution(channels=64, kernel_size=7, stride=2, pool=True),)
STAGES_50 = (
    Stage(channels=64, repeat=3),
    Stage(channels=128, stride=2, repeat=4),
    Stage(channels=256, stride=2, repeat=6),
    Stage(channels=512, stride=2, repeat=3),
)

STAGES_152 = (
    Stage(channels=64, repeat=3),
    Stage(channels=128, stride=2, repeat=8),
    Stage(channels=256, stride=2, repeat=36),
    Stage(channels=512, stride=2, repeat=3),
)

# For images of 28x28 and 32x32.
SMALL_STEM = (Convolution(channels=32, pool=True),)
SMALL_STAGES = (
    Stage(channels=16, repeat=2),
    Stage(channels=32, stride=2, repeat=2),
    Stage(channels=64, stride=2, repeat=2),
)


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Residual network of bottleneck blocks; 50 layers unless its stages are given.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    stem
        Convolutions in front of the blocks.
    stages
        Bottleneck blocks by the channels of their 3x3 convolution; they give out four times as many.
    precision
        Widths of weights and activations.
    """

    image: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000
    stem: tuple[Convolution, ...] = STEM
    stages: tuple[Stage, ...] = STAGES_50
    precision: Precision = FLOAT

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        if not self.stem or not self.stages:
            raise ValueError("stem and stages must have at least one layer each")


def build_resnet(config: ResNetConfig) -> nn.Sequential:
    """Build the stem, the bottleneck blocks and the classifier."""
    blocks = Blocks(precision=config.precision)
    layers = blocks.stem(config.image[0], config.stem)
    channels = config.stem[-1].channels
    for stage in config.stages:
        for stride in stage.strides:
            layers.append(bottleneck(blocks, channels, stage.channels, stride))
            channels = EXPANSION * stage.channels
    return nn.Sequential(*layers, *blocks.classifier(channels, config.classes))


def bottleneck(blocks: Blocks, in_channels: int, hidden: int, stride: int) -> Residual:
    """Build a block: 1x1 to narrow, 3x3, 1x1 to wide, and a shortcut, projected where the shapes differ.

    The stride is that of the first convolution, as in the paper.
    """
    out_channels = EXPANSION * hidden
    body = [
        *blocks.conv_relu(in_channels, hidden, 1, stride=stride),
        *blocks.conv_relu(hidden, hidden, 3),
        *blocks.conv(hidden, out_channels, 1),
        blocks.addend(),
    ]
    if stride == 1 and in_channels == out_channels:
        return Residual(body, blocks.relu())
    return Residual(body, blocks.relu(), [*blocks.conv(in_channels, out_channels, 1, stride=stride), blocks.addend()])
