"""FINN's TFC through import: expected classes, bit-exact RTL, two foldings."""

from __future__ import annotations

import numpy as np

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, at_least, equal
from karui.flows.bench.reference_data import dataset, reference_vectors
from karui.flows.bench.regression import play_at_interval
from karui.sw.lower.agreement import to_graph_layout
from karui.sw.lower.from_qonnx import from_onnx

IMAGES = 500
INTERVALS = (64, 16)
# At 16 cycles a frame, the thresholds of the 784 pixels have to take 784 / 16 of them a cycle.
PIXELS_A_CYCLE = 49


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Play the published images and test images of MNIST at both rates."""
    folder = reference_vectors("finn-tfc-w1a1")
    graph = from_onnx(folder / "model.onnx")
    published = np.load(folder / "input.npy")
    expected = np.load(folder / "expected_output.npy").reshape(-1)
    test = dataset("mnist", run.data_dir).test_images[:IMAGES]
    frames = to_graph_layout(np.concatenate([published.astype(np.int64), test]))
    checks = []
    details = {}
    for interval in INTERVALS:
        label = f"at {interval} cycles"
        played = play_at_interval(
            graph, frames, interval=interval, folder=run.folder / str(interval), label=label, progress=run.progress
        )
        checks += [
            equal(f"{label}: classes of the published images", played.golden[: len(expected), 0].tolist(),
                  expected.astype(int).tolist()),
            *played.checks(label, interval),
        ]  # fmt: skip
        details[label] = played.details
    pixels = played.design.accelerator.engines[0].lanes_in
    checks.append(at_least(f"{label}: pixels taken a cycle", pixels, PIXELS_A_CYCLE))
    return BenchmarkResult(checks=tuple(checks), details=details)


FINN_TFC = Benchmark(
    name="finn-tfc",
    description="FINN's TFC, imported from its ONNX file: published classes, RTL against golden model on 504 images",
    target="classes as published, every word equal, initiation interval <= 64 and, folded again, <= 16 cycles",
    minutes=2,
    measure=measure,
)
