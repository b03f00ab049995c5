"""The forms in which a container may keep the binary weights of a layer without loss, and the one of fewest bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.coding.container import Container, pack_container
from karui.sw.coding.tensors import LARGEST_BOOK, RawTensor, SharedTensor, Tensor
from karui.sw.golden import trace
from karui.sw.ir import Constant, Graph, MatrixVector, Node, SlidingWindow, Threshold
from karui.sw.numerics import BIPOLAR

Array = npt.NDArray[Any]

LONGEST = 12
"""Longest vector whose every value a code book may hold."""
FORMS = ("in order", "rows", "kernels", "columns")


def binary_layers(graph: Graph) -> dict[str, Node]:
    """The products with binary weights."""
    return {
        node.name: node
        for node in graph.nodes
        if isinstance(node.op, MatrixVector) and graph.constants[node.inputs[1]].number_format.is_bipolar
    }


def smallest_file(graph: Graph) -> tuple[bytes, dict[str, tuple[str, int]]]:
    """The container of all binary weights, and for each layer its form and its bits in the file.

    The form is ``in order``, ``rows`` (8 neighbours of a row share a Huffman code's word), ``kernels`` (the taps of an
    input channel do) or ``columns`` (all outputs' weights of an input do).
    """
    chosen: dict[str, Tensor] = {}
    forms: dict[str, tuple[str, int]] = {}
    for name, node in binary_layers(graph).items():
        found = {form: tensor for form in FORMS if (tensor := _tensor(graph, node, form)) is not None}
        bits = {form: pack_container({}, [tensor])[1].by_tensor[name] for form, tensor in found.items()}
        best = min(bits, key=lambda form: bits[form])
        chosen[name], forms[name] = found[best], (best, bits[best])
    data, _ = pack_container({name: form for name, (form, _) in forms.items()}, list(chosen.values()))
    return data, forms


def weights_of_file(container: Container, graph: Graph) -> Mapping[str, Array]:
    """The weights by layer, as the graph has them."""
    return {
        name: _from_form(container[name].values, graph, node, str(container.metadata[name]))
        for name, node in binary_layers(graph).items()
    }


def with_free_signs(graph: Graph, images: Array) -> tuple[Graph, str, int]:
    """The network whose first binary layer has +1 wherever an input is the same in all images; their results stay.

    Returns
    -------
    Graph
        With those weights, and thresholds that make up for them.
    str
        The layer.
    int
        Its inputs that never change.
    """
    node = next(iter(binary_layers(graph).values()))
    (reader,) = graph.consumers[node.name]
    assert isinstance(reader.op, Threshold)
    inputs = trace(graph, images)[node.inputs[0]].reshape(-1, graph.tensors[node.inputs[0]].shape[-1])
    constant = (inputs == inputs[0]).all(axis=0)
    weights, thresholds = (graph.constants[name] for name in (node.inputs[1], reader.inputs[1]))
    freed = np.where(constant, 1, weights.values)
    moved = thresholds.values + ((freed - weights.values) @ (inputs[0] * constant))[:, None]
    changed: dict[str, Constant] = {
        node.inputs[1]: replace(weights, values=freed),
        reader.inputs[1]: replace(thresholds, values=moved, number_format=graph.tensors[node.name].number_format),
    }
    return replace(graph, constants={**graph.constants, **changed}), node.name, int(constant.sum())


def _tensor(graph: Graph, node: Node, form: str) -> Tensor | None:
    weights = graph.constants[node.inputs[1]].values
    if form == "in order":
        return RawTensor(name=node.name, values=weights, number_format=BIPOLAR)
    outputs, inputs = weights.shape
    match form:
        case "rows" if inputs % 8 == 0:
            vector, ordered = 8, weights
        case "kernels" if 1 < (vector := _taps(graph, node)) <= LONGEST:
            ordered = weights.reshape(outputs, vector, -1).transpose(0, 2, 1)
        case "columns" if outputs <= LONGEST:
            vector, ordered = outputs, weights.T
        case _:
            return None
    book, codes = np.unique(ordered.reshape(-1, vector), axis=0, return_inverse=True)
    assert len(book) <= LARGEST_BOOK
    return SharedTensor(
        name=node.name,
        shape=ordered.shape,
        vector=vector,
        code_book=book,
        number_format=BIPOLAR,
        codes=codes.reshape(-1) + 1,
    )


def _from_form(values: Array, graph: Graph, node: Node, form: str) -> Array:
    match form:
        case "kernels":
            return values.transpose(0, 2, 1).reshape(len(values), -1)
        case "columns":
            return values.T
        case _:
            return values


def _taps(graph: Graph, node: Node) -> int:
    """Taps of the window that a layer multiplies; 1 of a layer without."""
    for before in graph.nodes:
        if before.name == node.inputs[0] and isinstance(before.op, SlidingWindow):
            return math.prod(before.op.kernel)
    return 1
