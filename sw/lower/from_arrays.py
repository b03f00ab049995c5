"""Binary networks that come as arrays: the integer graph from weight matrices and thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.ir import Graph, GraphBuilder
from karui.sw.numerics import BIPOLAR, unsigned

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]


def thresholds_on_sums(matches: Array, inputs: int) -> Array:
    """Thresholds on sums from thresholds on matching bits.

    A neuron that fires when *more than* t of its K input bits equal their weight bits has matches p and mismatches
    K - p, so its sum of -1 and +1 is 2p - K: it fires when the sum is 2(t + 1) - K or more.

    Parameters
    ----------
    matches : ndarray of int
        t of each neuron.
    inputs : int
        K, padding included.
    """
    return 2 * (np.asarray(matches, dtype=np.int64) + 1) - inputs


def binary_mlp_from_arrays(
    weights: Sequence[Array],
    thresholds: Sequence[Array],
    *,
    name: str,
    bias: Array | None = None,
    input_shape: Sequence[int] | None = None,
    pixel_threshold: int | None = None,
    arg_max: bool = True,
    classes: Sequence[str] = (),
) -> Graph:
    """A multilayer perceptron with binary weights and activations.

    Every layer computes ``sum(weights * inputs)`` over -1 and +1 and yields +1 where the sum is its threshold or more,
    else -1. A last layer without thresholds is a classifier: the graph ends in the arg max of its sums plus bias.

    Parameters
    ----------
    weights : sequence of ndarray, shape (outputs, inputs)
        -1 and +1, one matrix a layer. The first may have more columns than the input has elements: they see -1, as
        in networks that were padded to a round size; the constant moves into the threshold.
    thresholds : sequence of ndarray, shape (outputs,)
        Integers, one array a layer, or one fewer for a classifier.
    name : str
        Of the graph.
    bias : ndarray, shape (outputs,), optional
        Integers added to a classifier's sums.
    input_shape : sequence of int, optional
        (H, W, C) or (K,); the first matrix's columns unless given.
    pixel_threshold : int, optional
        The input is 8-bit pixels, those from here upwards are +1; without it the input is -1 and +1.
    arg_max : bool
        Whether a classifier ends in the arg max; without it the sums plus bias themselves come out.
    classes : sequence of str
        Names of the classes, in order.

    Raises
    ------
    ValueError
        If the arrays do not fit each other; the message names the layer.
    """
    if len(weights) - len(thresholds) not in (0, 1):
        raise ValueError(
            f"{len(weights)} layers take {len(weights)} arrays of thresholds, or {len(weights) - 1} for a classifier, "
            f"not {len(thresholds)}"
        )
    if bias is not None and len(thresholds) == len(weights):
        raise ValueError("a bias needs a classifier: leave out the thresholds of the last layer")
    shape = tuple(input_shape or weights[0].shape[1:])
    build = GraphBuilder(name)
    edge = build.input("input", shape, BIPOLAR if pixel_threshold is None else unsigned(8))
    if len(shape) > 1:
        edge = build.flatten("flatten", edge)
    if pixel_threshold is not None:
        edge = build.threshold("binarize", edge, np.array([[pixel_threshold]]), BIPOLAR)
    matrices = [_integers(matrix, number, "weights") for number, matrix in enumerate(weights, start=1)]
    steps = [_integers(step, number, "thresholds") for number, step in enumerate(thresholds, start=1)]
    for number, matrix in enumerate(matrices, start=1):
        if not np.all(np.abs(matrix) == 1):
            raise ValueError(f"layer {number}: the weights must be -1 and +1; unpack bits b as 2 b - 1")
    matrices[0], padding = np.split(matrices[0], [build.tensor(edge).elements], axis=1)
    constant = -padding.sum(axis=1)
    for number, (matrix, step) in enumerate(zip(matrices, steps, strict=False), start=1):
        if step.shape != (len(matrix),):
            raise ValueError(f"layer {number}: {len(matrix)} outputs need as many thresholds, not shape {step.shape}")
        edge = build.matrix_vector(f"dense{number}", edge, matrix)
        edge = build.threshold(f"dense{number}.threshold", edge, (step - constant)[:, None], BIPOLAR)
        constant = np.int64(0)
    if len(steps) < len(matrices):
        scores = np.zeros(len(matrices[-1])) if bias is None else bias
        scores = _integers(scores, len(matrices), "biases") + constant
        edge = build.matrix_vector(f"dense{len(matrices)}", edge, matrices[-1], scores if scores.any() else None)
        if arg_max:
            edge = build.arg_max("class", edge)
    return build.finish(edge, classes=classes)


def _integers(values: Array, number: int, what: str) -> Integers:
    integers = np.asarray(values).astype(np.int64)
    if not np.array_equal(integers, values):
        raise ValueError(f"layer {number}: the {what} must be integers; round them first")
    return integers
