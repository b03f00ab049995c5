"""CapsNet: the paper's counts, its shapes, refusals."""

import pytest
import torch

from karui.sw.models.build import build_model
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.capsule_vgg import STAGES_8, CapsuleVggConfig
from karui.sw.models.catalog import NETWORKS
from karui.sw.models.count import count
from karui.sw.train.reconstruction import ReconstructionConfig, build_decoder

COMPACT = CapsNetConfig(channels=64, types=8)


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        (NETWORKS["capsnet"], {"conv1": 20_992, "primary": 5_308_672, "prediction": 1_474_560}),
        (COMPACT, {"conv1": 5_248, "primary": 331_840, "prediction": 368_640}),
    ],
)
def test_published_counts(config: CapsNetConfig, layers: dict[str, int]) -> None:
    with torch.device("meta"):
        network = count(build_model(config), config.image)
    assert {layer.name: layer.parameters for layer in network.layers} == layers
    assert network.layers[2].macs == layers["prediction"]


def test_the_decoders_count() -> None:
    with torch.device("meta"):
        decoder = count(build_decoder(160, 784, ReconstructionConfig().hidden), (160,))
        whole = count(build_model(CapsNetConfig()), (1, 28, 28)).parameters + decoder.parameters
    assert decoder.parameters == 1_411_344
    assert whole == 8_215_568


def test_shapes() -> None:
    assert CapsNetConfig().grid == (6, 6)
    assert (CapsNetConfig().capsules, COMPACT.capsules) == (1152, 288)
    model = build_model(COMPACT).eval()
    images = torch.randint(0, 256, (2, 1, 28, 28)).float()
    assert model[:-1](images).shape == (2, 160)
    squares = model(images)
    assert squares.shape == (2, 10)
    assert 0 <= squares.min() <= squares.max() < 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"types": 0}, "types must be at least 1, not 0"),
        ({"image": (1, 16, 28)}, "image must be at least 17 x 17 with a kernel of 9, not 16 x 28"),
        ({"kernel": 0}, "kernel must be at least 1"),
        ({"classes": 0}, "classes must be at least 1"),
    ],
)
def test_refusals(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CapsNetConfig(**changes)  # type: ignore[arg-type]


def test_capsules_behind_a_vgg() -> None:
    config = CapsuleVggConfig(image=(3, 16, 16), stages=STAGES_8[:2], types=3)
    assert (config.grid, config.capsules) == ((4, 4), 48)
    model = build_model(config).eval()
    assert model(torch.randint(0, 256, (2, 3, 16, 16)).float()).shape == (2, 10)
    with torch.device("meta"):
        network = count(build_model(CapsuleVggConfig()), (3, 32, 32))
    convolutions = 9 * (3 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 128)
    norms = 2 * (2 * (32 + 64 + 128) + 128)
    assert network.parameters == convolutions + norms + 256 * 8 * 160
    with pytest.raises(ValueError, match="at least 8 pixels high and wide for 3 pools, not 7 x 32"):
        CapsuleVggConfig(image=(3, 7, 32))
