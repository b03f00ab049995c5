from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import qonnx.core.onnx_exec
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes

from karui.sw.golden import evaluate, trace
from karui.sw.lower.from_qonnx import ImportedNetwork

Tensors = dict[str, npt.NDArray[Any]]


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch) -> Callable[[onnx.ModelProto, npt.NDArray[Any]], Tensors]:
    """Every tensor of a model, computed node by node in floats by qonnx and onnxruntime, frame by frame."""
    # The package makes a model of each node in onnx's newest file version, which onnxruntime may not read yet.
    monkeypatch.setattr(
        qonnx.core.onnx_exec, "qonnx_make_model", lambda graph: onnx.helper.make_model(graph, ir_version=8)
    )

    def run(model: onnx.ModelProto, frames: npt.NDArray[Any]) -> Tensors:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        for node in copy.graph.node:
            # The package knows its operations under its own domain.
            if node.op_type in ("MultiThreshold", "Quant", "BipolarQuant"):
                node.domain = "qonnx.custom_op.general"
        wrapper = ModelWrapper(copy).transform(InferShapes())
        name = next(value.name for value in copy.graph.input if wrapper.get_initializer(value.name) is None)
        contexts = [
            qonnx.core.onnx_exec.execute_onnx(
                wrapper, {name: frame[None].astype(np.float32)}, return_full_exec_context=True
            )
            for frame in frames
        ]
        return {
            tensor: np.concatenate([np.atleast_1d(context[tensor]) for context in contexts]) for tensor in contexts[0]
        }

    return run


@pytest.fixture
def compare() -> Callable[[ImportedNetwork, npt.NDArray[Any], Tensors, str], int]:
    """Hold the golden model against a reference: all quantized tensors and the output equal; how many there were."""

    def check(imported: ImportedNetwork, words: npt.NDArray[Any], reference: Tensors, output_name: str) -> int:
        graph = imported.graph
        edges: Tensors = {graph.input_name: words} | dict(trace(graph, words))
        for tensor, signal in imported.quantized.items():
            assert isinstance(signal.source, str)
            np.testing.assert_array_equal(signal.real(edges[signal.source]), reference[tensor], err_msg=tensor)
        output = imported.output.real(evaluate(graph, words))
        expected = reference[output_name]
        np.testing.assert_array_equal(output.reshape(expected.shape), expected)
        return len(imported.quantized)

    return check
