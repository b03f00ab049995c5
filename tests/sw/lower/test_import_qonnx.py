import gzip
import itertools
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from karui.sw.golden import evaluate
from karui.sw.ir import DepthwiseConv, SlidingWindow
from karui.sw.lower.from_qonnx import from_onnx, import_onnx
from karui.sw.lower.onnx_model import UnsupportedModel
from karui.sw.numerics import BIPOLAR, signed, unsigned

Array = npt.NDArray[Any]
Execute = Callable[[onnx.ModelProto, Array], dict[str, Array]]
Compare = Callable[..., int]

MNIST_CONV = Path(str(files("qonnx") / "data/onnx/mnist-conv"))


def shipped_tensor(name: str) -> Array:
    tensor = onnx.TensorProto()
    tensor.ParseFromString((MNIST_CONV / "test_data_set_0" / name).read_bytes())
    return np.asarray(numpy_helper.to_array(tensor))


def insert_quantizer(model: onnx.ModelProto, tensor: str, scale: float, bits: int, *, is_signed: bool = False) -> None:
    """Put a ``Quant`` (with 1 signed bit a ``BipolarQuant``) behind a tensor, for all its readers."""
    quantized = f"{tensor}_quantized"
    for node in model.graph.node:
        node.input[:] = [quantized if name == tensor else name for name in node.input]
    parameters = {"scale": scale} if is_signed and bits == 1 else {"scale": scale, "zero_point": 0, "bits": bits}
    for name, value in parameters.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), f"{quantized}_{name}"))
    operands = [tensor, *(f"{quantized}_{name}" for name in parameters)]
    domain = "qonnx.custom_op.general"
    if len(parameters) == 1:
        node = helper.make_node("BipolarQuant", operands, [quantized], domain=domain)
    else:
        attributes = {"signed": int(is_signed), "narrow": int(is_signed), "rounding_mode": "ROUND"}
        node = helper.make_node("Quant", operands, [quantized], domain=domain, **attributes)
    made = {output: position for position, other in enumerate(model.graph.node) for output in other.output}
    model.graph.node.insert(made.get(tensor, -1) + 1, node)


def quantized_mnist_conv(weight_bits: int) -> onnx.ModelProto:
    """The trained network, quantized after training with power-of-two scales: 8-bit activations."""
    model = onnx.load(MNIST_CONV / "model.onnx")
    insert_quantizer(model, "Input3", 1.0, 8)
    scales = {"Parameter5": 2.0**-7, "Parameter87": 2.0**-7, "Parameter193_reshape1": 2.0**-6}
    for tensor, scale in scales.items():
        insert_quantizer(model, tensor, 2.0**-3 if weight_bits == 1 else scale, weight_bits, is_signed=True)
    insert_quantizer(model, "ReLU32_Output_0", 4.0, 8)
    insert_quantizer(model, "ReLU114_Output_0", 16.0, 8)
    return model


@pytest.fixture
def mnist_conv() -> onnx.ModelProto:
    return quantized_mnist_conv(8)


def test_float_mnist_conv_as_shipped_is_of_neither_dialect() -> None:
    with pytest.raises(UnsupportedModel, match=r"model\.onnx is of neither dialect: .* quantize the network"):
        from_onnx(MNIST_CONV / "model.onnx")


def test_mnist_conv_agrees_with_the_quantized_float_model(
    mnist_conv: onnx.ModelProto, execute: Execute, compare: Compare
) -> None:
    imported = import_onnx(mnist_conv)
    assert imported.dialect == "QONNX"
    rng = np.random.default_rng(3)
    shipped = shipped_tensor("input_0.pb")
    frames = np.concatenate([shipped, np.rint(shipped * rng.random((2, *shipped.shape[1:])))])
    name = mnist_conv.graph.output[0].name
    reference = execute(mnist_conv, frames)
    assert compare(imported, frames.transpose(0, 2, 3, 1), reference, name) == 3


