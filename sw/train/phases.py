"""Training of the fixed-point families: in floating point first, then from these weights with the recipe's bits."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from karui.sw.data.dataset import Dataset
from karui.sw.models.build import LightConfig, family_of
from karui.sw.models.puppet import PuppetConfig
from karui.sw.nn.precision import FLOAT
from karui.sw.train.batch_norm import reestimate_batch_norm
from karui.sw.train.capsule_calibration import with_calibrated_ranges
from karui.sw.train.evaluate import held_out_accuracy
from karui.sw.train.kernel_regression import RegressionConfig, distilled
from karui.sw.train.loop import OnEpoch, train
from karui.sw.train.loss import Teacher
from karui.sw.train.recipe import TrainingRecipe
from karui.sw.train.reconstruction import beside_decoder
from karui.sw.train.start import starting_network


@dataclass(frozen=True, kw_only=True)
class PhasedTraining:
    """A model in evaluation mode, and the accuracies of its phases: ``float`` where there was one, and ``model``.

    A puppet with a continuous generator has the Euler generator in its float phase, or that of the network it starts
    from, and is ``distilled`` from that.

    The configuration is that of the model: what the float phase has left to be found is in it.
    """

    model: nn.Sequential
    config: LightConfig
    accuracies: dict[str, float]


def train_phases(
    recipe: TrainingRecipe,
    config: LightConfig,
    dataset: Dataset,
    images: Tensor,
    labels: Tensor,
    *,
    teacher: Teacher | None,
    state_dir: Path | None,
    on_epoch: OnEpoch | None,
    on_pretrain_epoch: OnEpoch | None,
) -> PhasedTraining:
    """Train a network of the fixed-point families, in one phase or, with `TrainConfig.pretrain`, in two.

    Each phase's state has a name made of all that determines it, so that recipes which differ in their bits alone
    share the float phase when they have a state folder in common. Batch norm's statistics are measured anew at the
    end: with few bits a weight near the middle between two steps changes the network's statistics with every step of
    the optimizer, and running averages mix networks.

    Parameters
    ----------
    recipe, config
        What to train; `config` is the recipe's model.
    dataset
        Its test images give the accuracies.
    images, labels
        Training images (uint8, N x C x H x W) and class indices.
    teacher
        What both phases are distilled from.
    state_dir
        Folder of the states.
    on_epoch, on_pretrain_epoch
        Called after every epoch of the recipe's network, and of the float phase.
    """
    accuracies = {}
    float_state = None
    continuous = isinstance(config, PuppetConfig) and config.is_continuous
    if recipe.train.pretrain is not None or continuous:
        real, float_state = _in_floating_point(recipe, config, images, labels, teacher, state_dir, on_pretrain_epoch)
        accuracies["float"] = held_out_accuracy(real, dataset)
        config = with_calibrated_ranges(config, real, images)
        if isinstance(config, PuppetConfig) and continuous:
            regression = recipe.train.regression or RegressionConfig()
            real = distilled(replace(config, precision=FLOAT), real, images, regression, seed=recipe.train.seed)
            accuracies["distilled"] = held_out_accuracy(real, dataset)
            float_state = real.state_dict()
    # Behind a float phase the weights are that phase's.
    model = starting_network(recipe if float_state is None else replace(recipe, start=None), config)
    trained = beside_decoder(model, config.image, config.classes, recipe.train.reconstruction, seed=recipe.train.seed)
    if float_state is not None:
        trained.load_state_dict(float_state)
    path = state_path(
        state_dir, "quantized", recipe.data.name, family_of(config), config, recipe.train, *_start_digest(recipe)
    )
    train(trained, images, labels, recipe.train, teacher=teacher, state_path=path, on_epoch=on_epoch)
    reestimate_batch_norm(model, images)
    accuracies["model"] = held_out_accuracy(model, dataset)
    return PhasedTraining(model=model, config=config, accuracies=accuracies)


def _in_floating_point(
    recipe: TrainingRecipe,
    config: LightConfig,
    images: Tensor,
    labels: Tensor,
    teacher: Teacher | None,
    state_dir: Path | None,
    on_epoch: OnEpoch | None,
) -> tuple[nn.Sequential, dict[str, Tensor]]:
    """Return the network of the float phase, or that of the recipe's start as it is, and the weights to go on from."""
    config = replace(config, precision=FLOAT)
    if isinstance(config, PuppetConfig):
        config = config.teaching
    real = starting_network(recipe, config)
    trained = beside_decoder(real, config.image, config.classes, recipe.train.reconstruction, seed=recipe.train.seed)
    pretrain = recipe.train.pretrain
    if pretrain is not None:
        phase = replace(
            recipe.train,
            epochs=pretrain.epochs,
            learning_rate=pretrain.learning_rate,
            pretrain=None,
            regression=None,
        )
        path = state_path(
            state_dir, "float", recipe.data.name, family_of(config), config, phase, *_start_digest(recipe)
        )
        train(trained, images, labels, phase, teacher=teacher, state_path=path, on_epoch=on_epoch)
    state = {name: values.clone() for name, values in trained.state_dict().items()}
    reestimate_batch_norm(real, images)
    return real, state


def _start_digest(recipe: TrainingRecipe) -> tuple[str, ...]:
    """The network that a training starts from, by its bytes: its name stays when it is trained again."""
    return () if recipe.start is None else (hashlib.sha256(recipe.start.read_bytes()).hexdigest(),)


def state_path(state_dir: Path | None, phase: str, *determined_by: Any) -> Path | None:
    """Return the file of a phase's state, named by a digest of what determines the phase.

    Fields at their defaults do not enter, so that a new one with a default leaves the names as they are.
    """
    if state_dir is None:
        return None
    digest = hashlib.sha256(json.dumps([_given(value) for value in determined_by]).encode()).hexdigest()
    return state_dir / f"{phase}-{digest[:12]}.pt"


def _given(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_given(entry) for entry in value]
    if not is_dataclass(value):
        return value
    given = {}
    for field in fields(value):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        entry = getattr(value, field.name)
        if entry != default:
            given[field.name] = _given(entry)
    return given
