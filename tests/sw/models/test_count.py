"""Counts of parameters and multiply-accumulates: the published networks to the last unit, the papers' formulas."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from karui.flows.bench.light_counts import TABLE as PUBLISHED_COUNTS
from karui.sw.models.blocks import Blocks
from karui.sw.models.build import LightConfig, build_model, input_shape
from karui.sw.models.catalog import NETWORKS, SMALL
from karui.sw.models.count import NetworkCount, UncountableLayer, count
from karui.sw.models.factorization import factorizations, multiplier_prediction
from karui.sw.models.inception import InceptionModule, inception
from karui.sw.models.mobilenet import MobileNetConfig
from karui.sw.nn import BinaryConv2d, BinaryLinear, Precision, QuantConv2d

MOBILENET = MobileNetConfig()

# The published table, and ResNet-50 with the stride of its stages in the first 1x1, as in the paper.
TABLE: dict[str, tuple[LightConfig, int, int]] = {
    **PUBLISHED_COUNTS,
    "ResNet-50": (NETWORKS["resnet-50"], 25_557_032, 3_857_973_248),
}


def counted(config: LightConfig) -> NetworkCount:
    with torch.device("meta"):
        return count(build_model(config), input_shape(config))


@pytest.mark.parametrize("name", TABLE)
def test_published_networks(name: str) -> None:
    config, parameters, macs = TABLE[name]
    network = counted(config)
    assert (network.parameters, network.macs) == (parameters, macs)


@pytest.mark.parametrize("name", SMALL)
def test_a_quantized_network_costs_what_the_real_one_costs(name: str) -> None:
    network = counted(SMALL[name])
    assert counted(replace(SMALL[name], precision=Precision(weight_bits=4, activation_bits=4))) == network
    assert network.parameters == sum(parameter.numel() for parameter in build_model(SMALL[name]).parameters())


def test_meta_device_and_real_arithmetic_agree() -> None:
    config = SMALL["shufflenet-small"]
    assert count(build_model(config), config.image) == counted(config)


def test_large_window_with_and_without_bottleneck() -> None:
    """5x5 from 192 to 32 channels on 28x28, alone and behind a 1x1 bottleneck of 16."""
    with torch.device("meta"):
        direct = count(nn.Conv2d(192, 32, 5, padding=2), (192, 28, 28))
        behind = count(nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2)), (192, 28, 28))
    assert direct.macs == 120_422_400
    assert [layer.macs for layer in behind.layers] == [2_408_448, 10_035_200]
    assert behind.macs == 12_443_648
    (pair,) = factorizations(behind)
    assert (pair.standard_macs, pair.predicted_macs) == (120_422_400, 12_443_648)


def test_first_inception_module_of_googlenet_has_that_bottleneck() -> None:
    bottlenecks = [pair for pair in factorizations(counted(NETWORKS["googlenet"])) if pair.kind == "bottleneck"]
    assert [(pair.standard_macs, pair.macs) for pair in bottlenecks[:2]] == [
        (28**2 * 192 * 9 * 128, 28**2 * (192 * 96 + 96 * 9 * 128)),
        (120_422_400, 12_443_648),
    ]
    assert len(bottlenecks) == 2 * 9


def test_bottlenecks_of_one_module() -> None:
    module = InceptionModule(conv1=4, reduce3=3, conv3=5, reduce5=2, conv5=6, pool_projection=7)
    with torch.device("meta"):
        network = count(inception(Blocks(), 8, module), (8, 6, 6))
    assert [pair.window for pair in factorizations(network)] == [9, 25]
    assert network.macs == 36 * (8 * 4 + 8 * 3 + 3 * 9 * 5 + 8 * 2 + 2 * 25 * 6 + 8 * 7)


@pytest.mark.parametrize(
    ("name", "pairs"), [("mobilenet", 13), ("mobilenet-v2", 17), ("xception", 34), ("shufflenet", 0), ("resnet-50", 0)]
)
def test_formula_of_depthwise_separable_convolutions_holds(name: str, pairs: int) -> None:
    found = [pair for pair in factorizations(counted(NETWORKS[name])) if pair.kind == "depthwise-separable"]
    assert len(found) == pairs
    for pair in found:
        assert pair.macs == pair.predicted_macs
        assert pair.share == pytest.approx(1 / 9 + 1 / pair.out_channels, rel=1e-12)
        assert pair.share == pytest.approx(pair.predicted_share, rel=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 0.75, 0.5, 0.25])
@pytest.mark.parametrize("size", [224, 192, 160, 128])
def test_formula_of_the_multipliers_holds(alpha: float, size: int) -> None:
    rho = size / 224
    full = factorizations(counted(MOBILENET))
    scaled = factorizations(counted(replace(MOBILENET, alpha=alpha, rho=rho)))
    assert len(scaled) == len(full) == 13
    for base, pair in zip(full, scaled, strict=True):
        assert multiplier_prediction(base, alpha=alpha, rho=rho) == pytest.approx(pair.macs, rel=1e-12)


def test_kinds_of_layers() -> None:
    with torch.device("meta"):
        model = nn.Sequential(
            QuantConv2d(6, 6, 3, groups=6),
            QuantConv2d(6, 12, 1, groups=3),
            BinaryConv2d(12, 4, 2),
            nn.Conv2d(4, 8, 1),
            nn.Conv2d(8, 16, 3, groups=8),
            nn.BatchNorm2d(16),
            nn.Flatten(),
            BinaryLinear(16, 5),
        )
        network = count(model, (6, 6, 6))
    assert [layer.kind for layer in network.layers] == [
        "depthwise 3x3",
        "pointwise, 3 groups",
        "convolution 2x2",
        "pointwise",
        "convolution 3x3, 8 groups",
        "BatchNorm2d",
        "BinaryLinear",
    ]
    assert [layer.macs for layer in network.layers] == [
        16 * 6 * 9,
        16 * 12 * 2,
        9 * 4 * 12 * 4,
        9 * 8 * 4,
        16 * 9,
        0,
        16 * 5,
    ]
    assert [layer.parameters for layer in network.layers] == [54, 24, 192, 40, 160, 32, 80]


def test_a_layer_used_twice_multiplies_twice_and_has_its_parameters_once() -> None:
    layer = nn.Linear(4, 4)
    network = count(nn.Sequential(layer, nn.ReLU(), layer), (4,))
    assert (network.parameters, network.macs) == (20, 32)


def test_counting_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    model[2].eval()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    count(model, (1, 5, 5))
    assert [module.training for module in model] == [True, True, False]
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert not any(module._forward_hooks for module in model)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, vector: Tensor) -> Tensor:
        scaled: Tensor = self.linear(vector) * self.scale
        return scaled


def test_unknown_layers_are_refused_by_name() -> None:
    with pytest.raises(UncountableLayer, match="0 is a ConvTranspose2d, whose multiplications are not known"):
        count(nn.Sequential(nn.ConvTranspose2d(1, 1, 3)), (1, 5, 5))
    with pytest.raises(UncountableLayer, match="the model is a Scaled"):
        count(Scaled(), (4,))


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(UncountableLayer, match=r"cannot take an input of 3 x 4 x 4: .*size"):
        counted(replace(NETWORKS["squeezenet-1.0"], image=(3, 4, 4)))


def test_idle_parameters_are_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].register_module("spare", nn.Linear(2, 2))
    with pytest.raises(UncountableLayer, match=r"no layer that was computed: 0\.spare\.weight, 0\.spare\.bias"):
        count(model, (4,))
