"""AlexNet, VGG, SegNet and the network for MNIST: published counts, shapes, refusals; narrow ones decomposed."""

from __future__ import annotations

import pytest
import torch

from karui.flows.bench.decomposition_size import NARROW, differing_words
from karui.sw.models.alexnet import AlexNetConfig
from karui.sw.models.blocks import Stage
from karui.sw.models.build import FloatConfig, LightConfig, build_model, input_shape
from karui.sw.models.catalog import NETWORKS
from karui.sw.models.count import count
from karui.sw.models.mnist_cnn import MnistCnnConfig
from karui.sw.models.segnet import SMALL_STAGES, SegNetConfig
from karui.sw.models.vgg import VggConfig


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [
        ("alexnet", 60_965_224, 724_406_816),
        ("vgg-16", 138_357_544, 15_470_264_320),
        ("resnet-152", 60_192_808, 11_282_415_616),
        ("mnist-cnn", 421_642, 4_241_152),
    ],
)
def test_published_counts(name: str, parameters: int, macs: int) -> None:
    config: FloatConfig | LightConfig = NETWORKS[name]
    with torch.device("meta"):
        network = count(build_model(config), input_shape(config))
    assert (network.parameters, network.macs) == (parameters, macs)


def test_segnet_scores_every_pixel() -> None:
    config = SegNetConfig(image=(1, 16, 24), classes=5, stages=SMALL_STAGES)
    model = build_model(config).eval()
    scores = model(torch.randint(0, 256, (2, 1, 16, 24)).float())
    assert scores.shape == (2, 5, 16, 24)
    # As many convolutions in the decoder as in the encoder.
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in model.modules()) == 8


@pytest.mark.parametrize("name", ["alexnet", "vgg-16", "segnet"])
def test_decomposed_topologies_are_exact(name: str) -> None:
    assert differing_words(name, NARROW[name]) == 0


@pytest.mark.slow
def test_a_decomposed_resnet_152_is_exact() -> None:
    assert differing_words("resnet-152", NARROW["resnet-152"]) == 0


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least 67 x 67, not 66 x 80"):
        AlexNetConfig(image=(3, 66, 80))
    assert build_model(AlexNetConfig(image=(3, 67, 67), hidden=(8, 8)))(torch.zeros(1, 3, 67, 67)).shape == (1, 1000)
    with pytest.raises(ValueError, match="channels must be even"):
        AlexNetConfig(channels=(96, 256, 385, 384, 256))
    with pytest.raises(ValueError, match="of stride 1 each"):
        VggConfig(stages=(Stage(channels=4, stride=2),))
    with pytest.raises(ValueError, match="at least 32 pixels high and wide"):
        VggConfig(image=(3, 31, 40))
    with pytest.raises(ValueError, match="multiple of 4 pixels"):
        SegNetConfig(image=(1, 30, 32), stages=SMALL_STAGES)
    with pytest.raises(ValueError, match="at least 4 x 4"):
        MnistCnnConfig(image=(1, 3, 28))
