"""CapsNet (Sabour et al. 2017): convolution, primary capsules, class capsules by routing."""

from dataclasses import dataclass

from torch import nn

from karui.sw.models.blocks import ACTIVATION_LIMIT, check_network
from karui.sw.models.capsule_ranges import UNCALIBRATED, CapsuleRanges, signed_words
from karui.sw.models.lenet import named
from karui.sw.nn.capsule import CapsulePrediction, DynamicRouting, MapToCapsules, SquaredLength, Squash
from karui.sw.nn.power_of_two_scale import PowerOfTwoScale
from karui.sw.nn.precision import FLOAT, Precision, check_power_of_two
from karui.sw.nn.quant_activation import QuantIdentity, QuantReLU
from karui.sw.nn.quant_capsule import SUM_BITS, VOTE_BITS, QuantDynamicRouting, QuantSquash
from karui.sw.nn.quant_conv import QuantConv2d
from karui.sw.numerics import signed

PRIMARY_STRIDE = 2
PIXEL_FRACTION = 8


@dataclass(frozen=True, kw_only=True)
class CapsNetConfig:
    """A convolution, one of stride 2 that yields the primary capsules, and one capsule a class.

    The paper's network for 28x28 images has 6 x 6 positions of 32 capsules and 6,804,224 parameters. The index of a
    primary capsule is ``(y * columns + x) * types + type``.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    channels
        Of the first convolution.
    types
        Primary capsules at each position.
    capsule
        Elements of a primary capsule.
    vector
        Elements of a class capsule.
    iterations
        Of the routing.
    kernel
        Height and width of both convolutions' windows.
    precision
        Widths of weights and activations.
    primary_limit
        End of the range, a power of two, of the elements of primary capsules before squashing; the float network clamps
        them too, and learns to use it. A capsule of 8 elements of 2 has a length of 5.7, squashed to 0.97.
    ranges
        What other words between the capsule layers reach in a quantized network; unless they are given, training finds
        them behind its float phase, and there are wide ones until then.
    """

    image: tuple[int, int, int] = (1, 28, 28)
    classes: int = 10
    channels: int = 256
    types: int = 32
    capsule: int = 8
    vector: int = 16
    iterations: int = 3
    kernel: int = 9
    precision: Precision = FLOAT
    primary_limit: float = 2.0
    ranges: CapsuleRanges | None = None

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        for name in ("channels", "types", "capsule", "vector", "iterations", "kernel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        check_power_of_two("primary_limit", self.primary_limit)
        if min(self.grid) < 1:
            smallest = 2 * self.kernel - 1
            raise ValueError(
                f"image must be at least {smallest} x {smallest} with a kernel of {self.kernel}, not "
                f"{self.image[1]} x {self.image[2]}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of positions with primary capsules."""
        rows, columns = ((size - 2 * (self.kernel - 1) - 1) // PRIMARY_STRIDE + 1 for size in self.image[1:])
        return rows, columns

    @property
    def capsules(self) -> int:
        """Number of primary capsules."""
        rows, columns = self.grid
        return rows * columns * self.types


def build_capsnet(config: CapsNetConfig) -> nn.Sequential:
    """Build ``conv1``, ``primary``, ``prediction`` and ``routing`` with what lies between them.

    The outputs are the squared lengths of the class capsules.
    """
    precision = config.precision
    return named(
        {
            "scale": PowerOfTwoScale(fraction=PIXEL_FRACTION),
            "conv1": _conv(config, config.image[0], config.channels, stride=1, edge=True),
            "relu1": QuantReLU(bits=precision.activation_bits, limit=ACTIVATION_LIMIT),
            "primary": _conv(config, config.channels, config.types * config.capsule, stride=PRIMARY_STRIDE, edge=False),
            **capsule_layers(
                config.capsules,
                config.capsule,
                config.classes,
                config.vector,
                iterations=config.iterations,
                precision=precision,
                primary_limit=config.primary_limit,
                ranges=config.ranges,
            ),
        }
    )


def capsule_layers(
    capsules: int,
    length: int,
    classes: int,
    vector: int,
    *,
    iterations: int,
    precision: Precision,
    primary_limit: float,
    ranges: CapsuleRanges | None,
) -> dict[str, nn.Module]:
    """What follows a convolution with the primary capsules' elements as channels, to the class capsules' lengths.

    Parameters
    ----------
    capsules, length
        Primary capsules of all positions, and their elements.
    classes, vector
        Class capsules and their elements.
    iterations, precision, primary_limit, ranges
        As of `CapsNetConfig`.
    """
    weight_bits, bits = precision.weight_bits, precision.activation_bits
    requantize = QuantIdentity(bits=bits, limit=primary_limit)
    layers: dict[str, nn.Module] = {"requantize": requantize, "capsules": MapToCapsules()}
    if bits is None:
        layers["squash"] = Squash(length=length)
        layers["prediction"] = CapsulePrediction(capsules, length, classes, vector)
        layers["routing"] = DynamicRouting(classes, vector, iterations=iterations)
    else:
        ranges = ranges or UNCALIBRATED
        votes, sums = signed_words(VOTE_BITS, ranges.votes), signed_words(SUM_BITS, ranges.sums)
        layers["squash"] = QuantSquash(length=length, words=signed(bits, requantize.fraction))
        layers["prediction"] = CapsulePrediction(
            capsules, length, classes, vector, weight_bits=weight_bits, votes=votes
        )
        layers["routing"] = QuantDynamicRouting(classes, vector, iterations=iterations, votes=votes, sums=sums)
    return layers | {"length": SquaredLength(length=vector)}


def _conv(config: CapsNetConfig, in_channels: int, out_channels: int, *, stride: int, edge: bool) -> QuantConv2d:
    precision = config.precision
    return QuantConv2d(
        in_channels,
        out_channels,
        config.kernel,
        stride=stride,
        bias=True,
        weight_bits=precision.edge_weight_bits if edge else precision.weight_bits,
        per_channel=precision.per_channel,
    )
