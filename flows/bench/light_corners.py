"""Corners of convolutions and joins: each works in RTL, or is refused in one line that names it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, equal
from karui.flows.bench.regression import play_at_interval
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import Concat, GraphBuilder, GraphError
from karui.sw.lower.agreement import compare_with_golden, to_graph_layout
from karui.sw.lower.from_torch import lower
from karui.sw.models.blocks import Branches
from karui.sw.nn import BinaryActivation, BinaryConv2d, GlobalAveragePool, QuantConv2d, QuantLinear, QuantReLU
from karui.sw.numerics import unsigned
from karui.sw.train.seeding import seeded

SHAPE = (4, 9, 9)
INTERVAL = 8192
IMAGES = 20
SEED = 1


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Play what works, provoke what is refused."""
    checks: list[Check] = []
    for name, layers in WORKING.items():
        checks += _works(name, layers, run)
    for name, (provoke, message) in REFUSED.items():
        run.progress(name)
        checks.append(_refused(name, provoke, message))
    return BenchmarkResult(checks=tuple(checks), seed=SEED)


def _conv(in_channels: int, out_channels: int, size: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = QuantConv2d(in_channels, out_channels, size, stride=stride, padding=size // 2, groups=groups, weight_bits=4)
    return [conv, nn.BatchNorm2d(out_channels), QuantReLU(bits=4)]


# Layers behind a first convolution to 8 channels, and their number of channels.
WORKING: dict[str, tuple[Callable[[], list[nn.Module]], int]] = {
    "groups, neither 1 nor all": (lambda: _conv(8, 12, 3, groups=4), 12),
    "depthwise with a channel multiplier of 3": (lambda: _conv(8, 24, 3, groups=8), 24),
    "depthwise, stride 2 larger than the kernel of 1": (lambda: _conv(8, 8, 1, stride=2, groups=8), 8),
    "standard, stride 4 larger than the kernel of 3": (lambda: _conv(8, 8, 3, stride=4), 8),
    "depthwise, stride 4 larger than the kernel of 3": (lambda: _conv(8, 8, 3, stride=4, groups=8), 8),
    "concat of formats of 4 and 6 bits": (
        lambda: [Branches(_conv(8, 8, 1), [*_conv(8, 4, 3)[:-1], QuantReLU(bits=6)])],
        12,
    ),
}  # fmt: skip


def _works(name: str, layers: tuple[Callable[[], list[nn.Module]], int], run: BenchmarkRun) -> list[Check]:
    build, channels = layers
    tail = [GlobalAveragePool(), QuantReLU(bits=8), QuantLinear(channels, 5, weight_bits=4, per_channel=False)]
    model = seeded(SEED, lambda: nn.Sequential(*_conv(SHAPE[0], 8, 3), *build(), *tail))
    images = np.random.default_rng(SEED).integers(0, 256, (IMAGES, *SHAPE))
    with torch.no_grad():
        model.train()(torch.tensor(images, dtype=torch.float32))
    lowered = lower(model.eval(), SHAPE, name="corner")
    agreement = compare_with_golden(model, lowered, images)
    frames = to_graph_layout(images)
    folder = run.folder / name.replace(" ", "-").replace(",", "")
    played = play_at_interval(
        lowered.graph, frames, interval=INTERVAL, folder=folder, label=name, progress=run.progress, latency_frames=2
    )
    paused = run_regression(
        played.design.rtl, frames, evaluate(lowered.graph, frames), back_pressure=BackPressure.RANDOM, seed=SEED
    )
    return [
        equal(f"{name}: images on which golden model and network differ", agreement.mismatches, 0),
        *played.checks(name, INTERVAL),
        equal(f"{name}: failed checks under random back-pressure", paused.failure() or "none", "none"),
    ]


class _BitsAndWords(nn.Module):
    """Concatenates a bipolar map with an unsigned one."""

    def __init__(self) -> None:
        super().__init__()
        self.bits = nn.Sequential(BinaryConv2d(4, 4, 1), nn.BatchNorm2d(4), BinaryActivation())
        self.words = nn.Sequential(*_conv(4, 4, 1))

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.bits(images), self.words(images)], dim=1)


def _concat_of_formats() -> object:
    build = GraphBuilder("formats")
    one, other = build.input("one", (4, 4, 2), unsigned(4)), build.constant("other", np.zeros((4, 4, 2)), unsigned(6))
    return build.node("joined", Concat(), one, other)


# What is done, and what the one line of its refusal says.
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "groups that do not divide": (
        lambda: QuantConv2d(8, 12, 3, groups=5),
        "groups must divide the channels, in_channels=8 and out_channels=12, not 5",
    ),
    "concat of bits and words": (lambda: lower(_BitsAndWords(), SHAPE), "a concatenation of differing formats"),
    "concat of differing formats in a graph": (_concat_of_formats, "format"),
}


def _refused(name: str, provoke: Callable[[], object], message: str) -> Check:
    line = "accepted"
    try:
        provoke()
    except (ValueError, GraphError) as refusal:
        line = str(refusal)
    return Check(what=name, value=line, target=f"refused: {message}", passed=message in line and "\n" not in line)


LIGHT_CORNERS = Benchmark(
    name="light-corners",
    description="groups, channel multipliers, strides larger than kernels, concatenations of differing formats",
    target="each in RTL equal to the golden model, or refused by name",
    minutes=6,
    measure=measure,
)
