"""What the recipes of generated kernels store, and the depths of the images that they play."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from karui.flows.bench.puppet_generation import kept_bytes
from karui.flows.bench.puppet_table import JUDGED, TIMES_FEWER, config_of, puppet_recipes
from karui.flows.recipe import find_recipe
from karui.flows.recipe_accelerator import accelerator_of
from karui.flows.synthesize.targets import find_device
from karui.hw.plan.folding import total_cost
from karui.sw.data.dataset import Dataset
from karui.sw.data.datasets import load
from karui.sw.models.puppet import PuppetConfig, PuppetLayers, build_puppet, fixed_twin
from karui.sw.models.puppet_size import StoredSize, stored_size
from karui.sw.nn.generated_layers import GeneratedLayers
from karui.sw.train.augment import AugmentConfig, augment
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.seeding import seeded


def of(config: PuppetConfig) -> StoredSize:
    return stored_size(build_puppet(config), config)


def depths_of(name: str, images: torch.Tensor) -> torch.Tensor:
    """How deep a recipe's network sees each image."""
    puppet = build_puppet(config_of(find_recipe(name))).get_submodule("puppet")
    assert isinstance(puppet, PuppetLayers)
    return puppet.layers.depths(puppet.complexity(images))


@pytest.mark.parametrize(
    ("name", "parameters", "stored_bytes"),
    [
        (JUDGED, 18_576, 20_174),
        ("puppet-fashion-continuous", 16_438, 18_072),
        ("puppet-fashion-polynomials", 16_426, 18_024),
    ],
)
def test_parameters_are_ten_times_fewer_than_those_of_stored_kernels(
    name: str, parameters: int, stored_bytes: int
) -> None:
    config = config_of(find_recipe(name))
    size, twin = of(config), of(fixed_twin(config, 5))
    assert (size.parameters, size.bytes) == (parameters, stored_bytes)
    assert (twin.parameters, twin.bytes) == (186_314, 187_688)
    assert twin.parameters >= TIMES_FEWER * size.parameters


# Slow to fold.
LARGE = ("puppet-cifar10", JUDGED, "puppet-fashion-continuous", "puppet-fashion-polynomials")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in puppet_recipes()]
)
def test_recipes_fit_their_device(name: str) -> None:
    """The shipped network within the rate that is asked for, as `karui compile` folds it."""
    recipe, config = find_recipe(name), config_of(find_recipe(name))
    assert recipe.checkpoint is not None
    pixels, labels = np.zeros((0, *config.image), dtype=np.uint8), np.zeros(0, dtype=np.int64)
    dataset = Dataset(
        name=recipe.training.data.name,
        train_images=pixels,
        train_labels=labels,
        test_images=pixels,
        test_labels=labels,
        classes=tuple(map(str, range(config.classes))),
        pixel_maximum=255,
        provenance="shapes alone",
    )
    accelerator = accelerator_of(recipe, load_checkpoint(recipe.checkpoint).model, dataset)
    device = find_device(recipe.hardware.device)
    cost = total_cost(accelerator.stages, accelerator.folding)
    assert cost.dsps <= device.dsps
    assert cost.block_rams <= device.block_rams
    assert recipe.hardware.initiation_interval is not None
    slowest, _ = accelerator.by_depth[config.last_depth]
    # Not far within either: the folding is the one that was asked for.
    assert recipe.hardware.initiation_interval / 2 < slowest <= recipe.hardware.initiation_interval


@pytest.mark.parametrize(
    ("name", "kept"), [(JUDGED, 2_617_344), ("puppet-mnist", 294_912), ("puppet-cifar10", 783_360)]
)
def test_kept_kernels_are_those_that_images_have(name: str, kept: int) -> None:
    """Bytes, counted over all words of complexity; of Fashion-MNIST's 36 pairs of depth and level 14 occur."""
    layers = build_puppet(config_of(find_recipe(name))).get_submodule("puppet.layers")
    assert isinstance(layers, GeneratedLayers)
    words = torch.arange(1 << 16)
    pairs = set(zip(layers.depths(words).tolist(), layers.puppeteer.levels.of(words).tolist(), strict=True))
    assert sum(9 * layers.channels**2 * depth for depth, _ in pairs) == kept_bytes(layers) == kept


def test_the_images_that_are_played_are_of_all_depths(shared_data: Path) -> None:
    recipe = find_recipe(JUDGED)
    played = load(recipe.training.data.name, shared_data).test_images[: recipe.hardware.images]
    assert np.unique(depths_of(JUDGED, torch.tensor(played))).tolist() == [4, 5, 6]


AFFINE = AugmentConfig(shift=2.0, rotation=8.0, scale=0.08, shear=0.08)


def jpeg_copies(folder: Path, count: int) -> np.ndarray:
    """The first training images of the copies of CIFAR-10, (count, 3, 32, 32); all of them take long to unpack."""
    with np.load(folder / "train.npz") as stored:
        content, ends = stored["jpeg"], stored["offsets"]
    files = [BytesIO(content[ends[index] : ends[index + 1]].tobytes()) for index in range(count)]
    return np.stack([np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1) for file in files])


def images_of_another_depth(name: str, shared_data: Path, config: AugmentConfig | None) -> float:
    """The share of 500 training images whose depth an augmentation changes: the recipe's, unless another is given."""
    training = find_recipe(name).training
    chosen = config or training.train.augment
    assert chosen is not None
    if training.data.name == "cifar10":
        images = torch.tensor(jpeg_copies(shared_data / "cifar10", 500)).float()
    else:
        images = torch.tensor(load(training.data.name, shared_data).train_images[:500]).float()
    augmented = seeded(1, lambda: augment(images, chosen))
    return float((depths_of(name, images) != depths_of(name, augmented)).float().mean())


@pytest.mark.parametrize("name", list(puppet_recipes()))
def test_augmentation_leaves_the_depth_of_images_alone(name: str, shared_data: Path) -> None:
    assert images_of_another_depth(name, shared_data, None) <= 0.01


@pytest.mark.parametrize(("name", "least"), [("puppet-mnist", 0.25), ("puppet-cifar10", 0.1), (JUDGED, 0.25)])
def test_augmentation_that_interpolates_does_not(name: str, least: float, shared_data: Path) -> None:
    assert images_of_another_depth(name, shared_data, AFFINE) > least
