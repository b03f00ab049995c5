"""LeNet-300-100 and LeNet-5 (LeCun et al. 1998; LeNet-5 as Caffe and the literature on compression have it)."""

from dataclasses import dataclass

from torch import nn

from karui.sw.models.blocks import ACTIVATION_LIMIT, check_network
from karui.sw.nn.power_of_two_scale import PowerOfTwoScale
from karui.sw.nn.precision import FLOAT, Precision
from karui.sw.nn.quant_activation import QuantReLU
from karui.sw.nn.quant_conv import QuantConv2d
from karui.sw.nn.quant_linear import QuantLinear

KERNEL = 5
# Pixels of 8 bits become 0 to 255/256: there is no batch norm that would find the scale.
PIXEL_FRACTION = 8


@dataclass(frozen=True, kw_only=True)
class LeNet300Config:
    """Fully connected layers with ReLUs between them: 784-300-100-10, 266,610 parameters.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    hidden
        Neurons of each hidden layer.
    precision
        Widths of weights and activations.
    """

    image: tuple[int, int, int] = (1, 28, 28)
    classes: int = 10
    hidden: tuple[int, ...] = (300, 100)
    precision: Precision = FLOAT

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        check_widths("hidden", self.hidden)


@dataclass(frozen=True, kw_only=True)
class LeNet5Config:
    """Two 5x5 convolutions without padding, each with a ReLU and a 2x2 max pool, and two fully connected layers.

    20, 50 channels and 500 neurons: 431,080 parameters. Caffe's network has a ReLU behind the first fully connected
    layer only; here there is one behind each convolution too, as hardware requantizes there anyway.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    channels
        Output channels of the convolutions.
    hidden
        Neurons of the first fully connected layer.
    precision
        Widths of weights and activations.
    """

    image: tuple[int, int, int] = (1, 28, 28)
    classes: int = 10
    channels: tuple[int, int] = (20, 50)
    hidden: int = 500
    precision: Precision = FLOAT

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        check_widths("channels and hidden", (*self.channels, self.hidden))
        check_map(self.image)

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the map behind the second pool."""
        return map_size(self.image)


def build_lenet_300(config: LeNet300Config) -> nn.Sequential:
    """Build the fully connected layers ``ip1``, ``ip2``, ... with their ReLUs."""
    channels, height, width = config.image
    layers: dict[str, nn.Module] = {"scale": PowerOfTwoScale(fraction=PIXEL_FRACTION), "flatten": nn.Flatten()}
    features = channels * height * width
    for index, neurons in enumerate(config.hidden, 1):
        layers[f"ip{index}"] = linear(features, neurons, config.precision, edge=index == 1)
        layers[f"relu{index}"] = relu(config.precision)
        features = neurons
    layers[f"ip{len(config.hidden) + 1}"] = linear(features, config.classes, config.precision, edge=True)
    return named(layers)


def build_lenet_5(config: LeNet5Config) -> nn.Sequential:
    """Build ``conv1``, ``conv2``, ``ip1`` and ``ip2`` with what lies between them."""
    precision = config.precision
    rows, columns = config.map_size
    return named(
        {
            **convolutions(config.image, config.channels, precision),
            "ip1": linear(config.channels[1] * rows * columns, config.hidden, precision, edge=False),
            "relu3": relu(precision),
            "ip2": linear(config.hidden, config.classes, precision, edge=True),
        }
    )


def convolutions(image: tuple[int, int, int], channels: tuple[int, int], precision: Precision) -> dict[str, nn.Module]:
    """The layers of LeNet-5 in front of the fully connected ones, by name: ``scale`` to ``flatten``."""
    first, second = channels
    return {
        "scale": PowerOfTwoScale(fraction=PIXEL_FRACTION),
        "conv1": _conv(image[0], first, precision, edge=True),
        "relu1": relu(precision),
        "pool1": nn.MaxPool2d(2),
        "conv2": _conv(first, second, precision, edge=False),
        "relu2": relu(precision),
        "pool2": nn.MaxPool2d(2),
        "flatten": nn.Flatten(),
    }


def map_size(image: tuple[int, int, int]) -> tuple[int, int]:
    """Height and width of the map behind the second pool of `convolutions`."""
    rows, columns = (((size - KERNEL + 1) // 2 - KERNEL + 1) // 2 for size in image[1:])
    return rows, columns


def check_map(image: tuple[int, int, int]) -> None:
    """Refuse images too small for `convolutions`.

    Raises
    ------
    ValueError
        If nothing is left behind the second pool.
    """
    if min(map_size(image)) < 1:
        raise ValueError(f"image must be at least 16 x 16, not {image[1]} x {image[2]}")


def linear(in_features: int, out_features: int, precision: Precision, *, edge: bool) -> QuantLinear:
    """A fully connected layer; `edge` says whether it is the network's first or last."""
    bits = precision.edge_weight_bits if edge else precision.weight_bits
    return QuantLinear(in_features, out_features, weight_bits=bits, per_channel=precision.per_channel)


def relu(precision: Precision) -> QuantReLU:
    """The activation of all hidden layers."""
    return QuantReLU(bits=precision.activation_bits, limit=ACTIVATION_LIMIT)


def named(layers: dict[str, nn.Module]) -> nn.Sequential:
    """The layers one behind the other, under their names."""
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model


def check_widths(name: str, widths: tuple[int, ...]) -> None:
    """Refuse layers without an output.

    Raises
    ------
    ValueError
        Naming the parameter.
    """
    if not widths or min(widths) < 1:
        raise ValueError(f"{name} must be widths of at least 1, not {list(widths)}")


def _conv(in_channels: int, out_channels: int, precision: Precision, *, edge: bool) -> QuantConv2d:
    bits = precision.edge_weight_bits if edge else precision.weight_bits
    return QuantConv2d(
        in_channels, out_channels, KERNEL, bias=True, weight_bits=bits, per_channel=precision.per_channel
    )
