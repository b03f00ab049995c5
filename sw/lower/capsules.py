"""Capsule layers: their operations, with formats checked against the layers' own."""

from __future__ import annotations

import numpy as np

from karui.sw.ir import GraphError, accumulator_range
from karui.sw.ir.capsule_ops import single_fraction
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.lower.values import Integers, Lowering, Scores, Value, fixed, integers, one_fraction
from karui.sw.nn.capsule import CapsulePrediction, MapToCapsules, SquaredLength
from karui.sw.nn.quant_capsule import CAPSULE_WORDS, LOGIT_WORDS, QuantDynamicRouting, QuantSquash
from karui.sw.numerics import NumberFormat

_NO_OFFSET = np.zeros(1, dtype=np.int64)


def lower_map_to_capsules(layer: MapToCapsules, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A view: the stream of a map is the stream of its capsules."""
    what = "layer MapToCapsules"
    value = fixed(lowering, what, name, value)
    one_fraction(what, name, value)
    if len(value.shape) != 3:
        raise GraphError(f"{name}: MapToCapsules takes a map, not a tensor of shape {value.shape}")
    edge = lowering.build.flatten(lowering.node_name(name, "capsules"), value.edge)
    return _vector(lowering, edge, value.fraction)


def lower_squash(layer: QuantSquash, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A `QuantSquash`."""
    value = _capsules("layer QuantSquash", lowering, name, value, layer.words)
    edge = lowering.build.squash(lowering.node_name(name, "squash"), value.edge, layer.length, CAPSULE_WORDS)
    return _vector(lowering, edge, np.array([single_fraction(CAPSULE_WORDS)]))


def lower_prediction(layer: CapsulePrediction, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A `CapsulePrediction` of integer weights: a product of a group for each capsule, and its rounding."""
    what = "layer CapsulePrediction"
    if layer.votes is None:
        raise UnsupportedLayer(f"{what} without weight_bits, whose weights are real,", name)
    value = _capsules(what, lowering, name, value, None)
    if value.shape != (layer.in_capsules * layer.in_length,):
        raise GraphError(f"{name}: {layer} does not fit a tensor of shape {value.shape}")
    weights = integers(layer.integer_weight())
    low, high = accumulator_range(weights, lowering.build.tensor(value.edge).number_format, None)
    lowering.note(max(-low, high))
    node = lowering.node_name(name, "prediction")
    edge = lowering.build.matrix_vector(node, value.edge, weights, groups=layer.in_capsules)
    fraction = one_fraction(what, name, value) + int(layer.weight_fraction())
    shift = fraction - single_fraction(layer.votes)
    edge = lowering.build.requantize(
        f"{node}.votes",
        edge,
        np.array([1 << max(0, -shift)]),
        _NO_OFFSET,
        shift=max(0, shift),
        output=layer.votes,
    )
    return _vector(lowering, edge, np.array([single_fraction(layer.votes)]))


def lower_routing(layer: QuantDynamicRouting, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A `QuantDynamicRouting`."""
    value = _capsules("layer QuantDynamicRouting", lowering, name, value, layer.votes)
    pairs = layer.out_capsules * layer.out_length
    if value.shape[0] % pairs:
        raise GraphError(f"{name}: {layer} does not fit a tensor of shape {value.shape}")
    # The network's sums over all predictions, in steps.
    lowering.note(value.shape[0] // pairs * layer.op.largest_coupling * -layer.votes.minimum)
    edge = lowering.build.routing(
        lowering.node_name(name, "routing"),
        value.edge,
        outputs=layer.out_capsules,
        length=layer.out_length,
        iterations=layer.iterations,
        sums=layer.op.sums,
        output=CAPSULE_WORDS,
        logits=LOGIT_WORDS,
    )
    return _vector(lowering, edge, np.array([single_fraction(CAPSULE_WORDS)]))


def lower_squared_length(layer: SquaredLength, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A `SquaredLength`."""
    what = "layer SquaredLength"
    value = _capsules(what, lowering, name, value, None)
    edge = lowering.build.squared_length(lowering.node_name(name, "length"), value.edge, layer.length)
    lowering.note(lowering.build.tensor(edge).number_format.maximum)
    return _vector(lowering, edge, np.array([2 * one_fraction(what, name, value)]))


def _capsules(what: str, lowering: Lowering, name: str, value: Value | Scores, words: NumberFormat | None) -> Value:
    """A vector in the order of its stream, and in the format that the layer was trained for, if it has one."""
    value = fixed(lowering, what, name, value)
    one_fraction(what, name, value)
    if len(value.shape) != 1 or not np.array_equal(value.order, np.arange(value.shape[0])):
        raise UnsupportedLayer(f"{what} elsewhere than behind MapToCapsules", name)
    given = lowering.build.tensor(value.edge).number_format
    if words is not None and given != words:
        raise GraphError(f"{name}: the layer was trained for words of {words}, but they are {given}")
    return value


def _vector(lowering: Lowering, edge: str, fraction: Integers) -> Value:
    elements = lowering.build.tensor(edge).elements
    return Value(edge=edge, shape=(elements,), order=np.arange(elements), fraction=fraction)
