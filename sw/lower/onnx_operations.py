"""How each ONNX operation is lowered: one function an operation, listed at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from karui.sw.lower.onnx_constants import constant_of, quantizer_of
from karui.sw.lower.onnx_integer import lower_integer_convolution, lower_integer_matrix_product
from karui.sw.lower.onnx_linear import lower_arg_max, lower_convolution, lower_matrix_product, lower_max_pool
from karui.sw.lower.onnx_model import UnsupportedModel, attributes, node_label
from karui.sw.lower.onnx_quantize_linear import lower_dequantize_linear, lower_quantize_linear
from karui.sw.lower.onnx_signal import Import, Signal
from karui.sw.lower.quantizer import multi_threshold
from karui.sw.lower.real_meaning import (
    Floats,
    Step,
    add,
    clamp,
    divide,
    leaky_rectify,
    multiply,
    normalize,
    subtract,
    subtract_from,
)

Operation = Callable[[Import, Any], Signal]

_FLOAT = 1  # onnx.TensorProto.FLOAT


def lower_node(state: Import, node: Any) -> None:
    """Lower one node of the model.

    Raises
    ------
    UnsupportedModel
        If the operation is not supported, or not in this form.
    """
    operation = _OPERATIONS.get(node.op_type)
    if operation is None:
        raise UnsupportedModel(
            f"{node_label(node)}: {node.op_type} is not supported; supported are {', '.join(sorted(_OPERATIONS))}"
        )
    try:
        # TopK makes values and indices; the indices are what a classifier yields.
        state.signals[node.output[1 if node.op_type == "TopK" else 0]] = operation(state, node)
    except UnsupportedModel:
        raise
    except (KeyError, IndexError) as error:
        raise UnsupportedModel(f"{node_label(node)}: it lacks an operand or attribute ({error})") from error
    except ValueError as error:
        raise UnsupportedModel(f"{node_label(node)}: {error}") from error


def _rearrange(state: Import, node: Any) -> Signal:
    signal = state.activation(node)
    shapes = [constant_of(state, node, name).values for name in node.input[1:] if name]
    layout = state.model.run(node, [signal.layout, *shapes])
    if layout.shape[:1] != (1,) and layout.size > 1:
        raise UnsupportedModel(
            f"{node_label(node)}: {node.op_type} to {layout.shape} moves the batch axis, which must stay "
            "first, of size 1"
        )
    return replace(signal, layout=layout)


def _same(state: Import, node: Any) -> Signal:
    return state.activation(node)


def _cast(state: Import, node: Any) -> Signal:
    if attributes(node)["to"] != _FLOAT:
        raise UnsupportedModel(f"{node_label(node)}: Cast to another type than float32; compute in float32")
    return state.activation(node)


def _arithmetic(forward: Callable[[Floats], Step], backward: Callable[[Floats], Step] | None) -> Operation:
    """A binary operation of a tensor and a constant: `forward` with the constant second, `backward` with it first."""

    def lower(state: Import, node: Any) -> Signal:
        first, second = node.input
        if first in state.signals and second in state.signals:
            raise UnsupportedModel(
                f"{node_label(node)}: {node.op_type} of two tensors; one operand must be a constant (the integer graph "
                "has no residual connections)"
            )
        is_forward = first in state.signals
        step = forward if is_forward else backward
        if step is None:
            raise UnsupportedModel(
                f"{node_label(node)}: {node.op_type} of a constant by a tensor is no monotone step; only monotone step "
                "functions become thresholds"
            )
        operand = constant_of(state, node, second if is_forward else first).values
        if node.op_type == "Div" and not np.all(operand):
            raise UnsupportedModel(f"{node_label(node)}: Div by a constant that holds 0")
        signal, (constant,) = state.per_channel(state.signals[first if is_forward else second], node, operand)
        return replace(signal, meaning=signal.meaning.then(step(constant)))

    return lower


def _relu(state: Import, node: Any) -> Signal:
    slope = attributes(node).get("alpha", 0.01) if node.op_type == "LeakyRelu" else 0.0
    if slope < 0:
        raise UnsupportedModel(
            f"{node_label(node)}: LeakyRelu with alpha {slope:g} falls and rises; only monotone step functions become "
            "thresholds, so alpha must be 0 or more"
        )
    signal = state.activation(node)
    return replace(signal, meaning=signal.meaning.then(leaky_rectify(np.full(1, slope, dtype=np.float32))))


def _clip(state: Import, node: Any) -> Signal:
    signal, given = state.activation(node), attributes(node)
    limits = []
    for position, name, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        is_input = len(node.input) > position and node.input[position]
        value = constant_of(state, node, node.input[position]).values if is_input else given.get(name, default)
        limits.append(np.asarray(value, dtype=np.float32).reshape(1))
    return replace(signal, meaning=signal.meaning.then(clamp(*limits)))


def _batch_normalization(state: Import, node: Any) -> Signal:
    given = attributes(node)
    if given.get("training_mode", 0):
        raise UnsupportedModel(f"{node_label(node)}: training_mode 1; export the network in evaluation mode")
    signal = state.activation(node)
    axes = (1, -1) + (1,) * (signal.layout.ndim - 2)
    operands = [constant_of(state, node, name).values.reshape(axes) for name in node.input[1:5]]
    epsilon = given.get("epsilon", 1e-5)
    if np.any(operands[3] + epsilon <= 0):
        raise UnsupportedModel(f"{node_label(node)}: a variance plus epsilon {epsilon:g} is not positive")
    signal, (scale, bias, mean, variance) = state.per_channel(signal, node, *operands)
    return replace(signal, meaning=signal.meaning.then(normalize(scale, bias, mean, variance, epsilon)))


def _quant(state: Import, node: Any) -> Signal:
    broadcast = 1 if node.op_type == "BipolarQuant" else 2
    parameters = [constant_of(state, node, name).values for name in node.input[1:]]
    signal, operands = state.per_channel(state.activation(node), node, *parameters[:broadcast])
    return state.quantized(signal, quantizer_of(node, *operands, *parameters[broadcast:]), node)


def _multi_threshold(state: Import, node: Any) -> Signal:
    given, signal = attributes(node), state.activation(node)
    thresholds = constant_of(state, node, node.input[1]).values
    layout = given.get("data_layout") or {2: "NC", 3: "NWC", 4: "NCHW"}.get(signal.layout.ndim, "NC")
    axis = layout.index("C") if "C" in layout else 1
    channels = signal.layout.shape[axis]
    if thresholds.ndim != 2 or len(thresholds) not in (1, channels):
        raise UnsupportedModel(
            f"{node_label(node)}: thresholds of shape {thresholds.shape} do not fit {channels} channels (data_layout "
            f"{layout}); the shape must be (1 or {channels}, steps)"
        )
    if len(thresholds) > 1:
        # Which row of the thresholds each channel of the edge takes.
        axes = [-1 if position == axis else 1 for position in range(signal.layout.ndim)]
        signal, (rows,) = state.per_channel(signal, node, np.arange(channels).reshape(axes))
        thresholds = thresholds[rows]
    quantizer = multi_threshold(thresholds, given.get("out_scale", 1.0), given.get("out_bias", 0.0))
    return state.quantized(signal, quantizer, node)


_OPERATIONS: dict[str, Operation] = {
    "Add": _arithmetic(add, add),
    "ArgMax": lower_arg_max,
    "BatchNormalization": _batch_normalization,
    "BipolarQuant": _quant,
    "Cast": _cast,
    "Clip": _clip,
    "Conv": lower_convolution,
    "ConvInteger": lower_integer_convolution,
    "DequantizeLinear": lower_dequantize_linear,
    "Div": _arithmetic(divide, None),
    "Dropout": _same,
    "Flatten": _rearrange,
    "Gemm": lower_matrix_product,
    "Identity": _same,
    "IntQuant": _quant,
    "LeakyRelu": _relu,
    "MatMul": lower_matrix_product,
    "MatMulInteger": lower_integer_matrix_product,
    "MaxPool": lower_max_pool,
    "Mul": _arithmetic(multiply, multiply),
    "MultiThreshold": _multi_threshold,
    "QLinearConv": lower_integer_convolution,
    "QLinearMatMul": lower_integer_matrix_product,
    "Quant": _quant,
    "QuantizeLinear": lower_quantize_linear,
    "Relu": _relu,
    "Reshape": _rearrange,
    "Squeeze": _rearrange,
    "Sub": _arithmetic(subtract, subtract_from),
    "TopK": lower_arg_max,
    "Transpose": _rearrange,
    "Unsqueeze": _rearrange,
}
