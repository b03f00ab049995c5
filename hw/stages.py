"""The pipeline of a graph: one stage an engine, in the order of the stream."""

from __future__ import annotations

import math
from dataclasses import dataclass

from karui.sw.ir import (
    ArgMax,
    Flatten,
    Graph,
    GraphError,
    MatrixVector,
    MaxPool,
    Node,
    Requantize,
    SlidingWindow,
    Tensor,
    Threshold,
)

StageOp = SlidingWindow | MatrixVector | Threshold | Requantize | MaxPool | ArgMax


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One engine of the pipeline and the nodes that it computes.

    Parameters
    ----------
    graph : Graph
        Where the nodes' constants are.
    node : Node
        The operation that gives the stage its name and kind.
    activation : Node or None
        A threshold or requantize node computed at a matrix-vector engine's output.
    granule : int
        What the lanes of the stage's input must divide: the channels of a feature map, the length of a vector, or all
        elements where every element is treated alike.
    """

    graph: Graph
    node: Node
    activation: Node | None = None
    granule: int

    @property
    def name(self) -> str:
        """Name of the stage's main node."""
        return self.node.name

    @property
    def op(self) -> StageOp:
        """Operation of the stage's main node."""
        op = self.node.op
        if isinstance(op, Flatten):
            raise TypeError(f"node {self.name}: flatten is an order of the stream, not a stage")
        return op

    @property
    def source(self) -> Tensor:
        """The edge that streams in."""
        return self.graph.tensors[self.node.inputs[0]]

    @property
    def result(self) -> Tensor:
        """The edge that streams out."""
        return self.graph.tensors[(self.activation or self.node).name]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that the stage computes, in order."""
        return (self.node,) if self.activation is None else (self.node, self.activation)

    @property
    def positions(self) -> int:
        """Vectors of a frame: the input's elements without its last axis."""
        return math.prod(self.source.shape[:-1])


def stages(graph: Graph) -> tuple[Stage, ...]:
    """Cut a graph into stages; an activation that alone reads a matrix-vector product is computed by its engine.

    Raises
    ------
    GraphError
        If the graph has more than one input or output, or branches: stages form a single stream.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise GraphError(
            f"graph {graph.name} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; a stream "
            "has one of each"
        )
    pipeline: list[Stage] = []
    edge = graph.input_name
    nodes = iter(graph.nodes)
    pending = next(nodes, None)
    while pending is not None:
        node, pending = pending, next(nodes, None)
        if node.inputs[0] != edge or len(graph.consumers[edge]) != 1:
            readers = ", ".join(reader.name for reader in graph.consumers[edge])
            raise GraphError(
                f"node {node.name}: {edge!r} is read by {readers}; the generator takes a single stream without branches"
            )
        edge = node.name
        if isinstance(node.op, Flatten):
            continue
        activation = None
        if (
            isinstance(node.op, MatrixVector)
            and pending is not None
            and isinstance(pending.op, Threshold | Requantize)
            and pending.inputs[0] == edge
            and len(graph.consumers[edge]) == 1
        ):
            activation, pending = pending, next(nodes, None)
            edge = activation.name
        pipeline.append(Stage(graph=graph, node=node, activation=activation, granule=_granule(graph, node)))
    if edge != graph.output_name:
        raise GraphError(f"output {graph.output_name!r} is not the end of the stream, {edge!r}")
    return tuple(pipeline)


def _granule(graph: Graph, node: Node) -> int:
    source = graph.tensors[node.inputs[0]]
    match node.op:
        case Threshold() | Requantize() if all(graph.tensors[name].shape[0] == 1 for name in node.inputs[1:]):
            # The same for all channels: lanes may run across positions.
            return source.elements
        case MatrixVector():
            # Behind a sliding window the channels of the map that it cuts from.
            for before in graph.nodes:
                if before.name == node.inputs[0] and isinstance(before.op, SlidingWindow):
                    return graph.tensors[before.inputs[0]].shape[-1]
    return source.shape[-1]
