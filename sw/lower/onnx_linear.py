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
from karui.sw.lower.onnx_signal import Import, MatrixProduct, Signal, Window, image_layout
from karui.sw.lower.real_meaning import Integers, Meaning, add, plain
from karui.sw.numerics import format_for_range


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
    product = _product(state, node, signal, integers[:, order], scale[:, order])
    layout = np.arange(outputs)[None]
    return _with_bias(state, node, replace(product, shape=(outputs,), layout=layout))


def lower_convolution(state: Import, node: Any) -> Signal:
    """``Conv`` over two dimensions: a sliding window and a matrix product, or a depthwise convolution."""
    given = attributes(node)
    signal = state.placed(feature_map(state, node), node)
    integers, scale = integer_weights(state, node, node.input[1])
    groups = int(given.get("group", 1))
    window = convolution_window(node, signal, integers.shape, groups)
    pad_word = _zero_word(state, node, signal) if any(window.padding) else None
    rows = [part.transpose(0, 2, 3, 1).reshape(len(part), -1) for part in (integers, scale)]
    repeats = window.kernel[0] * window.kernel[1]
    product = _product(state, node, signal, *rows, repeats=repeats, groups=groups)
    return _with_bias(state, node, convolved(state, node, signal, product, window, pad_word))


def convolution_window(node: Any, signal: Signal, weights: tuple[int, ...], groups: int) -> Window:
    """The windows of a convolution of a feature map by weights (M, C / groups, KH, KW).

    Raises
    ------
    UnsupportedModel
        If the weights or the groups do not fit the map.
    """
    if weights[1] * groups != signal.channels or weights[0] % groups:
        of_groups = f" in {groups} groups" if groups > 1 else ""
        raise UnsupportedModel(
            f"{node_label(node)}: weights of shape {weights}{of_groups} do not fit {signal.channels} channels"
        )
    return windows_of(node, signal.shape, weights[2:])


def convolved(
    state: Import, node: Any, signal: Signal, product: Signal, window: Window, pad_word: int | None
) -> Signal:
    """A convolution from the product of one window: the signal of all windows of a feature map.

    Parameters
    ----------
    state : Import
    node : onnx.NodeProto
    signal : Signal
        The feature map.
    product : Signal
        Whose source is the `MatrixProduct` of the map itself by rows in order (ky, kx, channel within the group).
    window : Window
        Where the windows lie.
    pad_word : int or None
        The word of padded elements, None where nothing is padded.
    """
    source = product.source
    assert isinstance(source, MatrixProduct), source
    outputs = len(source.weights)
    top, left, bottom, right = window.padding
    sizes = signal.shape[0] + top + bottom, signal.shape[1] + left + right
    rows, columns = ((size - k) // s + 1 for size, k, s in zip(sizes, window.kernel, window.stride, strict=True))
    if source.groups == signal.channels == outputs > 1:
        source = replace(source, depthwise=(window, pad_word))
    elif not window.is_pixel:
        edge = state.build.sliding_window(
            state.name(node, ".window"),
            signal.edge,
            window.kernel,
            stride=window.stride,
            padding=window.padding,
            pad_value=pad_word,
            groups=source.groups,
        )
        source = replace(source, edge=edge)
    shape = rows, columns, outputs
    return replace(product, source=source, shape=shape, layout=image_layout(shape))


def lower_max_pool(state: Import, node: Any) -> Signal:
    """``MaxPool``: the largest word, once the words of falling channels are negated."""
    given = attributes(node)
    signal = state.rising(feature_map(state, node), node)
    window = windows_of(node, signal.shape, tuple(given["kernel_shape"]))
    sizes = [size + sum(window.padding[axis::2]) for axis, size in enumerate(signal.shape[:2])]
    leftover = [(size - k) % s for size, k, s in zip(sizes, window.kernel, window.stride, strict=True)]
    if given.get("ceil_mode", 0) and any(leftover):
        raise UnsupportedModel(
            f"{node_label(node)}: MaxPool with ceil_mode 1 and {leftover} rows and columns left over; only whole "
            "windows are supported: pad the map instead"
        )
    edge = state.build.max_pool(state.name(node), signal.edge, window.kernel, window.stride, window.padding)
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
    state: Import,
    node: Any,
    signal: Signal,
    integers: Integers,
    scale: npt.NDArray[Any],
    *,
    repeats: int = 1,
    groups: int = 1,
) -> Signal:
    """The product of a signal, which means s * (q + o), by integer rows of a scale each; channels recur in a row."""
    label = node_label(node)
    signal = state.placed(signal, node)
    line = signal.meaning.line()
    if line is None:
        raise UnsupportedModel(f"{label}: a rectifier or clamp reaches it unquantized; quantize the activation first")
    slope, offset = (
        _of_rows(np.broadcast_to(part, (signal.channels,)), len(integers), groups, repeats) for part in line
    )
    if np.any(np.abs(slope) != np.abs(slope[0, 0])):
        raise UnsupportedModel(
            f"{label}: its input has a scale of its own in each channel; use one scale for all channels"
        )
    if np.any(scale != scale[:, :1]):
        raise UnsupportedModel(
            f"{label}: its weight has more than one scale in an output; use one scale an output channel"
        )
    weights = integers * np.sign(slope).astype(np.int64)
    meaning = Meaning(
        scale=abs(slope[0, 0]) * scale[:, 0].astype(np.float64),
        offset=(weights * offset).sum(axis=1) if np.any(offset) else np.zeros(1),
    )
    source = MatrixProduct(name=state.name(node), edge=signal.edge, weights=weights, groups=groups)
    return replace(signal, source=source, meaning=meaning)


def _of_rows(channels: npt.NDArray[Any], outputs: int, groups: int, repeats: int) -> npt.NDArray[Any]:
    """What each row of weights (outputs, channels / groups * repeats) meets, of one value a channel."""
    return np.tile(np.repeat(channels.reshape(groups, -1), outputs // groups, axis=0), repeats)


def _with_bias(state: Import, node: Any, signal: Signal) -> Signal:
    if len(node.input) < 3 or not node.input[2]:
        return signal
    bias = constant_of(state, node, node.input[2]).values.reshape(-1)
    axes = (1, -1) + (1,) * (signal.layout.ndim - 2)
    signal, (operand,) = state.per_channel(signal, node, bias.reshape(axes))
    return replace(signal, meaning=signal.meaning.then(add(operand)))


def feature_map(state: Import, node: Any) -> Signal:
    """The signal that is a node's first operand, which must be a feature map.

    Raises
    ------
    UnsupportedModel
        If it is not.
    """
    signal = state.activation(node)
    if not signal.is_feature_map:
        raise UnsupportedModel(
            f"{node_label(node)}: {node.op_type} of a tensor that is not a feature map (1, channels, height, width) in "
            f"the input's order, but of shape {signal.layout.shape}; only {node.op_type} over two axes is supported"
        )
    return signal


def windows_of(node: Any, shape: tuple[int, ...], kernel: tuple[int, ...]) -> Window:
    """The windows of a convolution or pooling, from its attributes."""
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
    return Window(
        kernel=(int(kernel[0]), int(kernel[1])),
        stride=(int(stride[0]), int(stride[1])),
        padding=(top, left, bottom, right),
    )


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
