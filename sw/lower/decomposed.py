"""Layers of binary bases: words, windows, and products with the bases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import nn

from karui.sw.ir import GraphError
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.lower.values import (
    Integers,
    Lowering,
    Scores,
    Value,
    fixed,
    integers,
    map_value,
    one_fraction,
)
from karui.sw.nn.decomposed import DecomposedConv2d, DecomposedLayer, DecomposedLinear, QuantizationSublayer
from karui.sw.nn.sum_pool import SumPool2d
from karui.sw.numerics import format_for_range, unsigned


def lower_decomposed_linear(layer: DecomposedLinear, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A fully connected layer of binary bases."""
    value = _on_grid(lowering, "layer DecomposedLinear", name, value)
    features = layer.codes.shape[1]
    if value.shape != (features,):
        raise GraphError(f"{name}: {layer} takes vectors of {features} features, not a tensor of shape {value.shape}")
    node = lowering.node_name(name, "dense")
    edge = _words(layer.quantizer, lowering, name, node, value)
    signs = layer.signs().numpy().astype(np.int64)[:, :, value.order]
    edge = _product(layer, lowering, node, edge, signs)
    outputs = len(layer.codes)
    return Value(edge=edge, shape=(outputs,), order=np.arange(outputs), fraction=np.array([layer.fraction]))


def lower_decomposed_convolution(
    layer: DecomposedConv2d, lowering: Lowering, name: str, value: Value | Scores
) -> Value:
    """A convolution of binary bases: a product of windows; pointwise ones of stride 1 need no window."""
    value = _on_grid(lowering, "layer DecomposedConv2d", name, value)
    if len(value.shape) != 3 or value.shape[0] != layer.in_channels:
        raise GraphError(
            f"{name}: {layer} takes a map of {layer.in_channels} channels, not a tensor of shape {value.shape}"
        )
    if layer.dilation != (1, 1):
        raise UnsupportedLayer("layer DecomposedConv2d with dilation", name)
    node = lowering.node_name(name, "conv")
    edge = _words(layer.quantizer, lowering, name, node, value)
    vertical, horizontal = layer.padding
    if (layer.kernel_size, layer.stride, layer.padding) != ((1, 1), (1, 1), (0, 0)):
        edge = lowering.build.sliding_window(
            f"{node}.window",
            edge,
            layer.kernel_size,
            stride=layer.stride,
            padding=(vertical, horizontal, vertical, horizontal),
            pad_value=layer.quantizer.zero_word if any(layer.padding) else None,
            groups=layer.groups,
        )
    channels = layer.in_channels // layer.groups
    signs = layer.signs().numpy().astype(np.int64)
    signs = signs.reshape(*signs.shape[:2], channels, -1).transpose(0, 1, 3, 2).reshape(signs.shape)
    edge = _product(layer, lowering, node, edge, signs, groups=layer.groups)
    return map_value(lowering, edge, np.array([layer.fraction]))


def lower_relu(lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A ReLU on integers: they saturate at zero, and are as wide as before less the sign."""
    value = _on_grid(lowering, "layer ReLU", name, value)
    tensor = lowering.build.tensor(value.edge)
    if tensor.number_format.is_bipolar:
        raise UnsupportedLayer("layer ReLU on bipolar words", name)
    if tensor.number_format.minimum >= 0:
        return value
    output = unsigned(format_for_range(0, max(1, tensor.number_format.maximum)).bits)
    node = lowering.node_name(name, "relu")
    edge = lowering.build.requantize(node, value.edge, np.array([1]), np.array([0]), shift=0, output=output)
    return Value(edge=edge, shape=value.shape, order=value.order, fraction=value.fraction)


def lower_clamp(layer: nn.Hardtanh, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """Limits that the values keep anyway, or those of a format."""
    value = _on_grid(lowering, "layer Hardtanh", name, value)
    fraction = one_fraction("layer Hardtanh", name, value)
    low, high = (round(float(limit) * 2.0**fraction) for limit in (layer.min_val, layer.max_val))
    given = lowering.build.tensor(value.edge).number_format
    if low <= given.minimum and given.maximum <= high:
        return value
    output = format_for_range(low, high)
    if given.is_bipolar or (output.minimum, output.maximum) != (low, high):
        raise UnsupportedLayer(f"layer Hardtanh with limits of {low} and {high} steps, which no format has,", name)
    node = lowering.node_name(name, "clamp")
    edge = lowering.build.requantize(node, value.edge, np.array([1]), np.array([0]), shift=0, output=output)
    return replace(value, edge=edge)


def lower_sum_pool(layer: SumPool2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """Sums over windows."""
    value = _on_grid(lowering, "layer SumPool2d", name, value)
    if len(value.shape) != 3:
        raise GraphError(f"{name}: {layer} takes a feature map, not a tensor of shape {value.shape}")
    vertical, horizontal = layer.padding
    padding = (vertical, horizontal, vertical, horizontal)
    node = lowering.node_name(name, "pool")
    edge = lowering.build.sum_pool(node, value.edge, layer.kernel_size, layer.stride, padding)
    return map_value(lowering, edge, value.fraction)


def _on_grid(lowering: Lowering, layer: str, name: str, value: Value | Scores) -> Value:
    """The value as integers; a sum is such, however wide, and these layers take it as it is."""
    if isinstance(value, Value) and value.unrounded == "an addition":
        value = replace(value, unrounded=None)
    return fixed(lowering, layer, name, value)


def _words(quantizer: QuantizationSublayer, lowering: Lowering, name: str, node: str, value: Value) -> str:
    """The words of a value, by the sub-layer's own integers."""
    fraction = one_fraction("a quantization sub-layer", name, value)
    if fraction != quantizer.input_fraction:
        raise GraphError(
            f"{name}: the layer was decomposed for inputs of fraction {quantizer.input_fraction}, but they have "
            f"{fraction}"
        )
    multiplier, offset = (_in_order(integers(each), value) for each in (quantizer.multiplier, quantizer.offset))
    return lowering.build.requantize(
        f"{node}.words", value.edge, multiplier, offset, shift=quantizer.shift, output=unsigned(quantizer.bits)
    )


def _in_order(values: Integers, value: Value) -> Integers:
    """One a channel: of a vector in the order of the stream."""
    if len(values) == 1 or len(value.shape) == 3:
        return values
    return values[value.order]


def _product(layer: DecomposedLayer, lowering: Lowering, node: str, edge: str, signs: Integers, groups: int = 1) -> str:
    offset, coefficients = integers(layer.offset), integers(layer.coefficients)
    bias = offset if offset.any() else None
    edge = lowering.build.binary_bases(node, edge, signs, coefficients, bias, groups=groups)
    sums = lowering.build.tensor(edge).number_format
    lowering.note(max(-sums.minimum, sums.maximum))
    return edge
