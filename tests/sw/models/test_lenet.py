"""The LeNets of the literature on compression: their sizes, and their integers in the graph."""

import pytest
import torch

from karui.sw.compress.structure import CompressibleConfig
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import lower
from karui.sw.models.build import build_model
from karui.sw.models.lenet import LeNet5Config, LeNet300Config
from karui.sw.nn.power_of_two_scale import PowerOfTwoScale
from karui.sw.nn.precision import Precision
from karui.sw.nn.quant_weight import quant_weight_layers

PRECISION = Precision(weight_bits=8, activation_bits=8, per_channel=False)


@pytest.mark.parametrize(("config", "parameters"), [(LeNet300Config(), 266_610), (LeNet5Config(), 431_080)])
def test_published_parameter_counts(config: CompressibleConfig, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in build_model(config).parameters()) == parameters


@pytest.mark.parametrize(
    "config",
    [
        LeNet300Config(image=(1, 16, 16), hidden=(20, 15), precision=PRECISION),
        LeNet5Config(image=(1, 16, 16), channels=(4, 6), hidden=20, precision=PRECISION),
    ],
    ids=["fully connected", "convolutional"],
)
def test_graph_computes_what_the_network_computes(config: CompressibleConfig) -> None:
    torch.manual_seed(1)
    model = build_model(config)
    with torch.no_grad():
        for layer in quant_weight_layers(model):
            assert layer.bias is not None
            layer.bias.uniform_(-0.3, 0.3)
    images = torch.randint(0, 256, (50, 1, 16, 16)).numpy()
    agreement = compare_with_golden(model, lower(model, config.image), images)
    assert agreement.mismatches == 0
    assert len(set(agreement.golden_classes.tolist())) > 1


def test_wrong_configurations() -> None:
    with pytest.raises(ValueError, match="hidden must be widths of at least 1"):
        LeNet300Config(hidden=())
    with pytest.raises(ValueError, match="image must be at least 16 x 16, not 15 x 28"):
        LeNet5Config(image=(1, 15, 28))
    with pytest.raises(ValueError, match="fraction must be 0 to 64 binary digits, not -1"):
        PowerOfTwoScale(fraction=-1)
