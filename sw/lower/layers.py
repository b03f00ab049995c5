"""How each layer of a network is lowered: one function a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatch

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from karui.sw.ir import Graph, GraphBuilder, GraphError, accumulator_range
from karui.sw.lower.step_function import Integers, ladder
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.nn.binary_activation import BinaryActivation, InputBinarize
from karui.sw.nn.binary_conv import BinaryConv2d
from karui.sw.nn.binary_linear import BinaryLinear
from karui.sw.nn.fixed_point_relu import FixedPointReLU
from karui.sw.nn.logit_scale import LogitScale
from karui.sw.numerics import BIPOLAR, NumberFormat, unsigned


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """A matrix-vector product that is not yet in the graph: an activation may still negate rows, a bias be added."""

    name: str
    edge: str
    weights: Integers


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """A tensor of the network while it is lowered.

    Parameters
    ----------
    edge : str
        The graph's edge; of a product, the edge that it multiplies.
    shape : tuple of int
        As torch has it: (channels, height, width) or (features,).
    order : ndarray of int64
        For each element of the graph's edge, in stream order, its index in torch's flattened tensor.
    product : Product or None
        Set between a linear or convolutional layer and the layer that fixes its form.
    norm : nn.Module or None
        A batch norm that awaits its activation.
    """

    edge: str
    shape: tuple[int, ...]
    order: npt.NDArray[np.int64]
    product: Product | None = None
    norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """The end of a classifier: an edge of integers, and the scale that makes them the network's outputs."""

    edge: str
    scale: Tensor


@dataclass(kw_only=True)
class Lowering:
    """The graph under construction and the names given so far."""

    name: str
    build: GraphBuilder = field(init=False)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.build = GraphBuilder(self.name)

    def input(self, shape: tuple[int, ...], number_format: NumberFormat) -> Value:
        """Add the input; torch's (C, H, W) is the graph's (H, W, C)."""
        edge = self.build.input("input", _channels_last(shape), number_format)
        return Value(edge=edge, shape=shape, order=_channels_last_order(shape))

    def node_name(self, layer: str, kind: str) -> str:
        """The layer's own name, or its kind where that is only a number of a Sequential; numbered when used again."""
        numbered = layer.rsplit(".", 1)[-1].isdigit()
        base = kind if numbered else layer
        self.counts[base] = count = self.counts.get(base, 0) + 1
        return f"{base}{count}" if numbered else base if count == 1 else f"{base}_{count}"


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
@lower_layer.register(nn.Identity)
def _(layer: nn.Module, lowering: Lowering, name: str, value: Value | Scores) -> Value | Scores:
    return value


