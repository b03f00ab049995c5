"""The published LFC: its own output bits, and all MNIST test images through the RTL."""

from __future__ import annotations

from functools import partial

import numpy as np

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, at_most, equal
from karui.flows.bench.reference_data import dataset, reference_vectors
from karui.flows.bench.regression import Array, play_at_interval
from karui.sw.ir import Graph
from karui.sw.lower.agreement import to_graph_layout
from karui.sw.lower.from_arrays import binary_mlp_from_arrays, thresholds_on_sums

LAYERS = 4
CLASSES = 10
ACCURACY = 0.9834
SIMULATION_SECONDS = 180


def published_lfc(arrays: dict[str, Array]) -> Graph:
    """The network with the scores of its 64 output neurons as its output.

    An output neuron fires when its matches p exceed a threshold t. The sum of its K signs is 2 p - K; with K - 2 t - 2
    as a bias the score is 2 (p - t - 1), which is 0 or more where the neuron fires, and grows with p - t.
    """
    weights, matches = [], []
    for layer in range(LAYERS):
        inputs = int(arrays[f"shape{layer}"][1])
        bits = np.unpackbits(arrays[f"weight{layer}"], axis=1, bitorder="little")[:, :inputs]
        weights.append(2 * bits.astype(np.int64) - 1)
        matches.append(arrays[f"threshold{layer}"].astype(np.int64))
    steps = [thresholds_on_sums(step, matrix.shape[1]) for step, matrix in zip(matches, weights, strict=True)]
    return binary_mlp_from_arrays(
        weights,
        steps[:-1],
        name="lfc",
        bias=-steps[-1],
        input_shape=(28, 28, 1),
        pixel_threshold=128,
        arg_max=False,
    )


def measure(interval: int, run: BenchmarkRun) -> BenchmarkResult:
    """Play the published image and all test images, and judge the words that the RTL was held against."""
    with np.load(reference_vectors("bnn-pynq-lfc-w1a1") / "lfc_w1a1.npz") as archive:
        arrays = dict(archive)
    mnist = dataset("mnist", run.data_dir)
    images = np.concatenate([arrays["image"].reshape(1, 1, 28, 28), mnist.test_images])
    label = f"at {interval} cycles"
    played = play_at_interval(
        published_lfc(arrays),
        to_graph_layout(images),
        interval=interval,
        folder=run.folder / "design",
        label=label,
        progress=run.progress,
    )
    published, scores = played.golden[0], played.golden[1:]
    right = scores[:, :CLASSES].argmax(axis=1) == mnist.test_labels
    checks = (
        equal("class of the published image", int(published[:CLASSES].argmax()), 3),
        equal(
            "output bits of the published image that differ",
            int(np.sum((published >= 0) != arrays["output_bits"].astype(bool))),
            0,
        ),
        *played.checks(label, interval),
        equal(f"accuracy on {right.size:,} test images", float(right.mean()), ACCURACY),
        at_most("seconds of simulation", round(played.result.seconds, 1), SIMULATION_SECONDS),
    )
    return BenchmarkResult(checks=checks, details=played.details)


LFC_VECTORS = Benchmark(
    name="lfc-vectors",
    description="the LFC that BNN-PYNQ published: 64 output scores for its image and all 10,000 MNIST test images",
    target="class 3, output bits as published, every word equal, 98.34 %, <= 512 cycles, simulated in < 3 minutes",
    minutes=6,
    measure=partial(measure, 512),
)

LFC_VECTORS_128 = Benchmark(
    name="lfc-vectors-128",
    description="the same at a quarter of the cycles; for simulation only, the design is too large for an ECP5",
    target="the same at <= 128 cycles",
    minutes=10,
    measure=partial(measure, 128),
)
