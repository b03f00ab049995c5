"""The BinaryConnect perceptron: binary weights, real activations (Courbariaux et al. 2015)."""

from dataclasses import dataclass

from torch import nn

from karui.sw.models.bnn import BATCH_NORM_EPS
from karui.sw.nn.binary_linear import BinaryLinear
from karui.sw.nn.fixed_point_relu import FixedPointReLU
from karui.sw.nn.logit_scale import LogitScale


@dataclass(frozen=True, kw_only=True)
class BinaryConnectConfig:
    """Multi-layer perceptron with binary weights, batch norm and ReLU.

    Parameters
    ----------
    in_features
        Pixels of the flattened image.
    hidden
        Width of each hidden layer.
    classes
        Number of classes.
    stochastic
        Draw the weights at random while training.
    activation_bits
        Width of the unsigned integer activations of the deployed network. Without it activations are real, as in
        training.
    """

    in_features: int
    hidden: tuple[int, ...]
    classes: int = 10
    stochastic: bool = False
    activation_bits: int | None = None

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must name at least one width of 1 or more, not {list(self.hidden)}")


def build_binary_connect(config: BinaryConnectConfig) -> nn.Sequential:
    """Build BinaryLinear, BatchNorm1d, ReLU a hidden layer, then BinaryLinear, LogitScale.

    With integer activations a `FixedPointReLU` takes the place of batch norm and ReLU; `karui.sw.train.calibrate`
    computes its constants.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    in_features = config.in_features
    for out_features in config.hidden:
        layers.append(BinaryLinear(in_features, out_features, stochastic=config.stochastic))
        if config.activation_bits is None:
            layers += [nn.BatchNorm1d(out_features, eps=BATCH_NORM_EPS), nn.ReLU()]
        else:
            layers.append(FixedPointReLU(out_features, bits=config.activation_bits))
        in_features = out_features
    layers += [
        BinaryLinear(in_features, config.classes, stochastic=config.stochastic),
        LogitScale(config.classes, initial_scale=in_features**-0.5),
    ]
    return nn.Sequential(*layers)
