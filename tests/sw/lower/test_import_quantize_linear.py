"""QuantizeLinear and DequantizeLinear, held against onnxruntime."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from karui.sw.golden import evaluate
from karui.sw.ir import Requantize, Threshold
from karui.sw.lower.from_qonnx import ImportedNetwork, import_onnx
from karui.sw.lower.onnx_model import UnsupportedModel

Constants = dict[str, np.ndarray]


def model_of(nodes: list[onnx.NodeProto], constants: Constants, shape: tuple[int, ...]) -> onnx.ModelProto:
    wanted = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in wanted],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def node(kind: str, inputs: Iterable[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), [output], f"my_{output}", **attributes)


def quantize(source: str, output: str, parameters: str, **attributes: Any) -> onnx.NodeProto:
    return node("QuantizeLinear", [source, f"{parameters}.scale", f"{parameters}.zero"], output, **attributes)


def dequantize(source: str, output: str, parameters: str, **attributes: Any) -> onnx.NodeProto:
    return node("DequantizeLinear", [source, f"{parameters}.scale", f"{parameters}.zero"], output, **attributes)


def runtime(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """The model's output; nothing is fused, so that it computes node by node."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run(None, {"x": images.astype(np.float32)})[0])


def words_of(imported: ImportedNetwork, images: np.ndarray) -> np.ndarray:
    """What the host quantizes the real input to: the graph's words, channels last."""
    meaning = imported.input.meaning
    words = np.rint(images / meaning.scale.astype(np.float32)) - meaning.offset
    words = np.clip(words, 0, 255).astype(np.int64)
    return words.transpose(0, 2, 3, 1) if words.ndim == 4 else words


def real_outputs(imported: ImportedNetwork, images: np.ndarray) -> np.ndarray:
    return imported.output.real(evaluate(imported.graph, words_of(imported, images)))


def parameters_of(rng: np.random.Generator, outputs: int) -> Constants:
    """Scales that are powers of two, so that the float model's sums are exact in every order."""
    return {
        "image.scale": np.float32(0.25),
        "image.zero": np.uint8(90),
        "middle.scale": np.float32(4),
        "middle.zero": np.uint8(100),
        "weights": rng.integers(-128, 128, (outputs, 3, 3, 3)).astype(np.int8),
        "weights.scale": (2.0 ** rng.integers(-6, -3, outputs)).astype(np.float32),
        "weights.zero": np.zeros(outputs, np.int8),
        "bias": rng.integers(-20, 20, outputs).astype(np.float32),
        "real": rng.normal(size=(outputs * 16, 5)).astype(np.float32),
        "dense": rng.integers(-128, 128, (outputs * 16, 5)).astype(np.int8),
        "dense.scale": np.float32(0.03125),
        "dense.zero": np.int8(3),
    }


def images_of(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-120, 200, (9, 3, 8, 8)) * np.float32(0.2)


