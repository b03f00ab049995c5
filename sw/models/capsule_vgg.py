"""VGG whose fully connected layers are capsule layers."""

import math
from dataclasses import dataclass, field

from torch import nn

from karui.sw.models.blocks import Blocks, Stage, check_network
from karui.sw.models.capsnet import capsule_layers
from karui.sw.models.capsule_ranges import CapsuleRanges
from karui.sw.models.lenet import named
from karui.sw.nn.precision import FLOAT, Precision

STAGES_8 = (Stage(channels=32, repeat=2), Stage(channels=64, repeat=2), Stage(channels=128, repeat=2))


@dataclass(frozen=True, kw_only=True)
class CapsuleVggConfig:
    """Stages of 3x3 convolutions with batch norms, a 2x2 max pool behind each, primary capsules and class capsules.

    VGG-8, whose 4 x 4 x 128 features of CIFAR-10's images become 256 primary capsules, unless its stages are given.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    stages
        Convolutions of equal width in a row; their stride is that of the pool, so 1 here.
    types, capsule, vector, iterations, precision, ranges
        See `karui.sw.models.capsnet.CapsNetConfig`; the primary capsules come from a 3x3 convolution too.
    """

    image: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10
    stages: tuple[Stage, ...] = STAGES_8
    types: int = 16
    capsule: int = 8
    vector: int = 16
    iterations: int = 3
    precision: Precision = FLOAT
    ranges: CapsuleRanges = field(default_factory=CapsuleRanges)

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        for name in ("types", "capsule", "vector", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.stages or any(stage.stride != 1 for stage in self.stages):
            raise ValueError("stages must be one or more, of stride 1 each: the pools halve the map")
        if min(self.grid) < 1:
            raise ValueError(
                f"image must be at least {1 << len(self.stages)} pixels high and wide for {len(self.stages)} pools, "
                f"not {self.image[1]} x {self.image[2]}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of positions with primary capsules."""
        rows, columns = (size >> len(self.stages) for size in self.image[1:])
        return rows, columns

    @property
    def capsules(self) -> int:
        """Number of primary capsules."""
        return math.prod(self.grid) * self.types


def build_capsule_vgg(config: CapsuleVggConfig) -> nn.Sequential:
    """Build ``conv1_1``, ``norm1_1``, ..., ``primary``, ``prediction`` and ``routing`` with what lies between them.

    The outputs are the squared lengths of the class capsules.
    """
    blocks = Blocks(precision=config.precision)
    layers: dict[str, nn.Module] = {}
    channels = config.image[0]
    for index, stage in enumerate(config.stages, 1):
        for number in range(1, stage.repeat + 1):
            conv, norm = blocks.conv(channels, stage.channels, 3, edge=not layers)
            place = f"{index}_{number}"
            layers |= {f"conv{place}": conv, f"norm{place}": norm, f"relu{place}": blocks.relu()}
            channels = stage.channels
        layers[f"pool{index}"] = nn.MaxPool2d(2)
    layers["primary"], layers["norm"] = blocks.conv(channels, config.types * config.capsule, 3)
    return named(
        layers
        | capsule_layers(
            config.capsules,
            config.capsule,
            config.classes,
            config.vector,
            iterations=config.iterations,
            precision=config.precision,
            ranges=config.ranges,
        )
    )
