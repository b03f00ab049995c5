"""Activations, and the batch norm, mean or sum in front of them: step functions of integers, as thresholds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from karui.sw.ir import GraphError
from karui.sw.lower.step_function import ladder
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.lower.values import Integers, Lowering, Scores, Value
from karui.sw.nn.binary_activation import BinaryActivation
from karui.sw.nn.quant_activation import QuantActivation
from karui.sw.numerics import BIPOLAR, NumberFormat, signed, unsigned


def lower_binary_activation(layer: BinaryActivation, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A sign behind a linear layer."""
    if isinstance(value, Scores) or value.product is None:
        raise UnsupportedLayer("layer BinaryActivation elsewhere than behind a linear layer or its batch norm", name)
    return _threshold(lowering, value, lambda real: layer(real) > 0, BIPOLAR, "threshold")


def lower_quant_activation(layer: QuantActivation, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A quantizing activation on anything whose words have a fraction."""
    if isinstance(value, Scores):
        raise UnsupportedLayer(f"layer {type(layer).__name__} behind LogitScale", name)
    if layer.bits is None:
        raise UnsupportedLayer(f"layer {type(layer).__name__} without bits, whose outputs are real,", name)
    output = (signed if layer.signed else unsigned)(layer.bits, layer.fraction)

    def levels(real: Tensor) -> Tensor:
        words: Tensor = torch.ldexp(layer(real), torch.tensor(layer.fraction)) - output.minimum
        return words

    return _threshold(lowering, value, levels, output, "quantize")


def _threshold(
    lowering: Lowering, value: Value, levels: Callable[[Tensor], Tensor], output: NumberFormat, suffix: str
) -> Value:
    """Put a value's product and the thresholds of all that came since into the graph.

    The network's own layers are evaluated at integers, in its float type. A float32 sum of the network beyond
    2**24 would not be an integer: the lowering takes note.
    """
    norm, mean, maps = value.norm, value.mean, len(value.shape) == 3
    product = value.product
    fraction = torch.from_numpy(np.ascontiguousarray(value.fraction if product is None else product.fraction))
    channels = len(fraction)
    if product is None:
        inputs = lowering.build.tensor(value.edge).number_format
        low, high = inputs.minimum, inputs.maximum
    else:
        # A falling channel counts what small sums reach: negated weights make it rise, so hardware compares one way
        # only; a range symmetric about zero serves both.
        high = product.reach(lowering.build.tensor(product.edge).number_format)
        low = -high
    lowering.note(max(-low, high))

    def function(words: Integers) -> Integers:
        # Contiguous, as the network's maps are: torch's batch norm rounds differently on other strides.
        real = torch.ldexp(torch.from_numpy(np.ascontiguousarray(words)).to(lowering.float_type), -fraction)
        if mean is not None:
            real = mean(real)
        if norm is not None:
            real = norm(real[:, :, None, None] if maps else real)
        return levels(real).to(torch.int64).reshape(words.shape).numpy()

    steps = ladder(function, low=low, high=high, channels=channels, levels=output.levels)
    edge = value.edge
    if product is not None:
        edge = product.times(np.where(steps.falling, -1, 1)).place(lowering)
    edge = lowering.build.threshold(lowering.unique(f"{edge}.{suffix}"), edge, steps.thresholds, output)
    fraction_out = np.atleast_1d(np.asarray(output.fraction, dtype=np.int64))
    return Value(edge=edge, shape=value.shape, order=value.order, fraction=fraction_out)


def lower_batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, name: str, value: Value | Scores) -> Value:
    """A batch norm, kept until its activation is known."""
    if isinstance(value, Scores) or value.product is None or value.norm is not None:
        raise UnsupportedLayer(f"layer {type(layer).__name__} elsewhere than right behind a linear layer", name)
    if isinstance(layer, nn.BatchNorm2d) != (len(value.shape) == 3):
        raise UnsupportedLayer(f"layer {type(layer).__name__} on a tensor of shape {value.shape}", name)
    if layer.running_mean is None:
        raise UnsupportedLayer(f"layer {type(layer).__name__} without running statistics", name)
    if layer.num_features != value.shape[0]:
        raise GraphError(f"{name}: {layer} does not fit a tensor of shape {value.shape}")
    return replace(value, norm=layer)
