"""What makes a graph legal beyond the shapes: run after every pass."""

from __future__ import annotations

from functools import singledispatch

import numpy as np
import numpy.typing as npt

from karui.sw.ir.bounds import accumulator_range, depthwise_rows, effective_weights, product_range
from karui.sw.ir.capsule_ops import Repeat, Routing, SquaredLength, Squash
from karui.sw.ir.complexity_bound import check_values
from karui.sw.ir.complexity_op import Complexity, ComplexityTables
from karui.sw.ir.generated_bounds import convolution_range, generator_ranges
from karui.sw.ir.graph import Graph, Node
from karui.sw.ir.ops import (
    Add,
    BinaryBases,
    Concat,
    DepthwiseConv,
    DoubleRounding,
    Gather,
    MatrixVector,
    MaxUnpool,
    Op,
    Requantize,
    Threshold,
    WalshHadamard,
)
from karui.sw.ir.puppet_ops import STATE, GeneratedLayers
from karui.sw.ir.storage import LARGEST_ALPHABET, RAW, Huffman, Shared, Sparse
from karui.sw.ir.tensor import GraphError
from karui.sw.numerics import TABLE_FRACTION, NumberFormat, signed

_INT32 = signed(32)


def verify(graph: Graph) -> Graph:
    """Check a graph and return it.

    Names are unique; every operand comes from an earlier node, an input or a constant (so there is no cycle); every
    node and constant is used; shapes and formats fit; accumulators are proven wide enough from the actual weights;
    thresholds ascend; storage fits what it stores.

    Raises
    ------
    GraphError
        With one line that names the node.
    """
    names = [*graph.inputs, *graph.constants, *(node.name for node in graph.nodes)]
    for name in names:
        if names.count(name) > 1:
            raise GraphError(f"the name {name!r} is taken by more than one input, constant or node")
    if not graph.outputs:
        raise GraphError(f"graph {graph.name} has no output")
    for name in graph.outputs:
        if name not in graph.tensors:
            raise GraphError(f"output {name!r} is neither an input, a constant nor a node")
    for name, consumers in graph.consumers.items():
        if not consumers and name not in graph.outputs:
            raise GraphError(f"{name!r} is used by no node and is no output")
    for node in graph.nodes:
        try:
            _check(node.op, node, graph)
            _check_storage(node, graph)
        except GraphError as error:
            raise GraphError(f"node {node.name}: {error}") from error
    return graph


@singledispatch
def _check(op: Op, node: Node, graph: Graph) -> None:
    """Check what the operands' values, not only their shapes, must satisfy."""


@_check.register
def _(op: MatrixVector, node: Node, graph: Graph) -> None:
    weights, *bias = _constants(node, graph, "weights", "bias")
    _check_accumulator(op.accumulator, weights, graph.tensors[node.inputs[0]].number_format, *bias)


@_check.register
def _(op: BinaryBases, node: Node, graph: Graph) -> None:
    bases, coefficients, *bias = _constants(node, graph, "bases", "coefficients", "bias")
    rows = effective_weights(bases, coefficients)
    _check_accumulator(op.accumulator, rows, graph.tensors[node.inputs[0]].number_format, *bias)


@_check.register
def _(op: DepthwiseConv, node: Node, graph: Graph) -> None:
    weights, *bias = _constants(node, graph, "weights", "bias")
    _check_accumulator(op.accumulator, depthwise_rows(weights), graph.tensors[node.inputs[0]].number_format, *bias)


@_check.register
def _(op: Threshold, node: Node, graph: Graph) -> None:
    (thresholds,) = _constants(node, graph, "thresholds")
    steps = np.diff(thresholds, axis=1)
    if steps.size and steps.min() < 0:
        channel = int(np.argwhere(steps < 0)[0, 0])
        raise GraphError(f"the thresholds of channel {channel} do not ascend")


@_check.register
def _(op: Requantize, node: Node, graph: Graph) -> None:
    multiplier, offset = _constants(node, graph, "multipliers", "offsets")
    low, high = product_range(graph.tensors[node.inputs[0]].number_format, multiplier)
    low, high = low + min(0, int(offset.min())), high + max(0, int(offset.max())) + (1 << op.shift)
    if low < -(1 << 62) or high >= 1 << 62:
        raise GraphError(f"scaled values reach from {low} to {high}, more than 63 bits hold")


@_check.register
def _(op: DoubleRounding, node: Node, graph: Graph) -> None:
    multiplier, exponent = _constants(node, graph, "multipliers", "exponents")
    for what, values, low, high in (("multipliers", multiplier, 0, _INT32.maximum), ("exponents", exponent, -31, 31)):
        if values.min() < low or values.max() > high:
            raise GraphError(f"the {what} are {low} to {high}, not {values.min()} to {values.max()}")
    source = graph.tensors[node.inputs[0]].number_format
    left = max(0, int(exponent.max()))
    low, high = source.minimum << left, source.maximum << left
    if not _INT32.holds_range(low, high):
        raise GraphError(f"values shifted left by {left} reach from {low} to {high}, more than 32 bits hold")


@_check.register
def _(op: Gather, node: Node, graph: Graph) -> None:
    _check_activations(op, node.inputs[:1], graph)
    (indices,) = _constants(node, graph, "indices")
    source = graph.tensors[node.inputs[0]]
    if indices.min() < -1 or indices.max() >= source.shape[-1]:
        raise GraphError(f"indices are -1 to {source.shape[-1] - 1}, not {indices.min()} to {indices.max()}")
    if source.number_format.is_bipolar and indices.min() < 0:
        raise GraphError("bipolar words have no zero to stand at an index of -1")


@_check.register
def _(op: Squash, node: Node, graph: Graph) -> None:
    _check_activations(op, node.inputs[:1], graph)
    _check_tables(node, graph, gains=node.inputs[1])


