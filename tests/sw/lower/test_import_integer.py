"""ONNX's integer operators, held against ONNX's own node tests and its reference implementation."""

import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case import node as node_tests
from onnx.reference import ReferenceEvaluator

from karui.flows.bench.onnx_cases import batched, integer_cases, tensor_of, with_constants, words_of
from karui.sw.golden import evaluate
from karui.sw.ir import DepthwiseConv, MatrixVector, MaxPool, Requantize, SlidingWindow, Threshold
from karui.sw.lower.from_qonnx import ImportedNetwork, import_onnx
from karui.sw.lower.onnx_model import INTEGER_OPERATORS, UnsupportedModel

CASES = integer_cases()


def check(imported: ImportedNetwork, tensor: np.ndarray, expected: np.ndarray) -> None:
    outputs = tensor_of(imported, evaluate(imported.graph, words_of(imported, tensor)))
    assert np.array_equal(outputs.reshape(expected.shape), expected)


@pytest.mark.parametrize("name", CASES)
def test_onnx_node_case(name: str) -> None:
    case = CASES[name]
    for inputs, outputs in case.data_sets:
        imported = import_onnx(with_constants(case, inputs))
        assert imported.dialect == "integer ONNX"
        # 255 thresholds a channel are no sensible hardware: a multiplication passes all of them.
        requantized = any(isinstance(node.op, Requantize) for node in imported.graph.nodes)
        assert requantized == ("qlinear" in name)
        assert not any(isinstance(node.op, Threshold) for node in imported.graph.nodes)
        check(imported, batched(inputs[0]), outputs[0])


def test_all_cases_of_the_integer_operators_are_covered() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other operators' cases divide by zero and overflow on purpose
        node_tests.collect_testcases()
    assert integer_cases().keys() == CASES.keys()
    covered = {node.op_type for case in CASES.values() for node in case.model.graph.node}
    assert covered == set(INTEGER_OPERATORS)
    assert len(CASES) == 12


