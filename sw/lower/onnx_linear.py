"""Lowering of ONNX's matrix products, convolutions, pooling and arg max."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.ir import accumulator_range
from karui.sw.lower.class_order import integer_order, keeps_order
from karui.sw.lower.onnx_constants import constant_of, integer_weights
from karui.sw.lower.onnx_model import UnsupportedModel, attributes, node_label
from karui.sw.lower.onnx_signal import Import, MatrixProduct, Signal, image_layout
from karui.sw.lower.real_meaning import Integers, Meaning, add, plain
from karui.sw.numerics import format_for_range

Padding = tuple[int, int, int, int]


def lower_matrix_product(state: Import, node: Any) -> Signal:
    """``MatMul`` of a vector by a constant matrix, or ``Gemm`` with a constant bias."""
    given = attributes(node)
    if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA", 0):
        raise UnsupportedModel(f"{node_label(node)}: Gemm takes alpha 1, beta 1 and transA 0 only")
    signal = state.activation(node)
    integers, scale = integer_weights(state, node, node.input[1])
    if integers.ndim != 2 or signal.layout.ndim != 2:
        raise UnsupportedModel(
            f"{node_label(node)}: {node.op_type} of tensors of shape {signal.layout.shape} and {integers.shape}; only "
            "vectors (1, K) by matrices are supported: flatten the activation first"
        )
    if not given.get("transB", 0):
        integers, scale = integers.T, scale.T
    signal = state.flat(signal, node)
    if integers.shape[1] != signal.channels:
        raise UnsupportedModel(
            f"{node_label(node)}: weights for {integers.shape[1]} inputs do not fit {signal.channels}"
        )
    # The model's column k multiplies the edge's element layout[k].
    order = np.argsort(signal.layout[0])
    outputs = len(integers)
    product = _product(state, node, signal, integers[:, order], scale[:, order], repeats=1)
    layout = np.arange(outputs)[None]
    return _with_bias(state, node, replace(product, shape=(outputs,), layout=layout))


def lower_convolution(state: Import, node: Any) -> Signal:
    """``Conv`` over two dimensions: a sliding window and a matrix product."""
    given = attributes(node)
    signal = state.placed(_feature_map(state, node), node)
    integers, scale = integer_weights(state, node, node.input[1])
    if given.get("group", 1) != 1:
        raise UnsupportedModel(f"{node_label(node)}: group {given['group']}; only convolutions of one group")
    if integers.shape[1] != signal.channels:
        raise UnsupportedModel(
            f"{node_label(node)}: weights for {integers.shape[1]} channels do not fit {signal.channels}"
        )
    kernel, stride, padding = _window(node, signal.shape, integers.shape[2:])
    window = signal
    if kernel != (1, 1) or stride != (1, 1) or any(padding):
        edge = state.build.sliding_window(
            state.name(node, ".window"),
            signal.edge,
            kernel,
            stride=stride,
            padding=padding,
            pad_value=_zero_word(state, node, signal) if any(padding) else None,
        )
        window = replace(signal, source=edge, shape=state.build.tensor(edge).shape)
    rows = [part.transpose(0, 2, 3, 1).reshape(len(part), -1) for part in (integers, scale)]
    product = _product(state, node, window, *rows, repeats=kernel[0] * kernel[1])
    shape = (*window.shape[:2], len(integers))
    return _with_bias(state, node, replace(product, shape=shape, layout=image_layout(shape)))


def lower_max_pool(state: Import, node: Any) -> Signal:
    """``MaxPool``: the largest word, once the words of falling channels are negated."""
    given = attributes(node)
    signal = state.rising(_feature_map(state, node), node)
    kernel, stride, padding = _window(node, signal.shape, tuple(given["kernel_shape"]))
    leftover = [(size - k) % s for size, k, s in zip(signal.shape, kernel, stride, strict=False)]
    if any(padding) or (given.get("ceil_mode", 0) and any(leftover)):
        raise UnsupportedModel(
            f"{node_label(node)}: MaxPool with padding {padding} and ceil_mode {given.get('ceil_mode', 0)}; only whole "
            "windows inside the map are supported"
        )
    edge = state.build.max_pool(state.name(node), signal.edge, kernel, stride)
    shape = state.build.tensor(edge).shape
    return replace(signal, source=edge, shape=shape, layout=image_layout((shape[0], shape[1], shape[2])))


def lower_arg_max(state: Import, node: Any) -> Signal:
    """``ArgMax``, or ``TopK`` of one: on the integers where they are ordered as the reals, else on scaled ones."""
    given, signal = attributes(node), state.activation(node)
    largest = given.get("largest", 1) and not given.get("select_last_index", 0)
    count = constant_of(state, node, node.input[1]).values.reshape(-1)[0] if node.op_type == "TopK" else 1
    axis = given.get("axis", -1 if node.op_type == "TopK" else 0) % signal.layout.ndim
    if not largest or count != 1 or signal.layout.shape[axis] != signal.layout.size:
        raise UnsupportedModel(
            f"{node_label(node)}: only the first of the largest elements over all of a vector is supported, not k "
            f"{count} on axis {axis} of a tensor of shape {signal.layout.shape}"
        )
    if np.any(np.diff(signal.layout.reshape(-1)) < 0):
        raise UnsupportedModel(
            f"{node_label(node)}: the classes are no longer in order; take the arg max before the transpose"
        )
    signal = _ordered(state, node, signal)
    edge = state.build.arg_max(state.name(node), signal.edge)
    shape = [size for position, size in enumerate(signal.layout.shape) if position != axis]
    if given.get("keepdims", 1):
        shape.insert(axis, 1)
    return Signal(source=edge, shape=(1,), layout=np.zeros(shape, dtype=np.int64), meaning=plain())


def _ordered(state: Import, node: Any, signal: Signal) -> Signal:
    """A vector edge whose integers order the classes as the model's reals do."""
    product = signal.source if isinstance(signal.source, MatrixProduct) and len(signal.shape) == 1 else None
    if product is None:
        signal = state.flat(state.rising(signal, node), node)
        low, high = state.reach(signal.edge)
    else:
        falling = np.broadcast_to(signal.meaning.direction, (signal.channels,)) < 0
        signs = np.where(falling, -1, 1)
        product = replace(product, weights=product.weights * signs[:, None])
        signal = replace(signal, source=product, meaning=signal.meaning.negated(signs))
        low, high = accumulator_range(product.weights, state.build.tensor(product.edge).number_format)
    if keeps_order(signal.meaning, low, high):
        return state.placed(signal, node)
    found = integer_order(signal.meaning, signal.channels, low, high)
    if found is None:
        raise UnsupportedModel(
            f"{node_label(node)}: no integers order the classes as their real scales do; end the model before the "
            "arg max and take it on the host, of the real numbers that the accumulators stand for"
        )
    multiplier, offset = found
    if product is not None and np.all(multiplier == 1):
        return state.placed(replace(signal, source=replace(product, bias=offset)), node)
    signal = state.placed(signal, node)
    scores = (np.array([low, high])[:, None] * multiplier + offset).reshape(-1)
    output = format_for_range(int(scores.min()), int(scores.max()))
    name = state.name(node, ".scores")
    return replace(signal, source=state.build.requantize(name, signal.edge, multiplier, offset, shift=0, output=output))


