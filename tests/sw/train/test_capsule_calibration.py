"""Ranges of the words between capsule layers: the least that hold all values of calibration."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from karui.sw.models.build import build_model
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.capsule_ranges import CapsuleRanges, signed_words
from karui.sw.nn.precision import Precision
from karui.sw.train.capsule_calibration import calibrated_ranges, limit_above
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.config import PretrainConfig, TrainConfig
from karui.sw.train.recipe import DataConfig, TrainingRecipe
from karui.sw.train.run import save_trained, train_recipe

EIGHT_BITS = Precision(weight_bits=8, activation_bits=8)
SMALL = CapsNetConfig(image=(1, 12, 12), channels=6, types=3, capsule=4, classes=5, vector=6, kernel=3)


def test_nothing_exceeds_the_ranges_and_half_of_them_would_not_do() -> None:
    torch.manual_seed(1)
    model = build_model(SMALL)
    with torch.no_grad():
        model.get_submodule("prediction").weight.mul_(20)
    images = torch.randint(0, 256, (60, 1, 12, 12), dtype=torch.uint8)
    ranges = calibrated_ranges(model, images, batch_size=25)
    votes = model[:-2](images.float())
    assert ranges.votes / 2 <= votes.abs().max() < ranges.votes
    # The sums of all iterations from what the layers yield: |v| = |s|**2 / (1 + |s|**2).
    largest = 0.0
    for iterations in (1, 2, 3):
        routing = model.get_submodule("routing")
        routing.iterations = iterations
        capsules = routing(votes).view(60, 5, 6)
        length = capsules.norm(dim=2, keepdim=True)
        largest = max(largest, float((capsules / length * (length / (1 - length)).sqrt()).detach().abs().max()))
    assert ranges.sums / 2 <= largest < ranges.sums


def test_limits_are_powers_of_two_above() -> None:
    assert [limit_above(magnitude) for magnitude in (0.3, 0.5, 0.99, 1.0, 3.0)] == [0.5, 1.0, 1.0, 2.0, 4.0]
    words = signed_words(8, 2.0)
    assert (words.minimum * 2.0**-6, words.fraction) == (-2.0, 6)
    assert signed_words(16, 16.0).fraction == 11


def test_other_limits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"votes of ranges must be a power of two such as 0\.5, 1 or 4, not 3\.0"):
        CapsuleRanges(votes=3.0, sums=1.0)
    with pytest.raises(ValueError, match="primary_limit must be a power of two"):
        replace(SMALL, primary_limit=1.5)


def test_training_finds_the_ranges_behind_its_float_phase(tmp_path: Path) -> None:
    model = CapsNetConfig(image=(1, 8, 8), channels=12, types=4, capsule=4, vector=6, kernel=3, precision=EIGHT_BITS)
    recipe = TrainingRecipe(
        name="tiny",
        data=DataConfig(name="digits"),
        model=model,
        train=TrainConfig(
            epochs=1,
            batch_size=50,
            learning_rate=0.001,
            loss="margin",
            arithmetic="bfloat16",
            pretrain=PretrainConfig(epochs=4, learning_rate=0.02),
        ),
    )
    trained = train_recipe(recipe)
    config = trained.recipe.model
    assert isinstance(config, CapsNetConfig)
    assert config.ranges is not None
    assert replace(config, ranges=None) == model
    assert trained.model.get_submodule("routing").votes == signed_words(8, config.ranges.votes)
    save_trained(tmp_path / "tiny.npz", trained)
    loaded = load_checkpoint(tmp_path / "tiny.npz")
    assert loaded.config == config
    images = torch.randint(0, 17, (40, 1, 8, 8)).float()
    assert torch.equal(loaded.model(images), trained.model(images))
    given = replace(recipe, model=replace(model, ranges=CapsuleRanges(votes=8.0, sums=64.0)))
    assert train_recipe(given).recipe.model == given.model
