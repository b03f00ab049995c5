"""Predictions of capsules that are made anew for each iteration of routing instead of being kept."""

from __future__ import annotations

from dataclasses import replace

from karui.sw.ir.capsule_ops import Repeat, Routing
from karui.sw.ir.graph import Graph, Node
from karui.sw.ir.ops import BinaryBases, DoubleRounding, MatrixVector, Requantize, Threshold
from karui.sw.ir.verify import verify


def with_recomputed_predictions(graph: Graph) -> Graph:
    """The graph with the product in front of each `Routing` run once an iteration, of the same capsules; verified.

    It computes the same words. A `Routing` whose predictions are no product, or are read by something else too, is left
    as it is; so is one whose predictions are made anew already.
    """
    times = {}
    for node in graph.nodes:
        if isinstance(node.op, Routing):
            product = _product(graph, node)
            if product is not None:
                times[product.name] = node.op.iterations
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in times:
            source, *constants = node.inputs
            repeat = Node(name=f"{node.name}.repeated", op=Repeat(times=times[node.name]), inputs=(source,))
            nodes += [repeat, replace(node, inputs=(repeat.name, *constants))]
        else:
            nodes.append(node)
    return verify(replace(graph, nodes=tuple(nodes))) if times else graph


def _product(graph: Graph, routing: Node) -> Node | None:
    """The product of a vector that makes a routing's predictions, and nothing else."""
    named = {node.name: node for node in graph.nodes}
    node = named.get(routing.inputs[0])
    while node is not None and len(graph.consumers[node.name]) == 1 and node.name not in graph.outputs:
        match node.op:
            case MatrixVector() | BinaryBases():
                return node if len(graph.tensors[node.inputs[0]].shape) == 1 else None
            case Requantize() | DoubleRounding() | Threshold():
                node = named.get(node.inputs[0])
            case _:
                return None
    return None
