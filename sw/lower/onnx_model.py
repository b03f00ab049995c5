"""Access to an ONNX file: its dialect, its nodes' attributes, its constants and the integers behind them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from karui.sw.numerics import BIPOLAR, NumberFormat, signed, unsigned

Array = npt.NDArray[Any]
Dialect = Literal["QONNX", "FINN-ONNX", "integer ONNX"]

INTEGER_OPERATORS = ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul")
_INTEGER_DIALECT = {*INTEGER_OPERATORS, "QuantizeLinear", "DequantizeLinear"}


class UnsupportedModel(ValueError):
    """A model that cannot be imported; one line that names the node, the value and the way out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelConstant:
    """A tensor known before the model runs.

    Parameters
    ----------
    values : ndarray
        As the model computes with them.
    integers, scale : ndarray or None
        With ``values = integers * scale``, of the same shape, where a quantizer node or an annotation says so.
    """

    values: Array
    integers: npt.NDArray[np.int64] | None = None
    scale: Array | None = None


class OnnxModel:
    """An ONNX model that is read, never changed.

    Parameters
    ----------
    proto : onnx.ModelProto
        With its tensors loaded.
    source : str
        Name in messages.
    """

    def __init__(self, proto: Any, source: str) -> None:
        self.graph = proto.graph
        self.source = source
        self._opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 13)
        self.initializers: dict[str, Array] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer
        }
        if not proto.graph.node:
            raise UnsupportedModel(f"{source} holds no ONNX graph: export the network with onnx.save")

    @property
    def dialect(self) -> Dialect:
        """QONNX if it has quantizer nodes, FINN-ONNX thresholds or integer annotations, else ONNX's integer operators.

        Raises
        ------
        UnsupportedModel
            If it has none of these.
        """
        kinds = {node.op_type for node in self.graph.node}
        if kinds & {"Quant", "IntQuant", "BipolarQuant"}:
            return "QONNX"
        if "MultiThreshold" in kinds or any(number_format is not None for number_format in self._annotations.values()):
            return "FINN-ONNX"
        if kinds & _INTEGER_DIALECT:
            return "integer ONNX"
        raise UnsupportedModel(
            f"{self.source} is of neither dialect: it has no Quant or BipolarQuant node (QONNX) and no MultiThreshold "
            "node or integer finn_datatype annotation (FINN-ONNX), nor an integer operator such as QLinearConv or "
            "QuantizeLinear; quantize the network and export it as QONNX"
        )

    def datatype(self, tensor: str) -> NumberFormat | None:
        """The number format that a ``finn_datatype`` annotation gives a tensor, None for floats and without one."""
        return self._annotations.get(tensor)

    @cached_property
    def nodes(self) -> list[Any]:
        """The nodes that the outputs depend on, in order."""
        wanted = {output.name for output in self.graph.output}
        kept = []
        for node in reversed(self.graph.node):
            if wanted & set(node.output):
                kept.append(node)
                wanted.update(node.input)
        return kept[::-1]

    @property
    def input(self) -> Any:
        """The value info of the only input."""
        inputs = [value for value in self.graph.input if value.name not in self.initializers]
        return self._only("input", inputs)

    @property
    def output_name(self) -> str:
        """Name of the only output."""
        return str(self._only("output", list(self.graph.output)).name)

    def run(self, node: Any, operands: Iterable[Array]) -> Array:
        """The first output of one standard node, computed by ONNX's reference implementation."""
        names = [name for name in node.input if name]
        infos = [helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in names]
        result = helper.make_tensor_value_info(node.output[0], onnx.TensorProto.UNDEFINED, None)
        graph = helper.make_graph([node], "node", infos, [result])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)])
        (value,) = ReferenceEvaluator(model).run([node.output[0]], dict(zip(names, operands, strict=True)))
        return np.asarray(value)

    @cached_property
    def _annotations(self) -> dict[str, NumberFormat | None]:
        return {
            annotation.tensor_name: parse_datatype(entry.value)
            for annotation in self.graph.quantization_annotation
            for entry in annotation.quant_parameter_tensor_names
            if entry.key == "finn_datatype"
        }

    def _only(self, what: str, values: list[Any]) -> Any:
        if len(values) != 1:
            names = ", ".join(repr(value.name) for value in values) or "none"
            raise UnsupportedModel(f"{self.source} must have one {what}, not {len(values)} ({names}): cut it to one")
        return values[0]


def read_model(model: str | Path | onnx.ModelProto) -> OnnxModel:
    """Read a file, or take a model that is in memory.

    Raises
    ------
    UnsupportedModel
        If the file is missing or no ONNX model.
    """
    if isinstance(model, onnx.ModelProto):
        return OnnxModel(model, model.graph.name or "the model")
    path = Path(model)
    if not path.is_file():
        raise UnsupportedModel(f"{path} is not there: give the path of an .onnx file")
    try:
        return OnnxModel(onnx.load(path, format="protobuf"), str(path))
    except UnsupportedModel:
        raise
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnsupportedModel(f"{path} is no readable ONNX model ({reason}): export the network anew") from error


def parse_datatype(name: str) -> NumberFormat | None:
    """The number format of a FINN data type: BIPOLAR, BINARY, TERNARY, INT<n>, UINT<n>; None for any other."""
    match = re.fullmatch(r"(U?)INT(\d+)", name)
    if match and int(match[2]) in range(1 if match[1] else 2, 65):
        return (unsigned if match[1] else signed)(int(match[2]))
    return {"BIPOLAR": BIPOLAR, "BINARY": unsigned(1), "TERNARY": signed(2)}.get(name)


def node_label(node: Any) -> str:
    """How messages call a node: its name, else its kind and first output."""
    return f"node {node.name}" if node.name else f"the {node.op_type} that makes {node.output[0]!r}"


def attributes(node: Any) -> dict[str, Any]:
    """The attributes of a node; strings as str."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
