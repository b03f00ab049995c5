"""The integer graph: constants, and nodes in the order in which they can be computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.ir.infer import infer
from karui.sw.ir.ops import Op
from karui.sw.ir.storage import RAW, Storage
from karui.sw.ir.tensor import GraphError, Tensor
from karui.sw.numerics import NumberFormat


@dataclass(frozen=True, kw_only=True, eq=False)
class Constant:
    """An operand known when the design is built.

    Parameters
    ----------
    values : ndarray of int64
        Words of the format (bipolar: -1 and +1).
    number_format : NumberFormat
        Of a value.
    storage : Storage
        How the hardware keeps the values; it changes nothing about them.
    """

    values: npt.NDArray[np.int64]
    number_format: NumberFormat
    storage: Storage = RAW

    def __post_init__(self) -> None:
        if not self.number_format.admits(self.values):
            raise GraphError(
                f"constants from {self.values.min()} to {self.values.max()} do not fit the number format "
                f"{self.number_format}"
            )

    @property
    def tensor(self) -> Tensor:
        """The constant's edge."""
        return Tensor(shape=self.values.shape, number_format=self.number_format)

    @property
    def bits(self) -> int:
        """Bits that the values occupy, stored raw."""
        return int(self.values.size) * self.number_format.bits


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation. Its output edge bears the node's name.

    Parameters
    ----------
    name : str
        Unique among inputs, constants and nodes.
    op : Op
        What it computes.
    inputs : tuple of str
        Names of the operands, in the order that the op documents.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A network in integers.

    Parameters
    ----------
    name : str
        Of the network.
    inputs : mapping of str to Tensor
        Edges that come from outside.
    constants : mapping of str to Constant
        Weights, thresholds and the like.
    nodes : tuple of Node
        Each after its operands.
    outputs : tuple of str
        Names of the edges that go outside.
    classes : tuple of str
        Names of the classes where the output is a class or one value a class, else empty.
    """

    name: str
    inputs: Mapping[str, Tensor]
    constants: Mapping[str, Constant]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    classes: tuple[str, ...] = field(default=())

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every edge, inferred from the inputs and constants through the nodes.

        Raises
        ------
        GraphError
            If an operand is missing or does not fit its operation.
        """
        tensors = dict(self.inputs) | {name: constant.tensor for name, constant in self.constants.items()}
        for node in self.nodes:
            for operand in node.inputs:
                if operand not in tensors:
                    raise GraphError(
                        f"node {node.name}: operand {operand!r} is neither an input, a constant nor an earlier node"
                    )
            try:
                tensors[node.name] = infer(node.op, *(tensors[operand] for operand in node.inputs))
            except (GraphError, TypeError) as error:
                raise GraphError(f"node {node.name}: {error}") from error
        return tensors

    @cached_property
    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """The nodes that read each edge."""
        readers: dict[str, list[Node]] = {name: [] for name in self.tensors}
        for node in self.nodes:
            for operand in node.inputs:
                readers[operand].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    def node(self, name: str) -> Node:
        """The node of that name."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    @property
    def input_name(self) -> str:
        """Name of the only input."""
        (name,) = self.inputs
        return name

    @property
    def output_name(self) -> str:
        """Name of the only output."""
        (name,) = self.outputs
        return name

    @property
    def constant_bits(self) -> int:
        """Bits of all constants, stored raw."""
        return sum(constant.bits for constant in self.constants.values())


def graphs_equal(one: Graph, other: Graph) -> bool:
    """Whether two graphs are the same, names and constants included."""
    return (
        (one.name, dict(one.inputs), one.nodes, one.outputs, one.classes)
        == (other.name, dict(other.inputs), other.nodes, other.outputs, other.classes)
        and one.constants.keys() == other.constants.keys()
        and all(_same_constant(value, other.constants[name]) for name, value in one.constants.items())
    )


def _same_constant(one: Constant, other: Constant) -> Any:
    return (one.number_format, one.storage) == (other.number_format, other.storage) and np.array_equal(
        one.values, other.values
    )
