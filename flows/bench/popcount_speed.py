"""Layers of binary bases on packed bits beside the float layers of PyTorch, on as many threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, at_least, equal
from karui.sw.decompose.packed import PackedLayer
from karui.sw.nn.decomposed import DecomposedConv2d, DecomposedLayer, DecomposedLinear, QuantizationSublayer

SEED = 0
POINTS = ((1, 1), (2, 2), (2, 4), (3, 4), (4, 4), (4, 6), (6, 4), (6, 6), (6, 8), (8, 8))
DECIDING = (4, 4)
FASTER = 2.0
REPEATS = 15
# Outputs on which packed and plain layers are compared.
COMPARED = 128


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Time each layer in floating point, then with random bases of each number and word of each width."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure(run)
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def _measure(run: BenchmarkRun) -> BenchmarkResult:
    generator = torch.Generator().manual_seed(SEED)
    layers: dict[str, tuple[nn.Conv2d | nn.Linear, tuple[int, ...]]] = {
        "VGG-16 fc1": (nn.Linear(25088, 4096), (1, 25088)),
        "VGG-16 fc2": (nn.Linear(4096, 4096), (1, 4096)),
        "VGG-16 conv5": (nn.Conv2d(512, 512, 3, padding=1), (1, 512, 14, 14)),
        "mnist-cnn fc1": (nn.Linear(3136, 128), (1, 3136)),
    }
    table: dict[str, Any] = {}
    wrong = 0
    for name, (layer, shape) in layers.items():
        inputs = torch.rand(shape, generator=generator)
        seconds = _best(lambda layer=layer, inputs=inputs: layer(inputs))  # type: ignore[misc]
        rows: dict[str, Any] = {"float32, ms": _milliseconds(seconds)}
        for bases, bits in POINTS:
            run.progress(f"{name}: {bases} bases, {bits} bits")
            binary = _random_layer(layer, bases, bits, generator)
            fast = PackedLayer(binary)
            packed = _best(lambda fast=fast, inputs=inputs: fast(inputs))  # type: ignore[misc]
            rows[f"{bases} bases, {bits} bits"] = {
                "ms": _milliseconds(packed),
                "times as fast": round(seconds / packed, 2),
            }
            wrong += _differing(binary, fast, inputs)
        table[name] = rows
    deciding = f"{DECIDING[0]} bases, {DECIDING[1]} bits"
    checks = (
        at_least(f"VGG-16 fc1, {deciding}: times as fast", table["VGG-16 fc1"][deciding]["times as fast"], FASTER),
        equal("outputs that differ from the layer's", wrong, 0),
    )
    details = {"batch": 1, "threads": 1, "processor time, best of": REPEATS, "layers": table}
    return BenchmarkResult(checks=checks, details=details, seed=SEED)


def _random_layer(layer: nn.Conv2d | nn.Linear, bases: int, bits: int, generator: torch.Generator) -> DecomposedLayer:
    outputs, size = len(layer.weight), layer.weight[0].numel()
    codes = torch.randint(0, 1 << bases, (outputs, size), dtype=torch.uint8, generator=generator)
    coefficients = torch.randint(-(1 << 15), 1 << 15, (outputs, bases), generator=generator)
    offset = torch.randint(-(1 << 20), 1 << 20, (outputs,), generator=generator)
    quantizer = QuantizationSublayer(
        torch.tensor([(1 << bits) - 1]), torch.tensor([0]), shift=0, bits=bits, input_fraction=0, zero_word=0
    )
    if isinstance(layer, nn.Linear):
        return DecomposedLinear(codes, coefficients, offset, fraction=12, quantizer=quantizer)
    return DecomposedConv2d(
        codes, coefficients, offset, fraction=12, quantizer=quantizer, kernel_size=(3, 3), padding=(1, 1)
    )


def _differing(layer: DecomposedLayer, fast: PackedLayer, inputs: Tensor) -> int:
    """Of the first outputs, how many differ: those of the float64 product are exact."""
    part = (layer.codes[:COMPARED], layer.coefficients[:COMPARED], layer.offset[:COMPARED])
    exact: DecomposedLayer
    if isinstance(layer, DecomposedConv2d):
        exact = DecomposedConv2d(
            *part, fraction=12, quantizer=layer.quantizer, kernel_size=layer.kernel_size, padding=layer.padding
        )
    else:
        exact = DecomposedLinear(*part, fraction=12, quantizer=layer.quantizer)
    return int((exact(inputs) != fast(inputs)[:, :COMPARED]).sum())


def _best(call: Callable[[], Tensor]) -> float:
    """The least processor time, which other work on the machine hardly changes."""
    call()
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times)


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)


POPCOUNT_SPEED = Benchmark(
    name="popcount-speed",
    description="layers of binary bases on packed bits beside PyTorch's in float32, batch 1, one thread: VGG-16's "
    "first fully connected layer, and others",
    target=f"fc1 >= {FASTER:g} times as fast with {DECIDING[0]} bases and {DECIDING[1]} bits, every output exact; the "
    "rest stated",
    minutes=5,
    measure=measure,
)
