"""The int8 convolution that TensorFlow Lite's users published, byte by byte: golden model and RTL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, equal
from karui.flows.bench.reference_data import reference_vectors
from karui.flows.bench.regression import play_at_interval
from karui.sw.golden import evaluate
from karui.sw.lower.from_tflite import TfliteConvolution, convolution_from_tflite

INTERVAL = 57_344
BYTES = 56_320


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Compute the published frames in integers, then play them through the RTL."""
    published = load_published(reference_vectors("tflite-conv-int8") / "conv_4x4x16_stride1.npz")
    frames = published["input"].reshape(published["input_dims"])
    expected = published["expected_output"].reshape(published["output_dims"])
    graph = convolution_from_tflite(published_layer(published), frames.shape[1:], name="tflite_conv")
    outputs = evaluate(graph, frames)
    played = play_at_interval(
        graph, frames, interval=INTERVAL, folder=run.folder / "design", label="RTL", progress=run.progress
    )
    return BenchmarkResult(
        checks=(
            equal("bytes published", int(expected.size), BYTES),
            equal("bytes of the golden model that differ", int(np.count_nonzero(outputs != expected)), 0),
            *played.checks("RTL", INTERVAL),
        ),
        details={"RTL": played.details},
    )


def load_published(path: Path) -> dict[str, Any]:
    """The arrays of a published convolution, by name."""
    with np.load(path) as archive:
        return dict(archive)


def published_layer(arrays: dict[str, Any]) -> TfliteConvolution:
    """Its parameters."""
    stride = int(arrays["stride"])
    return TfliteConvolution(
        filters=arrays["filter"].reshape(arrays["filter_dims"]),
        bias=arrays["biases"],
        multipliers=arrays["multipliers"],
        shifts=arrays["shifts"],
        input_offset=int(arrays["input_offset"]),
        output_offset=int(arrays["output_offset"]),
        output_minimum=int(arrays["output_min"]),
        output_maximum=int(arrays["output_max"]),
        stride=(stride, stride),
    )


TFLITE_CONV = Benchmark(
    name="tflite-conv",
    description="a published TensorFlow Lite int8 convolution with its double rounding: golden model and RTL",
    target=f"all {BYTES:,} output bytes as published",
    minutes=2,
    measure=measure,
)
