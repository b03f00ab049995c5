"""Tensors of an imported model that are known before it runs: initializers, and what nodes make of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.lower.onnx_model import ModelConstant, UnsupportedModel, attributes, node_label
from karui.sw.lower.onnx_signal import Import
from karui.sw.lower.quantizer import Quantizer, bipolar_quantizer, uniform_quantizer

# Operations that only move elements, so integers stay integers.
LAYOUT_OPERATIONS = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")

_FOLDED = (
    *LAYOUT_OPERATIONS,
    "Add",
    "Cast",
    "Concat",
    "Constant",
    "Div",
    "Mul",
    "Neg",
    "QuantizeLinear",
    "Sqrt",
    "Sub",
)
_QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant")


def load_initializers(state: Import) -> None:
    """Take over the initializers, with the integers that an annotation or an integer type gives them.

    Raises
    ------
    UnsupportedModel
        If values contradict their annotation.
    """
    for name, values in state.model.initializers.items():
        datatype = state.model.datatype(name)
        if datatype is not None and not datatype.admits(values):
            raise UnsupportedModel(
                f"tensor {name!r}: values from {values.min()} to {values.max()} are not all of the annotated "
                f"finn_datatype ({datatype}); correct the annotation"
            )
        whole = datatype is not None or np.issubdtype(values.dtype, np.integer)
        state.constants[name] = ModelConstant(
            values=values,
            integers=values.astype(np.int64) if whole else None,
            scale=np.ones(values.shape) if whole else None,
        )


def fold_constant(state: Import, node: Any) -> bool:
    """Compute a node whose operands are all constants; whether it was one."""
    operands = [state.constants.get(name) for name in node.input if name]
    known = [operand for operand in operands if operand is not None]
    if len(known) < len(operands) or node.op_type not in (*_FOLDED, *_QUANTIZERS, "DequantizeLinear"):
        return False
    try:
        if node.op_type in (*_QUANTIZERS, "DequantizeLinear"):
            make = _dequantized if node.op_type == "DequantizeLinear" else _quantized
            state.constants[node.output[0]] = make(node, *(operand.values for operand in known))
            return True
        values = state.model.run(node, [operand.values for operand in known])
    except UnsupportedModel:
        raise
    except ValueError as error:
        raise UnsupportedModel(f"{node_label(node)}: its constants do not fit each other ({error})") from error
    integers = scale = None
    if node.op_type in LAYOUT_OPERATIONS and known[0].integers is not None and known[0].scale is not None:
        shapes = [operand.values for operand in known[1:]]
        integers, scale = (state.model.run(node, [part, *shapes]) for part in (known[0].integers, known[0].scale))
    elif node.op_type == "QuantizeLinear":
        integers, scale = values.astype(np.int64), np.ones(values.shape)
    state.constants[node.output[0]] = ModelConstant(values=values, integers=integers, scale=scale)
    return True


def constant_of(state: Import, node: Any, name: str) -> ModelConstant:
    """The constant operand of a node.

    Raises
    ------
    UnsupportedModel
        If it is not known before the model runs.
    """
    constant = state.constants.get(name)
    if constant is None:
        raise UnsupportedModel(
            f"{node_label(node)}: its operand {name!r} must be a constant; fold it before the export"
        )
    return constant


def integer_weights(state: Import, node: Any, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """The integers of a weight and its scale, of the same shape.

    Raises
    ------
    UnsupportedModel
        If the weight is not known to be integer.
    """
    weight = constant_of(state, node, name)
    if weight.integers is None or weight.scale is None:
        raise UnsupportedModel(
            f"{node_label(node)}: its weight {name!r} is of floats; pass it through a Quant or BipolarQuant node, or "
            "annotate it with an integer or BIPOLAR finn_datatype"
        )
    return weight.integers, weight.scale


def quantizer_of(node: Any, *parameters: npt.NDArray[Any]) -> Quantizer:
    """The quantizer of a ``Quant`` or ``BipolarQuant`` node, its parameters broadcast as the caller needs them.

    Parameters
    ----------
    node : onnx.NodeProto
    *parameters : ndarray
        Scale, and of a ``Quant`` also zero point and bit width.

    Raises
    ------
    UnsupportedModel
        If a parameter is out of its range.
    """
    given, count = attributes(node), 1 if node.op_type == "BipolarQuant" else 3
    if len(parameters) != count:
        raise UnsupportedModel(f"{node_label(node)}: {node.op_type} takes {count} parameters, not {len(parameters)}")
    try:
        if node.op_type == "BipolarQuant":
            return bipolar_quantizer(parameters[0])
        scale, zero_point, bits = parameters
        if bits.size != 1 or bits.reshape(-1)[0] not in range(1, 65):
            raise ValueError(f"the bit width must be one integer from 1 to 64, not {bits.reshape(-1).tolist()}")
        return uniform_quantizer(
            scale,
            zero_point,
            int(bits.reshape(-1)[0]),
            is_signed=bool(given.get("signed", 1)),
            narrow=bool(given.get("narrow", 0)),
            rounding_mode=given.get("rounding_mode", "ROUND"),
        )
    except ValueError as error:
        raise UnsupportedModel(f"{node_label(node)}: {error}") from error


def linear_parameters(
    node: Any, dimensions: int, scale: npt.NDArray[Any], zero_point: npt.NDArray[Any] | None = None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Scale and zero point of ``QuantizeLinear`` or ``DequantizeLinear``, to spread over a tensor's dimensions.

    Raises
    ------
    UnsupportedModel
        If the scale is not positive, or not one for all or one a channel.
    """
    if zero_point is None:
        zero_point = np.zeros(scale.shape, dtype=np.uint8)
    if attributes(node).get("block_size", 0) or scale.ndim > 1:
        raise UnsupportedModel(f"{node_label(node)}: a scale for each block; give one for all, or one a channel")
    if not np.all(scale > 0):
        raise UnsupportedModel(f"{node_label(node)}: the scale must be positive, not {scale.min()}")
    axes, axis = [1] * dimensions, attributes(node).get("axis", 1)
    if scale.size > 1:
        if axis not in range(-dimensions, dimensions):
            raise UnsupportedModel(f"{node_label(node)}: axis {axis} of a tensor of {dimensions} axes")
        axes[axis] = -1
    return scale.reshape(axes), zero_point.reshape(axes)


def _dequantized(node: Any, words: npt.NDArray[Any], *parameters: npt.NDArray[Any]) -> ModelConstant:
    scale, zero_point = linear_parameters(node, words.ndim, *parameters)
    integers = words.astype(np.int64) - zero_point.astype(np.int64)
    scales = np.broadcast_to(scale, words.shape)
    return ModelConstant(values=integers.astype(np.float32) * scales, integers=integers, scale=scales)


def _quantized(node: Any, values: npt.NDArray[Any], *parameters: npt.NDArray[Any]) -> ModelConstant:
    quantizer = quantizer_of(node, *parameters)
    integers = quantizer.words(values) + quantizer.meaning.offset.astype(np.int64)
    scale = np.broadcast_to(parameters[0], values.shape)
    return ModelConstant(values=integers.astype(np.float32) * scale, integers=integers, scale=scale)
