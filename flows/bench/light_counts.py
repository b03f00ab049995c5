"""Parameters and multiply-accumulates of the published light architectures, to the last unit."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, equal
from karui.flows.counting import count_config
from karui.sw.models.build import LightConfig
from karui.sw.models.catalog import PUBLISHED
from karui.sw.models.count import count
from karui.sw.models.mobilenet import MobileNetConfig
from karui.sw.models.shufflenet import ShuffleNetConfig

_MOBILENET = MobileNetConfig()

# Network -> configuration, parameters (batch norm's gains and offsets included), multiply-accumulates.
TABLE: dict[str, tuple[LightConfig, int, int]] = {
    "MobileNet": (_MOBILENET, 4_231_976, 568_740_352),
    "MobileNet, alpha 0.75": (replace(_MOBILENET, alpha=0.75), 2_585_560, 325_400_448),
    "MobileNet, alpha 0.5": (replace(_MOBILENET, alpha=0.5), 1_331_592, 149_497_088),
    "MobileNet, alpha 0.25": (replace(_MOBILENET, alpha=0.25), 470_072, 41_030_272),
    "MobileNet, 192x192": (replace(_MOBILENET, rho=192 / 224), 4_231_976, 418_121_728),
    "MobileNet, 160x160": (replace(_MOBILENET, rho=160 / 224), 4_231_976, 290_675_200),
    "MobileNet, 128x128": (replace(_MOBILENET, rho=128 / 224), 4_231_976, 186_400_768),
    "MobileNetV2": (PUBLISHED["mobilenet-v2"], 3_504_872, 300_774_272),
    "SqueezeNet 1.0": (PUBLISHED["squeezenet-1.0"], 1_248_424, 818_924_576),
    "SqueezeNet 1.1": (PUBLISHED["squeezenet-1.1"], 1_235_496, 349_151_936),
    "ShuffleNet, 1 group": (ShuffleNetConfig(groups=1), 1_531_936, 143_078_976),
    "ShuffleNet, 2 groups": (ShuffleNetConfig(groups=2), 1_733_848, 140_836_512),
    "ShuffleNet, 3 groups": (ShuffleNetConfig(groups=3), 1_865_728, 137_460_672),
    "ShuffleNet, 4 groups": (ShuffleNetConfig(groups=4), 1_968_344, 134_339_776),
    "ShuffleNet, 8 groups": (ShuffleNetConfig(groups=8), 2_434_768, 138_365_952),
    "Xception, 299x299": (PUBLISHED["xception"], 22_855_952, 8_357_403_496),
    "GoogLeNet": (PUBLISHED["googlenet"], 6_998_552, 1_582_671_872),
}

# Multiplications of a 5x5 convolution from 192 to 32 channels on 28x28, and with a bottleneck of 16 channels in front.
INCEPTION_MAP = (192, 28, 28)
WITHOUT_BOTTLENECK, WITH_BOTTLENECK = 120_422_400, 12_443_648


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Count every network of the table."""
    checks: list[Check] = []
    for name, (config, parameters, macs) in TABLE.items():
        run.progress(name)
        network = count_config(config)
        checks.append(equal(f"{name}: parameters, MACs", [network.parameters, network.macs], [parameters, macs]))
    with torch.device("meta"):
        wide = nn.Sequential(nn.Conv2d(192, 32, 5, padding=2))
        narrow = nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2))
    checks += [
        equal("5x5, 192 to 32 channels on 28x28: MACs", count(wide, INCEPTION_MAP).macs, WITHOUT_BOTTLENECK),
        equal("the same behind a bottleneck of 16: MACs", count(narrow, INCEPTION_MAP).macs, WITH_BOTTLENECK),
    ]
    return BenchmarkResult(checks=tuple(checks))


LIGHT_COUNTS = Benchmark(
    name="light-counts",
    description="parameters and multiply-accumulates of MobileNet, SqueezeNet, ShuffleNet, Xception and GoogLeNet",
    target="equal to the published architectures' to the last unit",
    minutes=1,
    measure=measure,
)
