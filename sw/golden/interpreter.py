"""The golden model: a graph computed in integers, the standard that the hardware is held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from karui.sw.golden.kernels import compute
from karui.sw.ir import Graph, GraphError

Integers = npt.NDArray[np.int64]

# Elements of the largest edge that a chunk of frames may hold: bounds the memory of unfolded windows.
_CHUNK_ELEMENTS = 1 << 24


def trace(graph: Graph, frames: npt.NDArray[Any]) -> dict[str, Integers]:
    """Every node's output, by name.

    Parameters
    ----------
    graph : Graph
        With one input.
    frames : ndarray, shape (n, *input shape)
        Integers of the input's format.

    Raises
    ------
    GraphError
        If the frames do not fit the input's shape or format.
    """
    tensor = graph.inputs[graph.input_name]
    if frames.shape[1:] != tensor.shape:
        raise GraphError(f"input {graph.input_name}: frames have shape {frames.shape[1:]}, not {tensor.shape}")
    if not tensor.number_format.admits(frames):
        raise GraphError(
            f"input {graph.input_name}: values from {frames.min()} to {frames.max()} are not all words of the format "
            f"{tensor.number_format}"
        )
    edges = {name: torch.from_numpy(constant.values) for name, constant in graph.constants.items()}
    edges[graph.input_name] = torch.from_numpy(frames.astype(np.int64))
    with torch.no_grad():
        for node in graph.nodes:
            edges[node.name] = compute(node.op, *(edges[operand] for operand in node.inputs))
    return {node.name: edges[node.name].numpy() for node in graph.nodes}


def evaluate(graph: Graph, frames: npt.NDArray[Any], *, progress: Callable[[int], None] | None = None) -> Integers:
    """The graph's output, computed in chunks that bound the memory.

    Parameters
    ----------
    graph : Graph
        With one input and one output.
    frames : ndarray, shape (n, *input shape)
        Integers of the input's format.
    progress : callable, optional
        Called with the number of frames done so far.

    Returns
    -------
    ndarray of int64, shape (n, *output shape)
    """
    largest = max(graph.tensors[name].elements for name in (*graph.inputs, *(node.name for node in graph.nodes)))
    chunk = max(1, _CHUNK_ELEMENTS // largest)
    outputs = np.empty((len(frames), *graph.tensors[graph.output_name].shape), dtype=np.int64)
    for start in range(0, len(frames), chunk):
        part = frames[start : start + chunk]
        outputs[start : start + len(part)] = trace(graph, part)[graph.output_name]
        if progress is not None:
            progress(start + len(part))
    return outputs
