"""SqueezeNet 1.0 and 1.1: fire modules (Iandola et al. 2016, arXiv:1602.07360)."""

from dataclasses import dataclass

from torch import nn

from karui.sw.models.blocks import Blocks, Branches, Convolution, check_network, max_pool
from karui.sw.nn.global_average_pool import GlobalAveragePool
from karui.sw.nn.precision import FLOAT, Precision


@dataclass(frozen=True, kw_only=True)
class FireStage:
    """Equal fire modules in a row.

    Parameters
    ----------
    squeeze
        Channels of the 1x1 convolution that narrows the map.
    expand
        Channels of the 1x1 and of the 3x3 convolution that widen it again; the module gives out both.
    repeat
        Number of modules.
    pool
        Whether a 3x3 max pool of stride 2 follows the last one.
    """

    squeeze: int
    expand: int
    repeat: int = 1
    pool: bool = False

    def __post_init__(self) -> None:
        for name in ("squeeze", "expand", "repeat"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a fire stage must be at least 1, not {getattr(self, name)}")


# Table 1 of the paper.
STEM_1_0 = (Convolution(channels=96, kernel_size=7, stride=2, padded=False, pool=True),)
STAGES_1_0 = (
    FireStage(squeeze=16, expand=64, repeat=2),
    FireStage(squeeze=32, expand=128, pool=True),
    FireStage(squeeze=32, expand=128),
    FireStage(squeeze=48, expand=192, repeat=2),
    FireStage(squeeze=64, expand=256, pool=True),
    FireStage(squeeze=64, expand=256),
)

# The authors' second version: a smaller stem, and pools earlier.
STEM_1_1 = (Convolution(channels=64, stride=2, padded=False, pool=True),)
STAGES_1_1 = (
    FireStage(squeeze=16, expand=64, repeat=2, pool=True),
    FireStage(squeeze=32, expand=128, repeat=2, pool=True),
    FireStage(squeeze=48, expand=192, repeat=2),
    FireStage(squeeze=64, expand=256, repeat=2),
)

# For images of 28x28 and 32x32.
SMALL_STEM = (Convolution(channels=32, pool=True),)
SMALL_STAGES = (
    FireStage(squeeze=16, expand=40, repeat=2, pool=True),
    FireStage(squeeze=32, expand=96, repeat=2),
    FireStage(squeeze=48, expand=128),
)


@dataclass(frozen=True, kw_only=True)
class SqueezeNetConfig:
    """SqueezeNet; version 1.1 unless its tables are given.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    stem
        Convolutions in front of the fire modules.
    stages
        Fire modules.
    padded
        Whether the max pools between them are padded. The paper's round up instead.
    batch_norm
        Whether each convolution has a batch norm. The paper's have biases instead.
    linear_classifier
        Average first, and classify by a linear layer. The paper's classifier is a convolution over the whole map, with
        a ReLU, and an average behind it: without that ReLU the two are equal.
    precision
        Widths of weights and activations.
    """

    image: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000
    stem: tuple[Convolution, ...] = STEM_1_1
    stages: tuple[FireStage, ...] = STAGES_1_1
    padded: bool = False
    batch_norm: bool = False
    linear_classifier: bool = False
    precision: Precision = FLOAT

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        if not self.stem or not self.stages:
            raise ValueError("stem and stages must have at least one layer each")
        if self.precision.activation_bits is not None and not self.linear_classifier:
            raise ValueError(
                "linear_classifier must be true in a quantized SqueezeNet: the paper's last average would be left real"
            )


def build_squeezenet(config: SqueezeNetConfig) -> nn.Sequential:
    """Build the stem, the fire modules and the classifier."""
    blocks = Blocks(precision=config.precision, batch_norm=config.batch_norm)
    layers = blocks.stem(config.image[0], config.stem)
    channels = config.stem[-1].channels
    for stage in config.stages:
        for _ in range(stage.repeat):
            layers += fire(blocks, channels, stage.squeeze, stage.expand)
            channels = 2 * stage.expand
        if stage.pool:
            layers.append(max_pool(padded=config.padded))
    if config.linear_classifier:
        return nn.Sequential(*layers, *blocks.classifier(channels, config.classes))
    return nn.Sequential(*layers, *blocks.conv_relu(channels, config.classes, 1, edge=True), GlobalAveragePool())


def fire(blocks: Blocks, in_channels: int, squeeze: int, expand: int) -> list[nn.Module]:
    """Build a fire module: 1x1 to `squeeze` channels, then 1x1 and 3x3 to `expand` each, side by side."""
    return [
        *blocks.conv_relu(in_channels, squeeze, 1),
        Branches(blocks.conv_relu(squeeze, expand, 1), blocks.conv_relu(squeeze, expand, 3)),
    ]
