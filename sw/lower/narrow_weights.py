"""Pass: rows of weights change sign where that makes all of them a bit narrower; the multiplier behind undoes it.

Thresholds count upwards, so rows with a falling step function were negated: of the words of a two's complement format
only the lowest, -2**(bits - 1), has no negative in it. Where a `Requantize` has taken the thresholds' place, a negative
multiplier serves as well.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from karui.sw.ir import Constant, DepthwiseConv, Graph, MatrixVector, Node, Requantize, accumulator_range, verify
from karui.sw.ir.bounds import depthwise_rows
from karui.sw.ir.storage import RAW
from karui.sw.numerics import format_for_range, signed

Integers = npt.NDArray[np.int64]


def narrow_weights(graph: Graph) -> Graph:
    """Negate the rows of weights that keep all others from a format one bit narrower."""
    nodes = {node.name: node for node in graph.nodes}
    constants = dict(graph.constants)
    for node in graph.nodes:
        readers = graph.consumers[node.name]
        if (
            isinstance(node.op, MatrixVector | DepthwiseConv)
            and node.name not in graph.outputs
            and len(readers) == 1
            and isinstance(readers[0].op, Requantize)
            and all(len(graph.consumers[name]) == 1 for name in (*node.inputs[1:], readers[0].inputs[1]))
        ):
            _narrow(graph, node, readers[0], nodes, constants)
    return verify(replace(graph, nodes=tuple(nodes.values()), constants=constants))


def _narrow(graph: Graph, node: Node, reader: Node, nodes: dict[str, Node], constants: dict[str, Constant]) -> None:
    operands = [constants[name] for name in node.inputs[1:]]
    stored = operands[0].number_format
    if stored.kind != "signed" or stored.bits == 2 or operands[0].storage != RAW:
        # Turned signs would make a code book longer.
        return
    narrower = signed(stored.bits - 1, stored.fraction)
    is_depthwise = isinstance(node.op, DepthwiseConv)
    rows = depthwise_rows(operands[0].values) if is_depthwise else operands[0].values
    signs = np.where(rows.max(axis=1) > narrower.maximum, -1, 1)
    if not narrower.admits(rows * signs[:, None]):
        return
    # Output channels are the last axis of a depthwise convolution's weights and of a bias, the first of a matrix.
    factors = [signs if is_depthwise else signs[:, None], signs]
    values = [operand.values * factor for operand, factor in zip(operands, factors, strict=False)]
    formats = [narrower, *(format_for_range(int(bias.min()), int(bias.max())) for bias in values[1:])]
    for name, value, number_format in zip(node.inputs[1:], values, formats, strict=True):
        constants[name] = Constant(values=value, number_format=number_format)
    assert isinstance(node.op, MatrixVector | DepthwiseConv)
    low, high = accumulator_range(rows * signs[:, None], graph.tensors[node.inputs[0]].number_format, *values[1:])
    accumulator = replace(format_for_range(min(low, -1), high), fraction=node.op.accumulator.fraction)
    nodes[node.name] = replace(node, op=replace(node.op, accumulator=accumulator))
    multiplier = constants[reader.inputs[1]].values * signs
    constants[reader.inputs[1]] = Constant(
        values=multiplier, number_format=format_for_range(int(multiplier.min()), int(multiplier.max()))
    )
