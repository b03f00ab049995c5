"""Pass: words become few bits as early as they can: in front of max pools, and without a ReLU of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from karui.sw.ir import ArgMax, Flatten, Graph, MaxPool, Node, Requantize, verify
from karui.sw.numerics import Overflow, Rounding


def quantize_early(graph: Graph) -> Graph:
    """Move every `Requantize` in front of a max pool or flattening that it alone reads, then drop ReLUs before it.

    A requantization by positive multipliers that saturates is monotone, so the largest word is the word of the largest
    value. A ReLU, which is a `Requantize` that does nothing but saturate at 0, goes where the words of all negative
    values are the word of 0.
    """
    given = graph
    while (rewritten := _swapped(graph) or _fused(graph)) is not None:
        graph = rewritten
    return graph if graph is given else verify(graph)


def _swapped(graph: Graph) -> Graph | None:
    """The graph with one requantization and the pool or flattening before it in the other order."""
    nodes = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        before = nodes.get(node.inputs[0])
        if before is None or not _rises(graph, node) or not _only_read_by(graph, before, node):
            continue
        readers = graph.consumers[node.name]
        # Scores keep their name: they are looked up by it.
        if node.name in graph.outputs or any(isinstance(reader.op, ArgMax) for reader in readers):
            continue
        one_for_all = all(graph.constants[name].values.size == 1 for name in node.inputs[1:])
        if isinstance(before.op, MaxPool) or (isinstance(before.op, Flatten) and one_for_all):
            first = replace(node, inputs=(before.inputs[0], *node.inputs[1:]))
            second = replace(before, inputs=(node.name,))
            # The two take each other's place in the order of nodes.
            changed = {before.name: first, node.name: second}
            for reader in readers:
                inputs = tuple(before.name if name == node.name else name for name in reader.inputs)
                changed[reader.name] = replace(reader, inputs=inputs)
            return _with(graph, changed)
    return None


def _fused(graph: Graph) -> Graph | None:
    """The graph without one ReLU."""
    nodes = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        relu = nodes.get(node.inputs[0])
        if relu is None or not _is_relu(graph, relu) or not _rises(graph, node) or not _only_read_by(graph, relu, node):
            continue
        assert isinstance(node.op, Requantize)
        offset = graph.constants[node.inputs[2]].values
        half = (1 << node.op.shift) >> 1
        if node.op.output.minimum == 0 and bool(np.all((offset + half) >> node.op.shift <= 0)):
            kept = tuple(each for each in graph.nodes if each is not relu)
            fused = replace(node, inputs=(relu.inputs[0], *node.inputs[1:]))
            return _with(replace(graph, nodes=kept), {node.name: fused})
    return None


def _rises(graph: Graph, node: Node) -> bool:
    """Whether a node is a monotone, rising requantization."""
    if not isinstance(node.op, Requantize) or node.op.overflow is not Overflow.SATURATE:
        return False
    return node.op.rounding is Rounding.HALF_UP and bool(np.all(graph.constants[node.inputs[1]].values > 0))


def _is_relu(graph: Graph, node: Node) -> bool:
    """Whether a node yields x where that is positive, else 0."""
    if not _rises(graph, node):
        return False
    assert isinstance(node.op, Requantize)
    multiplier, offset = (graph.constants[name].values for name in node.inputs[1:])
    source = graph.tensors[node.inputs[0]].number_format
    identical = bool(np.all(multiplier == 1)) and not offset.any() and node.op.shift == 0
    return identical and node.op.output.minimum == 0 and node.op.output.maximum >= source.maximum


def _only_read_by(graph: Graph, node: Node, reader: Node) -> bool:
    return node.name not in graph.outputs and [each.name for each in graph.consumers[node.name]] == [reader.name]


def _with(graph: Graph, changed: dict[str, Node]) -> Graph:
    nodes = tuple(changed.get(node.name, node) for node in graph.nodes)
    used = {operand for node in nodes for operand in node.inputs} | set(graph.outputs)
    constants = {name: constant for name, constant in graph.constants.items() if name in used}
    return replace(graph, nodes=nodes, constants=constants)