def _product(
    state: Import, node: Any, signal: Signal, integers: Integers, scale: npt.NDArray[Any], *, repeats: int
) -> Signal:
    """The product of a signal, which means s * (q + o), by integer rows of a scale each."""
    label = node_label(node)
    signal = state.placed(signal, node)
    line = signal.meaning.line()
    if line is None:
        raise UnsupportedModel(f"{label}: a rectifier or clamp reaches it unquantized; quantize the activation first")
    columns = integers.shape[1] // repeats
    slope, offset = (np.tile(np.broadcast_to(part, (columns,)), repeats) for part in line)
    if np.any(np.abs(slope) != np.abs(slope[0])):
        raise UnsupportedModel(
            f"{label}: its input has a scale of its own in each channel; use one scale for all channels"
        )
    if np.any(scale != scale[:, :1]):
        raise UnsupportedModel(
            f"{label}: its weight has more than one scale in an output; use one scale an output channel"
        )
    weights = integers * np.sign(slope).astype(np.int64)
    meaning = Meaning(
        scale=abs(slope[0]) * scale[:, 0].astype(np.float64),
        offset=(weights * offset).sum(axis=1) if np.any(offset) else np.zeros(1),
    )
    return replace(
        signal, source=MatrixProduct(name=state.name(node), edge=signal.edge, weights=weights), meaning=meaning
    )


def _with_bias(state: Import, node: Any, signal: Signal) -> Signal:
    if len(node.input) < 3 or not node.input[2]:
        return signal
    bias = constant_of(state, node, node.input[2]).values.reshape(-1)
    axes = (1, -1) + (1,) * (signal.layout.ndim - 2)
    signal, (operand,) = state.per_channel(signal, node, bias.reshape(axes))
    return replace(signal, meaning=signal.meaning.then(add(operand)))


def _feature_map(state: Import, node: Any) -> Signal:
    signal = state.activation(node)
    if not signal.is_feature_map:
        raise UnsupportedModel(
            f"{node_label(node)}: {node.op_type} of a tensor that is not a feature map (1, channels, height, width) in "
            f"the input's order, but of shape {signal.layout.shape}; only {node.op_type} over two axes is supported"
        )
    return signal


def _window(
    node: Any, shape: tuple[int, ...], kernel: tuple[int, ...]
) -> tuple[tuple[int, int], tuple[int, int], Padding]:
    """Kernel, stride and padding (top, left, bottom, right) of a convolution or pooling."""
    given = attributes(node)
    if any(step != 1 for step in given.get("dilations", [1])):
        raise UnsupportedModel(f"{node_label(node)}: dilations {given['dilations']}; only 1 is supported")
    stride = tuple(given.get("strides", [1, 1]))
    mode = given.get("auto_pad", "NOTSET")
    pads = list(given.get("pads", [0, 0, 0, 0]))
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = [max((-(-size // s) - 1) * s + k - size, 0) for size, k, s in zip(shape, kernel, stride, strict=False)]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = [*less, *more] if mode == "SAME_UPPER" else [*more, *less]
    elif mode not in ("NOTSET", "VALID"):
        raise UnsupportedModel(f"{node_label(node)}: auto_pad {mode!r}; state the padding in pads")
    top, left, bottom, right = map(int, pads)
    return (int(kernel[0]), int(kernel[1])), (int(stride[0]), int(stride[1])), (top, left, bottom, right)


def _zero_word(state: Import, node: Any, signal: Signal) -> int:
    """The word that stands for 0.0, with which the model pads."""
    line, number_format = signal.meaning.line(), state.build.tensor(signal.edge).number_format
    word = 0 if line is None else -int(np.rint(line[1][0]))
    is_zero = not np.any(signal.meaning.evaluate(np.full(signal.channels, word)))
    if not is_zero or not number_format.holds_range(word, word):
        raise UnsupportedModel(
            f"{node_label(node)}: it pads with 0.0, which no word of its {number_format} input stands for; pad "
            "nothing, or quantize the input to a format that holds 0"
        )
    return word
