"""Deep Fried Convnets (Yang et al. 2015): LeNet-5 whose first fully connected layer is a Fastfood transform."""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from torch import nn

from karui.sw.models.blocks import check_network
from karui.sw.models.lenet import check_map, check_widths, convolutions, linear, map_size, named, relu
from karui.sw.nn.fastfood import AdaptiveFastfood, Fastfood
from karui.sw.nn.precision import FLOAT, Precision
from karui.sw.nn.quant_activation import QuantActivation
from karui.sw.nn.quant_fastfood import QuantFastfood
from karui.sw.nn.quant_linear import QuantLinear
from karui.sw.nn.random_projection import RandomProjection
from karui.sw.nn.truncated_linear import TruncatedLinear

Head = Literal["adaptive-fastfood", "fastfood", "random-projection", "dense", "truncated"]


@dataclass(frozen=True, kw_only=True)
class DeepFriedConfig:
    """Two 5x5 convolutions, each with a ReLU and a 2x2 max pool, a head with a ReLU, and a linear classifier.

    With 28x28 images the head has 800 inputs. Without biases, as in the paper, the network has 25,500 + 10 n + 3 n
    parameters with n features of adaptive Fastfood: 52,124 with 2048; and 430,500 with 500 dense ones.

    Parameters
    ----------
    image
        Channels, height and width of the images.
    classes
        Number of classes.
    channels
        Output channels of the convolutions.
    head
        What maps the convolutions' outputs to features; ``truncated`` is a product of two matrices, see
        `truncate_head`.
    features
        Outputs of the head.
    rank
        Of a truncated head; 0 for the others.
    head_bias
        Whether a Fastfood head has a bias; dense and truncated ones always have, random projections never.
    dropout
        Share of the features that training drops in front of the classifier.
    precision
        Widths of weights and activations; S and G of a Fastfood head have `weight_bits`.
    word_bits, mixing_shifts, projecting_shifts
        Of a quantized Fastfood head, see `QuantFastfood`; without shifts its transforms grow to exact words.
    """

    image: tuple[int, int, int] = (1, 28, 28)
    classes: int = 10
    channels: tuple[int, int] = (20, 50)
    head: Head = "adaptive-fastfood"
    features: int = 1024
    rank: int = 0
    head_bias: bool = True
    dropout: float = 0.0
    precision: Precision = FLOAT
    word_bits: int = 8
    mixing_shifts: tuple[int, ...] = ()
    projecting_shifts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_network(self.image, self.classes)
        check_widths("channels and features", (*self.channels, self.features))
        check_map(self.image)
        if self.head not in get_args(Head):
            raise ValueError(f"head must be one of {', '.join(get_args(Head))}, not {self.head!r}")
        if (self.rank != 0) != (self.head == "truncated"):
            raise ValueError(f"rank = {self.rank} with head = {self.head!r}: a truncated head has a rank, no other has")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a share of 0 or more and less than 1, not {self.dropout:g}")
        if self.head == "random-projection" and self.precision.weight_bits is not None:
            raise ValueError("a random-projection head has real weights: leave weight_bits out")

    @property
    def head_inputs(self) -> int:
        """Length of the head's input vectors."""
        rows, columns = map_size(self.image)
        return self.channels[1] * rows * columns


def build_deep_fried(config: DeepFriedConfig) -> nn.Sequential:
    """Build ``conv1``, ``conv2``, ``head`` and ``classifier`` with what lies between them."""
    precision = config.precision
    layers = convolutions(config.image, config.channels, precision)
    layers["head"] = _head(config, layers["relu2"])
    layers["relu3"] = relu(precision)
    if config.dropout:
        layers["dropout"] = nn.Dropout(config.dropout)
    layers["classifier"] = linear(config.features, config.classes, precision, edge=True)
    return named(layers)


def truncate_head(config: DeepFriedConfig, model: nn.Sequential, rank: int) -> tuple[DeepFriedConfig, nn.Sequential]:
    """Replace a dense head by the product of two matrices nearest to it, for use as it is or for fine-tuning.

    Parameters
    ----------
    config, model
        Of a network with a dense head of real weights; the model is left as it is, and shares no parameter with the
        result.
    rank
        Length of the vector between the matrices.

    Raises
    ------
    ValueError
        If the head is not dense and real, or has no such rank.
    """
    head = model.get_submodule("head")
    if not isinstance(head, QuantLinear) or head.weight_bits is not None:
        raise ValueError(f"only a dense head of real weights is truncated, not {head}")
    narrow = replace(config, head="truncated", rank=rank)
    truncated = build_deep_fried(narrow)
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith("head.")}
    factors = TruncatedLinear.from_linear(head, rank).state_dict()
    truncated.load_state_dict(kept | {f"head.{name}": value for name, value in factors.items()})
    return narrow, truncated


def _head(config: DeepFriedConfig, activation: nn.Module) -> nn.Module:
    inputs, features, precision = config.head_inputs, config.features, config.precision
    # Rows of variance 2 / inputs keep the features' scale through the ReLU (He et al. 2015).
    sigma = math.sqrt(inputs / 2)
    match config.head:
        case "dense":
            return linear(inputs, features, precision, edge=False)
        case "truncated":
            bits = precision.weight_bits
            return TruncatedLinear(inputs, features, rank=config.rank, weight_bits=bits)
        case "random-projection":
            return RandomProjection(inputs, features, sigma=sigma)
    adaptive = config.head == "adaptive-fastfood"
    if precision.weight_bits is None:
        layer = AdaptiveFastfood if adaptive else Fastfood
        return layer(inputs, features, sigma=sigma, bias=config.head_bias)
    assert isinstance(activation, QuantActivation)
    return QuantFastfood(
        inputs,
        features,
        sigma=sigma,
        bias=config.head_bias,
        adaptive=adaptive,
        weight_bits=precision.weight_bits,
        word_bits=config.word_bits,
        input_fraction=activation.fraction,
        mixing_shifts=config.mixing_shifts or None,
        projecting_shifts=config.projecting_shifts or None,
    )
