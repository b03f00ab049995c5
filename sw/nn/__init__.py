"""Quantization-aware layers whose forward values are exact integers, with straight-through gradients."""

from karui.sw.nn.binary_activation import BinaryActivation, InputBinarize
from karui.sw.nn.binary_conv import BinaryConv2d
from karui.sw.nn.binary_linear import BinaryLinear
from karui.sw.nn.fixed_point_relu import FixedPointReLU
from karui.sw.nn.logit_scale import LogitScale

__all__ = ["BinaryActivation", "BinaryConv2d", "BinaryLinear", "FixedPointReLU", "InputBinarize", "LogitScale"]
