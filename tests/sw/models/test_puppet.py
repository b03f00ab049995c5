"""Networks of generated kernels: shapes, what they store, twins, and any network as a puppet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from karui.sw.models.build import build_model
from karui.sw.models.count import count
from karui.sw.models.puppet import PuppetConfig, PuppetLayers, build_puppet, fixed_twin
from karui.sw.models.puppet_network import PuppetNetwork
from karui.sw.models.puppet_size import stored_size
from karui.sw.nn.euler_puppeteer import EulerPuppeteer
from karui.sw.nn.image_complexity import ImageComplexity
from karui.sw.nn.image_groups import pooled_view
from karui.sw.nn.precision import Precision

CONFIG = PuppetConfig(image=(1, 16, 16), channels=8, first_depth=3, last_depth=5, pattern_rank=4)
WORDS = Precision(weight_bits=8, activation_bits=8)
IMAGES = torch.randint(0, 256, (12, 1, 16, 16)).float()


@pytest.mark.parametrize("puppet", ["plain", "residual", "vgg"])
@pytest.mark.parametrize("stem", ["stored", "generated"])
def test_all_parameters_take_part(puppet: str, stem: str) -> None:
    model = build_puppet(replace(CONFIG, puppet=puppet, stem=stem, first_depth=5, last_depth=5))
    model(IMAGES).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert any("stem" in name and parameter.dim() == 4 for name, parameter in model.named_parameters()) == (
        stem == "stored"
    )


@pytest.mark.parametrize("stem", ["stored", "generated"])
def test_kernels_are_generated_in_float32_where_convolutions_are_in_bfloat16(
    stem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_puppet(replace(CONFIG, stem=stem))
    puppet = model.get_submodule("puppet")
    assert isinstance(puppet, PuppetLayers)
    puppeteer = puppet.layers.puppeteer
    assert isinstance(puppeteer, EulerPuppeteer)
    generate, seen = puppeteer.states, []

    def watched(depths: torch.Tensor, levels: torch.Tensor) -> list[torch.Tensor]:
        seen.append(generate(depths, levels))
        return seen[-1]

    monkeypatch.setattr(puppeteer, "states", watched)
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            model(IMAGES)
    calls = len(seen) // 2
    assert calls == (2 if stem == "generated" else 1)
    for states, others in zip(seen[:calls], seen[calls:], strict=True):
        assert all(torch.equal(state, other) for state, other in zip(states, others, strict=True))


@pytest.mark.parametrize("puppet", ["plain", "residual", "vgg"])
def test_a_twin_has_the_shapes_of_the_puppet(puppet: str) -> None:
    config = replace(CONFIG, puppet=puppet, first_depth=4, last_depth=4)
    twin = build_model(fixed_twin(config, 4))
    maps = [model.get_submodule("puppet")(IMAGES) for model in (build_model(config), twin)]
    assert maps[0].shape == maps[1].shape
    kernels = [parameter for parameter in twin.parameters() if parameter.dim() == 4]
    assert len(kernels) == 5
    widths = [2, 2, 4, 8, 8] if puppet == "vgg" else [8] * 5
    assert [len(kernel) for kernel in kernels] == widths


def test_a_twins_kernels_are_counted_and_are_ten_times_as_many() -> None:
    config = PuppetConfig(pattern_rank=16, precision=Precision(weight_bits=8, activation_bits=8))
    twin = fixed_twin(config, 5)
    own, others = stored_size(build_puppet(config), config), stored_size(build_puppet(twin), twin)
    assert {part.name: part.parameters for part in others.parts}["kernels"] == 5 * 9 * 32 * 32
    assert (own.parameters, others.parameters) == (3546, 47082)
    assert others.parameters >= 10 * own.parameters


def test_a_puppet_is_counted_at_its_least_depth() -> None:
    counted = count(build_puppet(CONFIG), CONFIG.image)
    layers = {layer.name: layer for layer in counted.layers}
    assert counted.parameters == stored_size(build_puppet(CONFIG), CONFIG).parameters
    assert layers["puppet.layers"].macs == 3 * 8 * 8 * 9 * 8 * 8
    assert layers["puppet.stem.0"].macs == 9 * 8 * 8 * 8


@pytest.mark.parametrize(
    ("changes", "layers", "stem"),
    [
        ({"puppet": "residual"}, 3 * 8 * 8 * 9 * 8 * 8, 9 * 8 * 8 * 8),
        # Maps of 8 x 8, 4 x 4 and 2 x 2, of 2, 2, 4 and 8 channels.
        ({"puppet": "vgg"}, 9 * (64 * 2 * 2 + 16 * 2 * 4 + 4 * 4 * 8), 9 * 2 * 8 * 8),
        ({"stem": "generated"}, 3 * 8 * 8 * 9 * 8 * 8, 9 * 8 * 8 * 8),
        ({"stem": "generated", "image": (3, 16, 16)}, 3 * 8 * 8 * 9 * 8 * 8, 9 * 3 * 8 * 8 * 8),
        # Maps of 9 x 7, 4 x 3 and 2 x 1.
        (
            {"puppet": "vgg", "stem": "generated", "image": (3, 18, 14)},
            9 * (63 * 2 * 2 + 12 * 2 * 4 + 2 * 4 * 8),
            9 * 3 * 2 * 63,
        ),
    ],
)
def test_layers_are_counted_at_their_own_widths(changes: dict[str, Any], layers: int, stem: int) -> None:
    """Multiplications by hand: of a layer its positions behind the pools, inputs, outputs and 9 places."""
    config = replace(CONFIG, **changes)
    model = build_puppet(config)
    counted = count(model, config.image)
    by_name = {layer.name: layer for layer in counted.layers}
    assert by_name["puppet.layers"].macs == layers
    assert by_name["puppet.stem" if "stem" in changes else "puppet.stem.0"].macs == stem
    assert counted.macs == layers + stem + 8 * 10
    assert counted.parameters == sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def test_views_are_averages_of_neighbouring_channels() -> None:
    kernels = torch.randn(2, 8, 8, 3, 3)
    view = pooled_view(kernels, 4, 2)
    assert view.shape == (2, 4, 2, 3, 3)
    torch.testing.assert_close(view[1, 3, 1], kernels[1, 6:8, 4:8].mean((0, 1)))
    assert pooled_view(kernels, 8, 8) is kernels


def test_any_network_is_a_puppet() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(4),
        nn.Conv2d(6, 12, 3, padding=1, bias=False), nn.ReLU(),
        nn.Conv2d(12, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    puppet = PuppetNetwork(network, (1, 16, 16), level_bits=3, pattern_rank=3)
    assert {name for name, _ in puppet.named_parameters() if name.startswith("network")} == {
        "network.0.bias", "network.1.weight", "network.1.bias", "network.6.bias",
    }  # fmt: skip
    # A grey and a noisy image have kernels of their own: each alone, in evaluation mode, gives what it gives together.
    images = torch.cat([IMAGES[:3] // 64 * 64, IMAGES[4:8], IMAGES[8:9] // 64 * 64])
    outputs = puppet(images)
    assert outputs.shape == (8, 10)
    outputs.square().sum().backward()
    for name, parameter in puppet.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    puppet.eval()
    with torch.no_grad():
        assert len(puppet.puppeteer.levels.of(puppet.complexity(images)).unique()) > 1
        together = puppet(images)
        for index in range(len(images)):
            torch.testing.assert_close(puppet(images[index : index + 1])[0], together[index], atol=1e-4, rtol=1e-4)


def test_kernels_of_a_deep_network_are_within_their_limit() -> None:
    """Sixteen convolutions, the least complexity, whose steps are the largest: few of the last kernels at +-16."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(1, 16, 3), *(nn.Conv2d(16, 16, 3) for _ in range(15)))
    puppet = PuppetNetwork(network, (1, 64, 64))
    with torch.no_grad():
        kernels = puppet.puppeteer.kernels(torch.tensor([16]), torch.tensor([0]))[-1]
    assert float((kernels.abs() == 16).float().mean()) < 0.2
    assert 1 < float(kernels.std()) < 10


