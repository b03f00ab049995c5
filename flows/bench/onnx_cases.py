"""ONNX's own node tests of its integer operators, as networks of one node with constant operands."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnx.backend.test.case import node as node_tests
from onnx.backend.test.case.test_case import TestCase

from karui.sw.lower.from_qonnx import ImportedNetwork
from karui.sw.lower.onnx_model import INTEGER_OPERATORS

Array = npt.NDArray[Any]


def integer_cases() -> dict[str, TestCase]:
    """Every node test of the four operators, by its name."""
    for operator in INTEGER_OPERATORS:
        # Importing the module of an operator makes its cases.
        importlib.import_module(f"{node_tests.__name__}.{operator.lower()}")
    operators = set(INTEGER_OPERATORS)
    cases = node_tests._NodeTestCases
    return {case.name: case for case in cases if operators & {node.op_type for node in case.model.graph.node}}


def with_constants(case: TestCase, inputs: list[Array]) -> onnx.ModelProto:
    """The model of a case with all operands but the first as initializers, behind a batch axis."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    first, *others = model.graph.input
    for value, array in zip(others, inputs[1:], strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
    del model.graph.input[1:]
    if len(inputs[0].shape) == 3:
        first.type.tensor_type.shape.dim.insert(0, onnx.TensorShapeProto.Dimension(dim_value=1))
    return model


def batched(tensor: Array) -> Array:
    """The first operand of a case with the batch axis that `with_constants` gives its model."""
    return tensor[None] if tensor.ndim == 3 else tensor


def words_of(imported: ImportedNetwork, tensor: Array) -> Array:
    """Frames of the graph's input for a tensor of the model, its first axis the batch."""
    layout = imported.input.layout
    words = np.empty((len(tensor), layout.size), dtype=np.int64)
    words[:, layout.reshape(-1)] = tensor.reshape(len(tensor), -1)
    return words.reshape(len(tensor), *imported.input.shape)


def tensor_of(imported: ImportedNetwork, words: Array) -> Array:
    """The model's output tensor, in integers."""
    layout = imported.output.layout
    return words.reshape(len(words), -1)[:, layout.reshape(-1)].reshape(len(words), *layout.shape[1:])
