"""Lowering of ONNX's integer operators: QLinearConv, ConvInteger, QLinearMatMul and MatMulInteger.

Their tensors are integers themselves, so words mean what they are. Zero points leave the products: with zero point z of
the input and Z of the weights, ``sum((x - z) (w - Z)) = sum(x (w - Z)) - z sum(w - Z)``, a bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.lower.onnx_constants import constant_of
from karui.sw.lower.onnx_linear import convolution_window, convolved, feature_map
from karui.sw.lower.onnx_model import OnnxModel, UnsupportedModel, attributes, node_label
from karui.sw.lower.onnx_quantize_linear import WORDS
from karui.sw.lower.onnx_signal import Import, MatrixProduct, Signal
from karui.sw.lower.real_meaning import Floats, Integers, is_plain
from karui.sw.numerics import NumberFormat

_MATRIX_PRODUCTS = ("MatMulInteger", "QLinearMatMul")

Layout = tuple[tuple[int, ...], Integers]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Requantization:
    """``clamp(round(sum * ratio + zero_point))``: one ratio for all outputs or one each, ties to even."""

    ratio: npt.NDArray[np.float64]
    zero_point: int
    output: NumberFormat

    def level(self, sums: Integers) -> Integers:
        """The level of each sum, computed in float64 as ONNX's reference implementation does."""
        rounded = np.rint(sums * self.ratio + self.zero_point)
        return np.clip(rounded, self.output.minimum, self.output.maximum).astype(np.int64) - self.output.minimum


def lower_integer_convolution(state: Import, node: Any) -> Signal:
    """``QLinearConv`` or ``ConvInteger`` over two dimensions; padded elements are the zero point."""
    operands = _operands(node)
    signal = _integers(state, node, feature_map(state, node))
    weights = _weights(state, node, operands["w"], operands["w_zero_point"], axis=0)
    if weights.ndim != 4:
        raise UnsupportedModel(
            f"{node_label(node)}: weights of shape {weights.shape}; only convolutions over two axes are supported"
        )
    groups = int(attributes(node).get("group", 1))
    window = convolution_window(node, signal, weights.shape, groups)
    rows = weights.transpose(0, 2, 3, 1).reshape(len(weights), -1)
    zero_point = _scalar(state, node, operands["x_zero_point"])
    bias = -zero_point * rows.sum(axis=1)
    if operands.get("bias"):
        bias = bias + constant_of(state, node, operands["bias"]).values.astype(np.int64)
    product = _product(state, node, signal, rows, bias, groups)
    product = convolved(state, node, signal, product, window, zero_point if any(window.padding) else None)
    return _requantized(state, node, operands, product)


def lower_integer_matrix_product(state: Import, node: Any) -> Signal:
    """``QLinearMatMul`` or ``MatMulInteger`` by a constant matrix, or of a stack of matrices by a stack of constants.

    A stack is a product of as many groups: its edge has the rows of all matrices side by side.
    """
    operands = _operands(node)
    signal = _integers(state, node, state.activation(node))
    weights = _weights(state, node, operands["w"], operands["w_zero_point"], axis=-1)
    inputs, outputs = weights.shape[-2:]
    rows = np.swapaxes(weights, -1, -2).reshape(-1, inputs)
    groups = len(rows) // outputs
    shape = signal.layout.shape
    fits = shape[-1] == inputs and (weights.ndim == 2 or shape[1:-2] == weights.shape[:-2])
    if not fits:
        raise UnsupportedModel(
            f"{node_label(node)}: {node.op_type} of tensors of shape {shape} and {weights.shape}; a stack of matrices "
            "takes as large a stack of constants, behind a batch axis of 1"
        )
    if signal.layout.ndim == 2:
        signal = state.flat(signal, node)
        rows = rows[:, np.argsort(signal.layout[0])]
    elif not np.array_equal(signal.layout, _stack(shape[1:], groups)[1]):
        raise UnsupportedModel(f"{node_label(node)}: its rows are not contiguous; multiply before moving axes")
    bias = -_scalar(state, node, operands["x_zero_point"]) * rows.sum(axis=1)
    product = _product(state, node, signal, rows, bias, groups)
    edge_shape, layout = _stack((*shape[1:-1], outputs), groups)
    return _requantized(state, node, operands, replace(product, shape=edge_shape, layout=layout))


def stack_of_matrices(model: OnnxModel, sizes: Sequence[int]) -> Layout | None:
    """Shape and layout of an input of these sizes that an integer matrix product reads as matrices, else None."""
    readers = [node for node in model.nodes if model.input.name in node.input]
    if len(sizes) < 2 or min(sizes) < 1 or not readers or readers[0].op_type not in _MATRIX_PRODUCTS:
        return None
    weights = model.initializers.get(_operands(readers[0])["w"])
    is_stack = weights is not None and weights.shape[:-2] == tuple(sizes[:-2])
    return _stack(tuple(sizes), math.prod(sizes[:-2]) if is_stack else 1)


