"""Linear and convolutional layers: products that await their activation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from karui.sw.ir import GraphError
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.lower.values import (
    Integers,
    Kernel,
    Lowering,
    Product,
    Scores,
    Value,
    channels_last_order,
    fixed,
    integers,
    one_fraction,
)
from karui.sw.nn.binary_conv import BinaryConv2d
from karui.sw.nn.binary_linear import BinaryLinear
from karui.sw.nn.quant_conv import QuantConv2d
from karui.sw.nn.quant_linear import QuantLinear


@dataclass(frozen=True, kw_only=True, eq=False)
class _Parameters:
    """Integer weights (of the layer's shape), their fractions (one an output), the bias on the weights' grid."""

    weights: Integers
    fraction: Integers
    bias: Integers | None


def lower_linear(layer: BinaryLinear | QuantLinear, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A fully connected layer."""
    value = fixed(lowering, _layer(layer), name, value)
    parameters = _parameters(layer, name)
    if value.shape != (layer.in_features,):
        raise GraphError(
            f"{name}: {layer} takes vectors of {layer.in_features} features, not a tensor of shape {value.shape}"
        )
    fraction = one_fraction(_layer(layer), name, value)
    product = Product(
        name=lowering.node_name(name, "dense"),
        edge=value.edge,
        weights=parameters.weights[:, value.order],
        fraction=parameters.fraction + fraction,
        bias=_bias_on_sums(parameters, fraction, layer, name),
    )
    return Value(edge=value.edge, shape=(layer.out_features,), order=np.arange(layer.out_features), product=product)


def lower_convolution(layer: BinaryConv2d | QuantConv2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A convolution: depthwise, or a product of windows; pointwise ones of stride 1 need no window."""
    value = fixed(lowering, _layer(layer), name, value)
    parameters = _parameters(layer, name)
    if len(value.shape) != 3 or value.shape[0] != layer.in_channels:
        raise GraphError(
            f"{name}: {layer} takes a map of {layer.in_channels} channels, not a tensor of shape {value.shape}"
        )
    fraction = one_fraction(_layer(layer), name, value)
    groups = layer.groups if isinstance(layer, QuantConv2d) else 1
    pad_value = layer.pad_value if isinstance(layer, BinaryConv2d) else 0
    node = lowering.node_name(name, "conv")
    kernel = Kernel(
        size=(layer.kernel_size, layer.kernel_size),
        stride=(layer.stride, layer.stride),
        padding=(layer.padding,) * 4,
    )
    depthwise = 1 < groups == layer.in_channels == layer.out_channels
    edge = value.edge
    if not depthwise and (kernel.size, kernel.stride, layer.padding) != ((1, 1), (1, 1), 0):
        edge = lowering.build.sliding_window(
            f"{node}.window",
            edge,
            kernel.size,
            stride=kernel.stride,
            padding=kernel.padding,
            pad_value=pad_value if layer.padding else None,
            groups=groups,
        )
    product = Product(
        name=node,
        edge=edge,
        weights=parameters.weights.transpose(0, 2, 3, 1).reshape(layer.out_channels, -1),
        fraction=parameters.fraction + fraction,
        bias=_bias_on_sums(parameters, fraction, layer, name),
        groups=1 if depthwise else groups,
        depthwise=kernel if depthwise else None,
    )
    rows, columns = ((size + 2 * layer.padding - layer.kernel_size) // layer.stride + 1 for size in value.shape[1:])
    shape = (layer.out_channels, rows, columns)
    return Value(edge=edge, shape=shape, order=channels_last_order(shape), product=product)


def _parameters(layer: BinaryLinear | BinaryConv2d | QuantLinear | QuantConv2d, name: str) -> _Parameters:
    outputs = layer.weight.shape[0]
    if isinstance(layer, BinaryLinear | BinaryConv2d):
        if layer.real_valued:
            raise UnsupportedLayer(f"{_layer(layer)} with real-valued weights", name)
        return _Parameters(
            weights=integers(layer.binary_weight()), fraction=np.zeros(outputs, dtype=np.int64), bias=None
        )
    if layer.weight_bits is None:
        raise UnsupportedLayer(f"{_layer(layer)} without weight_bits, whose weights are real,", name)
    return _Parameters(
        weights=integers(layer.integer_weight()),
        fraction=np.broadcast_to(integers(layer.weight_fraction()), (outputs,)),
        bias=None if layer.bias is None else integers(layer.integer_bias()),
    )


def _bias_on_sums(parameters: _Parameters, fraction: int, layer: nn.Module, name: str) -> Integers | None:
    """The bias in units of the sums, which the inputs' fraction makes finer than the weights'."""
    if parameters.bias is None:
        return None
    if fraction >= 0:
        return parameters.bias << fraction
    coarser = parameters.bias >> -fraction
    if np.any(coarser << -fraction != parameters.bias):
        raise UnsupportedLayer(f"{_layer(layer)} with a bias finer than its inputs, multiples of {2**-fraction},", name)
    return coarser


def _layer(layer: nn.Module) -> str:
    return f"layer {type(layer).__name__}"
