"""A graph of binary bases with fixed-point weights in their place, for comparisons at equal words and equal rate."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from karui.sw.ir import BinaryBases, Graph, GraphBuilder, Requantize

Floats = npt.NDArray[np.float64]

MULTIPLIER_BITS = 16


def fixed_point_twin(graph: Graph, weights: Mapping[str, Floats], bits: int) -> Graph:
    """Replace every `BinaryBases` by a `MatrixVector` of symmetric weights with a step an output.

    The `Requantize` behind, which makes words of the sums, gets a multiplier an output; windows, pools and words stay
    as they are. Sums that nothing requantizes are compared with one another: they share a step.

    Parameters
    ----------
    graph : Graph
        Of binary bases without groups.
    weights : mapping of str to ndarray, shape (M, K)
        Of each such node, what its bases approximate, in the unit of its sums.
    bits : int
        Of a weight, 2 or more.
    """
    top = (1 << bits - 1) - 1
    build = GraphBuilder(graph.name)
    steps: dict[str, Floats] = {}
    for name, tensor in graph.inputs.items():
        build.input(name, tensor.shape, tensor.number_format)
    for node in graph.nodes:
        operands = {name: graph.constants[name] for name in node.inputs if name in graph.constants}
        source = node.inputs[0]
        if isinstance(node.op, BinaryBases):
            step = np.abs(weights[node.name]).max(axis=1) / top
            if not all(isinstance(reader.op, Requantize) for reader in graph.consumers[node.name]):
                step[:] = step.max()
            steps[node.name] = step
            bias = operands.get(f"{node.name}.bias")
            rounded = None if bias is None else np.rint(bias.values / step)
            build.matrix_vector(node.name, source, np.rint(weights[node.name] / step[:, None]), rounded)
        elif isinstance(node.op, Requantize) and source in steps:
            multiplier, offset = (operands[name].values for name in node.inputs[1:])
            factor = multiplier * steps[source]
            more = MULTIPLIER_BITS - 1 - math.frexp(float(factor.max()))[1]
            build.requantize(
                node.name,
                source,
                np.rint(factor * 2.0**more),
                np.rint(offset * 2.0**more),
                shift=node.op.shift + more,
                output=node.op.output,
            )
        else:
            for name, constant in operands.items():
                build.constant(name, constant.values, constant.number_format)
            build.node(node.name, node.op, *node.inputs)
    return build.finish(*graph.outputs, classes=graph.classes)
