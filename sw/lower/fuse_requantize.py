"""Pass: an exact multiplication moves into the requantization behind it, which then has both factors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from karui.sw.ir import Constant, Graph, Node, Requantize, product_range, verify
from karui.sw.numerics import format_for_range


def fuse_requantize(graph: Graph) -> Graph:
    """Fuse every `Requantize` that only multiplies and adds, exactly, with the `Requantize` that alone reads it.

    ``round(((x * m + o) * n + p) / 2**s)`` is ``round((x * (m * n) + (o * n + p)) / 2**s)`` as long as the first one
    neither shifts nor saturates.
    """
    nodes: dict[str, Node] = {node.name: node for node in graph.nodes}
    constants = dict(graph.constants)
    for node in graph.nodes:
        first = nodes.get(node.inputs[0])
        if first is None or not isinstance(node.op, Requantize) or not _is_exact(graph, first):
            continue
        if first.name in graph.outputs or len(graph.consumers[first.name]) != 1:
            continue
        (multiplier, offset), (factor, addend) = (
            [constants[name].values for name in each.inputs[1:]] for each in (first, node)
        )
        operands = {
            f"{node.name}.multiplier": multiplier * factor,
            f"{node.name}.offset": offset * factor + addend,
        }
        for name, values in operands.items():
            element = format_for_range(int(values.min()), int(values.max()))
            constants[name] = Constant(values=values.astype(np.int64), number_format=element)
        nodes[node.name] = replace(node, inputs=(first.inputs[0], *operands))
        del nodes[first.name]
    used = {operand for node in nodes.values() for operand in node.inputs} | set(graph.outputs)
    kept = {name: constant for name, constant in constants.items() if name in used}
    return verify(replace(graph, nodes=tuple(nodes.values()), constants=kept))


def _is_exact(graph: Graph, node: Node) -> bool:
    """Whether a node is a `Requantize` that yields ``x * multiplier + offset`` of every x."""
    if not isinstance(node.op, Requantize) or node.op.shift:
        return False
    multiplier, offset = (graph.constants[name].values for name in node.inputs[1:])
    low, high = product_range(graph.tensors[node.inputs[0]].number_format, multiplier)
    return node.op.output.holds_range(low + int(offset.min()), high + int(offset.max()))
