"""ONNX's own node tests of its integer operators: golden model and RTL."""

from __future__ import annotations

from typing import Any

import numpy as np

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, equal
from karui.flows.bench.onnx_cases import batched, integer_cases, tensor_of, with_constants, words_of
from karui.flows.bench.regression import play_at_interval
from karui.hw.plan.stages import UnsupportedNode
from karui.sw.golden import evaluate
from karui.sw.ir import GraphError
from karui.sw.lower.from_qonnx import import_onnx

INTERVAL = 4096
CASES = 12


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Import every case, compare the golden model with the expected tensor, play it through the RTL."""
    cases = integer_cases()
    checks: list[Check] = [at_least("node tests of the four operators", len(cases), CASES)]
    golden_only: dict[str, str] = {}
    details: dict[str, Any] = {}
    for name, case in cases.items():
        (inputs, outputs), *_ = case.data_sets
        imported = import_onnx(with_constants(case, inputs))
        frames = words_of(imported, batched(inputs[0]))
        result = tensor_of(imported, evaluate(imported.graph, frames)).reshape(outputs[0].shape)
        checks.append(equal(f"{name}: elements that differ", int(np.count_nonzero(result != outputs[0])), 0))
        try:
            played = play_at_interval(
                imported.graph, frames, interval=INTERVAL, folder=run.folder / name, label=name, progress=run.progress
            )
        except (UnsupportedNode, GraphError) as refusal:
            golden_only[name] = str(refusal)
            continue
        checks.append(equal(f"{name}: failed checks of the RTL", played.result.failure() or "none", "none"))
        details[name] = played.details
    details["golden model only"] = golden_only
    checks.append(at_least("node tests in RTL", len(cases) - len(golden_only), CASES))
    return BenchmarkResult(checks=tuple(checks), details=details)


ONNX_INTEGER = Benchmark(
    name="onnx-integer",
    description="ONNX's own node tests of QLinearConv, ConvInteger, MatMulInteger, QLinearMatMul: golden model and RTL",
    target="every element of all 12 as ONNX expects it, in RTL too",
    minutes=8,
    measure=measure,
)
