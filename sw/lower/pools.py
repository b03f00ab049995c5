"""Pools: the maximum as it is, the mean as a sum that awaits its activation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from karui.sw.ir import GraphError
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.lower.values import Lowering, Scores, Value, fixed, map_value
from karui.sw.nn.global_average_pool import GlobalAveragePool


def lower_max_pool(layer: nn.MaxPool2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A max pool; its padding never wins, as in torch."""
    value = _map(lowering, layer, name, value)
    if _pair(layer.dilation) != (1, 1) or layer.ceil_mode or layer.return_indices:
        raise UnsupportedLayer("MaxPool2d with dilation, ceil_mode or return_indices", name)
    vertical, horizontal = _pair(layer.padding)
    edge = lowering.build.max_pool(
        lowering.node_name(name, "pool"),
        value.edge,
        _pair(layer.kernel_size),
        _pair(layer.stride),
        (vertical, horizontal, vertical, horizontal),
    )
    return map_value(lowering, edge, value.fraction)


def lower_average_pool(layer: nn.AvgPool2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """Sums over windows; the division belongs to the step function of the activation behind."""
    value = _map(lowering, layer, name, value)
    kernel, (vertical, horizontal) = _pair(layer.kernel_size), _pair(layer.padding)
    if layer.ceil_mode or layer.divisor_override is not None:
        raise UnsupportedLayer("AvgPool2d with ceil_mode or divisor_override", name)
    if (vertical or horizontal) and not layer.count_include_pad:
        raise UnsupportedLayer("AvgPool2d with padding but without count_include_pad", name)

    def mean(sums: Tensor) -> Tensor:
        return functional.avg_pool2d(_with_sum(sums, kernel), kernel).flatten(1)

    edge = lowering.build.sum_pool(
        lowering.node_name(name, "pool"),
        value.edge,
        kernel,
        _pair(layer.stride),
        (vertical, horizontal, vertical, horizontal),
    )
    return replace(map_value(lowering, edge, value.fraction), mean=mean, unrounded="layer AvgPool2d")


def lower_global_average_pool(layer: GlobalAveragePool, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """Sums over the whole map, as a vector."""
    value = _map(lowering, layer, name, value)
    kernel = value.shape[1], value.shape[2]

    def mean(sums: Tensor) -> Tensor:
        means: Tensor = layer(_with_sum(sums, kernel))
        return means

    edge = lowering.build.sum_pool(lowering.node_name(name, "pool"), value.edge, kernel, kernel)
    edge = lowering.build.flatten(f"{edge}.flatten", edge)
    return Value(
        edge=edge,
        shape=value.shape[:1],
        order=np.arange(value.shape[0]),
        fraction=value.fraction,
        mean=mean,
        unrounded="layer GlobalAveragePool",
    )


def _with_sum(sums: Tensor, kernel: tuple[int, int]) -> Tensor:
    """Windows of the given sums: all zeros but one element."""
    windows = sums.new_zeros((*sums.shape, *kernel))
    windows[..., 0, 0] = sums
    return windows


def _map(lowering: Lowering, layer: nn.Module, name: str, value: Value | Scores) -> Value:
    value = fixed(lowering, f"layer {type(layer).__name__}", name, value)
    if len(value.shape) != 3:
        raise GraphError(f"{name}: {layer} takes a feature map, not a tensor of shape {value.shape}")
    return value


def _pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
