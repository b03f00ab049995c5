"""Quantization-aware layers whose forward values are exact integers, with straight-through gradients.

Binary layers have integer values as they are; those of the quantized layers are integers times a power of two.
"""

from karui.sw.nn.binary_activation import BinaryActivation, InputBinarize
from karui.sw.nn.binary_conv import BinaryConv2d
from karui.sw.nn.binary_linear import BinaryLinear
from karui.sw.nn.fastfood import AdaptiveFastfood, Fastfood
from karui.sw.nn.fixed_point_relu import FixedPointReLU
from karui.sw.nn.global_average_pool import GlobalAveragePool
from karui.sw.nn.logit_scale import LogitScale
from karui.sw.nn.power_of_two_scale import PowerOfTwoScale
from karui.sw.nn.precision import FLOAT, Precision
from karui.sw.nn.quant_activation import QuantIdentity, QuantReLU
from karui.sw.nn.quant_conv import QuantConv2d
from karui.sw.nn.quant_fastfood import QuantFastfood
from karui.sw.nn.quant_linear import QuantLinear
from karui.sw.nn.random_projection import KitchenSinkFeatures, RandomProjection
from karui.sw.nn.truncated_linear import TruncatedLinear
from karui.sw.nn.walsh_hadamard import rounded_walsh_hadamard, sequency_order, walsh_hadamard

__all__ = [
    "AdaptiveFastfood",
    "BinaryActivation",
    "BinaryConv2d",
    "BinaryLinear",
    "FLOAT",
    "Fastfood",
    "FixedPointReLU",
    "GlobalAveragePool",
    "InputBinarize",
    "KitchenSinkFeatures",
    "LogitScale",
    "PowerOfTwoScale",
    "Precision",
    "QuantConv2d",
    "QuantFastfood",
    "QuantIdentity",
    "QuantLinear",
    "QuantReLU",
    "RandomProjection",
    "TruncatedLinear",
    "rounded_walsh_hadamard",
    "sequency_order",
    "walsh_hadamard",
]
