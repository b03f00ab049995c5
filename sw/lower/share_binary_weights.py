"""Pass: binary weights share vectors of a code book, and thresholds make up for what that changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from karui.sw.compress.cluster import binary_k_means
from karui.sw.golden import compute, trace
from karui.sw.ir import Graph, MatrixVector, Node, Threshold, verify
from karui.sw.numerics import format_for_range

Array = npt.NDArray[Any]

# Input vectors of a layer that its sums are compared on, at most.
SAMPLES = 20_000
# Times that all vectors are chosen anew.
SWEEPS = 4


def share_binary_weights(graph: Graph, images: Array, *, vector: int, codes: int, seed: int = 1) -> Graph:
    """Compose the rows of binary layers of few different vectors each: layers of binary inputs, with one threshold.

    Nothing is trained. Layer by layer the vectors are chosen so that the sums over the images change least, up to a
    constant: the sign of a pixel that is the same in all of them is free. Each threshold then moves to where as many
    sums reach it as in the given network. Other layers stay as they are, and those whose rows the vector does not
    divide.

    Parameters
    ----------
    graph : Graph
        Of a trained network.
    images : ndarray
        Training images, in the graph's layout.
    vector : int
        Neighbouring weights of a row that are replaced together.
    codes : int
        Vectors that a layer's code book has at most.
    seed : int
        Of the clustering.

    Returns
    -------
    Graph
        With other weights and thresholds; storages are left to `with_compressed_storage`.
    """
    given = _edges(graph, images)
    for node in graph.nodes:
        threshold = _threshold_of(graph, node, vector)
        if threshold is None:
            continue
        inputs = _edges(graph, images)[node.inputs[0]]
        weights, thresholds = (graph.constants[name].values for name in (node.inputs[1], threshold.inputs[1]))
        shared = _shared(weights, given[node.inputs[0]], inputs, vector=vector, codes=codes, seed=seed)
        operands = [inputs, shared, *(graph.constants[name].values for name in node.inputs[2:])]
        sums = compute(node.op, *map(torch.from_numpy, operands)).numpy()
        graph = _with_values(graph, node.inputs[1], shared)
        graph = _with_values(graph, threshold.inputs[1], _moved(given[node.name], thresholds, sums))
    verify(graph)
    return graph


def _edges(graph: Graph, images: Array) -> dict[str, Array]:
    return {graph.input_name: images, **trace(graph, images)}


def _threshold_of(graph: Graph, node: Node, vector: int) -> Node | None:
    """The threshold that alone reads a binary layer whose rows the vector divides."""
    if not isinstance(node.op, MatrixVector) or node.inputs[1] not in graph.constants:
        return None
    weights = graph.constants[node.inputs[1]]
    formats = (weights.number_format, graph.tensors[node.inputs[0]].number_format)
    if not all(number_format.is_bipolar for number_format in formats) or weights.values.shape[1] % vector:
        return None
    readers = graph.consumers[node.name]
    if len(readers) != 1 or node.name in graph.outputs or not isinstance((reader := readers[0]).op, Threshold):
        return None
    return reader if graph.constants[reader.inputs[1]].values.shape[1] == 1 else None


def _shared(weights: Array, given: Array, inputs: Array, *, vector: int, codes: int, seed: int) -> Array:
    """Weights of few vectors: a code book by clustering, then the choice that changes the layer's sums least."""
    before, now = _centred(given), _centred(inputs)
    covariance = now.T @ now / len(now)
    # Vectors of inputs that never change would be nothing but zeros to k-means: they count for next to nothing instead.
    importance = np.maximum(covariance.diagonal(), 1e-6)
    repeated = np.tile(importance, len(weights)).reshape(-1, vector)
    vectors = weights.reshape(-1, vector).astype(np.float32)
    clustering = binary_k_means(vectors, codes, importance=repeated, seed=seed)
    shared = clustering.values.reshape(weights.shape)
    wanted = weights @ (before.T @ now / len(now))
    _choose(shared, clustering.code_book, covariance, wanted)
    return shared.astype(weights.dtype)


def _centred(inputs: Array) -> Array:
    """Vectors that a layer multiplies, at most `SAMPLES`, evenly over images and positions, less their mean."""
    vectors = inputs.reshape(-1, inputs.shape[-1])
    samples = vectors[:: -(-len(vectors) // SAMPLES)].astype(np.float32)
    centred: Array = samples - samples.mean(axis=0)
    return centred


def _choose(shared: Array, code_book: Array, covariance: Array, wanted: Array) -> None:
    """Exchange vectors, place after place, for those of the code book that leave sums of the least squared error.

    With the inputs' covariance C the sums of weights b differ from those wanted by ``b C b - 2 b w``, up to a constant,
    w being the covariance of the wanted sums with the inputs. Each exchange is the best of all, given the other vectors
    (coordinate descent).
    """
    length = code_book.shape[1]
    pull = shared @ covariance - wanted
    for place in [*range(0, shared.shape[1], length)] * SWEEPS:
        here = slice(place, place + length)
        among = covariance[here, here]
        own = np.einsum("ki,ij,kj->k", code_book, among, code_book)
        of_others = pull[:, here] - shared[:, here] @ among
        chosen = code_book[(own + 2 * of_others @ code_book.T).argmin(axis=1)]
        pull += (chosen - shared[:, here]) @ covariance[here]
        shared[:, here] = chosen


def _moved(sums_before: Array, thresholds: Array, sums: Array) -> Array:
    """Thresholds that as many sums reach as before; those that all sums or none reached stay."""
    channels = len(thresholds)
    before, after = sums_before.reshape(-1, channels), np.sort(sums.reshape(-1, channels), axis=0)
    passed = (before >= thresholds[:, 0]).sum(axis=0)
    decided = (passed == 0) | (passed == len(before))
    place = np.where(decided, 0, len(before) - passed)
    found = after[place, np.arange(channels)]
    return np.where(decided, thresholds[:, 0], found)[:, None]


def _with_values(graph: Graph, name: str, values: Array) -> Graph:
    constant = graph.constants[name]
    number_format = constant.number_format
    if not number_format.admits(values):
        number_format = format_for_range(int(values.min()), int(values.max()))
    changed = replace(constant, values=values, number_format=number_format)
    return replace(graph, constants={**graph.constants, name: changed})
