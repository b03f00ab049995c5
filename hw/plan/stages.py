"""The stages of a graph: one an engine, joined by streams that may fork and join again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from karui.sw.ir import (
    BinaryBases,
    DoubleRounding,
    Flatten,
    GeneratedLayers,
    Graph,
    GraphError,
    MatrixVector,
    Node,
    Op,
    Repeat,
    Requantize,
    Routing,
    SlidingWindow,
    SquaredLength,
    Squash,
    Tensor,
    Threshold,
)

_PRODUCTS = MatrixVector | BinaryBases


class UnsupportedNode(ValueError):
    """A node that is legal in the graph but has no engine."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One engine and the nodes that it computes.

    Parameters
    ----------
    graph : Graph
        Where the nodes' constants are.
    node : Node
        The operation that gives the stage its name and kind.
    activation : Node or None
        An activation that is computed at the output of an engine of products.
    reads : tuple of str
        The streams that come in, each by the name of what sends it: the graph's input or the last node of a stage.
    granule : int
        What the lanes of the stage's input must divide: the channels of a feature map, the length of a vector, or all
        elements where every element is treated alike; where streams join, what divides it for each of them.
    """

    graph: Graph
    node: Node
    activation: Node | None = None
    reads: tuple[str, ...]
    granule: int

    @property
    def name(self) -> str:
        """Name of the stage's main node."""
        return self.node.name

    @property
    def op(self) -> Op:
        """Operation of the stage's main node."""
        return self.node.op

    @property
    def sources(self) -> tuple[Tensor, ...]:
        """The edges that stream in."""
        return tuple(self.graph.tensors[name] for name in self.node.inputs[: len(self.reads)])

    @property
    def source(self) -> Tensor:
        """The edge that streams in, the first of several."""
        return self.sources[0]

    @property
    def writes(self) -> str:
        """The stream that goes out: the name of the stage's last node."""
        return (self.activation or self.node).name

    @property
    def result(self) -> Tensor:
        """The edge that streams out."""
        return self.graph.tensors[self.writes]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that the stage computes, in order."""
        return (self.node,) if self.activation is None else (self.node, self.activation)

    @property
    def positions(self) -> int:
        """Vectors of a frame: the input's elements without its last axis."""
        return math.prod(self.source.shape[:-1])


def stages(graph: Graph) -> tuple[Stage, ...]:
    """Cut a graph into stages, each after those that it reads from.

    An activation that alone reads a matrix-vector product is computed by its engine. Flatten is an order of the
    stream, not a stage: what reads its edge reads the stream before it.

    Raises
    ------
    GraphError
        If the graph has more than one input or output, or computes nothing between them.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise GraphError(
            f"graph {graph.name} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; a stream "
            "has one of each"
        )
    # What sends the stream of an edge.
    sender = {graph.input_name: graph.input_name}
    pipeline: list[Stage] = []
    fused: set[str] = set()
    for node in graph.nodes:
        if isinstance(node.op, Flatten):
            sender[node.name] = sender[node.inputs[0]]
            continue
        if node.name in fused:
            continue
        activation = _activation(graph, node)
        if activation is not None:
            fused.add(activation.name)
        reads = tuple(sender[name] for name in node.inputs if name not in graph.constants)
        stage = Stage(graph=graph, node=node, activation=activation, reads=reads, granule=_granule(graph, node))
        sender[stage.writes] = stage.writes
        pipeline.append(stage)
    if not pipeline:
        raise GraphError(f"graph {graph.name} computes nothing between its input and its output")
    return tuple(pipeline)


def readers(graph: Graph, pipeline: tuple[Stage, ...]) -> Mapping[str, tuple[tuple[Stage | None, int], ...]]:
    """Who reads each stream, and at which of its inputs; None is the graph's output, always the last.

    Raises
    ------
    GraphError
        If a stage's result is read by nothing.
    """
    found: dict[str, list[tuple[Stage | None, int]]] = {graph.input_name: []}
    found |= {stage.writes: [] for stage in pipeline}
    for stage in pipeline:
        for port, stream in enumerate(stage.reads):
            found[stream].append((stage, port))
    sent = graph.output_name
    while isinstance((node := graph.node(sent)).op, Flatten):
        sent = node.inputs[0]
    found[sent].append((None, 0))
    for stream, ends in found.items():
        if not ends:
            raise GraphError(f"graph {graph.name}: {stream!r} is read by nothing; remove it or make it the output")
    return {stream: tuple(ends) for stream, ends in found.items()}


def _activation(graph: Graph, node: Node) -> Node | None:
    if not isinstance(node.op, _PRODUCTS) or len(graph.consumers[node.name]) != 1:
        return None
    (reader,) = graph.consumers[node.name]
    if node.name in graph.outputs or not isinstance(reader.op, Threshold | Requantize | DoubleRounding):
        return None
    return reader


def _granule(graph: Graph, node: Node) -> int:
    streams = [graph.tensors[name] for name in node.inputs if name not in graph.constants]
    match node.op:
        case Threshold() | Requantize() | DoubleRounding():
            # The same for all channels: lanes may run across positions.
            if all(graph.tensors[name].shape[0] == 1 for name in node.inputs[1:]):
                return streams[0].elements
        case Squash() | SquaredLength() | Routing():
            return node.op.length
        case GeneratedLayers():
            return streams[0].shape[-1]
        case Repeat():
            # What a group of the product that reads it takes.
            groups = [one.op.groups for one in graph.consumers[node.name] if isinstance(one.op, _PRODUCTS)]
            return streams[0].shape[-1] // max(groups, default=1)
        case MatrixVector() | BinaryBases():
            # Behind a sliding window the channels of the map that it cuts from.
            for before in graph.nodes:
                if before.name == node.inputs[0] and isinstance(before.op, SlidingWindow):
                    return graph.tensors[before.inputs[0]].shape[-1]
    return math.gcd(*(tensor.shape[-1] for tensor in streams))
