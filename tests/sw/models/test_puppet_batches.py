"""Images of one batch beside images alone, and views of kernels beside loops where sizes do not divide."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from karui.sw.models.puppet import PuppetConfig, PuppetLayers, build_puppet
from karui.sw.models.puppet_network import PuppetNetwork
from karui.sw.nn.image_groups import pooled_view
from karui.sw.nn.precision import Precision
from karui.sw.train.seeding import seeded

WORDS = PuppetConfig(
    image=(1, 12, 12),
    channels=8,
    first_depth=3,
    last_depth=5,
    pattern_rank=4,
    rank=6,
    terms=4,
    precision=Precision(weight_bits=8, activation_bits=8),
)


def images(count: int, channels: int = 1, side: int = 12) -> Tensor:
    """Bytes of few and of many greys, so of several depths and levels, in no order of them."""
    noise = seeded(6, lambda: torch.randint(0, 256, (count, channels, side, side)))
    steps = 2 ** (torch.arange(count) * 3 % 8)
    return (noise // steps[:, None, None, None] * steps[:, None, None, None]).float()


@torch.no_grad()
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("generator", ["euler", "sines", "polynomials"])
def test_words_of_a_mixed_batch_are_those_of_each_image_alone(
    generator: Literal["euler", "sines", "polynomials"], residual: bool
) -> None:
    """Every word of the maps and every score; in any order of the images."""
    config = replace(WORDS, generator=generator, puppet="residual" if residual else "plain")
    model = seeded(3, lambda: build_puppet(config))
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0
    model.train()(images(64))
    model.eval()
    puppet, given = model.get_submodule("puppet"), images(24)
    assert isinstance(puppet, PuppetLayers)
    words = puppet.complexity(given)
    assert set(puppet.layers.depths(words).tolist()) == {3, 4, 5}
    assert len(puppet.layers.puppeteer.levels.of(words).unique()) > 10
    maps, scores = puppet(given), model(given)
    for index in range(len(given)):
        assert torch.equal(puppet(given[index : index + 1])[0], maps[index])
        assert torch.equal(model(given[index : index + 1])[0], scores[index])
    order = seeded(7, lambda: torch.randperm(len(given)))
    assert torch.equal(puppet(given[order]), maps[order])
    assert len(maps.unique()) > 100


def windows(size: int, count: int) -> list[slice]:
    """So many windows that cover so many members, as even as whole members allow; neighbours may share one."""
    return [slice(n * size // count, -(-(n + 1) * size // count)) for n in range(count)]


def averaged(kernels: Tensor, *sizes: int) -> Tensor:
    """A kernel (C, C, side, side) averaged over windows of each axis, to fewer outputs, inputs, rows and columns."""
    means = torch.zeros(sizes)
    axes = [list(enumerate(windows(length, size))) for length, size in zip(kernels.shape, sizes, strict=True)]
    for o, outputs in axes[0]:
        for i, inputs in axes[1]:
            for y, rows in axes[2]:
                for x, columns in axes[3]:
                    means[o, i, y, x] = kernels[outputs, inputs, rows, columns].mean()
    return means


@pytest.mark.parametrize(("outputs", "inputs"), [(7, 3), (5, 7), (3, 2), (1, 7), (4, 4)])
def test_views_of_channels_that_do_not_divide(outputs: int, inputs: int) -> None:
    """Seven channels to fewer: multiples of what windows' sizes have in common, so that all means are exact."""
    kernels = torch.randint(-50, 50, (2, 7, 7, 3, 3)).float() * 7 * 144
    view = pooled_view(kernels, outputs, inputs)
    assert torch.equal(view, torch.stack([averaged(each, outputs, inputs, 3, 3) for each in kernels]))


class Grouped(nn.Module):
    """A stem, groups of channels, a convolution with a stride of its own, and a shortcut past one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 5, stride=2, bias=False)
        self.inner = nn.ModuleDict({"depthwise": nn.Conv2d(6, 6, 3, padding=1, groups=6)})
        self.paired = nn.Conv2d(6, 10, 3, groups=2, padding=1, padding_mode="circular")
        self.last = nn.Conv2d(10, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        values = self.stem(images / 64)
        last: Tensor = self.last(self.paired(values + self.inner["depthwise"](values)))
        return last


@torch.no_grad()
def test_a_network_of_groups_and_shortcuts_convolves_with_averages() -> None:
    """Ten channels to a convolution's own, five places to its own, and the deviation that its fan-in asks for."""
    network = Grouped()
    biases = [network.inner["depthwise"].bias, network.paired.bias, network.last.bias]
    puppet = seeded(4, lambda: PuppetNetwork(network, (3, 12, 12), level_bits=3, pattern_rank=4))
    given = images(8, channels=3)
    levels = puppet.puppeteer.levels.of(puppet.complexity(given))
    assert len(levels.unique()) > 3
    found = puppet(given)
    for index, level in enumerate(levels):
        states = puppet.puppeteer.kernels(torch.tensor([4]), level[None])
        kernels = []
        for state, shape in zip(states, [(6, 3, 5, 5), (6, 1, 3, 3), (10, 3, 3, 3), (4, 10, 1, 1)], strict=True):
            fan_in = shape[1] * shape[2] * shape[3]
            # A mean of so many independent values of deviation 2 has that over the root of their number.
            members = state[0].numel() / (shape[0] * fan_in)
            kernels.append(averaged(state[0], *shape) * (members**0.5 / 2) * (2 / fan_in) ** 0.5)
        values = functional.conv2d(given[index : index + 1] / 64, kernels[0], stride=2)
        values = values + functional.conv2d(values, kernels[1], biases[0], padding=1, groups=6)
        wrapped = functional.pad(values, (1, 1, 1, 1), mode="circular")
        values = functional.conv2d(wrapped, kernels[2], biases[1], groups=2)
        expected = functional.conv2d(values, kernels[3], biases[2])[0]
        # Sums of up to 150 products of floats.
        torch.testing.assert_close(found[index], expected, atol=1e-4, rtol=1e-4)
    assert found.std() > 0.1
