from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from karui.sw.golden import evaluate
from karui.sw.ir import ArgMax, Flatten, MatrixVector, Requantize, Threshold
from karui.sw.lower.from_qonnx import import_onnx
from karui.sw.numerics import BIPOLAR, unsigned

Array = npt.NDArray[Any]
Execute = Callable[[onnx.ModelProto, Array], dict[str, Array]]
Compare = Callable[..., int]


@pytest.fixture
def tfc(shared_vectors: Path) -> Path:
    return shared_vectors / "finn-tfc-w1a1"


def test_tfc_yields_the_published_classes(tfc: Path) -> None:
    imported = import_onnx(tfc / "model.onnx")
    frames = np.load(tfc / "input.npy").transpose(0, 2, 3, 1)
    classes = evaluate(imported.graph, frames)
    np.testing.assert_array_equal(classes.reshape(-1), np.load(tfc / "expected_output.npy").reshape(-1))
    assert classes.reshape(-1).tolist() == [7, 2, 1, 0]


def test_tfc_has_the_expected_form(tfc: Path) -> None:
    graph = import_onnx(tfc / "model.onnx").graph
    first, second, *_, last = graph.nodes
    # The vector is thresholded, not the map: a map passes one pixel at a time.
    assert isinstance(first.op, Flatten)
    assert isinstance(second.op, Threshold)
    assert isinstance(last.op, ArgMax)
    assert graph.inputs[graph.input_name].number_format == unsigned(8)
    weights = [constant for name, constant in graph.constants.items() if name.endswith(".weights")]
    assert [(constant.values.shape, constant.number_format) for constant in weights] == [
        ((64, 784), BIPOLAR),
        ((64, 64), BIPOLAR),
        ((64, 64), BIPOLAR),
        ((10, 64), BIPOLAR),
    ]


def test_tfc_negates_the_rows_of_negative_gains(tfc: Path) -> None:
    model = onnx.load(tfc / "model.onnx")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    graph = import_onnx(model).graph
    negated = []
    for layer in range(3):
        gains = tensors[f"BatchNormalization_{layer}_param0"]
        rows = graph.constants[f"MatMul_{layer}.weights"].values
        signs = np.where(gains < 0, -1, 1)
        np.testing.assert_array_equal(rows, tensors[f"MatMul_{layer}_param0"].T * signs[:, None])
        negated.append(int(np.sum(gains < 0)))
    assert negated == [1, 5, 6]


def test_tfc_agrees_with_the_float_model_in_every_tensor(tfc: Path, execute: Execute, compare: Compare) -> None:
    model = onnx.load(tfc / "model.onnx")
    rng = np.random.default_rng(0)
    # Plain noise keeps every neuron far from its threshold; images and their mixtures with noise do not.
    images = np.load(tfc / "input.npy")[rng.integers(0, 4, 12)]
    frames = np.concatenate([images * (rng.random(images.shape) < 0.7), rng.integers(0, 256, (4, 1, 28, 28))])
    reference = execute(model, frames)
    imported = import_onnx(model)
    assert compare(imported, frames.transpose(0, 2, 3, 1), reference, "global_out") == 4


