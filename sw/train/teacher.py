"""The networks that others are distilled from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from karui.sw.data.dataset import Dataset
from karui.sw.models.build import build_model, family_of
from karui.sw.models.puppet import PuppetConfig, fixed_twin
from karui.sw.models.teacher import build_teacher
from karui.sw.nn.precision import FLOAT
from karui.sw.train.config import TrainConfig
from karui.sw.train.loop import OnEpoch, train
from karui.sw.train.phases import state_path
from karui.sw.train.recipe import TrainingRecipe
from karui.sw.train.seeding import seeded

LEARNING_RATE = 2e-3
# Of networks with kernels of their own, whose weights are smaller than a generator's constants.
TWIN_LEARNING_RATE = 0.01


def trained_teacher(
    recipe: TrainingRecipe,
    dataset: Dataset,
    images: Tensor,
    labels: Tensor,
    *,
    state_dir: Path | None,
    on_epoch: OnEpoch | None,
) -> nn.Module | None:
    """Train what a recipe's network is distilled from, if it asks for that; the result is in evaluation mode.

    A puppet's teacher is its twin of stored kernels, of the largest depth and in floating point; that of the binary
    families a small convolutional network.

    Parameters
    ----------
    recipe
        Whose network learns.
    dataset
        Its images' shape and classes.
    images, labels
        Training images (uint8, N x C x H x W) and class indices.
    state_dir
        Folder of the states.
    on_epoch
        Called after every epoch.
    """
    learner, model = recipe.train, recipe.model
    if learner.distillation is None:
        return None
    epochs = learner.distillation.epochs
    if isinstance(model, PuppetConfig):
        twin = replace(fixed_twin(model, model.last_depth), precision=FLOAT)
        config = TrainConfig(
            epochs=epochs,
            batch_size=learner.batch_size,
            learning_rate=TWIN_LEARNING_RATE,
            seed=learner.seed,
            threads=learner.threads,
            augment=learner.augment,
            arithmetic=learner.arithmetic,
        )
        teacher = seeded(config.seed, lambda: build_model(twin))
        # The name of any float phase: the twin may be trained for itself beside.
        path = state_path(state_dir, "float", recipe.data.name, family_of(twin), twin, config)
    else:
        config = TrainConfig(
            epochs=epochs,
            learning_rate=LEARNING_RATE,
            seed=learner.seed,
            threads=learner.threads,
            augment=learner.augment,
        )
        teacher = seeded(config.seed, lambda: build_teacher(dataset.image_shape, len(dataset.classes)))
        path = state_dir / "teacher.pt" if state_dir is not None else None
    train(teacher, images, labels, config, state_path=path, on_epoch=on_epoch)
    return teacher
