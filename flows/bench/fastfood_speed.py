"""Fastfood layers against the dense ones that they replace, and the transform against other packages', on one core."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from scipy.linalg import hadamard
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, equal
from karui.sw.models.count import count
from karui.sw.nn.fastfood import AdaptiveFastfood
from karui.sw.nn.walsh_hadamard import walsh_hadamard
from karui.sw.train.seeding import threads

SEED = 1
SIZES = tuple(1 << bits for bits in range(8, 16))
BATCHES = (1, 128)
# AlexNet's convolutions give 9,216 values; the first dense layer has 4,096, the paper's Fastfood up to 32,768.
ALEXNET = ((9216, 4096), (9216, 16_384), (9216, 32_768))
# The Hadamard matrix as a dense one; beyond it takes gigabytes.
LARGEST_MATRIX = 8192
REPEATS, SECONDS = 20, 0.5
# Smallest size, at most, from which on Fastfood is the faster one.
CROSSOVERS = {(1, "forward"): 4096, (1, "backward"): 4096, (128, "forward"): 1024, (128, "backward"): 1024}
TIMES_FASTER = 20

Transform = Callable[[Tensor], Any]


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Time both kinds of layer turn by turn, then the transforms."""
    # The profiler, which counts the bytes, else writes lines of its own.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    torch.manual_seed(SEED)
    with threads(1):
        layers = [_layer(size, size, run) for size in SIZES]
        alexnet = [_layer(inputs, outputs, run) for inputs, outputs in ALEXNET]
        transforms = [_transforms(batch, size, run) for batch in BATCHES for size in SIZES]
    largest = layers[-1]
    checks: list[Check] = []
    for (batch, direction), limit in CROSSOVERS.items():
        first = _crossover(layers, batch, direction)
        checks.append(at_most(f"batch of {batch}, {direction}: Fastfood is faster from n =", first, limit))
    for batch in BATCHES:
        for direction in ("forward", "backward"):
            faster = largest["batches"][batch][direction]["times faster"]
            name = f"n = {SIZES[-1]:,}, batch of {batch}, {direction}: times as fast as dense"
            checks.append(at_least(name, faster, TIMES_FASTER))
    checks.append(at_least(f"n = {SIZES[-1]:,}: times as few parameters", largest["times fewer parameters"], 1000))
    for package in ("hadamard-transform", "fht-cpu"):
        ratios = [row["times as fast as"][package] for row in transforms]
        value = {"least": min(ratios), "most": max(ratios)}
        checks.append(Check(what=f"transform: times as fast as {package}", value=value, target="stated", passed=True))
    wrong = sum(row["elements that differ"] for row in transforms)
    checks.append(equal("transforms of integers: elements that differ between packages", wrong, 0))
    return BenchmarkResult(
        checks=tuple(checks),
        details={
            "processor time": f"of one core, in ms, best of up to {REPEATS} calls, turn by turn",
            "layers": layers,
            "alexnet": alexnet,
            "transforms": transforms,
            "torch": torch.__version__,
        },
        seed=SEED,
    )


def _layer(inputs: int, outputs: int, run: BenchmarkRun) -> dict[str, Any]:
    """Adaptive Fastfood beside a dense layer without a bias."""
    fastfood = AdaptiveFastfood(inputs, outputs)
    pair: dict[str, nn.Module] = {"fastfood": fastfood, "dense": nn.Linear(inputs, outputs, bias=False)}
    counts = {name: count(layer, (inputs,)) for name, layer in pair.items()}
    row: dict[str, Any] = {
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {name: counted.parameters for name, counted in counts.items()},
        "multiplications": {name: counted.macs for name, counted in counts.items()},
        "additions of the transforms": 2 * fastfood.blocks * fastfood.size * (fastfood.size.bit_length() - 1),
        "times fewer parameters": round(counts["dense"].parameters / counts["fastfood"].parameters, 1),
        "batches": {},
    }
    for batch in BATCHES:
        features = torch.randn(batch, inputs, requires_grad=True)
        gradient = torch.randn(batch, outputs)
        passes = {name: (layer, features, gradient) for name, layer in pair.items()}
        forward = _race({name: partial(_forward, layer, features) for name, layer in pair.items()})
        backward = _race(
            {name: partial(_backward, gradient) for name in pair},
            {name: partial(_recorded, layer, features) for name, layer in pair.items()},
        )
        row["batches"][batch] = measured = {
            "forward": _compared(forward),
            "backward": _compared(backward),
            "peak MB, forward": {name: _peak(partial(_forward, layer, features)) for name, layer in pair.items()},
            "peak MB, forward and backward": {name: _training_peak(*pass_) for name, pass_ in passes.items()},
        }
        times = ", ".join(f"{name} {measured[name]}" for name in ("forward", "backward"))
        run.progress(f"{inputs:,} -> {outputs:,}, batch of {batch}: {times}")
    return row