def model_of(
    kind: str, shape: tuple[int, ...], operands: list[np.ndarray | None], *, unsigned: bool = True, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node; operands that are None are left out."""
    names = ["x", *(f"c{place}" if array is not None else "" for place, array in enumerate(operands))]
    initializers = [
        numpy_helper.from_array(array, name)
        for name, array in zip(names[1:], operands, strict=True)
        if array is not None
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, names, ["y"], f"my_{kind}", **attributes)],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.UINT8 if unsigned else TensorProto.INT8, [1, *shape])],
        [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def reference(model: onnx.ModelProto, tensor: np.ndarray) -> np.ndarray:
    """The output of ONNX's reference implementation."""
    return np.asarray(ReferenceEvaluator(model).run(None, {model.graph.input[0].name: tensor})[0])


def byte(rng: np.random.Generator, *shape: int, unsigned: bool) -> np.ndarray:
    low, high, kind = (0, 256, np.uint8) if unsigned else (-128, 128, np.int8)
    return rng.integers(low, high, shape).astype(kind)


def scale(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.uniform(0.001, 0.002, shape).astype(np.float32)


def output_scale(sums: np.ndarray) -> np.float32:
    """With which the sums, in units of the product of two scales, spread over the words."""
    return np.float32(0.0015**2 * sums.std() / 60)


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], dict[str, Any], type]] = {
    "plain": ((4, 3, 3, 3), {}, SlidingWindow),
    "strided": ((4, 3, 3, 2), {"strides": [2, 1], "pads": [1, 0, 0, 1]}, SlidingWindow),
    "same": ((2, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, SlidingWindow),
    "pointwise": ((5, 3, 1, 1), {}, MatrixVector),
    "grouped": ((6, 1, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}, SlidingWindow),
    "depthwise": ((3, 1, 2, 3), {"group": 3, "pads": [1, 2, 1, 0], "strides": [1, 2]}, DepthwiseConv),
}


@pytest.mark.parametrize("unsigned", [True, False])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_are_the_references(name: str, unsigned: bool) -> None:
    rng = np.random.default_rng(len(name))
    shape, attributes, kind = CONVOLUTIONS[name]
    weights, tensor = byte(rng, *shape, unsigned=False), byte(rng, 1, 3, 6, 7, unsigned=unsigned)
    zero, word = byte(rng, 1, unsigned=unsigned)[0], byte(rng, shape[0], unsigned=False)
    model = model_of("ConvInteger", (3, 6, 7), [weights, zero, word], unsigned=unsigned, **attributes)
    imported = import_onnx(model)
    assert isinstance(imported.graph.nodes[0].op, kind)
    sums = reference(model, tensor)
    check(imported, tensor, sums)
    operands = [scale(rng), zero, weights, scale(rng, shape[0]), word, output_scale(sums), zero]
    bias = rng.integers(-5000, 5000, shape[0]).astype(np.int32)
    model = model_of("QLinearConv", (3, 6, 7), [*operands, bias], unsigned=unsigned, **attributes)
    expected = reference(model, tensor)
    assert len(np.unique(expected)) > 15
    check(import_onnx(model), tensor, expected)


@pytest.mark.parametrize("unsigned", [True, False])
@pytest.mark.parametrize(
    ("left", "right"), [((5,), (5, 4)), ((3, 5), (5, 4)), ((2, 3, 5), (5, 4)), ((2, 3, 5), (2, 5, 4))]
)
def test_matrix_products_are_the_references(left: tuple[int, ...], right: tuple[int, ...], unsigned: bool) -> None:
    rng = np.random.default_rng(len(left) + len(right))
    weights, tensor = byte(rng, *right, unsigned=False), byte(rng, 1, *left, unsigned=unsigned)
    zero, columns = byte(rng, 1, unsigned=unsigned), byte(rng, right[-1], unsigned=False)
    model = model_of("MatMulInteger", left, [weights, zero, columns], unsigned=unsigned)
    sums = reference(model, tensor)
    check(import_onnx(model), tensor, sums)
    model = model_of("MatMulInteger", left, [weights], unsigned=unsigned)
    check(import_onnx(model), tensor, reference(model, tensor))
    w_scale = scale(rng, 1 if len(right) == 3 else right[-1])
    operands = [scale(rng, 1), zero, weights, w_scale, columns, output_scale(sums), zero]
    model = model_of("QLinearMatMul", left, operands, unsigned=unsigned)
    expected = reference(model, tensor)
    assert len(np.unique(expected)) > 2
    check(import_onnx(model), tensor, expected)


def test_a_zero_point_a_column_of_each_matrix() -> None:
    rng = np.random.default_rng(6)
    weights, columns = byte(rng, 2, 5, 4, unsigned=False), byte(rng, 2, 1, 4, unsigned=False)
    tensor = byte(rng, 1, 2, 3, 5, unsigned=True)
    model = model_of("MatMulInteger", (2, 3, 5), [weights, np.uint8([7]), columns])
    imported = import_onnx(model)
    assert imported.graph.nodes[0].op.groups == 2
    check(imported, tensor, reference(model, tensor))


def test_ties_go_to_even() -> None:
    operands = [np.float32(0.5), np.uint8(0), np.ones((1, 1), np.uint8), np.float32(1), np.uint8(0), np.float32(1)]
    model = model_of("QLinearMatMul", (1,), [*operands, np.uint8(3)])
    tensor = np.arange(256, dtype=np.uint8)[:, None]
    expected = reference(model, tensor)
    assert expected.ravel().tolist()[:6] == [3, 4, 4, 4, 5, 6]
    check(import_onnx(model), tensor, expected)


def test_a_network_of_integer_operators() -> None:
    rng = np.random.default_rng(12)

    def operands(prefix: str, weights: np.ndarray, bias: bool) -> tuple[list[str], dict[str, np.ndarray]]:
        outputs = weights.shape[0] if bias else weights.shape[-1]
        arrays = {
            "xs": scale(rng),
            "xz": np.uint8(100),
            "w": weights,
            "ws": scale(rng, outputs),
            "wz": np.int8(0),
            "ys": scale(rng),
            "yz": np.uint8(100),
        } | ({"b": rng.integers(-999, 999, outputs).astype(np.int32)} if bias else {})
        return [f"{prefix}.{name}" for name in arrays], {f"{prefix}.{name}": value for name, value in arrays.items()}

    first, constants = operands("first", byte(rng, 4, 3, 3, 3, unsigned=False), bias=True)
    # Columns that sum to zero: else what all images have in common decides.
    half = np.maximum(byte(rng, 2 * 4 * 4, 5, unsigned=False), -127)
    second, more = operands("second", np.stack([half, -half], axis=1).reshape(-1, 5), bias=False)
    nodes = [
        helper.make_node("QLinearConv", ["x", *first], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["c"], ["p"], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("QLinearMatMul", ["f", *second], ["m"], "dense"),
        helper.make_node("ArgMax", ["m"], ["y"], "class", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in {**constants, **more}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    imported = import_onnx(model)
    assert any(isinstance(node.op, MaxPool) and any(node.op.padding) for node in imported.graph.nodes)
    assert set(imported.quantized) == {"c", "m"}
    images = byte(rng, 20, 3, 8, 8, unsigned=True)
    expected = np.concatenate([reference(model, image[None]) for image in images])
    assert len(np.unique(expected)) > 1
    check(imported, images, expected)


WEIGHTS = np.ones((4, 3), np.int8)
QLINEAR = [np.float32(1), np.uint8(0), WEIGHTS, np.float32(1), np.int8(0), np.float32(1), np.uint8(0)]

REFUSED: dict[str, tuple[str, tuple[int, ...], list[np.ndarray | None], str]] = {
    "zero point a row": (
        "MatMulInteger",
        (2, 4),
        [WEIGHTS, np.uint8([[1], [2]])],
        "node my_MatMulInteger: the zero point 'c1' takes 2 values; a zero point a row of the activation is not",
    ),
    "stack without a batch": (
        "MatMulInteger",
        (2, 4),
        [np.ones((3, 4, 2), np.int8)],
        r"of tensors of shape \(1, 2, 4\) and \(3, 4, 2\); a stack of matrices takes as large a stack of constants",
    ),
    "misfit": ("MatMulInteger", (5,), [WEIGHTS], r"of tensors of shape \(1, 5\) and \(4, 3\)"),
    "zero points of weights": (
        "MatMulInteger",
        (4,),
        [WEIGHTS, None, np.int8([1, 2])],
        r"the zero point 'c2' of shape \(2,\) does not fit weights of shape \(4, 3\); give one for all",
    ),
    "scales": (
        "QLinearMatMul",
        (4,),
        [*QLINEAR[:3], np.float32([1, 2]), *QLINEAR[4:]],
        r"scales of shapes \(\), \(2,\) and \(\); give one for the input",
    ),
    "negative scale": (
        "QLinearMatMul",
        (4,),
        [np.float32(-1), *QLINEAR[1:]],
        r"x_scale \* w_scale / y_scale must be positive, not -1.0",
    ),
    "output type": ("QLinearMatMul", (4,), [*QLINEAR[:6], np.int16(0)], "an output of type int16; only uint8 and int8"),
    "one axis": ("ConvInteger", (3, 8, 8), [np.ones((2, 3, 3), np.int8)], "only convolutions over two axes"),
    "vector": ("ConvInteger", (8,), [np.ones((2, 8, 1, 1), np.int8)], "of a tensor that is not a feature map"),
    "groups": ("ConvInteger", (3, 8, 8), [np.ones((2, 2, 3, 3), np.int8)], "do not fit 3 channels"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_node_the_value_and_the_way_out(case: str) -> None:
    kind, shape, operands, message = REFUSED[case]
    with pytest.raises(UnsupportedModel, match=message) as refusal:
        import_onnx(model_of(kind, shape, operands))
    assert f"node my_{kind}: " in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_weights_must_be_constants() -> None:
    model = model_of("MatMulInteger", (4,), [WEIGHTS])
    del model.graph.initializer[:]
    with pytest.raises(UnsupportedModel, match="node my_MatMulInteger: its operand 'c0' must be a constant"):
        import_onnx(model)
