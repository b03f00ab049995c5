"""Xception: depthwise-separable convolutions with residual shortcuts (Chollet 2017, arXiv:1610.02357)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from karui.sw.models.blocks import Blocks, Convolution, Residual, check_network, max_pool
from karui.sw.nn.precision import FLOAT, Precision

# Figure 5 of the paper.
STEM = (Convolution(channels=32, stride=2, padded=False), Convolution(channels=64, padded=False))

# For images of 28x28 and 32x32, without the block of the exit flow.
SMALL_STEM = (Convolution(channels=16),)
SMALL_ENTRY = (40, 96)
SMALL_MIDDLE_BLOCKS = 2
SMALL_TAIL = (256,)


@dataclass(frozen=True, kw_only=True)
class XceptionConfig:
    """Xception: entry flow, middle flow, exit flow.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    stem
        Convolutions in front of the blocks.
    entry
        Channels of the entry flow's blocks; each halves the map.
    middle_blocks
        Blocks of the middle flow, three separable convolutions each.
    exit
        Channels of the exit flow's block, which halves the map too; None leaves it out.
    tail
        Channels of the separable convolutions behind it.
    precision
        Widths of weights and activations.
    """

    image: tuple[int, int, int] = (3, 299, 299)
    classes: int = 1000
    stem: tuple[Convolution, ...] = STEM
    entry: tuple[int, ...] = (128, 256, 728)
    middle_blocks: int = 8
    exit: int | None = 1024
    tail: tuple[int, ...] = (1536, 2048)
    precision: Precision = FLOAT

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        if not self.stem or not self.entry or not self.tail:
            raise ValueError("stem, entry and tail must have at least one layer each")
        if self.middle_blocks < 0:
            raise ValueError(f"middle_blocks must be 0 or more, not {self.middle_blocks}")


def build_xception(config: XceptionConfig) -> nn.Sequential:
    """Build the stem, the flows and the classifier."""
    blocks = Blocks(precision=config.precision)
    layers = blocks.stem(config.image[0], config.stem)
    channels = config.stem[-1].channels
    for index, width in enumerate(config.entry):
        # What the stem gives out is rectified already.
        layers.append(_block(blocks, (channels, width, width), stride=2, rectify_input=index > 0))
        channels = width
    for _ in range(config.middle_blocks):
        layers.append(_block(blocks, (channels,) * 4, stride=1))
    if config.exit is not None:
        layers.append(_block(blocks, (channels, channels, config.exit), stride=2))
        channels = config.exit
    for width in config.tail:
        layers += [*separable(blocks, channels, width), blocks.relu()]
        channels = width
    return nn.Sequential(*layers, *blocks.classifier(channels, config.classes))


def separable(blocks: Blocks, in_channels: int, out_channels: int) -> list[nn.Module]:
    """Xception's separable convolution: depthwise, pointwise, batch norm; nothing between the two but a requantization.

    The depthwise convolution has no batch norm, nor a bias in the pointwise one's place.
    """
    depthwise, *_ = blocks.conv(in_channels, in_channels, 3, groups=in_channels)
    return [depthwise, blocks.identity(), *blocks.conv(in_channels, out_channels, 1)]


def _block(blocks: Blocks, widths: Sequence[int], *, stride: int, rectify_input: bool = True) -> Residual:
    """Separable convolutions with a ReLU in front of each, a max pool where there is a stride, and the shortcut."""
    body: list[nn.Module] = []
    for in_channels, out_channels in pairwise(widths):
        if body or rectify_input:
            body.append(blocks.relu())
        body += separable(blocks, in_channels, out_channels)
    body.append(blocks.identity())
    if stride == 1:
        return Residual(body, blocks.identity())
    shortcut = [*blocks.conv(widths[0], widths[-1], 1, stride=stride), blocks.identity()]
    return Residual([*body, max_pool(stride=stride)], blocks.identity(), shortcut)