def _transforms(batch: int, size: int, run: BenchmarkRun) -> dict[str, Any]:
    """The transform of integers in floats beside other packages' on the same values."""
    # Development dependencies: nothing but this comparison needs them.
    from fht_cpu import fht
    from hadamard_transform import hadamard_transform

    values = torch.randint(-128, 128, (batch, size)).float()
    array = values.numpy()
    calls: dict[str, Callable[[], Any]] = {
        "karui": partial(walsh_hadamard, values),
        "fht-cpu": partial(fht, array, inplace=False, num_threads=1),
        "hadamard-transform": partial(hadamard_transform, values),
    }
    if size <= LARGEST_MATRIX:
        matrix = torch.tensor(hadamard(size), dtype=torch.float32)
        calls["product with the matrix"] = partial(torch.matmul, values, matrix)
    expected = torch.as_tensor(fht(array, inplace=False, num_threads=1))
    differing = int((walsh_hadamard(values) != expected).sum())
    # This one divides by the root of the size, and rounds.
    scaled = hadamard_transform(values) * math.sqrt(size)
    differing += int((scaled.round() != expected).sum()) if size <= 1024 else 0
    times = _race(calls)
    row = {
        "batch": batch,
        "size": size,
        "ms": {name: _milliseconds(seconds) for name, seconds in times.items()},
        "times as fast as": {
            name: round(seconds / times["karui"], 2) for name, seconds in times.items() if name != "karui"
        },
        "elements that differ": differing,
    }
    run.progress(f"transform of {batch} x {size:,}: {row['ms']}")
    return row


def _race(
    calls: dict[str, Callable[..., Any]], prepare: dict[str, Callable[[], Any]] | None = None
) -> dict[str, float]:
    """Best processor time of each, called in turns; what prepares a call, and gives its argument, is not timed."""
    best = dict.fromkeys(calls, math.inf)
    spent = 0.0
    for repeat in range(REPEATS):
        if repeat > 1 and spent > SECONDS * len(calls):
            break
        for name, call in calls.items():
            arguments = (prepare[name](),) if prepare is not None else ()
            started = time.process_time()
            call(*arguments)
            seconds = time.process_time() - started
            best[name] = min(best[name], seconds)
            spent += seconds
    return best


def _forward(layer: nn.Module, features: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = layer(features)
    return output


def _recorded(layer: nn.Module, features: Tensor) -> Tensor:
    _clear(layer, features)
    output: Tensor = layer(features)
    return output


def _clear(layer: nn.Module, features: Tensor) -> None:
    layer.zero_grad(set_to_none=True)
    features.grad = None


def _backward(gradient: Tensor, output: Tensor) -> None:
    output.backward(gradient)  # type: ignore[no-untyped-call]


def _training_peak(layer: nn.Module, features: Tensor, gradient: Tensor) -> float:
    _clear(layer, features)
    peak = _peak(lambda: _backward(gradient, _recorded(layer, features)))
    _clear(layer, features)
    return peak


def _peak(call: Callable[[], Any]) -> float:
    """Most bytes that a call held at a time beside its inputs and the parameters, gradients included, in MB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    assert profiled.profiler is not None
    results = profiled.profiler.kineto_results
    assert results is not None
    changes = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return round(peak / 1e6, 3)


def _compared(seconds: dict[str, float]) -> dict[str, float]:
    times = {f"{name}, ms": _milliseconds(value) for name, value in seconds.items()}
    return times | {"times faster": round(seconds["dense"] / seconds["fastfood"], 2)}


def _crossover(layers: list[dict[str, Any]], batch: int, direction: str) -> float:
    """The size from which on Fastfood is faster at every size measured."""
    first = math.inf
    for row in reversed(layers):
        if row["batches"][batch][direction]["times faster"] <= 1:
            break
        first = row["inputs"]
    return first


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)


FASTFOOD_SPEED = Benchmark(
    name="fastfood-speed",
    description="adaptive Fastfood against dense layers of n = 256 to 32,768 and of AlexNet's shapes, forward and "
    "backward, time and memory; the transform against the packages fht-cpu and hadamard-transform",
    target=f"crossover stated, at n = 32,768 >= {TIMES_FASTER} times as fast; results equal",
    minutes=5,
    measure=measure,
)
