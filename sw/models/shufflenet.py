"""ShuffleNet: grouped pointwise convolutions with channel shuffle (Zhang et al. 2017, arXiv:1707.01083)."""

from dataclasses import dataclass

from torch import nn

from karui.sw.models.blocks import Blocks, Branches, Convolution, Residual, Stage, check_network
from karui.sw.nn.precision import FLOAT, Precision

STEM = (Convolution(channels=24, stride=2, pool=True),)

# Table 1 of the paper: output channels of the first stage by the number of groups; each further stage doubles them.
FIRST_STAGE_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}

# For images of 28x28 and 32x32, with 3 groups and a stem of stride 1 without a pool.
SMALL_STEM = (Convolution(channels=24),)
SMALL_STAGES = (
    Stage(channels=96, stride=2, repeat=4),
    Stage(channels=192, stride=2, repeat=6),
    Stage(channels=384, stride=2, repeat=3),
)

# Channels of a unit's output over those of its bottleneck.
BOTTLENECK = 4


def paper_stages(groups: int) -> tuple[Stage, ...]:
    """Stages of table 1 for a number of groups.

    Raises
    ------
    ValueError
        If the paper has no such column.
    """
    if groups not in FIRST_STAGE_CHANNELS:
        raise ValueError(
            f"groups must be one of {', '.join(map(str, FIRST_STAGE_CHANNELS))} for the paper's stages, not {groups}; "
            f"give stages for another number"
        )
    channels = FIRST_STAGE_CHANNELS[groups]
    return tuple(
        Stage(channels=factor * channels, stride=2, repeat=repeat) for factor, repeat in ((1, 4), (2, 8), (4, 4))
    )


@dataclass(frozen=True, kw_only=True)
class ShuffleNetConfig:
    """ShuffleNet.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    groups
        Groups of the pointwise convolutions.
    stem
        Convolutions in front of the units.
    stages
        Units; the paper's for the number of groups unless given. Every stage begins with stride 2.
    precision
        Widths of weights and activations.
    """

    image: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000
    groups: int = 3
    stem: tuple[Convolution, ...] = STEM
    stages: tuple[Stage, ...] = ()
    precision: Precision = FLOAT

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        if not self.stem:
            raise ValueError("stem must have at least one layer")
        if self.groups < 1:
            raise ValueError(f"groups must be at least 1, not {self.groups}")
        channels = self.stem[-1].channels
        for stage in self.units:
            if stage.channels % (BOTTLENECK * self.groups) or (stage.channels - channels) % self.groups:
                raise ValueError(
                    f"a stage of {stage.channels} channels cannot be split into groups = {self.groups}: its quarter "
                    f"and what it adds to the {channels} channels before it must be multiples of {self.groups}"
                )
            if stage.stride != 2 or stage.channels <= channels:
                raise ValueError(
                    f"a stage must have stride 2 and more than the {channels} channels before it, "
                    f"not stride = {stage.stride} and channels = {stage.channels}"
                )
            channels = stage.channels

    @property
    def units(self) -> tuple[Stage, ...]:
        """The stages given, or the paper's."""
        return self.stages or paper_stages(self.groups)


def build_shufflenet(config: ShuffleNetConfig) -> nn.Sequential:
    """Build the stem, the units and the classifier."""
    blocks = Blocks(precision=config.precision)
    layers = blocks.stem(config.image[0], config.stem)
    channels = config.stem[-1].channels
    for index, stage in enumerate(config.units):
        for stride in stage.strides:
            # The paper leaves the very first pointwise ungrouped: its input has too few channels.
            first_groups = 1 if index == 0 and stride > 1 else config.groups
            layers.append(_unit(blocks, channels, stage.channels, stride, config.groups, first_groups))
            channels = stage.channels
    return nn.Sequential(*layers, *blocks.classifier(channels, config.classes))


def _unit(
    blocks: Blocks, in_channels: int, out_channels: int, stride: int, groups: int, first_groups: int
) -> nn.Module:
    """Figure 2 of the paper: (b) with a shortcut that is added, (c) with stride and a pooled one that is concatenated.

    The activation behind the concatenation stands in each of its branches, where it computes the same.
    """
    hidden = out_channels // BOTTLENECK
    body = blocks.conv_relu(in_channels, hidden, 1, groups=first_groups)
    if groups > 1:
        body.append(nn.ChannelShuffle(groups))
    body += [*blocks.conv(hidden, hidden, 3, stride=stride, groups=hidden), blocks.identity()]
    if stride == 1:
        body += [*blocks.conv(hidden, out_channels, 1, groups=groups), blocks.addend()]
        return Residual(body, blocks.relu())
    body += blocks.conv_relu(hidden, out_channels - in_channels, 1, groups=groups)
    return Branches([nn.AvgPool2d(3, stride, padding=1), blocks.relu()], body)
