"""Build a graph from arrays, one operation a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.ir.bounds import accumulator_range, depthwise_rows, effective_weights
from karui.sw.ir.capsule_ops import SquaredLength, routing_of, squash_of
from karui.sw.ir.complexity_op import COMPLEXITY_FRACTION, TWIDDLE_FRACTION, complexity_of
from karui.sw.ir.generated_bounds import convolution_range
from karui.sw.ir.graph import Constant, Graph, Node
from karui.sw.ir.infer import infer
from karui.sw.ir.ops import (
    Add,
    ArgMax,
    BinaryBases,
    ChannelShuffle,
    Concat,
    DepthwiseConv,
    DoubleRounding,
    Flatten,
    Gather,
    MatrixVector,
    MaxPool,
    MaxUnpool,
    Op,
    Requantize,
    SlidingWindow,
    SumPool,
    Threshold,
    WalshHadamard,
)
from karui.sw.ir.puppet_ops import GeneratedLayers, Generator
from karui.sw.ir.storage import RAW, Storage
from karui.sw.ir.tensor import GraphError, Tensor
from karui.sw.ir.verify import verify
from karui.sw.numerics import (
    BIPOLAR,
    INDEX_BITS,
    TABLE_FRACTION,
    NumberFormat,
    Overflow,
    Rounding,
    format_for_range,
    negative_powers,
    reciprocals,
    signed,
    squash_gains,
    unsigned,
)

Array = npt.NDArray[Any]

# Until the range of the sums is known.
_WIDEST = signed(64)


class GraphBuilder:
    """Collects nodes; every method returns the name of the edge that it made.

    Parameters
    ----------
    name : str
        Of the network.

    Examples
    --------
    >>> build = GraphBuilder("tiny")
    >>> bits = build.input("bits", (4,), BIPOLAR)
    >>> sums = build.matrix_vector("fc", bits, np.array([[1, -1, 1, 1], [-1, -1, 1, -1]]))
    >>> graph = build.finish(build.threshold("fire", sums, np.array([[0], [2]]), BIPOLAR))
    >>> str(graph.tensors["fire"])
    '2 bipolar'
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._inputs: dict[str, Tensor] = {}
        self._constants: dict[str, Constant] = {}
        self._nodes: list[Node] = []
        self._tensors: dict[str, Tensor] = {}

    def tensor(self, edge: str) -> Tensor:
        """Shape and format of an edge made so far."""
        return self._tensors[edge]

    def input(self, name: str, shape: Sequence[int], number_format: NumberFormat) -> str:
        """Add an input; feature maps are (H, W, C)."""
        self._inputs[name] = self._tensors[name] = Tensor(shape=tuple(shape), number_format=number_format)
        return name

    def constant(
        self, name: str, values: Array, number_format: NumberFormat | None = None, *, storage: Storage = RAW
    ) -> str:
        """Add a constant; without a format it gets the narrowest that holds the values."""
        integers = np.asarray(values).astype(np.int64)
        if not np.array_equal(integers, values):
            raise ValueError(f"constant {name!r} has values that are not integers")
        if number_format is None:
            number_format = format_for_range(int(integers.min()), int(integers.max()))
        self._constants[name] = Constant(values=integers, number_format=number_format, storage=storage)
        self._tensors[name] = self._constants[name].tensor
        return name

    def node(self, name: str, op: Op, *inputs: str) -> str:
        """Add a node of any operation on edges made before."""
        self._tensors[name] = infer(op, *(self._tensors[edge] for edge in inputs))
        self._nodes.append(Node(name=name, op=op, inputs=inputs))
        return name

    def sliding_window(
        self,
        name: str,
        edge: str,
        kernel: tuple[int, int],
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        pad_value: int | None = None,
        groups: int = 1,
    ) -> str:
        """Add a `SlidingWindow`."""
        op = SlidingWindow(kernel=kernel, stride=stride, padding=padding, pad_value=pad_value, groups=groups)
        return self.node(name, op, edge)

    def matrix_vector(
        self,
        name: str,
        edge: str,
        weights: Array,
        bias: Array | None = None,
        *,
        groups: int = 1,
        storage: Storage = RAW,
    ) -> str:
        """Add a `MatrixVector` with the narrowest signed accumulator that the weights prove sufficient.

        Weights (M, K / groups) that are all -1 or +1 are stored as bits.
        """
        operands = self._weights_and_bias(name, weights, bias, storage)
        op = MatrixVector(accumulator=_WIDEST, groups=groups)
        return self._summed(name, op, edge, operands, self._constants[operands[0]].values)

    def binary_bases(
        self, name: str, edge: str, bases: Array, coefficients: Array, bias: Array | None = None, *, groups: int = 1
    ) -> str:
        """Add a `BinaryBases` with the narrowest signed accumulator that its constants prove sufficient."""
        operands = [self.constant(f"{name}.bases", bases, BIPOLAR)]
        operands.append(self.constant(f"{name}.coefficients", coefficients))
        if bias is not None:
            operands.append(self.constant(f"{name}.bias", bias))
        op = BinaryBases(accumulator=_WIDEST, groups=groups)
        infer(op, *(self._tensors[operand] for operand in (edge, *operands)))
        rows = effective_weights(*(self._constants[operand].values for operand in operands[:2]))
        return self._summed(name, op, edge, operands, rows)

    def depthwise_conv(
        self,
        name: str,
        edge: str,
        weights: Array,
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        pad_value: int | None = None,
        bias: Array | None = None,
    ) -> str:
        """Add a `DepthwiseConv` of weights (KH, KW, C), stored and summed as by `matrix_vector`."""
        operands = self._weights_and_bias(name, weights, bias)
        op = DepthwiseConv(
            kernel=(weights.shape[0], weights.shape[1]),
            stride=stride,
            padding=padding,
            pad_value=pad_value,
            accumulator=_WIDEST,
        )
        return self._summed(name, op, edge, operands, depthwise_rows(self._constants[operands[0]].values))

    def threshold(self, name: str, edge: str, thresholds: Array, output: NumberFormat) -> str:
        """Add a `Threshold`; thresholds of shape (channels or 1, levels - 1), ascending."""
        return self.node(name, Threshold(output=output), edge, self.constant(f"{name}.thresholds", thresholds))

    def requantize(
        self,
        name: str,
        edge: str,
        multiplier: Array,
        offset: Array,
        *,
        shift: int,
        output: NumberFormat,
        rounding: Rounding = Rounding.HALF_UP,
        overflow: Overflow = Overflow.SATURATE,
    ) -> str:
        """Add a `Requantize` with one multiplier and offset a channel, or one for all."""
        return self.node(
            name,
            Requantize(shift=shift, rounding=rounding, overflow=overflow, output=output),
            edge,
            self.constant(f"{name}.multiplier", multiplier),
            self.constant(f"{name}.offset", offset),
        )

    def double_rounding(
        self,
        name: str,
        edge: str,
        multipliers: Array,
        exponents: Array,
        *,
        output: NumberFormat,
        zero_point: int = 0,
        minimum: int | None = None,
        maximum: int | None = None,
    ) -> str:
        """Add a `DoubleRounding`; the limits are the output format's unless given."""
        op = DoubleRounding(
            output=output,
            zero_point=zero_point,
            minimum=output.minimum if minimum is None else minimum,
            maximum=output.maximum if maximum is None else maximum,
        )
        return self.node(
            name,
            op,
            edge,
            self.constant(f"{name}.multipliers", multipliers),
            self.constant(f"{name}.exponents", exponents),
        )

    def max_pool(
        self,
        name: str,
        edge: str,
        kernel: tuple[int, int],
        stride: tuple[int, int] | None = None,
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> str:
        """Add a `MaxPool`; the stride is the kernel unless given."""
        return self.node(name, MaxPool(kernel=kernel, stride=stride or kernel, padding=padding), edge)

    def max_unpool(self, name: str, edge: str, places: str, kernel: tuple[int, int]) -> str:
        """Add a `MaxUnpool` of elements to the places of the maxima of another map."""
        return self.node(name, MaxUnpool(kernel=kernel), edge, places)

    def sum_pool(
        self,
        name: str,
        edge: str,
        kernel: tuple[int, int],
        stride: tuple[int, int] | None = None,
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> str:
        """Add a `SumPool`; the stride is the kernel unless given."""
        return self.node(name, SumPool(kernel=kernel, stride=stride or kernel, padding=padding), edge)

    def add(self, name: str, one: str, other: str, shifts: tuple[int, int] = (0, 0)) -> str:
        """Add an `Add`."""
        return self.node(name, Add(shifts=shifts), one, other)

    def concat(self, name: str, *edges: str) -> str:
        """Add a `Concat`."""
        return self.node(name, Concat(), *edges)

    def channel_shuffle(self, name: str, edge: str, groups: int) -> str:
        """Add a `ChannelShuffle`."""
        return self.node(name, ChannelShuffle(groups=groups), edge)

    def walsh_hadamard(
        self,
        name: str,
        edge: str,
        size: int,
        shifts: tuple[int, ...] | None = None,
        rounding: Rounding = Rounding.HALF_UP,
    ) -> str:
        """Add a `WalshHadamard`."""
        return self.node(name, WalshHadamard(size=size, shifts=shifts, rounding=rounding), edge)

    def gather(self, name: str, edge: str, indices: Array) -> str:
        """Add a `Gather`; an index of -1 is a zero."""
        return self.node(name, Gather(), edge, self.constant(f"{name}.indices", indices))

    def squash(self, name: str, edge: str, length: int, output: NumberFormat, *, index_bits: int = INDEX_BITS) -> str:
        """Add a `Squash` of vectors, whose format says by its fraction how long a vector of length 1 is."""
        words = self._tensors[edge].number_format
        gains = self._table(f"{name}.gains", squash_gains(words, length, index_bits=index_bits))
        return self.node(name, squash_of(words, length, output), edge, gains)

    def squared_length(self, name: str, edge: str, length: int) -> str:
        """Add a `SquaredLength`."""
        return self.node(name, SquaredLength(length=length), edge)

    def routing(
        self,
        name: str,
        edge: str,
        *,
        outputs: int,
        length: int,
        iterations: int,
        sums: NumberFormat,
        output: NumberFormat,
        logits: NumberFormat,
        index_bits: int = INDEX_BITS,
    ) -> str:
        """Add a `Routing` of predictions (I * outputs * length); all shifts follow from the formats' fractions."""
        predictions = self._tensors[edge].number_format
        op = routing_of(
            predictions,
            outputs=outputs,
            length=length,
            iterations=iterations,
            sums=sums,
            output=output,
            logits=logits,
        )
        return self.node(
            name,
            op,
            edge,
            self._table(f"{name}.gains", squash_gains(sums, length, index_bits=index_bits)),
            self._table(f"{name}.powers", negative_powers(index_bits=index_bits)),
            self._table(f"{name}.reciprocals", reciprocals(index_bits=index_bits)),
        )

    def generated_layers(
        self,
        name: str,
        edge: str,
        complexity: str,
        generator: Generator,
        constants: Mapping[str, Array],
        *,
        first_depth: int,
        depth_steps: Sequence[int],
        level_shift: int,
        first_level: int,
        shift: int,
        residual: bool = False,
    ) -> str:
        """Add `GeneratedLayers` of a map and its frame's complexity, with constants by the names that the op tells."""
        feature_map = self._tensors[edge]
        channels = feature_map.shape[-1]
        op = GeneratedLayers(
            generator=generator,
            first_depth=first_depth,
            depth_steps=tuple(depth_steps),
            level_shift=level_shift,
            first_level=first_level,
            accumulator=format_for_range(*convolution_range(channels, feature_map.number_format)),
            shift=shift,
            output=feature_map.number_format,
            residual=residual,
        )
        if set(constants) != set(op.constants(channels)):
            raise ValueError(f"constants are {', '.join(op.constants(channels))}, not {', '.join(constants)}")
        operands = [self.constant(f"{name}.{each}", constants[each]) for each in op.constants(channels)]
        return self.node(name, op, edge, complexity, *operands)

    def complexity(self, name: str, edge: str) -> str:
        """Add a `Complexity` of an image."""
        image = self._tensors[edge]
        op, tables = complexity_of(image.shape, image.number_format)
        twiddle = signed(TWIDDLE_FRACTION + 2, fraction=TWIDDLE_FRACTION)
        growth = unsigned(int(tables.growth.max()).bit_length(), fraction=COMPLEXITY_FRACTION)
        return self.node(
            name,
            op,
            edge,
            self.constant(f"{name}.rows", tables.rows, twiddle),
            self.constant(f"{name}.columns", tables.columns, twiddle),
            self.constant(f"{name}.growth", tables.growth, growth),
            self.constant(f"{name}.steps", tables.steps),
        )

    def flatten(self, name: str, edge: str) -> str:
        """Add a `Flatten`."""
        return self.node(name, Flatten(), edge)

    def arg_max(self, name: str, edge: str) -> str:
        """Add an `ArgMax`."""
        return self.node(name, ArgMax(), edge)

    def finish(self, *outputs: str, classes: Sequence[str] = ()) -> Graph:
        """The verified graph.

        Raises
        ------
        GraphError
            If it is not legal.
        """
        return verify(
            Graph(
                name=self._name,
                inputs=self._inputs,
                constants=self._constants,
                nodes=tuple(self._nodes),
                outputs=outputs,
                classes=tuple(classes),
            )
        )

    def _table(self, name: str, values: Array) -> str:
        words = unsigned(int(values.max()).bit_length(), fraction=TABLE_FRACTION)
        return self.constant(name, values, words)

    def _weights_and_bias(self, name: str, weights: Array, bias: Array | None, storage: Storage = RAW) -> list[str]:
        bipolar = bool(np.all(np.abs(weights) == 1))
        operands = [self.constant(f"{name}.weights", weights, BIPOLAR if bipolar else None, storage=storage)]
        if bias is not None:
            operands.append(self.constant(f"{name}.bias", bias))
        return operands

    def _summed(
        self,
        name: str,
        op: MatrixVector | BinaryBases | DepthwiseConv,
        edge: str,
        operands: Sequence[str],
        rows: npt.NDArray[np.int64],
    ) -> str:
        """Add a node of sums in the narrowest accumulator, once the operands' shapes are known to fit."""
        infer(op, *(self._tensors[operand] for operand in (edge, *operands)))
        bias = self._constants[operands[-1]].values if operands[-1] == f"{name}.bias" else None
        low, high = accumulator_range(rows, self._tensors[edge].number_format, bias)
        return self.node(name, replace(op, accumulator=format_for_range(min(low, -1), high)), edge, *operands)


def with_storage(graph: Graph, storage: Mapping[str, Storage]) -> Graph:
    """The graph with other storage for some of its constants, verified.

    Raises
    ------
    GraphError
        If a name is no constant, or its storage is not legal there.
    """
    for name in storage:
        if name not in graph.constants:
            raise GraphError(f"graph {graph.name} has no constant {name!r}; it has {', '.join(graph.constants)}")
    constants = {
        name: replace(constant, storage=storage.get(name, constant.storage))
        for name, constant in graph.constants.items()
    }
    return verify(replace(graph, constants=constants))
