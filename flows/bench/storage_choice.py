"""What the estimate says of each storage of weights: LeNet-300-100 at two rates, a binary layer at two."""

from __future__ import annotations

from typing import Any

import numpy as np

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, equal
from karui.flows.bench.lenet_graph import compressed_lenet, matrices
from karui.flows.bench.reference_data import dataset
from karui.hw.plan.estimate import cycles
from karui.hw.plan.folding import fold_for_interval
from karui.hw.plan.stages import stages
from karui.hw.plan.storage_choice import least_worth, with_storage_that_pays
from karui.sw.ir import RAW, Graph, GraphBuilder, Huffman, MatrixVector, Shared, Sparse, with_storage
from karui.sw.numerics import BIPOLAR

SEED = 1
INTERVALS = (800, 2000)
BINARY_INTERVALS = (512, 4096)
WIDTH, VECTOR, BOOKS = 1024, 8, (16, 64)


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Estimate every storage, and hold the choice against the estimates."""
    graph = compressed_lenet(dataset("mnist", run.data_dir))
    checks: list[Check] = []
    details: dict[str, Any] = {}
    for interval in INTERVALS:
        label = f"{graph.name} at {interval} cycles"
        run.progress(label)
        details[label] = worths = _estimates(graph, interval)
        chosen = _chosen(graph, interval)
        for name, row in worths.items():
            checks.append(equal(f"{label}: {name}", chosen[name], _least(row)))
    for interval in BINARY_INTERVALS:
        for codes in BOOKS:
            label = f"{WIDTH} x {WIDTH} bits of {codes} vectors of {VECTOR} at {interval} cycles"
            run.progress(label)
            layer = _binary_layer(codes)
            details[label] = worths = _estimates(layer, interval)
            checks.append(equal(label, _chosen(layer, interval)["fc"], _least(worths["fc"])))
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


def _estimates(graph: Graph, interval: int) -> dict[str, dict[str, int | None]]:
    """For each layer what its cheapest engine is worth, in look-up tables, by storage."""
    names = matrices(graph)
    forms = {"coded": graph, "raw": with_storage(graph, dict.fromkeys(names, RAW))}
    gaps = {name: graph.constants[name].storage for name in names}
    entries = {name: Sparse(gap_bits=kept.gap_bits) for name, kept in gaps.items() if isinstance(kept, Huffman)}
    if entries:
        forms["entries of one width"] = with_storage(graph, entries)
    slowest = _slowest(graph, interval)
    found: dict[str, dict[str, int | None]] = {}
    for form, stored in forms.items():
        for stage in stages(stored):
            if isinstance(stage.op, MatrixVector):
                found.setdefault(stage.name, {})[form] = least_worth(stage, slowest)
    return found


def _least(row: dict[str, int | None]) -> str:
    coded, raw = row["coded"], row["raw"]
    assert coded is not None
    return "raw" if raw is not None and raw <= coded else "coded"


def _chosen(graph: Graph, interval: int) -> dict[str, str]:
    kept = with_storage_that_pays(graph, fold_for_interval(stages(graph), interval))
    return {
        name.removesuffix(".weights"): "raw" if kept.constants[name].storage == RAW else "coded"
        for name in matrices(graph)
    }


def _slowest(graph: Graph, interval: int) -> int:
    pipeline = stages(graph)
    folds = fold_for_interval(pipeline, interval).folds
    return max(cycles(stage.op, stage, folds[stage.name]) for stage in pipeline)


def _binary_layer(codes: int) -> Graph:
    """Random signs, of so many vectors."""
    random = np.random.default_rng(SEED)
    numbers = random.permutation(1 << VECTOR)[:codes]
    book = 2 * (numbers[:, None] >> np.arange(VECTOR) & 1) - 1
    weights = book[random.integers(0, codes, (WIDTH, WIDTH // VECTOR))].reshape(WIDTH, WIDTH)
    build = GraphBuilder("binary")
    edge = build.matrix_vector("fc", build.input("x", (WIDTH,), BIPOLAR), weights, storage=Shared(vector=VECTOR))
    return build.finish(build.threshold("fire", edge, np.zeros((WIDTH, 1), dtype=np.int64), BIPOLAR))


STORAGE_CHOICE = Benchmark(
    name="storage-choice",
    description="the estimate of raw, Huffman-coded and shared weights, and of entries of one width: LeNet-300-100's "
    "layers, a binary layer",
    target="every layer kept coded only where that is estimated to cost less at the same rate",
    minutes=2,
    measure=measure,
)
