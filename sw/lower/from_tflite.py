"""Layers that come as TensorFlow Lite's arrays: int8 convolutions with its two roundings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import signed

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class TfliteConvolution:
    """An int8 convolution, by the names of TensorFlow Lite's reference kernel ``ConvPerChannel``.

    ``acc = sum((input + input_offset) * filters) + bias``, requantized as by `karui.sw.ir.DoubleRounding`.

    Parameters
    ----------
    filters : ndarray of int, shape (outputs, height, width, inputs)
        OHWI; symmetric, so without an offset.
    multipliers, shifts : ndarray of int, shape (outputs,)
        Of the requantization: 0 to 2**31 - 1, and -31 to 31 (to the left where positive).
    bias : ndarray of int, shape (outputs,), optional
        Added to the sums.
    input_offset : int
        Minus the input's zero point.
    output_offset : int
        The output's zero point.
    output_minimum, output_maximum : int
        Limits of the output, a fused activation included.
    stride : (int, int)
        Vertical, horizontal.
    padding : (int, int, int, int)
        Rows and columns of zero points added at top, left, bottom, right.
    """

    filters: Array
    multipliers: Array
    shifts: Array
    bias: Array | None = None
    input_offset: int = 0
    output_offset: int = 0
    output_minimum: int = -128
    output_maximum: int = 127
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        if self.filters.ndim != 4:
            raise ValueError(f"filters are (outputs, height, width, inputs), not of shape {self.filters.shape}")
        outputs = self.filters.shape[:1]
        for what, values in (("multipliers", self.multipliers), ("shifts", self.shifts), ("bias", self.bias)):
            if values is not None and values.shape != outputs:
                raise ValueError(f"{what} of shape {values.shape} do not fit {outputs[0]} filters: give {outputs}")


def lower_convolution(build: GraphBuilder, name: str, edge: str, layer: TfliteConvolution) -> str:
    """Add a convolution to a graph.

    The input's offset z moves into the bias, ``sum((x + z) w) + b = sum(x w) + (z sum(w) + b)``, and padded elements
    are the word -z, which stands for zero.

    Parameters
    ----------
    build : GraphBuilder
        Of the graph.
    name : str
        Of the layer's last node; the others are ``<name>.window`` and ``<name>.sums``.
    edge : str
        An int8 feature map (H, W, inputs).
    layer : TfliteConvolution
        What to add.

    Returns
    -------
    str
        Name of the int8 feature map that the layer yields.
    """
    rows = layer.filters.astype(np.int64).reshape(len(layer.filters), -1)
    bias = layer.input_offset * rows.sum(axis=1)
    if layer.bias is not None:
        bias = bias + layer.bias
    window = build.sliding_window(
        f"{name}.window",
        edge,
        (layer.filters.shape[1], layer.filters.shape[2]),
        stride=layer.stride,
        padding=layer.padding,
        pad_value=-layer.input_offset if any(layer.padding) else None,
    )
    sums = build.matrix_vector(f"{name}.sums", window, rows, bias if bias.any() else None)
    return build.double_rounding(
        name,
        sums,
        layer.multipliers,
        layer.shifts,
        output=signed(8),
        zero_point=layer.output_offset,
        minimum=layer.output_minimum,
        maximum=layer.output_maximum,
    )


def convolution_from_tflite(
    layer: TfliteConvolution, input_shape: tuple[int, int, int], *, name: str = "conv"
) -> Graph:
    """The graph of one convolution alone.

    Parameters
    ----------
    layer : TfliteConvolution
        The convolution.
    input_shape : (int, int, int)
        Height, width and channels of the int8 input.
    name : str
        Of the graph and its layer.
    """
    build = GraphBuilder(name)
    return build.finish(lower_convolution(build, name, build.input("input", input_shape, signed(8)), layer))
