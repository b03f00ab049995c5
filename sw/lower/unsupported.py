"""The refusal of a layer that has no lowering."""

from __future__ import annotations

SUPPORTED = (
    "BinaryLinear, BinaryConv2d, InputBinarize, BinaryActivation, FixedPointReLU, LogitScale, QuantConv2d, "
    "QuantLinear, QuantFastfood, QuantReLU, QuantIdentity, PowerOfTwoScale, GlobalAveragePool, MapToCapsules, "
    "QuantSquash, CapsulePrediction, QuantDynamicRouting, SquaredLength, ImageComplexity, GeneratedLayers, "
    "DecomposedConv2d, DecomposedLinear and "
    "SumPool2d of karui.sw.nn; BatchNorm1d, BatchNorm2d, ReLU, Hardtanh, MaxPool2d, "
    "MaxUnpool2d, AvgPool2d, ChannelShuffle, Flatten, Dropout, Dropout2d, Identity and Sequential of torch.nn; a + b, "
    "torch.relu, torch.cat of dim=1"
)


class UnsupportedLayer(ValueError):
    """A network has a layer or an operation that cannot be lowered.

    Parameters
    ----------
    what : str
        The layer or operation.
    where : str
        Its name in the network.
    """

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{where}: {what} cannot be lowered to the integer graph; supported are {SUPPORTED}")