def test_binary_mnist_conv_agrees_and_classifies_in_integers(execute: Execute, compare: Compare) -> None:
    model = quantized_mnist_conv(1)
    frames = shipped_tensor("input_0.pb")
    output = model.graph.output[0].name
    model.graph.node.append(helper.make_node("ArgMax", [output], ["class"], axis=1, keepdims=0))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("class", TensorProto.INT64, [1]))
    imported = import_onnx(model)
    weights = [value for name, value in imported.graph.constants.items() if name.endswith(".weights")]
    assert [constant.number_format for constant in weights] == [BIPOLAR] * 3
    assert compare(imported, frames.transpose(0, 2, 3, 1), execute(model, frames), "class") == 3


def test_mnist_conv_classifies_the_shipped_image(mnist_conv: onnx.ModelProto) -> None:
    imported = import_onnx(mnist_conv)
    frames = shipped_tensor("input_0.pb").transpose(0, 2, 3, 1)
    logits = imported.output.real(evaluate(imported.graph, frames))
    expected = shipped_tensor("output_0.pb")
    assert int(logits.argmax()) == int(expected.argmax()) == 2
    assert np.abs(logits - expected).max() < 0.02 * np.abs(expected).max()


def test_mnist_conv_keeps_its_accuracy(mnist_conv: onnx.ModelProto, shared_data: Path) -> None:
    images = gzip.decompress((shared_data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((shared_data / "mnist" / "t10k-labels-idx1-ubyte.gz").read_bytes())
    frames = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)[:1000]
    imported = import_onnx(mnist_conv)
    logits = imported.output.real(evaluate(imported.graph, frames))
    # The float network classifies 987 of these 1,000 images.
    assert int(np.sum(logits.argmax(axis=1) == np.frombuffer(labels, np.uint8, offset=8)[:1000])) >= 984


class NetworkWriter:
    """Writes random networks: nodes in a chain, constants beside them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.last = "x"

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        name = f"constant{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, kind: str, *operands: str, source: str | None = None, **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        domain = "qonnx.custom_op.general" if kind in ("Quant", "BipolarQuant") else ""
        inputs = [source or self.last, *operands]
        self.nodes.append(helper.make_node(kind, inputs, [output], f"{kind}_{output}", domain=domain, **attributes))
        return output

    def append(self, kind: str, *operands: str, **attributes: Any) -> None:
        self.last = self.node(kind, *operands, **attributes)

    def weight(self, shape: tuple[int, ...], bits: int, *, transposed: bool = False) -> str:
        scale = 2.0 ** self.rng.integers(-3, 1, (shape[0],) + (1,) * (len(shape) - 1))
        values = self.constant(self.rng.normal(size=shape) * 2 ** (bits - 2) * scale)
        if bits == 1:
            quantized = self.node("BipolarQuant", self.constant(scale), source=values)
        else:
            parameters = [self.constant(value) for value in (scale, 0, bits)]
            quantized = self.node("Quant", *parameters, source=values, signed=1, narrow=1, rounding_mode="ROUND")
        return self.node("Transpose", source=quantized, perm=[1, 0]) if transposed else quantized

    def activation(self) -> None:
        choice, bits = self.rng.integers(4), int(self.rng.integers(2, 5))
        modes = ["ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]
        mode, scale = str(self.rng.choice(modes)), self.constant(2.0 ** self.rng.integers(-2, 3))
        if choice == 0:
            self.append("BipolarQuant", scale)
            return
        if choice == 1:
            self.append("LeakyRelu", alpha=0.25)
        elif choice == 2:
            self.append("Relu")
        zero = self.constant(int(self.rng.integers(-1, 3)) if choice == 1 else 0)
        attributes = {"signed": int(choice != 2), "narrow": int(self.rng.integers(2)), "rounding_mode": mode}
        self.append("Quant", scale, zero, self.constant(bits), **attributes)

    def batch_norm(self, channels: int) -> None:
        gain, shift, mean = self.rng.normal(size=(3, channels)) * [[2], [3], [3]]
        parameters = (gain, shift, mean, self.rng.uniform(0.5, 9, channels))
        self.append("BatchNormalization", *map(self.constant, parameters), epsilon=1e-4)

    def model(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...], kind: int) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *input_shape])],
            [helper.make_tensor_value_info(self.last, kind, [1, *output_shape])],
            self.tensors,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


@pytest.mark.parametrize("seed", range(16))
def test_random_mlps_agree_in_every_tensor(seed: int, execute: Execute, compare: Compare) -> None:
    write = NetworkWriter(seed)
    widths = [int(width) for width in write.rng.integers(3, 12, 4)]
    # Pixels are shifted by a power of two, so that float32 is exact until the first rounding of the batch norm.
    write.append("Div", write.constant(16.0))
    write.append("Sub", write.constant(float(write.rng.choice([0, 0.5]))))
    for width, outputs in itertools.pairwise(widths[:-1]):
        bits = int(write.rng.integers(1, 5))
        if write.rng.integers(2):
            write.append("MatMul", write.weight((outputs, width), bits, transposed=True))
        else:
            bias = write.constant(write.rng.normal(size=outputs))
            write.append("Gemm", write.weight((outputs, width), bits), bias, transB=1)
        write.batch_norm(outputs)
        write.activation()
    write.append("MatMul", write.weight((widths[-1], widths[-2]), 1, transposed=True))
    model = write.model((widths[0],), (widths[-1],), TensorProto.FLOAT)
    frames = write.rng.integers(0, 32, (20, widths[0]))
    imported = import_onnx(model, input_format=unsigned(5))
    assert compare(imported, frames, execute(model, frames), write.last) == 2


@pytest.mark.parametrize("seed", range(16))
def test_random_convolutions_agree_in_every_tensor(seed: int, execute: Execute, compare: Compare) -> None:
    write = NetworkWriter(seed)
    channels, outputs = (int(count) for count in write.rng.integers(1, 5, 2))
    is_signed = seed % 2
    parameters = [write.constant(value) for value in (0.5, 0, 4)]
    write.append("Quant", *parameters, signed=is_signed, narrow=0, rounding_mode="FLOOR")
    kernel = [int(size) for size in write.rng.integers(1, 4, 2)]
    modes: list[dict[str, Any]] = [
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
        {"pads": [1, 0, 0, 2]},
    ]
    padding = modes[seed // 2 % 4]
    write.append("Conv", write.weight((outputs, channels, *kernel), int(write.rng.integers(1, 4))), **padding)
    # The pool before the batch norm: of falling channels it takes the smallest sum.
    write.append("MaxPool", kernel_shape=[2, 2], strides=[2, 1])
    write.batch_norm(outputs)
    write.activation()
    write.append("Flatten")
    model = write.model((channels, 8, 7), (1,), TensorProto.FLOAT)
    frames = write.rng.integers(-8 if is_signed else 0, 8 if is_signed else 16, (6, channels, 8, 7))
    imported = import_onnx(model)
    assert imported.graph.inputs["input"].number_format == (signed if is_signed else unsigned)(4)
    elements = imported.output.layout.size
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = elements
    reference = execute(model, frames * 0.5)
    assert compare(imported, frames.transpose(0, 2, 3, 1), reference, write.last) == 2


@pytest.mark.parametrize(("groups", "inputs", "outputs"), [(2, 2, 3), (4, 1, 1), (3, 1, 2)])
def test_grouped_convolutions_agree_in_every_tensor(
    groups: int, inputs: int, outputs: int, execute: Execute, compare: Compare
) -> None:
    write, channels = NetworkWriter(groups), groups * inputs
    write.append("Quant", *(write.constant(value) for value in (0.5, 2, 4)), signed=1, narrow=0, rounding_mode="ROUND")
    write.append("Mul", write.constant(write.rng.choice([-1, 1], (1, channels, 1, 1))))
    write.append("Conv", write.weight((groups * outputs, inputs, 3, 2), 3), group=groups, pads=[1, 0, 1, 1])
    write.append("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    write.batch_norm(groups * outputs)
    write.activation()
    write.append("Flatten")
    model = write.model((channels, 7, 6), (groups * outputs * 4 * 3,), TensorProto.FLOAT)
    imported = import_onnx(model)
    kinds = {type(node.op) for node in imported.graph.nodes}
    assert (DepthwiseConv if inputs == outputs == 1 else SlidingWindow) in kinds
    frames = write.rng.integers(-8, 8, (6, channels, 7, 6))
    reference = execute(model, (frames - 2) * 0.5)
    assert len(np.unique(reference[write.last])) > 1
    assert compare(imported, frames.transpose(0, 2, 3, 1), reference, write.last) == 2
