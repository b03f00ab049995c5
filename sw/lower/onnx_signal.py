"""A tensor of an imported model while it is lowered, and the integer graph that grows under it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.ir import GraphBuilder, accumulator_range
from karui.sw.lower.onnx_model import ModelConstant, OnnxModel, UnsupportedModel, attributes, node_label
from karui.sw.lower.quantizer import Quantizer
from karui.sw.lower.real_meaning import Floats, Integers, Meaning
from karui.sw.lower.step_function import StepFunction, ladder
from karui.sw.numerics import NumberFormat, format_for_range

# A ladder of more levels than this (per channel) is no sensible hardware.
_MOST_BITS = 10


@dataclass(frozen=True, kw_only=True)
class Window:
    """Where a convolution's or a pooling's windows lie: kernel, stride, and padding (top, left, bottom, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]

    @property
    def is_pixel(self) -> bool:
        """Whether each window is one pixel, in order."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and not any(self.padding)


@dataclass(frozen=True, kw_only=True, eq=False)
class MatrixProduct:
    """A product that is not yet in the graph: rows may still be negated, a bias be added.

    Parameters
    ----------
    name : str
        Of its node.
    edge : str
        What is multiplied.
    weights : ndarray of int64, shape (M, K / groups)
        One row an output.
    bias : ndarray of int64, shape (M,), optional
        Added to the sums.
    groups : int
        Of the rows, as of a `karui.sw.ir.MatrixVector`.
    depthwise : (Window, int or None), optional
        Of a depthwise convolution: its windows on the feature map `edge`, and the word that it pads with.
    """

    name: str
    edge: str
    weights: Integers
    bias: Integers | None = None
    groups: int = 1
    depthwise: tuple[Window, int | None] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Signal:
    """A tensor of the model.

    Parameters
    ----------
    source : str, MatrixProduct or None
        The graph's edge; None for an input whose integers no quantizer has named yet.
    shape : tuple of int
        Of the edge: (H, W, C) or (K,).
    layout : ndarray of int64
        In the shape that the model gives the tensor, batch of 1 included: the index of each element in the edge,
        flattened. Reshape, transpose and the like change nothing but this.
    meaning : Meaning
        The model's real numbers.
    """

    source: str | MatrixProduct | None
    shape: tuple[int, ...]
    layout: Integers
    meaning: Meaning

    @property
    def edge(self) -> str:
        """The graph's edge, of a signal that is in the graph."""
        assert isinstance(self.source, str), self.source
        return self.source

    @property
    def channels(self) -> int:
        """Length of the edge's last axis."""
        return self.shape[-1]

    @property
    def is_feature_map(self) -> bool:
        """Whether the model holds it as (1, C, H, W)."""
        return len(self.shape) == 3 and np.array_equal(self.layout, image_layout(self.shape))

    def real(self, words: npt.NDArray[Any]) -> Floats:
        """The model's tensor, for words of shape (n, *shape): float32 of shape (n, *the model's shape)."""
        values = self.meaning.evaluate(words).reshape(len(words), -1)
        return values[:, self.layout.reshape(-1)].reshape(len(words), *self.layout.shape[1:])


