"""VGG whose fully connected layers are capsule layers."""

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from karui.sw.models.blocks import Blocks, Stage, check_network
from karui.sw.models.capsnet import capsule_layers
from karui.sw.models.capsule_ranges import CapsuleRanges
from karui.sw.models.lenet import named
from karui.sw.nn.precision import FLOAT, Precision, check_power_of_two
from karui.sw.nn.quant_conv import QuantConv2d

NORM = "_norm"
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
    batch_norm
        Whether a batch norm follows each convolution; a bias takes its place otherwise, see `without_batch_norm`.
    types, capsule, vector, iterations, precision, primary_limit, ranges
        See `karui.sw.models.capsnet.CapsNetConfig`; the primary capsules come from a 3x3 convolution too.
    """

    image: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10
    stages: tuple[Stage, ...] = STAGES_8
    batch_norm: bool = True
    types: int = 16
    capsule: int = 8
    vector: int = 16
    iterations: int = 3
    precision: Precision = FLOAT
    primary_limit: float = 2.0
    ranges: CapsuleRanges | None = None

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        for name in ("types", "capsule", "vector", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.stages or any(stage.stride != 1 for stage in self.stages):
            raise ValueError("stages must be one or more, of stride 1 each: the pools halve the map")
        check_power_of_two("primary_limit", self.primary_limit)
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
    """Build ``conv1_1``, ``relu1_1``, ..., ``primary``, ``prediction`` and ``routing`` with what lies between them.

    The outputs are the squared lengths of the class capsules.
    """
    blocks = Blocks(precision=config.precision, batch_norm=config.batch_norm)
    layers: dict[str, nn.Module] = {}
    channels = config.image[0]
    for index, stage in enumerate(config.stages, 1):
        for number in range(1, stage.repeat + 1):
            place = f"{index}_{number}"
            layers |= _conv(blocks, f"conv{place}", channels, stage.channels, edge=not layers)
            layers[f"relu{place}"] = blocks.relu()
            channels = stage.channels
        layers[f"pool{index}"] = nn.MaxPool2d(2)
    layers |= _conv(blocks, "primary", channels, config.types * config.capsule, edge=False)
    return named(
        layers
        | capsule_layers(
            config.capsules,
            config.capsule,
            config.classes,
            config.vector,
            iterations=config.iterations,
            precision=config.precision,
            primary_limit=config.primary_limit,
            ranges=config.ranges,
        )
    )


@torch.no_grad()
def without_batch_norm(model: nn.Sequential, config: CapsuleVggConfig) -> tuple[nn.Sequential, CapsuleVggConfig]:
    """Return the real network of which each batch norm has become part of the convolution in front of it.

    In evaluation mode it computes the same, but for rounding. The model itself is left as it is.
    """
    folded_config = replace(config, batch_norm=False)
    folded = build_capsule_vgg(folded_config)
    layers = dict(model.named_children())
    for name, target in folded.named_children():
        if isinstance(target, QuantConv2d):
            conv, norm = layers[name], layers[name + NORM]
            assert isinstance(conv, QuantConv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_var is not None
            assert norm.running_mean is not None
            assert target.bias is not None
            gain = norm.weight / (norm.running_var + norm.eps).sqrt()
            target.weight.copy_(conv.weight * gain[:, None, None, None])
            target.bias.copy_(norm.bias - norm.running_mean * gain)
        else:
            target.load_state_dict(layers[name].state_dict())
    return folded.eval(), folded_config


def _conv(blocks: Blocks, name: str, in_channels: int, out_channels: int, *, edge: bool) -> dict[str, nn.Module]:
    """A 3x3 convolution, and its batch norm if there are any."""
    layers = blocks.conv(in_channels, out_channels, 3, edge=edge)
    return dict(zip((name, name + NORM), layers, strict=False))