def _stack(sizes: tuple[int, ...], groups: int) -> Layout:
    """Edge and layout of a tensor (..., R, K) whose matrices are multiplied alike, or, of groups, each on its own."""
    if groups == 1:
        return sizes, np.arange(math.prod(sizes)).reshape(1, *sizes)
    rows, columns = sizes[-2:]
    layout = np.arange(math.prod(sizes)).reshape(rows, groups, columns).transpose(1, 0, 2)
    return (rows, groups * columns), layout.reshape(1, *sizes)


def _operands(node: Any) -> dict[str, str]:
    """A node's operands by their role; those left out are the empty name."""
    roles = {
        "QLinearConv": (
            "x",
            "x_scale",
            "x_zero_point",
            "w",
            "w_scale",
            "w_zero_point",
            "y_scale",
            "y_zero_point",
            "bias",
        ),
        "QLinearMatMul": ("x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point"),
    }.get(node.op_type, ("x", "w", "x_zero_point", "w_zero_point"))
    return {role: node.input[place] if place < len(node.input) else "" for place, role in enumerate(roles)}


def _integers(state: Import, node: Any, signal: Signal) -> Signal:
    """The signal in the graph, which must be of integers that mean themselves."""
    signal = state.placed(signal, node)
    if not is_plain(signal.meaning):
        raise UnsupportedModel(f"{node_label(node)}: its operand {node.input[0]!r} is of reals, not of integers")
    return signal


def _weights(state: Import, node: Any, name: str, zero_point: str, *, axis: int) -> Integers:
    """The constant weights less their zero point, which is one for all or one an output, along the axis."""
    weights = constant_of(state, node, name).values.astype(np.int64)
    zero = constant_of(state, node, zero_point).values.astype(np.int64) if zero_point else np.zeros(1, dtype=np.int64)
    if zero.size == 1:
        return weights - zero.reshape(())
    if zero.ndim == 1 and len(zero) == weights.shape[axis]:
        return weights - zero.reshape([-1 if place == axis % weights.ndim else 1 for place in range(weights.ndim)])
    if zero.ndim == weights.ndim and zero.shape == (*weights.shape[:-2], 1, weights.shape[-1]) and axis == -1:
        return weights - zero
    raise UnsupportedModel(
        f"{node_label(node)}: the zero point {zero_point!r} of shape {zero.shape} does not fit weights of shape "
        f"{weights.shape}; give one for all or one an output"
    )


def _scalar(state: Import, node: Any, name: str) -> int:
    """A zero point that must be one for all; 0 where it is left out."""
    if not name:
        return 0
    values = np.unique(constant_of(state, node, name).values)
    if values.size != 1:
        raise UnsupportedModel(
            f"{node_label(node)}: the zero point {name!r} takes {values.size} values; a zero point a row of the "
            "activation is not supported, give one for all"
        )
    return int(values[0])


def _product(state: Import, node: Any, signal: Signal, rows: Integers, bias: Integers, groups: int) -> Signal:
    source = MatrixProduct(
        name=state.name(node), edge=signal.edge, weights=rows, bias=bias if np.any(bias) else None, groups=groups
    )
    return replace(signal, source=source)


def _requantized(state: Import, node: Any, operands: dict[str, str], product: Signal) -> Signal:
    if "y_scale" not in operands:
        return product
    factors = [constant_of(state, node, operands[name]).values for name in ("x_scale", "w_scale", "y_scale")]
    step = _requantization(state, node, operands, factors, product.channels)
    return state.stepped(state.placed(product, node), step.level, step.output, node)


def _requantization(
    state: Import, node: Any, operands: dict[str, str], factors: list[Floats], channels: int
) -> _Requantization:
    x_scale, w_scale, y_scale = factors
    if x_scale.size != 1 or y_scale.size != 1 or w_scale.reshape(-1).size not in (1, channels):
        raise UnsupportedModel(
            f"{node_label(node)}: scales of shapes {x_scale.shape}, {w_scale.shape} and {y_scale.shape}; give one for "
            f"the input, one for the output, and one for all weights or one for each of the {channels} outputs"
        )
    # In the scales' own type and the reference's order; the product with the sums is then of float64.
    ratio = (x_scale.reshape(()) * w_scale.reshape(-1) / y_scale.reshape(())).astype(np.float64)
    if not np.all(np.isfinite(ratio)) or not np.all(ratio > 0):
        raise UnsupportedModel(f"{node_label(node)}: x_scale * w_scale / y_scale must be positive, not {ratio.min()}")
    zero_point = constant_of(state, node, operands["y_zero_point"]).values
    output = WORDS.get(zero_point.dtype)
    if output is None:
        raise UnsupportedModel(
            f"{node_label(node)}: an output of type {zero_point.dtype}; only uint8 and int8 are supported"
        )
    return _Requantization(ratio=ratio, zero_point=_scalar(state, node, operands["y_zero_point"]), output=output)