@lower_layer.register
def _(layer: nn.Flatten, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    value = _fixed(lowering, layer, name, value)
    if len(value.shape) == 1:
        return value
    edge = lowering.build.flatten(lowering.node_name(name, "flatten"), value.edge)
    return replace(value, edge=edge, shape=(int(np.prod(value.shape)),))


@lower_layer.register
def _(layer: InputBinarize, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    value = _fixed(lowering, layer, name, value)
    node = lowering.node_name(name, "binarize")
    return replace(value, edge=lowering.build.threshold(node, value.edge, np.array([[layer.threshold]]), BIPOLAR))


@lower_layer.register
def _(layer: BinaryLinear, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    value = _fixed(lowering, layer, name, value)
    _require_binary(layer, name)
    if value.shape != (layer.in_features,):
        raise GraphError(
            f"{name}: {layer} takes vectors of {layer.in_features} features, not a tensor of shape {value.shape}"
        )
    weights = _integers(layer.binary_weight())[:, value.order]
    product = Product(name=lowering.node_name(name, "dense"), edge=value.edge, weights=weights)
    return Value(edge=value.edge, shape=(layer.out_features,), order=np.arange(layer.out_features), product=product)


@lower_layer.register
def _(layer: BinaryConv2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    value = _fixed(lowering, layer, name, value)
    _require_binary(layer, name)
    if len(value.shape) != 3 or value.shape[0] != layer.in_channels:
        raise GraphError(
            f"{name}: {layer} takes a map of {layer.in_channels} channels, not a tensor of shape {value.shape}"
        )
    node = lowering.node_name(name, "conv")
    size, pad = layer.kernel_size, layer.padding
    window = lowering.build.sliding_window(
        f"{node}.window",
        value.edge,
        (size, size),
        stride=(layer.stride, layer.stride),
        padding=(pad,) * 4,
        pad_value=layer.pad_value if pad else None,
    )
    rows, columns, _ = lowering.build.tensor(window).shape
    weights = _integers(layer.binary_weight()).transpose(0, 2, 3, 1).reshape(layer.out_channels, -1)
    shape = (layer.out_channels, rows, columns)
    product = Product(name=node, edge=window, weights=weights)
    return Value(edge=window, shape=shape, order=_channels_last_order(shape), product=product)


@lower_layer.register(nn.BatchNorm1d)
@lower_layer.register(nn.BatchNorm2d)
def _(layer: nn.BatchNorm1d | nn.BatchNorm2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    if isinstance(value, Scores) or value.product is None or value.norm is not None:
        raise UnsupportedLayer(f"layer {type(layer).__name__} elsewhere than right behind a linear layer", name)
    if layer.num_features != value.shape[0]:
        raise GraphError(f"{name}: {layer} does not fit a tensor of shape {value.shape}")
    return replace(value, norm=layer)


@lower_layer.register
def _(layer: BinaryActivation, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    if isinstance(value, Scores) or value.product is None:
        raise UnsupportedLayer("layer BinaryActivation elsewhere than behind a linear layer or its batch norm", name)
    product, norm, channels = value.product, value.norm, value.shape[0]

    def fires(sums: Integers) -> npt.NDArray[np.bool_]:
        real = torch.from_numpy(sums).to(torch.float32)
        if norm is not None:
            real = norm(real if isinstance(norm, nn.BatchNorm1d) else real[:, :, None, None])
        active: npt.NDArray[np.bool_] = (layer(real) > 0).reshape(sums.shape).numpy()
        return active

    low, high = accumulator_range(product.weights, lowering.build.tensor(product.edge).number_format)
    # A falling neuron fires where its sum is small: negated weights make it rise, so hardware compares one way only;
    # a range symmetric about zero serves both.
    reach = max(-low, high)
    steps = ladder(fires, low=-reach, high=reach, channels=channels, levels=2)
    weights = np.where(steps.falling[:, None], -product.weights, product.weights)
    edge = lowering.build.matrix_vector(product.name, product.edge, weights)
    edge = lowering.build.threshold(f"{product.name}.threshold", edge, steps.thresholds, BIPOLAR)
    return Value(edge=edge, shape=value.shape, order=value.order)


@lower_layer.register
def _(layer: FixedPointReLU, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    if isinstance(value, Scores) or value.product is None or value.norm is not None:
        raise UnsupportedLayer("layer FixedPointReLU elsewhere than right behind a linear layer", name)
    value = _fixed(lowering, layer, name, value)
    edge = lowering.build.requantize(
        f"{value.edge}.requantize",
        value.edge,
        _integers(layer.multiplier),
        _integers(layer.offset),
        shift=int(layer.shift),
        output=unsigned(layer.bits),
    )
    return replace(value, edge=edge)


@lower_layer.register
def _(layer: nn.MaxPool2d, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    value = _fixed(lowering, layer, name, value)
    kernel, stride, padding, dilation = (
        _pair(size) for size in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    if padding != (0, 0) or dilation != (1, 1) or layer.ceil_mode:
        raise UnsupportedLayer("MaxPool2d with padding, dilation or ceil_mode", name)
    edge = lowering.build.max_pool(lowering.node_name(name, "pool"), value.edge, kernel, stride)
    rows, columns, channels = lowering.build.tensor(edge).shape
    shape = (channels, rows, columns)
    return Value(edge=edge, shape=shape, order=_channels_last_order(shape))


@lower_layer.register
def _(layer: LogitScale, lowering: Lowering, name: str, value: Value | Scores) -> Scores:
    if isinstance(value, Scores) or value.product is None or value.norm is not None:
        raise UnsupportedLayer("layer LogitScale elsewhere than right behind a linear layer", name)
    bias = _integers(layer.integer_bias())
    product = value.product
    edge = lowering.build.matrix_vector(product.name, product.edge, product.weights, bias if bias.any() else None)
    return Scores(edge=edge, scale=layer.log_scale.detach().exp())


def finish(lowering: Lowering, result: Value | Scores, classes: Sequence[str]) -> tuple[Graph, str, Tensor]:
    """Close the graph with the arg max: graph, edge of the scores, their scale."""
    if isinstance(result, Value):
        value = _fixed(lowering, None, "output", result)
        result = Scores(edge=value.edge, scale=torch.tensor(1.0))
    count = lowering.build.tensor(result.edge).shape
    if classes and count != (len(classes),):
        raise GraphError(f"the network has outputs of shape {count}, but {len(classes)} classes are named")
    graph = lowering.build.finish(lowering.build.arg_max("class", result.edge), classes=classes)
    return graph, result.edge, result.scale


def _fixed(lowering: Lowering, layer: nn.Module | None, name: str, value: Value | Scores) -> Value:
    """The value with its product, if any, put into the graph as it is."""
    if isinstance(value, Scores):
        raise UnsupportedLayer(f"layer {type(layer).__name__} behind LogitScale", name)
    if value.norm is not None:
        raise UnsupportedLayer(f"layer {type(value.norm).__name__} without an activation behind it", name)
    if value.product is None:
        return value
    edge = lowering.build.matrix_vector(value.product.name, value.product.edge, value.product.weights)
    return replace(value, edge=edge, product=None)


def _require_binary(layer: BinaryLinear | BinaryConv2d, name: str) -> None:
    if layer.real_valued:
        raise UnsupportedLayer(f"layer {type(layer).__name__} with real-valued weights", name)


def _integers(tensor: Tensor) -> Integers:
    return tensor.detach().to(torch.int64).numpy()


def _pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[1:], shape[0]) if len(shape) == 3 else shape


def _channels_last_order(shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    indices = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    return (indices.transpose(1, 2, 0) if len(shape) == 3 else indices).reshape(-1)
