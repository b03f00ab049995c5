"""How each layer of a network is lowered: one function a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch

import numpy as np
import torch
from torch import Tensor, nn

from karui.sw.ir import Graph, GraphError
from karui.sw.lower.activations import lower_batch_norm, lower_binary_activation, lower_quant_activation
from karui.sw.lower.capsules import (
    lower_map_to_capsules,
    lower_prediction,
    lower_routing,
    lower_squared_length,
    lower_squash,
)
from karui.sw.lower.decomposed import (
    lower_clamp,
    lower_decomposed_convolution,
    lower_decomposed_linear,
    lower_relu,
    lower_sum_pool,
)
from karui.sw.lower.fastfood import lower_fastfood
from karui.sw.lower.generated import lower_complexity
from karui.sw.lower.pools import lower_average_pool, lower_global_average_pool, lower_max_pool
from karui.sw.lower.products import lower_convolution, lower_linear
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.lower.values import Lowering, Product, Scores, Value, fixed, integers, one_fraction
from karui.sw.nn.binary_activation import BinaryActivation, InputBinarize
from karui.sw.nn.binary_conv import BinaryConv2d
from karui.sw.nn.binary_linear import BinaryLinear
from karui.sw.nn.capsule import CapsulePrediction, MapToCapsules, SquaredLength
from karui.sw.nn.decomposed import DecomposedConv2d, DecomposedLinear
from karui.sw.nn.fixed_point_relu import FixedPointReLU
from karui.sw.nn.global_average_pool import GlobalAveragePool
from karui.sw.nn.image_complexity import ImageComplexity
from karui.sw.nn.logit_scale import LogitScale
from karui.sw.nn.power_of_two_scale import PowerOfTwoScale
from karui.sw.nn.quant_activation import QuantActivation
from karui.sw.nn.quant_capsule import QuantDynamicRouting, QuantSquash
from karui.sw.nn.quant_conv import QuantConv2d
from karui.sw.nn.quant_fastfood import QuantFastfood
from karui.sw.nn.quant_linear import QuantLinear
from karui.sw.nn.sum_pool import SumPool2d
from karui.sw.numerics import BIPOLAR, unsigned


@singledispatch
def lower_layer(layer: nn.Module, lowering: Lowering, name: str, value: Value | Scores) -> Value | Scores:
    """Lower one layer applied to a value.

    Raises
    ------
    UnsupportedLayer
        If the layer has no lowering, or not in this place.
    """
    raise UnsupportedLayer(f"layer {type(layer).__name__}", name)


@lower_layer.register(nn.Dropout)
@lower_layer.register(nn.Dropout2d)
@lower_layer.register(nn.Identity)
def _(layer: nn.Module, lowering: Lowering, name: str, value: Value | Scores) -> Value | Scores:
    return value


@lower_layer.register
def _(layer: nn.Flatten, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    value = fixed(lowering, "layer Flatten", name, value)
    if len(value.shape) == 1:
        return value
    one_fraction("layer Flatten", name, value)
    edge = lowering.build.flatten(lowering.node_name(name, "flatten"), value.edge)
    return replace(value, edge=edge, shape=(int(np.prod(value.shape)),))


@lower_layer.register
def _(layer: PowerOfTwoScale, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    value = fixed(lowering, "layer PowerOfTwoScale", name, value)
    return replace(value, fraction=value.fraction + layer.fraction)


@lower_layer.register
def _(layer: InputBinarize, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    value = fixed(lowering, "layer InputBinarize", name, value)
    if one_fraction("layer InputBinarize", name, value):
        raise UnsupportedLayer("layer InputBinarize on anything but integers", name)
    node = lowering.node_name(name, "binarize")
    return replace(value, edge=lowering.build.threshold(node, value.edge, np.array([[layer.threshold]]), BIPOLAR))


@lower_layer.register(BinaryLinear)
@lower_layer.register(QuantLinear)
def _(layer: BinaryLinear | QuantLinear, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_linear(layer, lowering, name, value)


@lower_layer.register(BinaryConv2d)
@lower_layer.register(QuantConv2d)
def _(layer: BinaryConv2d | QuantConv2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_convolution(layer, lowering, name, value)


@lower_layer.register
def _(layer: QuantFastfood, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_fastfood(layer, lowering, name, value)


@lower_layer.register
def _(layer: MapToCapsules, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_map_to_capsules(layer, lowering, name, value)


@lower_layer.register
def _(layer: QuantSquash, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_squash(layer, lowering, name, value)


@lower_layer.register
def _(layer: CapsulePrediction, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_prediction(layer, lowering, name, value)


@lower_layer.register
def _(layer: QuantDynamicRouting, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_routing(layer, lowering, name, value)


@lower_layer.register
def _(layer: SquaredLength, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_squared_length(layer, lowering, name, value)


@lower_layer.register
def _(layer: ImageComplexity, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_complexity(layer, lowering, name, value)


@lower_layer.register
def _(layer: DecomposedLinear, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_decomposed_linear(layer, lowering, name, value)


@lower_layer.register
def _(layer: DecomposedConv2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_decomposed_convolution(layer, lowering, name, value)


@lower_layer.register
def _(layer: nn.ReLU, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_relu(lowering, name, value)


@lower_layer.register
def _(layer: nn.Hardtanh, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_clamp(layer, lowering, name, value)


@lower_layer.register(nn.BatchNorm1d)
@lower_layer.register(nn.BatchNorm2d)
def _(layer: nn.BatchNorm1d | nn.BatchNorm2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_batch_norm(layer, name, value)


@lower_layer.register
def _(layer: BinaryActivation, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_binary_activation(layer, lowering, name, value)


@lower_layer.register
def _(layer: QuantActivation, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_quant_activation(layer, lowering, name, value)


@lower_layer.register
def _(layer: FixedPointReLU, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    _integer_product("layer FixedPointReLU", name, value)
    value = fixed(lowering, "layer FixedPointReLU", name, value)
    edge = lowering.build.requantize(
        f"{value.edge}.requantize",
        value.edge,
        integers(layer.multiplier),
        integers(layer.offset),
        shift=int(layer.shift),
        output=unsigned(layer.bits),
    )
    return replace(value, edge=edge)


@lower_layer.register
def _(layer: nn.MaxPool2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_max_pool(layer, lowering, name, value)


@lower_layer.register
def _(layer: nn.AvgPool2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_average_pool(layer, lowering, name, value)


@lower_layer.register
def _(layer: SumPool2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_sum_pool(layer, lowering, name, value)


@lower_layer.register
def _(layer: GlobalAveragePool, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    return lower_global_average_pool(layer, lowering, name, value)


@lower_layer.register
def _(layer: nn.ChannelShuffle, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    value = fixed(lowering, "layer ChannelShuffle", name, value)
    one_fraction("layer ChannelShuffle", name, value)
    if len(value.shape) != 3 or value.shape[0] % layer.groups:
        raise GraphError(f"{name}: {layer} does not divide the channels of a tensor of shape {value.shape}")
    edge = lowering.build.channel_shuffle(lowering.node_name(name, "shuffle"), value.edge, layer.groups)
    return replace(value, edge=edge)


@lower_layer.register
def _(layer: LogitScale, lowering: Lowering, name: str, value: Value | Scores) -> Scores:
    product = _integer_product("layer LogitScale", name, value)
    bias = integers(layer.integer_bias())
    product = replace(product, bias=bias if product.bias is None else product.bias + bias)
    lowering.note(product.reach(lowering.build.tensor(product.edge).number_format))
    return Scores(edge=product.place(lowering), scale=layer.log_scale.detach().exp())


def finish(lowering: Lowering, result: Value | Scores, classes: Sequence[str]) -> tuple[Graph, str, Tensor]:
    """Close the graph with the arg max of a vector of scores: graph, edge of the scores, their scale."""
    if isinstance(result, Value):
        # Scores are comparable on one grid only.
        if result.product is not None:
            result = replace(result, product=result.product.aligned())
        value = fixed(lowering, "the output", "output", result)
        fraction = one_fraction("the output", "output", value)
        result = Scores(edge=value.edge, scale=torch.tensor(2.0**-fraction, dtype=lowering.float_type))
    shape = lowering.build.tensor(result.edge).shape
    if classes and shape[-1:] != (len(classes),):
        raise GraphError(f"the network has outputs of shape {shape}, but {len(classes)} classes are named")
    last = lowering.build.arg_max("class", result.edge) if len(shape) == 1 else result.edge
    graph = lowering.build.finish(last, classes=classes)
    return graph, result.edge, result.scale


def _integer_product(what: str, name: str, value: Value | Scores) -> Product:
    """A linear layer's sums, if they are integers."""
    if isinstance(value, Scores) or value.product is None or value.norm is not None:
        raise UnsupportedLayer(f"{what} elsewhere than right behind a linear layer", name)
    if value.product.fraction.any():
        raise UnsupportedLayer(f"{what} behind a layer whose outputs are no integers", name)
    return value.product
