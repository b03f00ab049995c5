"""Margin loss, reconstruction, and the training of a capsule network beside its decoder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from karui.sw.configuration import ConfigurationError
from karui.sw.data.datasets import load
from karui.sw.models.build import build_model
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.lenet import LeNet300Config
from karui.sw.train.config import TrainConfig
from karui.sw.train.evaluate import tensors
from karui.sw.train.loop import EpochRecord, train
from karui.sw.train.loss import margin
from karui.sw.train.recipe import DataConfig, TrainingRecipe
from karui.sw.train.reconstruction import ReconstructionConfig, ReconstructionTraining
from karui.sw.train.run import train_recipe
from karui.sw.train.seeding import seeded

MODEL = CapsNetConfig(image=(1, 8, 8), channels=12, types=4, capsule=4, vector=6, kernel=3)
RECONSTRUCTION = ReconstructionConfig(weight=0.01, hidden=(20,))
TRAIN = TrainConfig(epochs=3, batch_size=50, learning_rate=0.01, loss="margin", reconstruction=RECONSTRUCTION)


class InterruptionError(Exception):
    pass


def beside_decoder() -> ReconstructionTraining:
    return seeded(1, lambda: ReconstructionTraining(build_model(MODEL), MODEL.image, 10, RECONSTRUCTION))


def test_margin_loss() -> None:
    lengths = torch.tensor([[0.95, 0.05, 0.3], [0.5, 0.6, 0.0]])
    loss = margin(lengths.square(), torch.tensor([0, 0]))
    # Only what lies on the wrong side of a margin counts: 0.3 in the first image, 0.5 and 0.6 in the second.
    assert float(loss) == pytest.approx((0.5 * 0.2**2 + 0.4**2 + 0.5 * 0.5**2) / 2, abs=1e-6)


def test_the_penalty_is_the_error_of_the_true_classs_capsule() -> None:
    model = beside_decoder()
    images, labels = torch.randint(0, 256, (4, 1, 8, 8)).float(), torch.tensor([3, 0, 9, 3])
    outputs = model(images)
    assert torch.equal(outputs, model.network(images))
    capsules = model.network[:-1](images).view(4, 10, 6)
    expected = 0.0
    for image, label, vectors in zip(images, labels, capsules, strict=True):
        alone = torch.zeros(10, 6)
        alone[label] = vectors[label]
        expected += float((model.decoder(alone.flatten()) - image.flatten() / 255).square().sum().detach())
    assert model.penalty(labels, images).item() == pytest.approx(0.01 * expected / 4, rel=1e-5)
    with pytest.raises(ValueError, match="compute the network's outputs first"):
        model.penalty(labels, images)


def test_only_networks_that_end_in_lengths_have_a_decoder() -> None:
    with pytest.raises(ValueError, match="end in SquaredLength, not Linear"):
        ReconstructionTraining(nn.Sequential(nn.Linear(2, 2)), (1, 8, 8), 10, RECONSTRUCTION)


def test_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    dataset = load("digits")
    images, labels = tensors(dataset.train_images[:300], dataset.train_labels[:300])
    records: list[EpochRecord] = []
    whole = beside_decoder()
    train(whole, images, labels, TRAIN, on_epoch=lambda record, _: records.append(record))
    assert records[-1].loss < 0.8 * records[0].loss

    def interrupt(record: EpochRecord, model: nn.Module) -> None:
        raise InterruptionError

    state = tmp_path / "state.pt"
    with pytest.raises(InterruptionError):
        train(beside_decoder(), images, labels, TRAIN, state_path=state, on_epoch=interrupt)
    resumed = beside_decoder()
    train(resumed, images, labels, TRAIN, state_path=state)
    for name, values in whole.state_dict().items():
        assert torch.equal(values, resumed.state_dict()[name]), name


def test_a_recipe_trains_beside_its_decoder_and_ships_without() -> None:
    recipe = TrainingRecipe(name="tiny", data=DataConfig(name="digits"), model=MODEL, train=replace(TRAIN, epochs=8))
    trained = train_recipe(recipe)
    assert trained.accuracies["model"] > 0.6
    assert trained.model.state_dict().keys() == build_model(MODEL).state_dict().keys()
    alone = train_recipe(replace(recipe, train=replace(TRAIN, epochs=8, reconstruction=None)))
    weight = "prediction.weight"
    assert not torch.equal(trained.model.state_dict()[weight], alone.model.state_dict()[weight])


def test_bad_values_are_refused() -> None:
    lenet = LeNet300Config(image=(1, 8, 8))
    for config, message in ((TRAIN, 'loss = "margin" is for'), (replace(TRAIN, loss="squared_hinge"), "remove it")):
        with pytest.raises(ConfigurationError, match=message):
            TrainingRecipe(name="tiny", data=DataConfig(name="digits"), model=lenet, train=config)
    with pytest.raises(ValueError, match="must be positive, not 0"):
        ReconstructionConfig(weight=0.0)
    with pytest.raises(ValueError, match="hidden must be widths"):
        ReconstructionConfig(hidden=())
