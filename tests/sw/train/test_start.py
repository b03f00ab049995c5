"""Trainings that start from a trained network, and the wider network that holds a narrow one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from karui.sw.compress.config import CompressConfig, PruneConfig, ShareConfig
from karui.sw.compress.pipeline import CompressionRun, dense
from karui.sw.configuration import ConfigurationError
from karui.sw.data.datasets import load
from karui.sw.models.build import build_model
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.lenet import LeNet300Config
from karui.sw.models.widened_capsnet import widen_capsnet
from karui.sw.nn.precision import FLOAT, Precision
from karui.sw.train.checkpoint import CheckpointError, load_checkpoint
from karui.sw.train.config import PretrainConfig, TrainConfig
from karui.sw.train.recipe import DataConfig, TrainingRecipe, load_training_recipe
from karui.sw.train.run import save_trained, train_recipe
from karui.sw.train.seeding import seeded
from karui.sw.train.start import starting_network

NARROW = CapsNetConfig(image=(1, 8, 8), channels=6, types=3, capsule=4, vector=5, kernel=3, primary_limit=8.0)
WIDE = replace(NARROW, channels=10, types=5)
IMAGES = torch.randint(0, 256, (20, 1, 8, 8), generator=torch.Generator().manual_seed(3)).float()
TRAIN = TrainConfig(epochs=4, batch_size=50, learning_rate=0.005, loss="margin")
DIGITS = DataConfig(name="digits")


def widened(config: CapsNetConfig = WIDE) -> tuple[nn.Sequential, nn.Sequential]:
    narrow = seeded(1, lambda: build_model(NARROW))
    wide = seeded(2, lambda: build_model(config))
    widen_capsnet(narrow, NARROW, wide, config)
    return narrow, wide


def save_narrow(path: Path) -> None:
    """Train a narrow network of integers, and save it as a recipe's checkpoint."""
    model = replace(NARROW, precision=Precision(weight_bits=8, activation_bits=8, per_channel=False))
    train = replace(TRAIN, pretrain=PretrainConfig(epochs=16, learning_rate=0.02))
    recipe = TrainingRecipe(name="narrow", data=DIGITS, model=model, train=train)
    save_trained(path, train_recipe(recipe))


def test_a_widened_network_is_the_same_function() -> None:
    narrow, wide = widened()
    with torch.no_grad():
        torch.testing.assert_close(wide(IMAGES), narrow(IMAGES), rtol=1e-5, atol=1e-7)
        # And each part of it: the first channels, and at every position the first capsules.
        torch.testing.assert_close(wide[:3](IMAGES)[:, :6], narrow[:3](IMAGES))
        torch.testing.assert_close(wide[:4](IMAGES)[:, :12], narrow[:4](IMAGES))
        # What is new is at work, though nothing of it reaches the classes yet.
        assert wide[:4](IMAGES)[:, 12:].abs().amin((0, 2, 3)).gt(0).all()


def test_every_new_weight_is_trained() -> None:
    _, wide = widened()
    optimizer = torch.optim.Adam(wide.parameters(), lr=0.01)
    before = {name: values.clone() for name, values in wide.state_dict().items()}
    for _ in range(3):
        optimizer.zero_grad()
        wide(IMAGES)[:, 0].sum().backward()
        optimizer.step()
    after = wide.state_dict()
    assert (after["conv1.weight"] != before["conv1.weight"])[6:].flatten(1).any(1).all()
    assert (after["primary.weight"] != before["primary.weight"])[12:].flatten(1).any(1).all()
    # An old capsule may begin to read new channels.
    assert (after["primary.weight"][:12, 6:] != 0).any()
    new_predictions = after["prediction.weight"].view(-1, 5, 10, 5, 4)[:, 3:, 0]
    assert new_predictions.flatten(2).any(2).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": 2}, "kernel must be 3 as in the network to start from, not 2"),
        ({"vector": 6}, "vector must be 5 as in the network to start from, not 6"),
        ({"types": 2}, "types must be at least 3 as in the network to start from, not 2"),
    ],
)
def test_networks_that_are_not_wider(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        widened(replace(WIDE, **change))  # type: ignore[arg-type]


def test_a_training_starts_from_the_network_beside_its_recipe(tmp_path: Path) -> None:
    save_narrow(tmp_path / "narrow.npz")
    text = """
        data = { name = "digits" }
        train = { start = "narrow", epochs = 1, batch_size = 50, learning_rate = 2e-5, loss = "margin" }
        [model]
        family = "capsnet"
        image = [1, 8, 8]
        channels = 10
        types = 5
        capsule = 4
        vector = 5
        kernel = 3
        primary_limit = 8.0
    """
    (tmp_path / "wide.toml").write_text(text)
    recipe = load_training_recipe(tmp_path / "wide.toml")
    assert recipe.start == tmp_path / "narrow.npz"
    narrow = load_checkpoint(recipe.start)
    assert narrow.metadata["accuracies"]["model"] > 0.85
    trained = train_recipe(recipe)
    # An epoch of small steps from random weights would end near one image in ten.
    assert trained.accuracies["model"] > 0.85
    floating = build_model(replace(narrow.config, precision=FLOAT, ranges=None))  # type: ignore[call-arg, arg-type]
    floating.load_state_dict(narrow.model.state_dict())
    with torch.no_grad():
        start = starting_network(recipe, recipe.model)
        torch.testing.assert_close(start(IMAGES), floating(IMAGES), rtol=1e-5, atol=1e-7)


def test_wrong_starts(tmp_path: Path) -> None:
    start = replace(TRAIN, start="narrow")
    lenet, train = LeNet300Config(image=(1, 8, 8)), replace(start, loss="cross_entropy")
    with pytest.raises(ConfigurationError, match=r"net \[train\]: start is for the family capsnet and"):
        TrainingRecipe(name="net", data=DIGITS, model=lenet, train=train)
    recipe = TrainingRecipe(name="net", data=DIGITS, model=WIDE, train=start, start=tmp_path / "narrow.npz")
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*narrow\.npz; train the recipe first"):
        train_recipe(recipe)
    save_narrow(tmp_path / "narrow.npz")
    with pytest.raises(ConfigurationError, match=r"net \[model\]: channels must be at least 6 .*, not 4"):
        train_recipe(replace(recipe, model=replace(WIDE, channels=4)))


def test_a_given_network_is_compressed_without_training_it_first(tmp_path: Path) -> None:
    save_narrow(tmp_path / "narrow.npz")
    narrow = load_checkpoint(tmp_path / "narrow.npz")
    model = replace(NARROW, precision=Precision(weight_bits=8, activation_bits=8, per_channel=False))
    train = replace(TRAIN, epochs=0, start="narrow")
    recipe = TrainingRecipe(name="small", data=DIGITS, model=model, train=train, start=tmp_path / "narrow.npz")
    config = CompressConfig(
        prune=PruneConfig(epochs=1, learning_rate=0.001, keep=(0.5,)),
        share=ShareConfig(epochs=1, learning_rate=0.001, codes=(32,)),
    )
    stage = dense(CompressionRun(recipe=recipe, compress=config, dataset=load("digits")))
    weights = stage.model.state_dict()
    assert all(torch.equal(weights[name], values) for name, values in narrow.model.state_dict().items())