@pytest.mark.parametrize("middle", [[], ["Relu"], ["LeakyRelu"]])
def test_networks_between_quantizers_are_onnxruntimes(middle: list[str]) -> None:
    rng = np.random.default_rng(4)
    constants = parameters_of(rng, 4)
    nodes = [
        quantize("x", "q", "image"),
        dequantize("q", "dq", "image"),
        dequantize("weights", "w", "weights", axis=0),
        node("Conv", ["dq", "w", "bias"], "c", pads=[1, 1, 1, 1]),
        *(node(kind, ["c"], "r") for kind in middle),
        quantize("r" if middle else "c", "m", "middle"),
        dequantize("m", "dm", "middle"),
        node("MaxPool", ["dm"], "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], "f"),
        quantize("real", "dense_words", "dense"),
        dequantize("dense_words", "d", "dense"),
        node("MatMul", ["f", "d"], "y"),
    ]
    model = model_of(nodes, constants, (3, 8, 8))
    imported = import_onnx(model)
    assert imported.dialect == "integer ONNX"
    assert {type(made.op) for made in imported.graph.nodes} & {Requantize, Threshold}
    images = images_of(rng)
    expected = runtime(model, images)
    assert len(np.unique(expected)) > 30
    np.testing.assert_array_equal(real_outputs(imported, images), expected)


def test_integer_operators_between_quantizers_are_onnxruntimes() -> None:
    rng = np.random.default_rng(5)
    constants = parameters_of(rng, 4)
    image, weights, middle = (["image.scale", "image.zero"], ["weights.scale", "weights.zero"], ["middle.scale"])
    nodes = [
        quantize("x", "q", "image"),
        node("QLinearConv", ["q", *image, "weights", *weights, *middle, "middle.zero"], "c", pads=[1, 1, 1, 1]),
        node("MaxPool", ["c"], "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], "f"),
        node("MatMulInteger", ["f", "dense", "middle.zero", "dense.zero"], "sums"),
        node("Cast", ["sums"], "real_sums", to=TensorProto.FLOAT),
        node("Mul", ["real_sums", "dense.scale"], "y"),
    ]
    model = model_of(nodes, constants, (3, 8, 8))
    imported = import_onnx(model)
    assert set(imported.quantized) == {"q", "c"}
    images = images_of(rng)
    expected = runtime(model, images)
    assert len(np.unique(expected)) > 30
    np.testing.assert_array_equal(real_outputs(imported, images), expected)


def test_every_tie_of_a_quantizer_goes_to_even() -> None:
    constants = {
        "fine.scale": np.float32(0.5),
        "fine.zero": np.uint8(0),
        "coarse.scale": np.float32([1, 2, 4]),
        "coarse.zero": np.uint8([3, 0, 7]),
    }
    nodes = [
        quantize("x", "q", "fine"),
        dequantize("q", "dq", "fine"),
        quantize("dq", "m", "coarse", axis=1),
        dequantize("m", "y", "coarse", axis=1),
    ]
    model = model_of(nodes, constants, (3,))
    reals = np.repeat(np.arange(256)[:, None] * np.float32(0.5), 3, axis=1)
    imported = import_onnx(model)
    np.testing.assert_array_equal(real_outputs(imported, reals), runtime(model, reals))


REFUSED: dict[str, tuple[list[onnx.NodeProto], Constants, str]] = {
    "16 bits": (
        [quantize("x", "q", "p")],
        {"p.scale": np.float32(1), "p.zero": np.uint16(0)},
        "node my_q: words of type uint16; only uint8 and int8 are supported",
    ),
    "blocks": (
        [quantize("x", "q", "p")],
        {"p.scale": np.ones((2, 2), np.float32), "p.zero": np.zeros((2, 2), np.uint8)},
        "node my_q: a scale for each block; give one for all, or one a channel",
    ),
    "negative scale": (
        [quantize("x", "q", "p")],
        {"p.scale": np.float32(-1), "p.zero": np.uint8(0)},
        "node my_q: the scale must be positive, not -1.0",
    ),
    "axis": (
        [quantize("x", "q", "p", axis=2)],
        {"p.scale": np.ones(4, np.float32), "p.zero": np.zeros(4, np.uint8)},
        "node my_q: axis 2 of a tensor of 2 axes",
    ),
    "misfit of constants": (
        [quantize("x", "q", "p"), dequantize("w", "d", "r"), node("MatMul", ["q", "d"], "y")],
        {
            "p.scale": np.float32(1),
            "p.zero": np.uint8(0),
            "w": np.ones((4, 2), np.int8),
            "r.scale": np.ones(3, np.float32),
            "r.zero": np.zeros(3, np.int8),
        },
        "node my_d: its constants do not fit each other",
    ),
    "reals": (
        [quantize("x", "q", "p"), dequantize("q", "d", "p"), dequantize("d", "y", "p")],
        {"p.scale": np.float32(2), "p.zero": np.uint8(0)},
        "node my_y: its operand 'd' is of reals, not of integers",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_node_the_value_and_the_way_out(case: str) -> None:
    nodes, constants, message = REFUSED[case]
    with pytest.raises(UnsupportedModel, match=message) as refusal:
        import_onnx(model_of(nodes, constants, (4,)))
    assert "\n" not in str(refusal.value)
