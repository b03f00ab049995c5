"""Pools: the maximum as it is, the mean as a sum that awaits its activation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from karui.sw.ir import GraphError
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.lower.values import Lowering, Places, Pooled, Scores, Value, fixed, map_value
from karui.sw.nn.global_average_pool import GlobalAveragePool


def lower_max_pool(layer: nn.MaxPool2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A max pool; its padding never wins, as in torch."""
    value = _map(lowering, layer, name, value)
    if _pair(layer.dilation) != (1, 1) or layer.ceil_mode:
        raise UnsupportedLayer("MaxPool2d with dilation or ceil_mode", name)
    vertical, horizontal = _pair(layer.padding)
    edge = lowering.build.max_pool(
        lowering.node_name(name, "pool"),
        value.edge,
        _pair(layer.kernel_size),
        _pair(layer.stride),
        (vertical, horizontal, vertical, horizontal),
    )
    return map_value(lowering, edge, value.fraction)


def lower_pool_with_places(layer: nn.MaxPool2d, lowering: Lowering, name: str, value: Value | Scores) -> Pooled:
    """A max pool with ``return_indices``, of windows that cover the map side by side."""
    value = _map(lowering, layer, name, value)
    kernel = _pair(layer.kernel_size)
    side_by_side = _pair(layer.stride) == kernel and _pair(layer.padding) == (0, 0)
    if not side_by_side or value.shape[1] % kernel[0] or value.shape[2] % kernel[1]:
        raise UnsupportedLayer("MaxPool2d with return_indices whose windows do not cover the map side by side", name)
    pooled = lower_max_pool(layer, lowering, name, value)
    return Pooled(value=pooled, places=Places(edge=value.edge, kernel=kernel))


def lower_max_unpool(
    layer: nn.MaxUnpool2d, lowering: Lowering, name: str, value: Value | Scores, places: Places
) -> Value:
    """An unpooling to where a max pool of the same windows found its maxima."""
    value = _map(lowering, layer, name, value)
    kernel = _pair(layer.kernel_size)
    if kernel != places.kernel or _pair(layer.stride) != kernel or _pair(layer.padding) != (0, 0):
        raise UnsupportedLayer("MaxUnpool2d with other windows than those of its max pool", name)
    edge = lowering.build.max_unpool(lowering.node_name(name, "unpool"), value.edge, places.edge, kernel)
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
