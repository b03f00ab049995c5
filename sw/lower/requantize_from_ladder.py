"""Pass: thresholds become a multiplication and a shift where that is the same function, and cheaper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from karui.sw.ir import Constant, DepthwiseConv, Graph, MatrixVector, MaxPool, Node, Requantize, Threshold, verify
from karui.sw.ir.bounds import depthwise_rows
from karui.sw.lower.line import line_through
from karui.sw.numerics import Overflow, format_for_range

Integers = npt.NDArray[np.int64]

# Up to 7 comparisons a channel are no dearer than a multiplication.
FEW_LEVELS = 8


def requantize_from_ladder(graph: Graph, *, few_levels: int = FEW_LEVELS) -> Graph:
    """Replace thresholds by `Requantize` where integers reproduce every one of them over the values' proven range.

    Parameters
    ----------
    graph : Graph
    few_levels : int
        Outputs of so few levels keep their thresholds, unless a mere shift replaces them.
    """
    nodes, constants = [], dict(graph.constants)
    for node in graph.nodes:
        replaced = _requantize(graph, node, few_levels)
        if replaced is None:
            nodes.append(node)
            continue
        node, operands = replaced
        nodes.append(node)
        constants.update(operands)
    used = {operand for node in nodes for operand in node.inputs} | set(graph.outputs)
    kept = {name: constant for name, constant in constants.items() if name in used}
    return verify(replace(graph, nodes=tuple(nodes), constants=kept))


def ladders(graph: Graph, *, few_levels: int = FEW_LEVELS) -> tuple[str, ...]:
    """Names of the thresholds of more than a few levels."""
    return tuple(
        node.name for node in graph.nodes if isinstance(node.op, Threshold) and node.op.output.levels > few_levels
    )


def _requantize(graph: Graph, node: Node, few_levels: int) -> tuple[Node, dict[str, Constant]] | None:
    if not isinstance(node.op, Threshold) or node.op.output.is_bipolar:
        return None
    output = node.op.output
    thresholds = graph.constants[node.inputs[1]].values
    low, high = _channel_ranges(graph, node.inputs[0])
    if len(thresholds) == 1:
        low, high = low.min(keepdims=True), high.max(keepdims=True)
    source = graph.tensors[node.inputs[0]].number_format
    line = line_through(
        thresholds,
        *(np.broadcast_to(end, len(thresholds)) for end in (low, high)),
        first=output.minimum,
        reach=max(-source.minimum, source.maximum),
    )
    if line is None:
        return None
    multiplier, offset = _once(line.multiplier), _once(line.offset)
    is_shift = len(multiplier) == 1 and multiplier[0] > 0 and not multiplier[0] & (multiplier[0] - 1)
    if output.levels <= few_levels and not is_shift:
        return None
    op = Requantize(shift=line.shift, rounding=line.rounding, overflow=Overflow.SATURATE, output=output)
    operands = {f"{node.name}.multiplier": _constant(multiplier), f"{node.name}.offset": _constant(offset)}
    return Node(name=node.name, op=op, inputs=(node.inputs[0], *operands)), operands


def _channel_ranges(graph: Graph, edge: str) -> tuple[Integers, Integers]:
    """The smallest and the largest value of each channel, or of all: exact for sums of products, else the format's."""
    producers = {node.name: node for node in graph.nodes}
    source = producers.get(edge)
    while source is not None and isinstance(source.op, MaxPool):
        source = producers.get(source.inputs[0])
    if source is None or not isinstance(source.op, MatrixVector | DepthwiseConv):
        number_format = graph.tensors[edge].number_format
        return np.array([number_format.minimum]), np.array([number_format.maximum])
    weights, *bias = (graph.constants[name].values for name in source.inputs[1:])
    rows = weights if isinstance(source.op, MatrixVector) else depthwise_rows(weights)
    inputs = graph.tensors[source.inputs[0]].number_format
    ends = rows * inputs.minimum, rows * inputs.maximum
    start = bias[0] if bias else 0
    return start + np.minimum(*ends).sum(axis=1), start + np.maximum(*ends).sum(axis=1)


def _once(values: Integers) -> Integers:
    return values[:1] if np.all(values == values[0]) else values


def _constant(values: Integers) -> Constant:
    return Constant(values=values, number_format=format_for_range(int(values.min()), int(values.max())))