@dataclass(kw_only=True)
class Import:
    """The state of an import.

    Parameters
    ----------
    model : OnnxModel
        What is imported.
    build : GraphBuilder
        The graph so far.
    input_edge : str
        Name of the graph's input.
    """

    model: OnnxModel
    build: GraphBuilder
    input_edge: str
    constants: dict[str, ModelConstant] = field(default_factory=dict)
    signals: dict[str, Signal] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _placed: dict[tuple[MatrixProduct, bytes], str] = field(default_factory=dict)
    _reach: dict[str, tuple[int, int]] = field(default_factory=dict)
    _input: tuple[Quantizer, Any] | None = None

    def activation(self, node: Any) -> Signal:
        """The signal that is a node's first operand."""
        found = self.signals.get(node.input[0])
        if found is None:
            raise UnsupportedModel(
                f"{node_label(node)}: its operand {node.input[0]!r} does not depend on the input; the first operand "
                "must be the activation, the others constants"
            )
        return found

    def name(self, node: Any, suffix: str = "") -> str:
        """An unused name for a graph node made from a model's node."""
        base = (re.sub(r"\W+", "_", node.name or node.output[0]).strip("_") or node.op_type) + suffix
        name, number = base, 1
        while name in self._names or name == self.input_edge:
            number += 1
            name = f"{base}_{number}"
        self._names.add(name)
        return name

    def placed(self, signal: Signal, node: Any, signs: Integers | None = None) -> Signal:
        """The signal as an edge of the graph, its words multiplied by signs (-1 or +1 a channel) on request."""
        if signal.source is None:
            raise UnsupportedModel(
                f"{node_label(node)}: the input {self.model.input.name!r} reaches it as real numbers; give the input "
                "a number format, for example input_format=unsigned(8)"
            )
        negates = signs is not None and bool(np.any(signs < 0))
        if signs is None or not negates:
            signs = np.ones(signal.channels, dtype=np.int64)
        if isinstance(signal.source, MatrixProduct):
            edge = self._place_product(signal.source, signs, node)
        elif negates:
            low, high = self.reach(signal.source)
            output = format_for_range(min(low, -high), max(high, -low))
            edge = self.build.requantize(
                self.name(node, ".negated"), signal.source, signs, np.zeros(1), shift=0, output=output
            )
        else:
            return signal
        return replace(signal, source=edge, meaning=signal.meaning.negated(signs) if negates else signal.meaning)

    def rising(self, signal: Signal, node: Any) -> Signal:
        """The signal as an edge whose meaning rises with its words, falling channels negated."""
        direction = np.broadcast_to(signal.meaning.direction, (signal.channels,))
        return self.placed(signal, node, np.where(direction < 0, -1, 1))

    def flat(self, signal: Signal, node: Any) -> Signal:
        """The signal as a vector edge in which each element is a channel."""
        signal = self.placed(signal, node)
        if len(signal.shape) == 1:
            return signal
        edge = self.build.flatten(self.name(node, ".flat"), signal.edge)
        elements = int(np.prod(signal.shape))
        meaning = signal.meaning.repeated(elements // signal.channels)
        return replace(signal, source=edge, shape=(elements,), meaning=meaning)

    def reach(self, edge: str) -> tuple[int, int]:
        """Range of an edge's words."""
        number_format = self.build.tensor(edge).number_format
        return self._reach.get(edge, (number_format.minimum, number_format.maximum))

    def per_channel(self, signal: Signal, node: Any, *operands: Floats) -> tuple[Signal, tuple[Floats, ...]]:
        """Operands that the model broadcasts over a signal, as one value a channel, (C,) or (1,).

        A signal with an operand that differs from position to position is flattened, so that each element is a
        channel.
        """
        spread = [_spread(signal, operand, node) for operand in operands]
        if any(np.any(rows != rows[:1]) for rows in spread):
            signal = self.flat(signal, node)
            spread = [rows.reshape(1, -1) for rows in spread]
        return signal, tuple(row[:1] if np.all(row == row[0]) else row for row in (rows[0] for rows in spread))

    def quantized(self, signal: Signal, quantizer: Quantizer, node: Any) -> Signal:
        """The signal through a quantizer: a ladder of thresholds, read off the model's own arithmetic."""
        if quantizer.output.bits > _MOST_BITS:
            raise UnsupportedModel(
                f"{node_label(node)}: {quantizer.output.bits} bits need {quantizer.output.levels - 1} thresholds a "
                f"channel; quantize activations to {_MOST_BITS} bits or fewer"
            )
        if signal.source is None:
            return self._quantized_input(signal, quantizer, node)
        signal = self.rising(signal, node)
        output, meaning = quantizer.output, signal.meaning
        step = 2 if output.is_bipolar else 1

        def level(words: Integers) -> Integers:
            return (quantizer.words(meaning.evaluate(words)) - output.minimum) // step

        return self.stepped(replace(signal, meaning=quantizer.meaning), level, output, node)

    def stepped(self, signal: Signal, level: StepFunction, output: NumberFormat, node: Any) -> Signal:
        """A signal in the graph through a nondecreasing step function of its words; its meaning is already the new."""
        low, high = self.reach(signal.edge)
        thresholds = ladder(level, low=low, high=high, channels=signal.channels, levels=output.levels).thresholds
        if np.all(thresholds == thresholds[:1]):
            thresholds = thresholds[:1]
        if is_identity(thresholds, self.build.tensor(signal.edge).number_format, output):
            return signal
        # One threshold for all elements of a vector: flattened first, more than a pixel's channels can pass at a time.
        if len(thresholds) == 1 and signal.layout.ndim == 2:
            signal = self.flat(signal, node)
        return replace(signal, source=self.build.threshold(self.name(node), signal.edge, thresholds, output))

    def input_signal(self, name: str) -> Signal:
        """The model's input, once the import has named its integers."""
        signal = self.signals[name]
        return (
            signal if self._input is None else replace(signal, source=self.input_edge, meaning=self._input[0].meaning)
        )

    def _place_product(self, product: MatrixProduct, signs: Integers, node: Any) -> str:
        key = (product, signs.tobytes())
        if key not in self._placed:
            again = any(placed is product for placed, _ in self._placed)
            name = self.name(node, f".{product.name}") if again else product.name
            weights = product.weights * signs[:, None]
            bias = None if product.bias is None else product.bias * signs
            edge = self._add_product(name, product, weights, bias)
            self._reach[edge] = accumulator_range(weights, self.build.tensor(product.edge).number_format, bias)
            self._placed[key] = edge
        return self._placed[key]

    def _add_product(self, name: str, product: MatrixProduct, weights: Integers, bias: Integers | None) -> str:
        if product.depthwise is None:
            return self.build.matrix_vector(name, product.edge, weights, bias, groups=product.groups)
        window, pad_value = product.depthwise
        return self.build.depthwise_conv(
            name,
            product.edge,
            weights.T.reshape(*window.kernel, -1),
            stride=window.stride,
            padding=window.padding,
            pad_value=pad_value,
            bias=bias,
        )

    def _quantized_input(self, signal: Signal, quantizer: Quantizer, node: Any) -> Signal:
        """The integers of the quantizer are the graph's input: quantizing is then the host's part."""
        if self._input is None:
            self._input = quantizer, node
            self.build.input(self.input_edge, signal.shape, quantizer.output)
        elif self._parameters(node) != self._parameters(self._input[1]):
            raise UnsupportedModel(
                f"{node_label(node)}: the input {self.model.input.name!r} is quantized in more than one way; give it a "
                "number format, for example input_format=unsigned(8)"
            )
        return replace(signal, source=self.input_edge, meaning=quantizer.meaning)

    def _parameters(self, node: Any) -> tuple[Any, ...]:
        """All that decides what a quantizer node does."""
        constants = [self.constants[name].values for name in node.input[1:]]
        return node.op_type, attributes(node), [(values.shape, values.tobytes()) for values in constants]


def image_layout(shape: tuple[int, ...]) -> Integers:
    """The layout of a map (H, W, C) that the model holds as (1, C, H, W)."""
    height, width, channels = shape
    return np.arange(height * width * channels).reshape(1, height, width, channels).transpose(0, 3, 1, 2)


def is_identity(thresholds: Integers, values: NumberFormat, output: NumberFormat) -> bool:
    """Whether a ladder of thresholds returns every word of `values` unchanged."""
    if values != output:
        return False
    words = np.array([output.at_level(level) for level in range(output.levels)], dtype=np.int64)
    return bool(np.all((words[:-1] < thresholds) & (thresholds <= words[1:])))


def _spread(signal: Signal, operand: Floats, node: Any) -> Floats:
    """An operand broadcast over a signal, in the edge's order, shape (positions, C)."""
    if not np.all(np.isfinite(operand)):
        raise UnsupportedModel(f"{node_label(node)}: a constant holds {operand[~np.isfinite(operand)].flat[0]}")
    try:
        full = np.broadcast_to(operand, signal.layout.shape)
    except ValueError:
        raise UnsupportedModel(
            f"{node_label(node)}: a constant of shape {operand.shape} does not spread over the tensor of shape "
            f"{signal.layout.shape}"
        ) from None
    flat = np.empty(full.size, dtype=operand.dtype)
    flat[signal.layout.reshape(-1)] = full.reshape(-1)
    return flat.reshape(-1, signal.channels)
