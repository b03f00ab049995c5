"""Values of puppets beside plain loops: narrow layers, generated stems, views of other networks; and learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from karui.sw.models.puppet import PuppetConfig, PuppetLayers, build_puppet
from karui.sw.models.puppet_network import PuppetNetwork
from karui.sw.nn.euler_puppeteer import EulerPuppeteer
from karui.sw.train.seeding import seeded

CONFIG = PuppetConfig(image=(3, 16, 16), channels=8, first_depth=4, last_depth=6, level_bits=1, pattern_rank=4)


def images(count: int) -> Tensor:
    """Bytes of few and of many greys, so of several depths, in no order of them; pixels in colours."""
    chosen = seeded(5, lambda: torch.randint(0, 256, (count, 3, 16, 16)))
    steps = 2 ** (torch.arange(count) * 3 % 8)
    return (chosen // steps[:, None, None, None] * steps[:, None, None, None]).float()


def puppet_of(config: PuppetConfig) -> PuppetLayers:
    """Layers whose batch norms have seen images."""
    puppet = seeded(3, lambda: build_puppet(config)).get_submodule("puppet")
    assert isinstance(puppet, PuppetLayers)
    for module in puppet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        puppet.train()(images(64))
    return puppet.eval()


def averaged(kernels: Tensor, outputs: int, inputs: int) -> Tensor:
    """A kernel (C, C, 3, 3) of fewer channels, each the mean of its neighbours'."""
    down, across = len(kernels) // outputs, kernels.shape[1] // inputs
    rows = [
        torch.stack(
            [kernels[o * down : (o + 1) * down, i * across : (i + 1) * across].mean((0, 1)) for i in range(inputs)]
        )
        for o in range(outputs)
    ]
    return torch.stack(rows)


@torch.no_grad()
def test_narrow_layers_take_averages_of_kernels_and_pool() -> None:
    puppet = puppet_of(replace(CONFIG, puppet="vgg"))
    given = images(16)
    words = puppet.complexity(given)
    depths = puppet.layers.depths(words)
    assert len(depths.unique()) > 1
    found = puppet(given)
    assert found.shape == (16, 8, 2, 2)
    for index, depth in enumerate(depths.tolist()):
        value = puppet.stem(given[index : index + 1])
        level = puppet.layers.puppeteer.levels.of(words[index : index + 1])
        kernels = puppet.layers.puppeteer.kernels(torch.tensor([depth]), level)
        for layer, (inputs, outputs) in enumerate([(2, 2), (2, 4), (4, 8), (8, 8), (8, 8), (8, 8)][:depth]):
            sums = functional.conv2d(value, averaged(kernels[layer][0], outputs, inputs), padding=1)
            value = puppet.layers.norms[layer](sums).clamp(0, 4)
            if layer < 2:
                value = functional.max_pool2d(value, 2)
        torch.testing.assert_close(found[index], value[0], atol=1e-3, rtol=1e-3)
    assert len(found.unique()) > 100


@torch.no_grad()
def test_a_generated_stem_convolves_with_views_of_the_first_state() -> None:
    puppet = puppet_of(replace(CONFIG, channels=9, stem="generated"))
    given = images(8)
    words = puppet.complexity(given)
    puppeteer = puppet.layers.puppeteer
    assert isinstance(puppeteer, EulerPuppeteer)
    levels = puppeteer.levels.of(words)
    assert len(levels.unique()) > 1
    found = puppet.stem(given, words)
    for index, level in enumerate(levels):
        state = puppeteer.states(torch.tensor([0]), level[None])[0][0].unflatten(2, (3, 3))
        sums = functional.conv2d(given[index : index + 1], averaged(state, 9, 3), stride=2, padding=1)
        torch.testing.assert_close(found[index], puppet.stem.norm(sums).clamp(0, 4)[0], atol=1e-3, rtol=1e-3)


def vgg() -> nn.Module:
    return build_puppet(replace(CONFIG, puppet="vgg", classes=2))


def other() -> nn.Module:
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(4),
        nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    return PuppetNetwork(layers, (3, 16, 16))


@pytest.mark.parametrize("build", [vgg, other])
def test_networks_in_floating_point_learn(build: Callable[[], nn.Module]) -> None:
    """Stripes across or down: a few steps teach them, and move the generator."""
    model = seeded(2, build).train()
    down = torch.arange(16).remainder(4).lt(2).float()[:, None].expand(16, 16)
    stripes = torch.stack([down, down.T])[torch.arange(32) % 2][:, None] * 128
    given = (stripes + images(32) / 2).floor().clamp(0, 255)
    labels = torch.arange(32) % 2
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if "puppeteer" in name}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(given), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all(not torch.equal(model.get_parameter(name), values) for name, values in before.items())
    assert len(before) >= 5
