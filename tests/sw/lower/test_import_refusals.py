from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from karui.sw.golden import evaluate
from karui.sw.lower.from_qonnx import from_onnx, import_onnx
from karui.sw.lower.onnx_model import UnsupportedModel
from karui.sw.numerics import BIPOLAR, unsigned

Nodes = list[onnx.NodeProto]


def model_of(
    nodes: Nodes, shape: tuple[int, ...] = (4,), kind: int = TensorProto.FLOAT, **constants: Any
) -> onnx.ModelProto:
    """A model whose output is the last node's first; constants are float32 unless integers are given as arrays."""
    standard = {"one": 1.0, "zero": 0.0, "two": 2.0, "bits": 4.0, "w": np.eye(4), "w_conv": np.ones((2, 1, 3, 3))}
    wanted = {name for node in nodes for name in node.input}
    tensors = {name: value for name, value in {**standard, **constants}.items() if name in wanted}
    initializers = [
        numpy_helper.from_array(value if isinstance(value, np.ndarray) and value.dtype == np.int64 else
                                np.asarray(value, np.float32), name)
        for name, value in tensors.items()
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", kind, [1, *shape])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def node(kind: str, *inputs: str, to: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [to], f"my_{kind}", **attributes)


def quant(source: str, to: str, scale: str = "one", **attributes: Any) -> onnx.NodeProto:
    given = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"} | attributes
    return helper.make_node("Quant", [source, scale, "zero", "bits"], [to], f"quant_{to}", **given)


INPUT = quant("x", "q")
WEIGHT = quant("w", "wq")
CONV_WEIGHT = quant("w_conv", "cq")
IMAGE = (1, 6, 6)

REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "neither dialect": (
        lambda: model_of([node("MatMul", "x", "w")]),
        "small is of neither dialect: .*quantize the network and export it as QONNX",
    ),
    "float weight": (
        lambda: model_of([INPUT, node("MatMul", "q", "w")]),
        "node my_MatMul: its weight 'w' is of floats; pass it through a Quant or BipolarQuant node, or annotate",
    ),
    "float convolution weight": (
        lambda: model_of([INPUT, node("Conv", "q", "w_conv")], IMAGE),
        "node my_Conv: its weight 'w_conv' is of floats; pass it",
    ),
    "real input": (
        lambda: model_of([WEIGHT, node("MatMul", "x", "wq")]),
        r"node my_MatMul: the input 'x' reaches it as real numbers; .* input_format=unsigned\(8\)",
    ),
    "unsupported operation": (
        lambda: model_of([INPUT, node("Sigmoid", "q")]),
        "node my_Sigmoid: Sigmoid is not supported; supported are Add, ArgMax, BatchNormalization, BipolarQuant",
    ),
    "truncation": (
        lambda: model_of([INPUT, node("Trunc", "q", "one", "zero", "bits", "bits")]),
        "node my_Trunc: Trunc is not supported",
    ),
    "groups": (
        lambda: model_of([INPUT, CONV_WEIGHT, node("Conv", "q", "cq", group=2)], IMAGE),
        r"node my_Conv: weights of shape \(2, 1, 3, 3\) in 2 groups do not fit 1 channels",
    ),
    "dilation": (
        lambda: model_of([INPUT, CONV_WEIGHT, node("Conv", "q", "cq", dilations=[2, 2])], IMAGE),
        r"node my_Conv: dilations \[2, 2\]; only 1 is supported",
    ),
    "unknown padding": (
        lambda: model_of([INPUT, CONV_WEIGHT, node("Conv", "q", "cq", auto_pad="MIRROR")], IMAGE),
        "node my_Conv: auto_pad 'MIRROR'; state the padding in pads",
    ),
    "bipolar padding": (
        lambda: model_of(
            [helper.make_node("BipolarQuant", ["x", "one"], ["q"]), CONV_WEIGHT, node("Conv", "q", "cq", pads=[1] * 4)],
            IMAGE,
        ),
        "node my_Conv: it pads with 0.0, which no word of its bipolar input stands for; pad nothing, or quantize",
    ),
    "ceiling pool": (
        lambda: model_of([INPUT, node("MaxPool", "q", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], IMAGE),
        r"node my_MaxPool: MaxPool with ceil_mode 1 and \[1, 1\] rows and columns left over; only whole windows",
    ),
    "not monotone": (
        lambda: model_of([INPUT, node("LeakyRelu", "q", to="r", alpha=-0.5), quant("r", "y")]),
        "node my_LeakyRelu: LeakyRelu with alpha -0.5 falls and rises; only monotone step functions",
    ),
    "reciprocal": (
        lambda: model_of([INPUT, node("Div", "one", "q", to="r"), quant("r", "y")]),
        "node my_Div: Div of a constant by a tensor is no monotone step",
    ),
    "residual": (
        lambda: model_of([INPUT, node("Add", "q", "q")]),
        "node my_Add: Add of two tensors; one operand must be a constant",
    ),
    "unquantized rectifier": (
        lambda: model_of([INPUT, node("Relu", "q", to="r"), WEIGHT, node("MatMul", "r", "wq")]),
        "node my_MatMul: a rectifier or clamp reaches it unquantized; quantize the activation first",
    ),
    "scale a channel": (
        lambda: model_of(
            [INPUT, node("Mul", "q", "scales", to="r"), WEIGHT, node("MatMul", "r", "wq")], scales=[1.0, 2.0, 1.0, 1.0]
        ),
        "node my_MatMul: its input has a scale of its own in each channel; use one scale",
    ),
    "scale an input": (
        lambda: model_of(
            [INPUT, quant("w", "wq", "column"), node("MatMul", "q", "wq")], column=[[1.0], [2.0], [1.0], [1.0]]
        ),
        "node my_MatMul: its weight has more than one scale in an output",
    ),
    "too many bits": (
        lambda: model_of([quant("x", "q"), quant("q", "y")], bits=12.0, kind=TensorProto.UINT8),
        "node quant_q: 12 bits need 4095 thresholds a channel; quantize activations to 10 bits or fewer",
    ),
    "fractional bits": (
        lambda: model_of([INPUT], bits=2.5),
        r"node quant_q: the bit width must be one integer from 1 to 64, not \[2.5\]",
    ),
    "negative scale": (
        lambda: model_of([INPUT], one=-1.0),
        "node quant_q: the scale must be positive, not -1.0",
    ),
    "rounding mode": (
        lambda: model_of([quant("x", "q", rounding_mode="STOCHASTIC")]),
        "node quant_q: rounding_mode must be one of ROUND, HALF_EVEN, .*, not 'STOCHASTIC'",
    ),
    "not finite": (
        lambda: model_of([INPUT, node("Add", "q", "nan", to="r"), quant("r", "y")], nan=np.nan),
        "node my_Add: a constant holds nan",
    ),
    "misfit": (
        lambda: model_of([INPUT, WEIGHT, node("MatMul", "q", "wq")], (5,)),
        "node my_MatMul: weights for 4 inputs do not fit 5",
    ),
    "one dimension": (
        lambda: model_of([INPUT], (3, 7)),
        r"the input 'x' has the shape \(batch, 3, 7\); it must be \(batch, channels, height, width\)",
    ),
    "double input": (
        lambda: model_of([INPUT], kind=TensorProto.DOUBLE),
        "the input 'x' is of type DOUBLE; it must be FLOAT, UINT8 or INT8",
    ),
    "two quantizers at the input": (
        lambda: model_of([INPUT, quant("x", "other", "two"), node("Concat", "q", "other", axis=1)]),
        "node quant_other: the input 'x' is quantized in more than one way; give it a number format",
    ),
    "two roundings of the input": (
        lambda: model_of([INPUT, quant("x", "other", rounding_mode="FLOOR"), node("Concat", "q", "other", axis=1)]),
        "node quant_other: the input 'x' is quantized in more than one way",
    ),
    "same quantizer twice": (
        lambda: model_of([INPUT, quant("x", "other"), node("Concat", "q", "other", axis=1)]),
        "node my_Concat: Concat is not supported",
    ),
    "threshold rows": (
        lambda: model_of([node("MultiThreshold", "x", "steps")], steps=np.zeros((3, 1)), kind=TensorProto.UINT8),
        r"node my_MultiThreshold: thresholds of shape \(3, 1\) do not fit 4 channels",
    ),
    "batch": (
        lambda: model_of([INPUT, node("Reshape", "q", "target")], target=np.array([2, 2])),
        r"node my_Reshape: Reshape to \(2, 2\) moves the batch axis",
    ),
    "missing operand": (
        lambda: model_of([helper.make_node("Quant", ["x", "one"], ["q"], "short")]),
        "node short: Quant takes 3 parameters, not 1",
    ),
    "missing attribute": (
        lambda: model_of([INPUT, node("MaxPool", "q")], IMAGE),
        r"node my_MaxPool: it lacks an operand or attribute \('kernel_shape'\)",
    ),
    "kernel too large": (
        lambda: model_of([INPUT, node("MaxPool", "q", kernel_shape=[9, 9])], IMAGE),
        "node my_MaxPool: a kernel of 9x9 does not fit a map of 6x6",
    ),
    "reshape": (
        lambda: model_of([INPUT, node("Reshape", "q", "target")], target=np.array([1, 3])),
        "node my_Reshape: cannot reshape",
    ),
    "smallest": (
        lambda: model_of([INPUT, node("TopK", "q", "count", largest=0)], count=np.array([1])),
        "node my_TopK: only the first of the largest elements over all of a vector",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_node_the_value_and_the_way_out(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(UnsupportedModel, match=message) as refusal:
        from_onnx(make())
    assert "\n" not in str(refusal.value)


def test_annotation_that_the_values_contradict_is_refused() -> None:
    model = model_of([node("MatMul", "x", "w")], kind=TensorProto.UINT8)
    annotation = model.graph.quantization_annotation.add(tensor_name="w")
    annotation.quant_parameter_tensor_names.add(key="finn_datatype", value="BIPOLAR")
    with pytest.raises(UnsupportedModel, match=r"tensor 'w': values from 0.0 to 1.0 are not all of .*bipolar"):
        from_onnx(model)
    annotation.quant_parameter_tensor_names[0].value = "BINARY"
    words = np.array([[1, 200, 3, 4]])
    np.testing.assert_array_equal(evaluate(from_onnx(model), words), words)


@pytest.mark.parametrize("content", [b"", b"not an onnx file\n" * 9, bytes(range(256))])
def test_files_that_are_no_models_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(
        UnsupportedModel, match=r"broken\.onnx (holds no ONNX graph|is no readable ONNX model)"
    ) as refusal:
        from_onnx(path)
    assert "\n" not in str(refusal.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"gone\.onnx is not there: give the path of an \.onnx file"):
        from_onnx(tmp_path / "gone.onnx")


@pytest.mark.parametrize(("network", "operation"), [("subpixel", "DepthToSpace"), ("nn_resize", "Resize")])
def test_real_networks_are_read_up_to_the_first_unsupported_operation(network: str, operation: str) -> None:
    path = Path(str(files("qonnx") / "data/onnx/bsd300x3-espcn" / network / "quant_model.onnx"))
    with pytest.raises(UnsupportedModel, match=f"{operation} is not supported; supported are"):
        import_onnx(path, input_format=unsigned(8))


def test_quantizer_that_changes_nothing_needs_no_node() -> None:
    nodes = [quant("x", "q", signed=0), quant("q", "again", signed=0), node("MaxPool", "again", kernel_shape=[2, 2])]
    model = model_of(nodes, IMAGE)
    graph = from_onnx(model)
    assert [type(made.op).__name__ for made in graph.nodes] == ["MaxPool"]
    assert graph.inputs["input"].number_format == unsigned(4)


def test_number_format_of_the_input_may_be_given() -> None:
    model = model_of([quant("x", "q"), WEIGHT, node("MatMul", "q", "wq")])
    graph = from_onnx(model, input_format=BIPOLAR, name="given", classes="abcd")
    assert graph.inputs["input"].number_format == BIPOLAR
    assert (graph.name, graph.classes) == ("given", tuple("abcd"))
