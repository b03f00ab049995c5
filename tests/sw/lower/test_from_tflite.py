from pathlib import Path
from typing import Any

import numpy as np
import pytest

from karui.flows.bench.tflite_conv import load_published, published_layer
from karui.sw.golden import evaluate
from karui.sw.ir import GraphError
from karui.sw.lower.from_tflite import TfliteConvolution, convolution_from_tflite


@pytest.fixture(scope="module")
def published(shared_vectors: Path) -> dict[str, Any]:
    return load_published(shared_vectors / "tflite-conv-int8" / "conv_4x4x16_stride1.npz")


def test_every_byte_of_the_published_convolution(published: dict[str, Any]) -> None:
    frames = published["input"].reshape(published["input_dims"])
    expected = published["expected_output"].reshape(published["output_dims"])
    graph = convolution_from_tflite(published_layer(published), frames.shape[1:])
    outputs = evaluate(graph, frames)
    assert outputs.size == 56_320
    assert np.array_equal(outputs, expected)


def reference(layer: TfliteConvolution, frame: np.ndarray) -> np.ndarray:
    """The reference kernel's loops, one output at a time."""
    top, left, bottom, right = layer.padding
    outputs, height, width, _ = layer.filters.shape
    rows = (frame.shape[0] + top + bottom - height) // layer.stride[0] + 1
    columns = (frame.shape[1] + left + right - width) // layer.stride[1] + 1
    result = np.empty((rows, columns, outputs), dtype=np.int64)
    for row, column, output in np.ndindex(*result.shape):
        total = 0 if layer.bias is None else int(layer.bias[output])
        for y, x in np.ndindex(height, width):
            position = row * layer.stride[0] - top + y, column * layer.stride[1] - left + x
            if 0 <= position[0] < frame.shape[0] and 0 <= position[1] < frame.shape[1]:
                values = frame[position].astype(int) + layer.input_offset
                total += int(values @ layer.filters[output, y, x].astype(int))
        left_shift, right_shift = max(int(layer.shifts[output]), 0), max(-int(layer.shifts[output]), 0)
        product = (total << left_shift) * int(layer.multipliers[output])
        nudge = 1 << 30 if product >= 0 else 1 - (1 << 30)
        high = abs(product + nudge) // (1 << 31) * (1 if product + nudge >= 0 else -1)
        mask = (1 << right_shift) - 1
        word = (high >> right_shift) + ((high & mask) > (mask >> 1) + (high < 0)) + layer.output_offset
        result[row, column, output] = min(max(word, layer.output_minimum), layer.output_maximum)
    return result


@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
def test_padding_strides_and_shifts_to_both_sides(stride: tuple[int, int]) -> None:
    rng = np.random.default_rng(8)
    layer = TfliteConvolution(
        filters=rng.integers(-9, 10, (4, 3, 2, 3)),
        bias=rng.integers(-99, 100, 4),
        multipliers=rng.integers(1 << 30, 1 << 31, 4),
        shifts=np.array([-7, 0, 1, -3]),
        input_offset=5,
        output_offset=-3,
        output_minimum=-100,
        output_maximum=90,
        stride=stride,
        padding=(1, 0, 2, 1),
    )
    frame = rng.integers(-128, 128, (5, 6, 3))
    outputs = evaluate(convolution_from_tflite(layer, (5, 6, 3)), frame[None])
    assert np.array_equal(outputs[0], reference(layer, frame))
    assert len(np.unique(outputs)) > 20


def test_arrays_that_do_not_fit_are_named() -> None:
    ones = np.ones(2, dtype=np.int64)
    with pytest.raises(ValueError, match=r"filters are \(outputs, height, width, inputs\), not of shape \(2, 3\)"):
        TfliteConvolution(filters=np.ones((2, 3)), multipliers=ones, shifts=ones)
    with pytest.raises(ValueError, match=r"shifts of shape \(3,\) do not fit 2 filters: give \(2,\)"):
        TfliteConvolution(filters=np.ones((2, 1, 1, 3)), multipliers=ones, shifts=np.zeros(3))
    layer = TfliteConvolution(filters=np.ones((2, 1, 1, 3)), multipliers=-ones, shifts=ones)
    with pytest.raises(GraphError, match="node conv: the multipliers are 0 to 2147483647, not -1 to -1"):
        convolution_from_tflite(layer, (2, 2, 3))
