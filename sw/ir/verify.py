"""What makes a graph legal beyond the shapes: run after every pass."""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from karui.sw.ir.bounds import accumulator_range, product_range
from karui.sw.ir.graph import Graph, Node
from karui.sw.ir.ops import MatrixVector, Op, Requantize, Threshold
from karui.sw.ir.tensor import GraphError


def verify(graph: Graph) -> Graph:
    """Check a graph and return it.

    Names are unique; every operand comes from an earlier node, an input or a constant (so there is no cycle); every
    node and constant is used; shapes and formats fit; accumulators are proven wide enough from the actual weights;
    thresholds ascend.

    Raises
    ------
    GraphError
        With one line that names the node.
    """
    names = [*graph.inputs, *graph.constants, *(node.name for node in graph.nodes)]
    for name in names:
        if names.count(name) > 1:
            raise GraphError(f"the name {name!r} is taken by more than one input, constant or node")
    if not graph.outputs:
        raise GraphError(f"graph {graph.name} has no output")
    for name in graph.outputs:
        if name not in graph.tensors:
            raise GraphError(f"output {name!r} is neither an input, a constant nor a node")
    for name, consumers in graph.consumers.items():
        if not consumers and name not in graph.outputs:
            raise GraphError(f"{name!r} is used by no node and is no output")
    for node in graph.nodes:
        try:
            _check(node.op, node, graph)
        except GraphError as error:
            raise GraphError(f"node {node.name}: {error}") from error
    return graph


@singledispatch
def _check(op: Op, node: Node, graph: Graph) -> None:
    """Check what the operands' values, not only their shapes, must satisfy."""


@_check.register
def _(op: MatrixVector, node: Node, graph: Graph) -> None:
    vectors = graph.tensors[node.inputs[0]]
    if node.inputs[1] not in graph.constants:
        raise GraphError(f"the weights {node.inputs[1]!r} are not a constant")
    bias = graph.constants[node.inputs[2]].values if len(node.inputs) == 3 else None
    low, high = accumulator_range(graph.constants[node.inputs[1]].values, vectors.number_format, bias)
    if not op.accumulator.holds_range(low, high):
        raise GraphError(f"sums reach from {low} to {high}, more than the accumulator format {op.accumulator} holds")


@_check.register
def _(op: Threshold, node: Node, graph: Graph) -> None:
    if node.inputs[1] not in graph.constants:
        raise GraphError(f"the thresholds {node.inputs[1]!r} are not a constant")
    steps = np.diff(graph.constants[node.inputs[1]].values, axis=1)
    if steps.size and steps.min() < 0:
        channel = int(np.argwhere(steps < 0)[0, 0])
        raise GraphError(f"the thresholds of channel {channel} do not ascend")


@_check.register
def _(op: Requantize, node: Node, graph: Graph) -> None:
    for operand in node.inputs[1:]:
        if operand not in graph.constants:
            raise GraphError(f"the operand {operand!r} is not a constant")
    multiplier, offset = (graph.constants[name].values for name in node.inputs[1:])
    low, high = product_range(graph.tensors[node.inputs[0]].number_format, multiplier)
    low, high = low + min(0, int(offset.min())), high + max(0, int(offset.max())) + (1 << op.shift)
    if low < -(1 << 62) or high >= 1 << 62:
        raise GraphError(f"scaled values reach from {low} to {high}, more than 63 bits hold")