@_check.register
def _(op: Routing, node: Node, graph: Graph) -> None:
    _check_activations(op, node.inputs[:1], graph)
    _, gains, powers, reciprocals = node.inputs
    _check_tables(node, graph, gains=gains, powers=powers, reciprocals=reciprocals)


@_check.register
def _(op: Complexity, node: Node, graph: Graph) -> None:
    _check_activations(op, node.inputs[:1], graph)
    tables = ComplexityTables(*_constants(node, graph, "rows", "columns", "growth", "steps"))
    check_values(op, tables)


@_check.register
def _(op: GeneratedLayers, node: Node, graph: Graph) -> None:
    _check_activations(op, node.inputs[:2], graph)
    feature_map = graph.tensors[node.inputs[0]]
    operands = dict(zip(op.constants(feature_map.shape[-1]), node.inputs[2:], strict=True))
    for name, operand in operands.items():
        if operand not in graph.constants:
            raise GraphError(f"the {name} {operand!r} are not a constant")
    constants = {name: graph.constants[operand].values for name, operand in operands.items()}
    for name, values in constants.items():
        if name != "offsets" and not STATE.holds_range(int(values.min()), int(values.max())):
            raise GraphError(f"the {name} are words of {STATE}, not {values.min()} to {values.max()}")
    low, high = convolution_range(feature_map.shape[-1], feature_map.number_format)
    ranges = generator_ranges(op.generator, constants) | {"convolution": (low, high)}
    if not op.accumulator.holds_range(low, high):
        raise GraphError(f"sums reach from {low} to {high}, more than the accumulator format {op.accumulator} holds")
    scaled = product_range(op.accumulator, constants["multipliers"])
    ranges["scaled"] = scaled[0] + int(constants["offsets"].min()), scaled[1] + int(constants["offsets"].max())
    for name, ends in ranges.items():
        if max(-ends[0], ends[1]) >= 1 << 62:
            raise GraphError(f"the {name} sums reach from {ends[0]} to {ends[1]}, more than 62 bits hold")


@_check.register(Add)
@_check.register(Concat)
@_check.register(MaxUnpool)
@_check.register(Repeat)
@_check.register(SquaredLength)
@_check.register(WalshHadamard)
def _(op: Op, node: Node, graph: Graph) -> None:
    _check_activations(op, node.inputs, graph)


def _check_tables(node: Node, graph: Graph, **tables: str) -> None:
    """Gains, powers and reciprocals are factors of 0 to 1; of the last two none is so small that a softmax is 0 / 0."""
    _constants(node, graph, *tables)
    one = 1 << TABLE_FRACTION
    for what, name in tables.items():
        values, least = graph.constants[name].values, 0 if what == "gains" else 1
        if values.min() < least or values.max() > one:
            raise GraphError(f"{what} are {least} to {one}, not {values.min()} to {values.max()}")


def _check_activations(op: Op, names: tuple[str, ...], graph: Graph) -> None:
    for name in names:
        if name in graph.constants:
            raise GraphError(f"the operand {name!r} is a constant; {type(op).__name__} takes activations")


def _constants(node: Node, graph: Graph, *names: str) -> list[npt.NDArray[np.int64]]:
    """Values of the operands behind the first."""
    for what, operand in zip(names, node.inputs[1:], strict=False):
        if operand not in graph.constants:
            raise GraphError(f"the {what} {operand!r} are not a constant")
    return [graph.constants[operand].values for operand in node.inputs[1:]]


def _check_storage(node: Node, graph: Graph) -> None:
    """Weights of matrix-vector products alone may be stored compressed."""
    for position, name in enumerate(node.inputs):
        constant = graph.constants.get(name)
        if constant is None or constant.storage == RAW:
            continue
        kind = type(constant.storage).__name__
        if not isinstance(node.op, MatrixVector) or position != 1:
            raise GraphError(
                f"the constant {name!r} has storage {kind}; only weights of a MatrixVector have other than Raw"
            )
        columns, non_zero = constant.values.shape[1], np.unique(constant.values[constant.values != 0])
        match constant.storage:
            case Shared(vector=vector):
                if columns % vector:
                    raise GraphError(f"the weights {name!r} share vectors of {vector}, which do not divide {columns}")
                continue
            case Sparse() | Huffman():
                if constant.number_format.is_bipolar or not non_zero.size:
                    raise GraphError(
                        f"the weights {name!r} have no zeros to leave out, or nothing else: store them raw"
                    )
                if node.op.groups != 1:
                    raise GraphError(f"the weights {name!r} are of {node.op.groups} groups; {kind} storage is of one")
                if 1 << constant.storage.gap_bits > columns:
                    raise GraphError(
                        f"the weights {name!r} have {columns} columns; gaps of {constant.storage.gap_bits} bits would "
                        f"skip whole rows: use {columns.bit_length() - 1} bits at most"
                    )
        if isinstance(constant.storage, Huffman):
            symbols = max(non_zero.size + 1, 1 << constant.storage.gap_bits)
            if symbols > min(LARGEST_ALPHABET, 1 << constant.storage.max_length):
                raise GraphError(
                    f"the weights {name!r} have {symbols} symbols, more than a code of {LARGEST_ALPHABET} symbols and "
                    f"{constant.storage.max_length} bits has: store them Sparse, or share weights"
                )


def _check_accumulator(
    accumulator: NumberFormat,
    rows: npt.NDArray[np.int64],
    inputs: NumberFormat,
    bias: npt.NDArray[np.int64] | None = None,
) -> None:
    low, high = accumulator_range(rows, inputs, bias)
    if not accumulator.holds_range(low, high):
        raise GraphError(f"sums reach from {low} to {high}, more than the accumulator format {accumulator} holds")
