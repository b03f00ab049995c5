"""Pass: a channel shuffle disappears into the weights around it.

A shuffle only renames channels. It commutes with everything that treats channels alike, or each by its own constants,
whose order changes instead. It ends where weights are a dense matrix: in its columns behind the shuffle, or in its rows
before it. Grouped products know which channels are neighbours: between two of them the shuffle stays.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from karui.sw.ir import (
    ChannelShuffle,
    DepthwiseConv,
    DoubleRounding,
    Flatten,
    Graph,
    MatrixVector,
    MaxPool,
    Node,
    Requantize,
    SlidingWindow,
    SumPool,
    Threshold,
    verify,
)

Integers = npt.NDArray[np.int64]
Edits = dict[str, npt.NDArray[np.int64]]


def absorb_channel_shuffle(graph: Graph) -> Graph:
    """Remove every shuffle that weights and constants can absorb; the graph computes the same."""
    for name in [node.name for node in graph.nodes if isinstance(node.op, ChannelShuffle)]:
        node = graph.node(name)
        absorbed = _into_readers(graph, node)
        if absorbed is None:
            absorbed = _into_producers(graph, node)
        if absorbed is not None:
            graph = _without(graph, node, absorbed)
    return graph


def shuffled_channels(groups: int, channels: int) -> Integers:
    """For each output channel of a shuffle the input channel that it is."""
    return np.arange(channels, dtype=np.int64).reshape(groups, -1).T.reshape(-1)


def _into_readers(graph: Graph, shuffle: Node) -> Edits | None:
    """Constants by name, as they must be if what reads the shuffle read its operand; None if that is impossible."""
    edits: Edits = {}
    channels = graph.tensors[shuffle.name].shape[-1]
    assert isinstance(shuffle.op, ChannelShuffle)
    # Each edge to go on from, with the operand's element that each of its elements is.
    open_edges = [(shuffle.name, shuffled_channels(shuffle.op.groups, channels))]
    while open_edges:
        edge, source = open_edges.pop()
        if edge in graph.outputs:
            return None
        # Constants move with their element: the one of the element at i goes to where that element was before.
        back = np.argsort(source)
        for reader in graph.consumers[edge]:
            match reader.op:
                case MatrixVector(groups=1):
                    if not _permute(graph, edits, reader.inputs[1:2], back, axis=1):
                        return None
                case SlidingWindow(groups=1) | Flatten():
                    times = graph.tensors[reader.name].shape[-1] // len(source)
                    starts = len(source) * np.arange(times)[:, None]
                    open_edges.append((reader.name, (starts + source).reshape(-1)))
                case _:
                    if not _permute_channelwise(graph, edits, reader, back):
                        return None
                    open_edges.append((reader.name, source))
    return edits


def _into_producers(graph: Graph, shuffle: Node) -> Edits | None:
    """Constants by name, as they must be for the shuffle's operand to come out shuffled already."""
    edits: Edits = {}
    channels = graph.tensors[shuffle.name].shape[-1]
    assert isinstance(shuffle.op, ChannelShuffle)
    source = shuffled_channels(shuffle.op.groups, channels)
    producers = {node.name: node for node in graph.nodes}
    edge = shuffle.inputs[0]
    while True:
        producer = producers.get(edge)
        if producer is None or edge in graph.outputs or len(graph.consumers[edge]) > 1:
            return None
        if isinstance(producer.op, MatrixVector) and producer.op.groups == 1:
            return edits if _permute(graph, edits, producer.inputs[1:], source, axis=0) else None
        if not _permute_channelwise(graph, edits, producer, source):
            return None
        edge = producer.inputs[0]


def _permute_channelwise(graph: Graph, edits: Edits, node: Node, order: Integers) -> bool:
    """Reorder the constants of an operation that treats each channel by itself; False if it is none."""
    if isinstance(graph.tensors[node.name].number_format.fraction, tuple):
        return False
    match node.op:
        case MaxPool() | SumPool():
            return True
        case Threshold() | Requantize() | DoubleRounding():
            return _permute(graph, edits, node.inputs[1:], order, axis=0)
        case DepthwiseConv():
            return _permute(graph, edits, node.inputs[1:2], order, axis=2) and _permute(
                graph, edits, node.inputs[2:], order, axis=0
            )
        case _:
            return False


def _permute(graph: Graph, edits: Edits, names: tuple[str, ...], order: Integers, *, axis: int) -> bool:
    for name in names:
        values = graph.constants[name].values
        if len(graph.consumers[name]) > 1 or name in edits:
            return False
        if values.shape[axis] == len(order):
            edits[name] = values.take(order, axis=axis)
    return True


def _without(graph: Graph, shuffle: Node, edits: Edits) -> Graph:
    constants = dict(graph.constants)
    for name, values in edits.items():
        constants[name] = replace(constants[name], values=values)
    nodes = tuple(
        replace(node, inputs=tuple(shuffle.inputs[0] if edge == shuffle.name else edge for edge in node.inputs))
        for node in graph.nodes
        if node.name != shuffle.name
    )
    return verify(replace(graph, nodes=nodes, constants=constants))
