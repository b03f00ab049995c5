"""A trained network that onnxruntime's own quantizer wrote."""

import gzip
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from karui.sw.golden import evaluate
from karui.sw.lower.from_qonnx import import_onnx

MNIST_CONV = Path(str(files("qonnx") / "data/onnx/mnist-conv/model.onnx"))
IMAGES = 100


@pytest.fixture(scope="module")
def images(shared_data: Path) -> np.ndarray:
    content = gzip.decompress((shared_data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 1, 28, 28)[:IMAGES].astype(np.float32)


class Calibration(CalibrationDataReader):
    """Images one at a time."""

    def __init__(self, name: str, images: np.ndarray) -> None:
        self._feeds = iter([{name: image[None]} for image in images])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def test_a_network_that_onnxruntime_quantized_is_onnxruntimes(images: np.ndarray, tmp_path: Path) -> None:
    model = version_converter.convert_version(onnx.load(MNIST_CONV), 13)
    onnx.save(model, tmp_path / "float.onnx")
    name = model.graph.input[0].name
    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "quantized.onnx",
        Calibration(name, images[:32]),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    imported = import_onnx(tmp_path / "quantized.onnx")
    meaning = imported.input.meaning
    words = np.rint(images / meaning.scale.astype(np.float32)) - meaning.offset
    words = np.clip(words, 0, 255).astype(np.int64).transpose(0, 2, 3, 1)
    outputs = imported.output.real(evaluate(imported.graph, words)).reshape(IMAGES, -1)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(tmp_path / "quantized.onnx", options)
    expected = np.concatenate([session.run(None, {name: image[None]})[0] for image in images]).reshape(IMAGES, -1)
    assert len(np.unique(expected)) > 100
    # Its float sums depend on the order of their terms: a value at the edge of a step may fall to the other side.
    assert np.mean(outputs == expected) > 0.999
    assert np.array_equal(outputs.argmax(axis=1), expected.argmax(axis=1))
