"""Training of a recipe from its seed to the network that ships."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from karui.sw.data.dataset import Dataset
from karui.sw.models.binary_connect import BinaryConnectConfig
from karui.sw.models.build import LightConfig, build_model
from karui.sw.train.batch_norm import reestimate_batch_norm
from karui.sw.train.calibrate import calibrate
from karui.sw.train.checkpoint import save_checkpoint
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import held_out_accuracy, tensors
from karui.sw.train.loop import OnEpoch, train
from karui.sw.train.phases import train_phases
from karui.sw.train.real_valued import real_valued_twin
from karui.sw.train.recipe import TrainingRecipe
from karui.sw.train.seeding import seeded, threads
from karui.sw.train.teacher import trained_teacher


@dataclass(frozen=True, kw_only=True)
class TrainedRecipe:
    """The network that ships.

    Parameters
    ----------
    recipe
        What was trained.
    model
        Model of the recipe's [model] section in evaluation mode.
    provenance
        Where the data come from.
    accuracies
        Fractions of all test images: ``model``, the network that ships; ``float``, the network before it was
        quantized, where it was trained in floating point first; for BinaryConnect also ``real_activations``,
        with binary weights before the activations were made integer, and, if its weights were stochastic in training,
        ``real_weights``.
    real_valued
        The real-valued twin of a network trained with stochastic weights.
    teacher
        What it was distilled from.
    further
        JSON values on phases behind the training, for the checkpoint.
    """

    recipe: TrainingRecipe
    model: nn.Sequential
    provenance: str
    accuracies: dict[str, float]
    real_valued: nn.Sequential | None = None
    teacher: nn.Module | None = None
    further: dict[str, Any] = field(default_factory=dict)


def train_recipe(
    recipe: TrainingRecipe,
    *,
    data_dir: Path | None = None,
    state_dir: Path | None = None,
    on_epoch: OnEpoch | None = None,
    on_teacher_epoch: OnEpoch | None = None,
    on_pretrain_epoch: OnEpoch | None = None,
) -> TrainedRecipe:
    """Train a recipe's network from its seed.

    Parameters
    ----------
    recipe
        What to train, on which data, and how.
    data_dir
        Folder of the data sets, see `karui.sw.data.datasets.load`.
    state_dir
        Folder for the states after each epoch; a training found there is resumed.
    on_epoch, on_teacher_epoch, on_pretrain_epoch
        Called after every epoch of the network, of its teacher and of its float phase.
    """
    dataset = load_data(recipe, data_dir)
    images, labels = tensors(dataset.train_images, dataset.train_labels)
    trainable = recipe.model
    if isinstance(trainable, LightConfig):
        with threads(recipe.train.threads):
            teacher = trained_teacher(recipe, dataset, images, labels, state_dir=state_dir, on_epoch=on_teacher_epoch)
            phased = train_phases(
                recipe,
                trainable,
                dataset,
                images,
                labels,
                teacher=teacher,
                state_dir=state_dir,
                on_epoch=on_epoch,
                on_pretrain_epoch=on_pretrain_epoch,
            )
        return TrainedRecipe(
            recipe=replace(recipe, model=phased.config),
            model=phased.model,
            provenance=dataset.provenance,
            accuracies=phased.accuracies,
            teacher=teacher,
        )
    if isinstance(trainable, BinaryConnectConfig):
        trainable = replace(trainable, activation_bits=None)
    with threads(recipe.train.threads):
        teacher = trained_teacher(recipe, dataset, images, labels, state_dir=state_dir, on_epoch=on_teacher_epoch)
        model = seeded(recipe.train.seed, lambda: build_model(trainable))
        state_path = state_dir / "student.pt" if state_dir is not None else None
        train(model, images, labels, recipe.train, teacher=teacher, state_path=state_path, on_epoch=on_epoch)
        if isinstance(trainable, BinaryConnectConfig):
            return _finish_binary_connect(recipe, model, trainable, dataset, images)
        accuracies = {"model": held_out_accuracy(model, dataset)}
        return TrainedRecipe(
            recipe=recipe, model=model, provenance=dataset.provenance, accuracies=accuracies, teacher=teacher
        )


def save_trained(path: Path, trained: TrainedRecipe) -> None:
    """Write the checkpoint of a trained recipe, with the figures and conditions that belong to it."""
    metadata = {
        "recipe": trained.recipe.name,
        "data": trained.provenance,
        "accuracies": trained.accuracies,
        "train": asdict(trained.recipe.train),
        **trained.further,
        "torch": torch.__version__,
    }
    save_checkpoint(path, trained.model, trained.recipe.model, metadata, real_valued=trained.real_valued)


def _finish_binary_connect(
    recipe: TrainingRecipe, model: nn.Sequential, config: BinaryConnectConfig, dataset: Dataset, images: Tensor
) -> TrainedRecipe:
    """Make the activations integer where the recipe asks for it; with stochastic weights, keep the real-valued twin."""
    accuracies, real_valued = {}, None
    if config.stochastic:
        real_valued = real_valued_twin(model, images)
        accuracies["real_weights"] = held_out_accuracy(real_valued, dataset)
        reestimate_batch_norm(model, images)
    accuracies["real_activations"] = held_out_accuracy(model, dataset)
    if isinstance(recipe.model, BinaryConnectConfig) and recipe.model.activation_bits is not None:
        model = calibrate(model, config, images, activation_bits=recipe.model.activation_bits)
    accuracies["model"] = held_out_accuracy(model, dataset)
    return TrainedRecipe(
        recipe=recipe, model=model, provenance=dataset.provenance, accuracies=accuracies, real_valued=real_valued
    )
