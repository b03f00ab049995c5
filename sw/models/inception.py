"""GoogLeNet: Inception modules (Szegedy et al. 2014, arXiv:1409.4842), without auxiliary classifiers."""

from dataclasses import dataclass

from torch import nn

from karui.sw.models.blocks import Blocks, Branches, Convolution, check_network, max_pool
from karui.sw.nn.precision import FLOAT, Precision


@dataclass(frozen=True, kw_only=True)
class InceptionModule:
    """Four branches side by side: 1x1; 1x1 then 3x3; 1x1 then 5x5; max pool then 1x1.

    Parameters
    ----------
    conv1
        Channels of the 1x1 branch.
    reduce3, conv3
        Channels of the 1x1 bottleneck and of the 3x3 convolution behind it.
    reduce5, conv5
        Channels of the 1x1 bottleneck and of the 5x5 convolution behind it.
    pool_projection
        Channels of the 1x1 convolution behind the 3x3 max pool.
    pool
        Whether a 3x3 max pool of stride 2 follows the module.
    """

    conv1: int
    reduce3: int
    conv3: int
    reduce5: int
    conv5: int
    pool_projection: int
    pool: bool = False

    def __post_init__(self) -> None:
        for name in ("conv1", "reduce3", "conv3", "reduce5", "conv5", "pool_projection"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of an Inception module must be at least 1, not {getattr(self, name)}")

    @property
    def channels(self) -> int:
        """Output channels: all branches together."""
        return self.conv1 + self.conv3 + self.conv5 + self.pool_projection


# Table 1 of the paper. Its pools are not padded but round up: on maps of even size that gives the sizes of padded ones.
STEM = (
    Convolution(channels=64, kernel_size=7, stride=2, pool=True),
    Convolution(channels=64, kernel_size=1),
    Convolution(channels=192, pool=True),
)
MODULES = (
    InceptionModule(conv1=64, reduce3=96, conv3=128, reduce5=16, conv5=32, pool_projection=32),
    InceptionModule(conv1=128, reduce3=128, conv3=192, reduce5=32, conv5=96, pool_projection=64, pool=True),
    InceptionModule(conv1=192, reduce3=96, conv3=208, reduce5=16, conv5=48, pool_projection=64),
    InceptionModule(conv1=160, reduce3=112, conv3=224, reduce5=24, conv5=64, pool_projection=64),
    InceptionModule(conv1=128, reduce3=128, conv3=256, reduce5=24, conv5=64, pool_projection=64),
    InceptionModule(conv1=112, reduce3=144, conv3=288, reduce5=32, conv5=64, pool_projection=64),
    InceptionModule(conv1=256, reduce3=160, conv3=320, reduce5=32, conv5=128, pool_projection=128, pool=True),
    InceptionModule(conv1=256, reduce3=160, conv3=320, reduce5=32, conv5=128, pool_projection=128),
    InceptionModule(conv1=384, reduce3=192, conv3=384, reduce5=48, conv5=128, pool_projection=128),
)

# For images of 28x28 and 32x32.
SMALL_STEM = (Convolution(channels=32, pool=True),)
SMALL_MODULES = (
    InceptionModule(conv1=24, reduce3=24, conv3=48, reduce5=8, conv5=16, pool_projection=16, pool=True),
    InceptionModule(conv1=32, reduce3=32, conv3=64, reduce5=8, conv5=24, pool_projection=24),
    InceptionModule(conv1=48, reduce3=48, conv3=96, reduce5=16, conv5=32, pool_projection=32),
)


@dataclass(frozen=True, kw_only=True)
class InceptionConfig:
    """GoogLeNet.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    stem
        Convolutions in front of the modules. The paper's local response normalization is left out.
    modules
        Inception modules.
    batch_norm
        Whether each convolution has a batch norm. The paper's have biases instead.
    precision
        Widths of weights and activations.
    """

    image: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000
    stem: tuple[Convolution, ...] = STEM
    modules: tuple[InceptionModule, ...] = MODULES
    batch_norm: bool = False
    precision: Precision = FLOAT

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        if not self.stem or not self.modules:
            raise ValueError("stem and modules must have at least one layer each")


def build_inception(config: InceptionConfig) -> nn.Sequential:
    """Build the stem, the modules and the classifier."""
    blocks = Blocks(precision=config.precision, batch_norm=config.batch_norm)
    layers = blocks.stem(config.image[0], config.stem)
    channels = config.stem[-1].channels
    for module in config.modules:
        layers.append(inception(blocks, channels, module))
        channels = module.channels
        if module.pool:
            layers.append(max_pool())
    return nn.Sequential(*layers, *blocks.classifier(channels, config.classes))


def inception(blocks: Blocks, in_channels: int, module: InceptionModule) -> Branches:
    """Build the four branches of a module."""
    return Branches(
        blocks.conv_relu(in_channels, module.conv1, 1),
        [*blocks.conv_relu(in_channels, module.reduce3, 1), *blocks.conv_relu(module.reduce3, module.conv3, 3)],
        [*blocks.conv_relu(in_channels, module.reduce5, 1), *blocks.conv_relu(module.reduce5, module.conv5, 5)],
        [max_pool(stride=1), *blocks.conv_relu(in_channels, module.pool_projection, 1)],
    )
