"""ONNX's QuantizeLinear and DequantizeLinear: between the real numbers of a model and its 8-bit integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.lower.onnx_constants import constant_of, linear_parameters
from karui.sw.lower.onnx_model import UnsupportedModel, node_label
from karui.sw.lower.onnx_signal import Import, Signal
from karui.sw.lower.quantizer import Quantizer
from karui.sw.lower.real_meaning import Floats, Integers, Meaning, is_plain, plain
from karui.sw.numerics import NumberFormat, signed, unsigned

WORDS: dict[np.dtype[Any], NumberFormat] = {np.dtype(np.uint8): unsigned(8), np.dtype(np.int8): signed(8)}


def lower_quantize_linear(state: Import, node: Any) -> Signal:
    """``QuantizeLinear``: ``clamp(round(x / scale) + zero_point)``, ties to even."""
    signal = state.activation(node)
    scale, zero_point = _parameters(state, node, signal)
    output = WORDS.get(zero_point.dtype)
    if output is None:
        raise UnsupportedModel(
            f"{node_label(node)}: words of type {zero_point.dtype}; only uint8 and int8 are supported"
        )
    signal, (scales, zeros) = state.per_channel(signal, node, scale, zero_point.astype(np.float64))

    def words(values: Floats) -> Integers:
        shifted = np.rint(values / scales) + zeros
        limited: Integers = np.clip(shifted, output.minimum, output.maximum).astype(np.int64)
        return limited

    meaning = Meaning(scale=scales.astype(np.float64), offset=-zeros)
    quantized = state.quantized(signal, Quantizer(words=words, output=output, meaning=meaning), node)
    return replace(quantized, meaning=plain())


def lower_dequantize_linear(state: Import, node: Any) -> Signal:
    """``DequantizeLinear``: the integers mean ``(x - zero_point) * scale``."""
    signal = state.activation(node)
    if signal.source is None or not is_plain(signal.meaning):
        raise UnsupportedModel(f"{node_label(node)}: its operand {node.input[0]!r} is of reals, not of integers")
    scale, zero_point = _parameters(state, node, signal)
    signal, (scales, zeros) = state.per_channel(signal, node, scale, zero_point.astype(np.float64))
    return replace(signal, meaning=Meaning(scale=scales.astype(np.float64), offset=-zeros))


def _parameters(state: Import, node: Any, signal: Signal) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    operands = [constant_of(state, node, name).values for name in node.input[1:] if name]
    return linear_parameters(node, signal.layout.ndim, *operands)
