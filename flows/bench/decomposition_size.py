"""The topologies that binary decomposition was published for: sizes in full, and every word of narrow ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, equal
from karui.flows.counting import count_config
from karui.sw.decompose.budget import LayerSize
from karui.sw.decompose.config import DecomposeConfig
from karui.sw.decompose.convert import convert
from karui.sw.decompose.packed import packed
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.models.alexnet import AlexNetConfig
from karui.sw.models.blocks import Stage
from karui.sw.models.build import FloatConfig, LightConfig, build_model, input_shape
from karui.sw.models.catalog import NETWORKS
from karui.sw.models.count import NetworkCount
from karui.sw.models.resnet import STAGES_152, ResNetConfig
from karui.sw.models.segnet import SegNetConfig
from karui.sw.models.vgg import STAGES_16, VggConfig

SEED = 0
BASES = range(1, 9)
COEFFICIENT_BITS = 16
# Six bases, with which the published networks were about 80 % smaller.
PUBLISHED_BASES, SMALLER = 6, 79.0
# Parameters of the published networks.
PARAMETERS = {"alexnet": 60_965_224, "vgg-16": 138_357_544, "resnet-152": 60_192_808}


def _stages(widths: tuple[int, ...]) -> tuple[Stage, ...]:
    """VGG-16's, of other widths."""
    return tuple(replace(stage, channels=width) for stage, width in zip(STAGES_16, widths, strict=True))


# The same topologies with fewer channels, on images just large enough.
NARROW: dict[str, FloatConfig | LightConfig] = {
    "alexnet": AlexNetConfig(image=(3, 99, 99), classes=10, channels=(8, 16, 16, 16, 8), hidden=(32, 32)),
    "vgg-16": VggConfig(
        image=(3, 32, 32),
        classes=10,
        stages=tuple(
            Stage(channels=width, repeat=repeat)
            for width, repeat in zip((4, 8, 8, 16, 16), (2, 2, 3, 3, 3), strict=False)
        ),
        hidden=(32, 32),
    ),
    "resnet-152": ResNetConfig(
        image=(3, 32, 32),
        classes=10,
        stages=tuple(replace(stage, channels=width) for width, stage in zip((4, 4, 8, 8), STAGES_152, strict=True)),
    ),
    "segnet": SegNetConfig(
        image=(3, 32, 32),
        stages=tuple(
            Stage(channels=width, repeat=repeat)
            for width, repeat in zip((4, 8, 8, 8, 8), (2, 2, 3, 3, 3), strict=False)
        ),
    ),
}
IMAGES = 4


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Account for the bits of the full networks, then convert the narrow ones with random weights."""
    checks: list[Check] = []
    sizes: dict[str, Any] = {}
    for name in NARROW:
        network = count_config(NETWORKS[name])
        if name in PARAMETERS:
            checks.append(equal(f"{name}: parameters", network.parameters, PARAMETERS[name]))
        shares = {bases: _smaller(network, bases) for bases in BASES}
        checks.append(at_least(f"{name}: smaller with {PUBLISHED_BASES} bases, %", shares[PUBLISHED_BASES], SMALLER))
        sizes[name] = {
            "parameters": network.parameters,
            "multiply-accumulates": network.macs,
            "float megabytes": round(4 * network.parameters / 1e6, 2),
            "smaller by bases, %": shares,
        }
    torch.manual_seed(SEED)
    for name, config in NARROW.items():
        run.progress(f"{name}, narrow: decompose, compute on packed bits, lower")
        checks.append(equal(f"{name}, narrow: words that differ", differing_words(name, config), 0))
    return BenchmarkResult(checks=tuple(checks), details={"full networks": sizes}, seed=SEED)


def differing_words(name: str, config: FloatConfig | LightConfig) -> int:
    """Outputs in which packed bits differ from the network, and images in which the golden model does."""
    model = build_model(config)
    shape = input_shape(config)
    _trained(model, shape)
    images = torch.randint(0, 256, (IMAGES, *shape)).float()
    decomposed = convert(model, images, DecomposeConfig(bases=(3,), activation_bits=(6,), restarts=4, iterations=40))
    outputs = decomposed.model(images)
    differing = int((packed(decomposed.model)(images) != outputs).sum())
    pixels = images.to(torch.uint8).numpy()
    return differing + compare_with_golden(decomposed.model, lower(decomposed.model, shape), pixels).mismatches


def _trained(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Give the batch norms statistics of random images: those of an untrained network are all zero and one."""
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randint(0, 256, (IMAGES, *shape)).float())
    model.eval()


def _smaller(network: NetworkCount, bases: int) -> float:
    """Percent of the float parameters' bits that binary bases save; batch norms are folded away."""
    bits = 0
    for layer in network.layers:
        if layer.macs:
            filters = layer.output_shape[0]
            weights = layer.input_shape[0] // layer.groups
            for size in layer.kernel:
                weights *= size
            bits += LayerSize(filters=filters, weights=weights).bits(bases, COEFFICIENT_BITS)
    return round(100 * (1 - bits / (32 * network.parameters)), 2)


DECOMPOSITION_SIZE = Benchmark(
    name="decomposition-size",
    description="AlexNet, VGG-16, ResNet-152 and SegNet: stored bits with 1 to 8 bases; narrow ones with random "
    "weights decomposed, on packed bits and as integer graphs",
    target=f">= {SMALLER:g} % smaller with {PUBLISHED_BASES} bases; every word equal",
    minutes=4,
    measure=measure,
)