def test_networks_without_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="no kernels to generate"):
        PuppetNetwork(nn.Linear(3, 3), (1, 16, 16))
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, (1, 3)))
    with pytest.raises(ValueError, match="1 has kernels of 1 x 3"):
        PuppetNetwork(network, (1, 16, 16))
    assert isinstance(network[0].weight, nn.Parameter), "a refused network keeps its kernels"
    with pytest.raises(ValueError, match="no plain weight; take parametrizations off"):
        PuppetNetwork(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 1, 3)), (1, 16, 16))
    with pytest.raises(ValueError, match="level_bits must be 0 to 12, not 13"):
        PuppetNetwork(nn.Conv2d(1, 1, 3), (1, 16, 16), level_bits=13)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((2, 1, 16, 16), 0.5), "integers of 0 to 255, not 0.5 to 0.5"),
        (torch.full((2, 1, 16, 16), 256), "integers of 0 to 255, not 256 to 256"),
        (torch.full((2, 1, 16, 16), -1), "integers of 0 to 255, not -1 to -1"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "N x 1 x 16 x 16, not"),
    ],
)
def test_only_bytes_of_the_images_shape_have_a_complexity(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageComplexity((1, 16, 16))(images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": "stored"}, "must be equal"),
        ({"last_depth": 2}, "last_depth must be at least first_depth = 3"),
        ({"generator": "spline"}, "generator must be one of euler, sines, polynomials, stored"),
        ({"puppet": "vgg", "first_depth": 2}, "first_depth of more than 2"),
        ({"stem": "generated", "generator": "sines"}, "generated stem is of the generator euler"),
        ({"stem": "drawn"}, "stem must be stored or generated, not 'drawn'"),
        ({"puppet": "dense"}, "puppet must be plain, residual or vgg, not 'dense'"),
        ({"level_bits": 13}, "level_bits must be 0 to 12"),
        ({"pattern_rank": -1}, "pattern_rank must be 0 or more, not -1"),
        ({"pattern_rank": 0, "precision": WORDS}, "without a pattern the generator is in floating point"),
        ({"puppet": "vgg", "precision": WORDS}, "a vgg puppet of generated kernels is in floating point"),
        ({"puppet": "vgg", "stem_stride": 6}, "halves maps of 4 x 4 or more, not of 3 x 3: .* stem_stride below 6"),
        ({"last_depth": 9}, "last_depth must be 8 or less, which no image goes beyond, not 9"),
        ({"image": (2, 16, 16)}, r"a complexity is that of an image \(height, width, 1 or 3\)"),
        ({"image": (1, 1, 1)}, r"a complexity is that of an image \(height, width, 1 or 3\)"),
        ({"image": (3, 90, 90)}, "fewer than 24,108 elements, not of 90 x 90 x 3: resize it"),
    ],
)
def test_what_makes_no_network_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)
