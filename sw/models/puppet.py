"""Puppet-CNN (Xing and Wang 2024): a network whose kernels are generated, as deep as the image is complex."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from karui.sw.ir.complexity_arithmetic import DEEPEST, depth_steps
from karui.sw.ir.complexity_op import COMPLEXITY_FRACTION
from karui.sw.models.blocks import ACTIVATION_LIMIT, Blocks, Residual, check_network
from karui.sw.models.lenet import named
from karui.sw.nn.continuous_puppeteer import ContinuousPuppeteer, Polynomials, Sines
from karui.sw.nn.euler_puppeteer import EulerPuppeteer
from karui.sw.nn.generated_layers import GeneratedLayers
from karui.sw.nn.generated_stem import GeneratedStem
from karui.sw.nn.image_complexity import ImageComplexity, complexity_of_bytes
from karui.sw.nn.precision import FLOAT, Precision
from karui.sw.nn.puppeteer import Levels, Puppeteer

STEM_KERNEL = 3
# Layers of a VGG-like puppet with fewer channels.
VGG_NARROW = 2
# Least rows and columns behind the stem that both of its pools can halve.
VGG_LEAST_SIDE = 1 << VGG_NARROW
BASES = {"sines": Sines, "polynomials": Polynomials}
GENERATOR_BITS = 8


@dataclass(frozen=True, kw_only=True)
class PuppetConfig:
    """A stored convolution, generated ones as many as the image needs, a global average pool and a linear classifier.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    channels
        Of all maps.
    stem_stride
        Step of the first convolution.
    first_depth, last_depth
        Least and largest number of generated layers; images that ask for fewer or more get these. No image asks for
        more than 8.
    generator
        ``euler``: steps of a differential equation. ``sines``, ``polynomials``: all layers at once, from functions of
        the place in the depth; trained as the network of ``euler`` first, to which they are then fitted. ``stored``:
        none, the same network with kernels of its own and one depth.
    puppet
        ``plain``; ``residual``: each generated layer adds its input; ``vgg``: the first two generated layers have a
        quarter and half of the channels, with a max pool behind each, and kernels that are pooled views of the others;
        generated ones are in floating point.
    stem
        ``stored``, or ``generated``: the first convolution's kernels are a pooled view of the Euler generator's initial
        state, in floating point.
    level_bits
        Kernels change with the complexity in steps of ``2**-level_bits``.
    pattern_rank
        Outer products in the Euler generator's initial state; 0, the equations as published, in floating point.
    rank, terms
        Outer products of the other generators, and functions of the depth.
    precision
        Widths of the weights of stem and classifier, and of activations; a quantized generator's constants have 8
        bits whatever the weights have.

    Raises
    ------
    ValueError
        If any of these, or two together, are not as above; the line says which.
    """

    image: tuple[int, int, int] = (1, 28, 28)
    classes: int = 10
    channels: int = 32
    stem_stride: int = 2
    first_depth: int = 4
    last_depth: int = 6
    generator: Literal["euler", "sines", "polynomials", "stored"] = "euler"
    puppet: Literal["plain", "residual", "vgg"] = "plain"
    stem: Literal["stored", "generated"] = "stored"
    level_bits: int = 4
    pattern_rank: int = 4
    rank: int = 16
    terms: int = 6
    precision: Precision = FLOAT

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        for name in ("channels", "stem_stride", "first_depth", "rank", "terms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.last_depth < self.first_depth:
            raise ValueError(f"last_depth must be at least first_depth = {self.first_depth}, not {self.last_depth}")
        if self.pattern_rank < 0:
            raise ValueError(f"pattern_rank must be 0 or more, not {self.pattern_rank}")
        if not 0 <= self.level_bits <= COMPLEXITY_FRACTION:
            raise ValueError(f"level_bits must be 0 to {COMPLEXITY_FRACTION}, not {self.level_bits}")
        if self.generator not in ("euler", "stored", *BASES):
            raise ValueError(f"generator must be one of euler, {', '.join(BASES)}, stored, not {self.generator!r}")
        if self.puppet not in ("plain", "residual", "vgg"):
            raise ValueError(f"puppet must be plain, residual or vgg, not {self.puppet!r}")
        if self.stem not in ("stored", "generated"):
            raise ValueError(f"stem must be stored or generated, not {self.stem!r}")
        if self.stem == "generated" and (self.generator != "euler" or self.precision != FLOAT):
            raise ValueError("a generated stem is of the generator euler in floating point; take a stored one")
        if self.generator == "stored" and self.first_depth != self.last_depth:
            raise ValueError(
                f"stored kernels are of one depth: first_depth = {self.first_depth} and last_depth = "
                f"{self.last_depth} must be equal"
            )
        if self.puppet == "vgg":
            self._check_vgg()
        if self.generator != "stored":
            self._check_generated()

    def _check_vgg(self) -> None:
        if self.channels % 4 or self.first_depth <= VGG_NARROW:
            raise ValueError(
                f"a vgg puppet has channels that 4 divides and a first_depth of more than {VGG_NARROW}, not channels = "
                f"{self.channels} and first_depth = {self.first_depth}"
            )
        sides = tuple(-(-side // self.stem_stride) for side in self.image[1:])
        if min(sides) < VGG_LEAST_SIDE:
            raise ValueError(
                f"a vgg puppet halves maps of {VGG_LEAST_SIDE} x {VGG_LEAST_SIDE} or more, not of {sides[0]} x "
                f"{sides[1]}: take larger images or a stem_stride below {self.stem_stride}"
            )

    def _check_generated(self) -> None:
        if self.last_depth > DEEPEST:
            raise ValueError(f"last_depth must be {DEEPEST} or less, which no image goes beyond, not {self.last_depth}")
        complexity_of_bytes(self.image)
        if self.precision == FLOAT:
            return
        if self.puppet == "vgg":
            raise ValueError("a vgg puppet of generated kernels is in floating point; take puppet = plain or residual")
        if self.pattern_rank == 0:
            raise ValueError("without a pattern the generator is in floating point; take a pattern_rank of 1 or more")

    @property
    def is_continuous(self) -> bool:
        """Whether kernels come from functions of the place in the depth."""
        return self.generator in BASES

    @property
    def teaching(self) -> PuppetConfig:
        """What is trained first: with a continuous generator the network that it is fitted to, else the same."""
        generator = "euler" if self.is_continuous else self.generator
        return replace(self, generator=generator, rank=PuppetConfig.rank, terms=PuppetConfig.terms)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the first generated layers, if other than of the others."""
        return (self.channels // 4, self.channels // 2) if self.puppet == "vgg" else ()

    @property
    def stem_channels(self) -> int:
        """Channels behind the stem."""
        return (*self.widths, self.channels)[0]

    @property
    def levels(self) -> Levels:
        """The complexities that kernels are generated for: from that of the least depth to that of the largest."""
        per_unit = 1 << self.level_bits
        return Levels(
            first=self.first_depth * per_unit,
            count=(self.last_depth + 1 - self.first_depth) * per_unit,
            shift=COMPLEXITY_FRACTION - self.level_bits,
        )


class PuppetLayers(nn.Module):
    """What the image becomes at the end of the generated layers.

    Parameters
    ----------
    image
        Channels, height and width.
    stem
        Stored layers in front, or a generated one.
    layers
        The generated ones.
    """

    def __init__(
        self, image: tuple[int, int, int], stem: nn.Sequential | GeneratedStem, layers: GeneratedLayers
    ) -> None:
        super().__init__()
        self.stem = stem
        self.complexity = ImageComplexity(image)
        self.layers = layers

    def forward(self, images: Tensor) -> Tensor:
        words = self.complexity(images)
        feature_map = self.stem(images, words) if isinstance(self.stem, GeneratedStem) else self.stem(images)
        generated: Tensor = self.layers(feature_map, words)
        return generated


def build_puppet(config: PuppetConfig) -> nn.Sequential:
    """Build ``puppet``, the stem and the layers behind it, and the classifier."""
    blocks = Blocks(precision=config.precision)
    stem = nn.Sequential(
        *blocks.conv_relu(config.image[0], config.stem_channels, STEM_KERNEL, stride=config.stem_stride, edge=True)
    )
    if config.generator == "stored":
        puppet: nn.Module = nn.Sequential(*stem, *_stored_layers(config, blocks))
    else:
        puppeteer = build_puppeteer(config)
        layers = GeneratedLayers(
            puppeteer,
            first_depth=config.first_depth,
            depth_steps=depth_steps(config.first_depth, config.last_depth),
            residual=config.puppet == "residual",
            widths=config.widths,
            bits=config.precision.activation_bits,
            limit=ACTIVATION_LIMIT,
        )
        if config.stem == "generated":
            assert isinstance(puppeteer, EulerPuppeteer)
            first = GeneratedStem(puppeteer, config.image[0], config.stem_channels, stride=config.stem_stride)
            puppet = PuppetLayers(config.image, first, layers)
        else:
            puppet = PuppetLayers(config.image, stem, layers)
    pool, relu, linear = blocks.classifier(config.channels, config.classes)
    return named({"puppet": puppet, "pool": pool, "requantize": relu, "classifier": linear})


def build_puppeteer(config: PuppetConfig) -> Puppeteer:
    """Build the generator of a configuration that has one."""
    bits = None if config.precision == FLOAT else GENERATOR_BITS
    if config.is_continuous:
        basis = BASES[config.generator](config.terms)
        return ContinuousPuppeteer(config.channels, config.levels, basis, rank=config.rank, bits=bits)
    return EulerPuppeteer(config.channels, config.levels, rank=config.pattern_rank, bits=bits)


def fixed_twin(config: PuppetConfig, depth: int) -> PuppetConfig:
    """The network of stored kernels that a puppet is compared with, of one depth; the same for any generator."""
    return replace(
        config,
        generator="stored",
        stem="stored",
        first_depth=depth,
        last_depth=depth,
        level_bits=PuppetConfig.level_bits,
        pattern_rank=PuppetConfig.pattern_rank,
        rank=PuppetConfig.rank,
        terms=PuppetConfig.terms,
    )


def _stored_layers(config: PuppetConfig, blocks: Blocks) -> list[nn.Module]:
    if config.puppet == "residual":
        return [
            Residual([*blocks.conv(config.channels, config.channels, STEM_KERNEL), blocks.addend()], blocks.relu())
            for _ in range(config.last_depth)
        ]
    layers: list[nn.Module] = []
    channels = config.stem_channels
    for layer in range(config.last_depth):
        narrow = layer < len(config.widths)
        width = config.widths[layer] if narrow else config.channels
        layers += blocks.conv_relu(channels, width, STEM_KERNEL)
        layers += [nn.MaxPool2d(2)] if narrow else []
        channels = width
    return layers
