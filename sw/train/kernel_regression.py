"""Distillation of a continuous generator from the Euler one: its kernels are fitted to that one's, all at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from karui.sw.models.puppet import PuppetConfig, PuppetLayers, build_puppet
from karui.sw.nn.generated_layers import GeneratedLayers
from karui.sw.nn.image_groups import ImageGroups
from karui.sw.nn.puppeteer import Puppeteer
from karui.sw.train.seeding import seeded


@dataclass(frozen=True, kw_only=True)
class RegressionConfig:
    """Steps of Adam that bring kernels to those of another generator.

    Parameters
    ----------
    steps
        Of the optimizer, each over all kernels that the images of training need.
    learning_rate
        Its step size at the first step; it ends at a hundredth of that.
    """

    steps: int = 1500
    learning_rate: float = 0.02

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps of the regression must be at least 1, not {self.steps}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate of the regression must be positive, not {self.learning_rate}")


def distilled(
    config: PuppetConfig, taught: nn.Sequential, images: Tensor, regression: RegressionConfig, *, seed: int
) -> nn.Sequential:
    """Return a network with a continuous generator that does what a trained one with the Euler generator does.

    What both have in common, stem, batch norms and classifier, is copied. The kernels of each layer are fitted to
    those of the Euler generator by least squares, each group of depth and level weighted by its share of the images.

    Parameters
    ----------
    config
        Of the continuous network.
    taught
        The trained network; ends in evaluation mode.
    images
        Of training (uint8, N x C x H x W).
    regression
        Steps and step size.
    seed
        Of the generator's constants before the regression.
    """
    model = seeded(seed, lambda: build_puppet(config))
    own = {name: values for name, values in model.state_dict().items() if ".puppeteer." in name}
    common = {name: values for name, values in taught.eval().state_dict().items() if ".puppeteer." not in name}
    model.load_state_dict(own | common)
    groups = images_by_kernels(taught, images)
    target = generated(taught)
    with torch.no_grad():
        wanted = target.puppeteer.kernels(groups.depths, groups.levels)
    _fit(generated(model).puppeteer, wanted, groups, regression)
    return model


def generated(model: nn.Sequential) -> GeneratedLayers:
    """The generated layers of a network."""
    puppet = model.get_submodule("puppet")
    if not isinstance(puppet, PuppetLayers):
        raise ValueError("a network of stored kernels has no generated layers")
    return puppet.layers


@torch.no_grad()
def images_by_kernels(model: nn.Sequential, images: Tensor) -> ImageGroups:
    """The groups of images (uint8, N x C x H x W) that have their kernels in common."""
    puppet, layers = model.get_submodule("puppet"), generated(model)
    assert isinstance(puppet, PuppetLayers)
    words = puppet.complexity(images)
    return ImageGroups(layers.depths(words), layers.puppeteer.levels.of(words))


def relative_error(puppeteer: Puppeteer, wanted: list[Tensor], groups: ImageGroups) -> Tensor:
    """Squared differences of kernels over the squares of those wanted, each image's counted: a scalar.

    Parameters
    ----------
    puppeteer
        Whose kernels are judged.
    wanted
        Of each layer the kernels (groups, C, C, 3, 3) of the groups at least so deep.
    groups
        Depth, level and number of images of each group.
    """
    found = puppeteer.kernels(groups.depths, groups.levels)
    error, power = torch.zeros(()), torch.zeros(())
    for kernels, targets in zip(found, wanted, strict=True):
        shares = torch.tensor(groups.counts[: len(targets)], dtype=targets.dtype)
        error = error + (shares * (kernels - targets).square().flatten(1).sum(1)).sum()
        power = power + (shares * targets.square().flatten(1).sum(1)).sum()
    return error / power


def _fit(puppeteer: Puppeteer, wanted: list[Tensor], groups: ImageGroups, regression: RegressionConfig) -> None:
    puppeteer.train()
    optimizer = torch.optim.Adam(puppeteer.parameters(), lr=regression.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, regression.steps, eta_min=regression.learning_rate / 100
    )
    for _ in range(regression.steps):
        optimizer.zero_grad()
        relative_error(puppeteer, wanted, groups).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    puppeteer.eval()