def finn_network(seed: int) -> tuple[onnx.ModelProto, Array]:
    """A random convolutional network in FINN's dialect, and random input words for it."""
    rng = np.random.default_rng(seed)
    channels, outputs, classes = (int(count) for count in rng.integers(2, 6, 3))
    size, kernel, steps = int(rng.integers(6, 9)), int(rng.integers(1, 4)), int(rng.choice([1, 3, 7]))
    stride, pad = int(rng.integers(1, 3)), int(rng.integers(0, 2))
    rows = (size + 2 * pad - kernel) // stride + 1
    pooled = rows // 2
    out_scale, out_bias = (2.0, -1.0) if steps == 1 else [(1.0, 0.0), (1.0, -4.0), (0.25, 0.0), (-0.5, 0.0)][seed % 4]
    tensors: dict[str, Any] = {
        "shrink": np.float32(4.0),
        "conv_w": rng.choice([-1, 0, 1], (outputs, channels, kernel, kernel)),
        "scale": rng.choice([-1.5, -1.0, 0.5, 2.0], (1, outputs, 1, 1)),
        "shift": rng.normal(size=(1, outputs, 1, 1)) * 3,
        "ladder": np.sort(rng.normal(size=(outputs, steps)) * 8, axis=1),
        "fc_w": rng.choice([-1, 1], (outputs * pooled * pooled, classes)),
        "fc_scale": rng.choice([0.5, 1.0, 3.0], (1, classes)),
        "fc_shift": rng.normal(size=(1, classes)) * 2,
        "target": np.array([1, -1], dtype=np.int64),
        "one": np.array([1], dtype=np.int64),
    }
    make = helper.make_node
    nodes = [
        make("Div", ["x", "shrink"], ["small"]),
        make("Conv", ["small", "conv_w"], ["sums"], strides=[stride] * 2, pads=[pad] * 4, kernel_shape=[kernel] * 2),
        make("Mul", ["sums", "scale"], ["scaled"]),
        make("Sub", ["scaled", "shift"], ["shifted"]),
        make(
            "MultiThreshold",
            ["shifted", "ladder"],
            ["active"],
            domain="finn.custom_op.general",
            out_scale=out_scale,
            out_bias=out_bias,
            out_dtype="INT8",
            data_layout="NCHW",
        ),
        make("MaxPool", ["active"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Reshape", ["pooled", "target"], ["flat"]),
        make("MatMul", ["flat", "fc_w"], ["logits"]),
        make("Mul", ["logits", "fc_scale"], ["logits_scaled"]),
        make("Add", ["logits_scaled", "fc_shift"], ["logits_shifted"]),
        make("TopK", ["logits_shifted", "one"], ["best", "class"], axis=-1),
    ]
    values = {name: value if value.dtype == np.int64 and name in ("target", "one") else value.astype(np.float32)
              for name, value in tensors.items()}  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "finn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, size, size])],
        [helper.make_tensor_value_info("class", TensorProto.INT64, [1, 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    for tensor, datatype in (("x", "UINT4"), ("conv_w", "TERNARY"), ("fc_w", "BIPOLAR")):
        annotation = graph.quantization_annotation.add(tensor_name=tensor)
        annotation.quant_parameter_tensor_names.add(key="finn_datatype", value=datatype)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    return model, rng.integers(0, 16, (6, channels, size, size))


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_agree_in_every_tensor(seed: int, execute: Execute, compare: Compare) -> None:
    model, frames = finn_network(seed)
    imported = import_onnx(model)
    assert imported.dialect == "FINN-ONNX"
    assert compare(imported, frames.transpose(0, 2, 3, 1), execute(model, frames), "class") == 1


def step_network(nodes: list[onnx.NodeProto], output: str, shape: tuple[int, ...], **values: Any) -> onnx.ModelProto:
    """A network on 3-bit words of the given shape; the weights `w` are bipolar."""
    graph = helper.make_graph(
        nodes,
        "steps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *shape])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in values.items()],
    )
    for tensor, datatype in (("x", "UINT3"), ("w", "BIPOLAR")):
        annotation = graph.quantization_annotation.add(tensor_name=tensor)
        annotation.quant_parameter_tensor_names.add(key="finn_datatype", value=datatype)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def every_word(elements: int) -> Array:
    return np.stack(np.meshgrid(*[np.arange(8)] * elements), axis=-1).reshape(-1, elements)


def test_negative_scale_and_shift_before_a_product() -> None:
    weights = np.array([[1, -1], [-1, -1], [1, 1]])
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["shifted"]),
        helper.make_node("MatMul", ["shifted", "w"], ["y"]),
    ]
    scale, shift = [[-0.5, 0.5, -0.5]], [[1.0, 0.25, -3.0]]
    imported = import_onnx(step_network(nodes, "y", (3,), scale=scale, shift=shift, w=weights))
    words = every_word(3)
    np.testing.assert_array_equal(
        imported.output.real(evaluate(imported.graph, words)), (words * scale + shift) @ weights
    )


def test_whole_biases_of_classes_are_added_in_the_product() -> None:
    weights, bias = np.array([[1, -1], [-1, -1], [1, 1]]), [[0.0, 1.5]]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["sums"]),
        helper.make_node("Mul", ["sums", "half"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["biased"]),
        helper.make_node("ArgMax", ["biased"], ["y"], axis=-1),
    ]
    graph = import_onnx(step_network(nodes, "y", (3,), half=-0.5, bias=bias, w=weights)).graph
    assert [type(node.op) for node in graph.nodes] == [MatrixVector, ArgMax]
    words = every_word(3)
    np.testing.assert_array_equal(evaluate(graph, words)[:, 0], (words @ weights * -0.5 + bias).argmax(axis=1))


def test_padding_takes_the_word_that_means_zero() -> None:
    nodes = [
        helper.make_node("Sub", ["x", "three"], ["centred"]),
        helper.make_node("Conv", ["centred", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    imported = import_onnx(step_network(nodes, "y", (1, 2, 2), three=3.0, w=np.ones((1, 1, 3, 3))))
    words = every_word(4).reshape(-1, 2, 2, 1)
    sums = imported.output.real(evaluate(imported.graph, words))
    # Every window of the padded map holds all four pixels.
    assert sums.shape == (4096, 1, 2, 2)
    np.testing.assert_array_equal(
        sums, np.broadcast_to((words - 3).sum(axis=(1, 2, 3))[:, None, None, None], sums.shape)
    )


def test_only_thresholds_that_change_nothing_are_left_out() -> None:
    ladders = {"same": np.arange(1.0, 8.0)[None], "late": np.arange(2.0, 9.0)[None]}
    for name, kept in (("same", 0), ("late", 1)):
        node = helper.make_node("MultiThreshold", ["x", name], ["y"], domain="finn.custom_op.general")
        product = helper.make_node("MatMul", ["y", "w"], ["z"])
        graph = import_onnx(step_network([node, product], "z", (3,), w=np.ones((3, 1)), **{name: ladders[name]})).graph
        assert sum(isinstance(made.op, Threshold | Requantize) for made in graph.nodes) == kept
        words = every_word(3)
        levels = (words[..., None] >= ladders[name]).sum(axis=-1)
        np.testing.assert_array_equal(evaluate(graph, words)[:, 0], levels.sum(axis=1))
