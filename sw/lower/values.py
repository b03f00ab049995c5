"""What a tensor of the network is while the network is lowered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from karui.sw.ir import GraphBuilder, accumulator_range
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.numerics import NumberFormat

Integers = npt.NDArray[np.int64]
Padding = tuple[int, int, int, int]

# Sums of integers are exact in float32 up to here, in whatever order they are taken.
FLOAT32_EXACT = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Geometry of a depthwise convolution."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """Sums of products that are not yet in the graph: an activation may still negate rows.

    Parameters
    ----------
    name : str
        Of the node to come.
    edge : str
        What is multiplied.
    weights : ndarray of int64, shape (outputs, inputs of one output)
        Of a depthwise convolution in order (ky, kx).
    fraction : ndarray of int64, shape (outputs,)
        A sum q of output m stands for ``q * 2**-fraction[m]``.
    bias : ndarray of int64, shape (outputs,), or None
    groups : int
        Of a grouped product.
    depthwise : Kernel or None
        Set for a depthwise convolution.
    """

    name: str
    edge: str
    weights: Integers
    fraction: Integers
    bias: Integers | None = None
    groups: int = 1
    depthwise: Kernel | None = None

    def times(self, factors: Integers) -> Product:
        """The product with each row, and its bias, times a factor."""
        return replace(
            self, weights=self.weights * factors[:, None], bias=None if self.bias is None else self.bias * factors
        )

    def aligned(self) -> Product:
        """The product with all rows on the grid of the finest one."""
        finest = np.full_like(self.fraction, self.fraction.max())
        return replace(self.times(1 << (finest - self.fraction)), fraction=finest)

    def reach(self, inputs: NumberFormat) -> int:
        """The largest magnitude of any partial sum."""
        low, high = accumulator_range(self.weights, inputs, self.bias)
        return max(-low, high)

    def place(self, lowering: Lowering) -> str:
        """Put the product into the graph: once for each activation that reads it, as each may negate other rows."""
        build, name = lowering.build, lowering.unique(self.name)
        bias = self.bias if self.bias is not None and self.bias.any() else None
        if self.depthwise is None:
            return build.matrix_vector(name, self.edge, self.weights, bias, groups=self.groups)
        return build.depthwise_conv(
            name,
            self.edge,
            self.weights.T.reshape(*self.depthwise.size, -1),
            stride=self.depthwise.stride,
            padding=self.depthwise.padding,
            pad_value=0 if any(self.depthwise.padding) else None,
            bias=bias,
        )


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
    fraction : ndarray of int64, shape (1,) or (channels,)
        A word q of the edge stands for ``q * 2**-fraction``.
    product : Product or None
        Set between a linear or convolutional layer and the layer that fixes its form.
    norm : nn.Module or None
        A batch norm that awaits its activation.
    mean : callable or None
        The network's mean of a window whose sum is given, (n, channels) to the same; it awaits its activation.
    unrounded : str or None
        The operation whose exact result must be requantized before anything else.
    """

    edge: str
    shape: tuple[int, ...]
    order: Integers
    fraction: Integers = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    product: Product | None = None
    norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None
    mean: Callable[[Tensor], Tensor] | None = None
    unrounded: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """The end of a classifier: an edge of integers, and the scale that makes them the network's outputs."""

    edge: str
    scale: Tensor


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a max pool found its maxima, which an unpooling asks for.

    Parameters
    ----------
    edge : str
        The map that was pooled.
    kernel : (int, int)
        Of windows side by side.
    """

    edge: str
    kernel: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pooled:
    """Both results of a max pool that tells where the maxima were."""

    value: Value
    places: Places


@dataclass(kw_only=True)
class Lowering:
    """The graph under construction, the names given so far, and how far float sums have reached.

    Parameters
    ----------
    name : str
        Of the graph.
    float_type : torch.dtype
        In which the network computes.
    """

    name: str
    float_type: torch.dtype
    build: GraphBuilder = field(init=False)
    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    largest: int = 0

    def __post_init__(self) -> None:
        self.build = GraphBuilder(self.name)

    def input(self, shape: tuple[int, ...], number_format: NumberFormat) -> Value:
        """Add the input; torch's (C, H, W) is the graph's (H, W, C)."""
        edge = self.build.input("input", (*shape[1:], shape[0]) if len(shape) == 3 else shape, number_format)
        fraction = np.atleast_1d(np.asarray(number_format.fraction, dtype=np.int64))
        return Value(edge=edge, shape=shape, order=channels_last_order(shape), fraction=fraction)

    def node_name(self, layer: str, kind: str) -> str:
        """The layer's own name, or its kind where that is only a number of a Sequential; numbered when used again."""
        numbered = layer.rsplit(".", 1)[-1].isdigit()
        base = kind if numbered else layer
        self.counts[base] = count = self.counts.get(base, 0) + 1
        return f"{base}{count}" if numbered else base if count == 1 else f"{base}_{count}"

    def unique(self, node: str) -> str:
        """A node's name, numbered where several branches put the same behind one value."""
        self.places[node] = count = self.places.get(node, 0) + 1
        return node if count == 1 else f"{node}_{count}"

    def note(self, magnitude: int) -> None:
        """Keep the largest integer that the network's float sums reach."""
        self.largest = max(self.largest, magnitude)

    @property
    def is_exact(self) -> bool:
        """Whether all sums are exact in the network's float type."""
        return self.float_type == torch.float64 or self.largest <= FLOAT32_EXACT


def fixed(lowering: Lowering, layer: str, name: str, value: Value | Scores) -> Value:
    """The value with its product, if any, put into the graph as it is.

    Parameters
    ----------
    layer, name : str
        What takes the value, for messages.
    """
    if isinstance(value, Scores):
        raise UnsupportedLayer(f"{layer} behind LogitScale", name)
    if value.norm is not None:
        raise UnsupportedLayer(f"layer {type(value.norm).__name__} without an activation behind it", name)
    if value.unrounded is not None:
        raise UnsupportedLayer(f"{value.unrounded} without a quantizing activation right behind it", name)
    if value.product is None:
        return value
    product = value.product
    lowering.note(product.reach(lowering.build.tensor(product.edge).number_format))
    edge = product.place(lowering)
    uniform = bool(np.all(product.fraction == product.fraction[0]))
    return replace(value, edge=edge, product=None, fraction=product.fraction[:1] if uniform else product.fraction)


def one_fraction(layer: str, name: str, value: Value) -> int:
    """The fraction of a value whose words all have the same."""
    if len(value.fraction) > 1:
        raise UnsupportedLayer(f"{layer} of channels with scales of their own", name)
    return int(value.fraction[0])


def channels_last_order(shape: tuple[int, ...]) -> Integers:
    """For each element of (H, W, C) its index in (C, H, W)."""
    indices = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    return (indices.transpose(1, 2, 0) if len(shape) == 3 else indices).reshape(-1)


def map_value(lowering: Lowering, edge: str, fraction: Integers) -> Value:
    """The value of a feature map's edge."""
    rows, columns, channels = lowering.build.tensor(edge).shape
    shape = (channels, rows, columns)
    return Value(edge=edge, shape=shape, order=channels_last_order(shape), fraction=fraction)


def integers(tensor: Tensor) -> Integers:
    """A torch tensor as int64 array."""
    return tensor.detach().to(torch.int64).numpy()
