"""The published TensorFlow Lite convolution in RTL: every byte."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from karui.flows.bench.tflite_conv import load_published, published_layer
from karui.hw.emit.accelerator import Accelerator
from karui.hw.emit.design_folder import write_design
from karui.hw.plan.folding import fold_for_interval
from karui.hw.plan.stages import stages
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.lower.from_tflite import convolution_from_tflite


@pytest.fixture(scope="module")
def published(shared_vectors: Path) -> dict[str, Any]:
    return load_published(shared_vectors / "tflite-conv-int8" / "conv_4x4x16_stride1.npz")


@pytest.mark.slow
def test_every_byte_of_the_published_convolution(published: dict[str, Any], tmp_path: Path) -> None:
    frames = published["input"].reshape(published["input_dims"])
    expected = published["expected_output"].reshape(published["output_dims"])
    graph = convolution_from_tflite(published_layer(published), frames.shape[1:])
    pipeline = stages(graph)
    assert [tuple(node.name for node in stage.nodes) for stage in pipeline] == [("conv.window",), ("conv.sums", "conv")]
    accelerator = Accelerator(graph=graph, folding=fold_for_interval(pipeline, 240_000))
    write_design(accelerator, tmp_path)
    # One frame of one layer, and again: the second is accepted while the first is computed.
    twice, wanted = np.concatenate([frames, frames]), np.concatenate([expected, expected])
    assert expected.size == 56_320
    for mode in (BackPressure.NONE, BackPressure.RANDOM):
        result = run_regression(tmp_path, twice, wanted, back_pressure=mode, seed=5)
        assert result.passed, result.failure()
        assert result.mismatches == 0
