"""Training of a recipe from its seed to the network that ships."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from karui.sw.data.dataset import Dataset
from karui.sw.data.datasets import load
from karui.sw.models.build import build_model
from karui.sw.models.teacher import build_teacher
from karui.sw.train.checkpoint import save_checkpoint
from karui.sw.train.config import TrainConfig
from karui.sw.train.evaluate import evaluate
from karui.sw.train.loop import OnEpoch, train
from karui.sw.train.recipe import TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class TrainedRecipe:
    """A trained model in evaluation mode and its accuracy on all test images."""

    recipe: TrainingRecipe
    model: nn.Sequential
    accuracy: float


def train_recipe(
    recipe: TrainingRecipe,
    *,
    data_dir: Path | None = None,
    state_dir: Path | None = None,
    on_epoch: OnEpoch | None = None,
    on_teacher_epoch: OnEpoch | None = None,
) -> TrainedRecipe:
    """Train a recipe's network.

    Parameters
    ----------
    recipe
        What to train, on which data, and how.
    data_dir
        Folder of the data sets, see `karui.sw.data.datasets.load`.
    state_dir
        Folder for the states after each epoch; a training found there is resumed.
    on_epoch, on_teacher_epoch
        Called after every epoch of the network and of its teacher.
    """
    dataset = load(recipe.data.name, data_dir)
    with threads(recipe.train.threads):
        teacher = _train_teacher(recipe, dataset, state_dir, on_teacher_epoch)
        model = seeded(recipe.train.seed, lambda: build_model(recipe.model))
        images, labels = tensors(dataset.train_images, dataset.train_labels)
        state_path = state_dir / "student.pt" if state_dir is not None else None
        train(model, images, labels, recipe.train, teacher=teacher, state_path=state_path, on_epoch=on_epoch)
        return TrainedRecipe(recipe=recipe, model=model, accuracy=test_accuracy(model, dataset))


def save_trained(path: Path, trained: TrainedRecipe) -> None:
    """Write the checkpoint of a trained recipe, with the figures and conditions that belong to it."""
    metadata = {
        "recipe": trained.recipe.name,
        "data": trained.recipe.data.name,
        "accuracy": trained.accuracy,
        "train": asdict(trained.recipe.train),
        "torch": torch.__version__,
    }
    save_checkpoint(path, trained.model, trained.recipe.model, metadata)


def test_accuracy(model: nn.Module, dataset: Dataset) -> float:
    """Return the fraction of the test images that a model classifies right."""
    return evaluate(model, *tensors(dataset.test_images, dataset.test_labels))


def tensors(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Copy arrays into tensors."""
    return torch.tensor(images), torch.tensor(labels)


def _train_teacher(
    recipe: TrainingRecipe, dataset: Dataset, state_dir: Path | None, on_epoch: OnEpoch | None
) -> nn.Module | None:
    if recipe.train.distillation is None:
        return None
    config = TrainConfig(
        epochs=recipe.train.distillation.epochs,
        learning_rate=2e-3,
        seed=recipe.train.seed,
        threads=recipe.train.threads,
        augment=recipe.train.augment,
    )
    teacher = seeded(config.seed, lambda: build_teacher(dataset.image_shape, len(dataset.classes)))
    images, labels = tensors(dataset.train_images, dataset.train_labels)
    state_path = state_dir / "teacher.pt" if state_dir is not None else None
    train(teacher, images, labels, config, state_path=state_path, on_epoch=on_epoch)
    return teacher


def seeded(seed: int, build: Callable[[], nn.Sequential]) -> nn.Sequential:
    """Build with torch's default generator seeded, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run the body with a number of torch threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
