"""From a recipe's seed to a network of shared integers: dense, structured, pruned, shared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from karui.sw.compress.config import CompressConfig, PhaseConfig
from karui.sw.compress.prune import Pruner
from karui.sw.compress.share import own_weights, share_by_clustering
from karui.sw.compress.structure import (
    CompressibleConfig,
    best_neurons,
    hidden_widths,
    live_neurons,
    narrowed,
    weight_layers,
    with_widths,
)
from karui.sw.configuration import ConfigurationError
from karui.sw.data.dataset import Dataset
from karui.sw.models.build import build_model, family_of
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.capsule_vgg import CapsuleVggConfig, without_batch_norm
from karui.sw.nn.precision import FLOAT
from karui.sw.nn.quant_activation import QuantActivation
from karui.sw.train.batch_norm import reestimate_batch_norm
from karui.sw.train.capsule_calibration import with_calibrated_ranges
from karui.sw.train.config import DistillationConfig, TrainConfig
from karui.sw.train.evaluate import evaluate, tensors
from karui.sw.train.loop import AfterStep, EpochRecord, train
from karui.sw.train.phases import state_path
from karui.sw.train.recipe import TrainingRecipe
from karui.sw.train.reconstruction import beside_decoder
from karui.sw.train.seeding import threads
from karui.sw.train.start import starting_network

# Called with the phase and each epoch's record.
OnPhaseEpoch = Callable[[str, EpochRecord], None]
PHASES = ("dense", "structure", "prune", "share")


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """The network behind one phase of the pipeline.

    Parameters
    ----------
    phase
        ``dense``, ``structure``, ``prune`` or ``share``.
    model
        In evaluation mode; without the neurons that the phases so far have removed.
    config
        Its configuration.
    accuracy
        Fraction of the test images that it classifies right.
    """

    phase: str
    model: nn.Sequential
    config: CompressibleConfig
    accuracy: float


@dataclass(frozen=True, kw_only=True, eq=False)
class CompressionRun:
    """What a pipeline has to work on, and how its trainings report and resume.

    Parameters
    ----------
    recipe, compress
        Sections of the recipe.
    dataset
        Data of the recipe.
    state_dir
        Folder for the state of each phase; trainings found there are resumed.
    on_epoch
        Called after every epoch.
    """

    recipe: TrainingRecipe
    compress: CompressConfig
    dataset: Dataset
    state_dir: Path | None = None
    on_epoch: OnPhaseEpoch = lambda phase, record: None

    def __post_init__(self) -> None:
        if not isinstance(self.recipe.model, CompressibleConfig):
            raise ConfigurationError(
                f"{self.recipe.name} [compress]: family must be lenet-300-100, lenet5, capsnet or capsule-vgg, not "
                f"{family_of(self.recipe.model)!r}"
            )
        precision = self.recipe.model.precision
        if precision == FLOAT or precision.per_channel:
            raise ConfigurationError(
                f"{self.recipe.name} [model]: compression ends with integers on one grid a layer; give precision "
                f"weight_bits, activation_bits and per_channel = false"
            )
        if self.compress.structure is not None and not hidden_widths(self.recipe.model):
            raise ConfigurationError(
                f"{self.recipe.name} [compress]: a stage's convolutions have one width, no neurons can be removed; "
                f"leave structure out"
            )

    @property
    def model_config(self) -> CompressibleConfig:
        """Configuration of the network that comes out: batch norms become part of the convolutions."""
        config = self.recipe.model
        assert isinstance(config, CompressibleConfig)
        return replace(config, batch_norm=False) if isinstance(config, CapsuleVggConfig) else config

    def packed_config(self, stage: Stage) -> CompressibleConfig:
        """Configuration of the network that the file of a last stage stands for, of full width."""
        config = self.model_config
        if isinstance(config, CapsNetConfig | CapsuleVggConfig):
            assert isinstance(stage.config, CapsNetConfig | CapsuleVggConfig)
            config = replace(config, ranges=stage.config.ranges)
        return config

    def accuracy(self, model: nn.Module) -> float:
        """Fraction of the test images that a model classifies right."""
        return evaluate(model, *tensors(self.dataset.test_images, self.dataset.test_labels))


def compress(run: CompressionRun) -> list[Stage]:
    """Run the whole pipeline; the last stage has the integers that ship."""
    with threads(run.recipe.train.threads):
        stages = [dense(run)]
        teacher = stages[0].model if run.compress.teacher is not None else None
        if run.compress.structure is not None:
            stages.append(structure(run, stages[-1], teacher))
        stages.append(prune(run, stages[-1], teacher))
        stages.append(share(run, stages[-1], teacher))
    return stages


def dense(run: CompressionRun) -> Stage:
    """Train the full network in floating point, as [train] says."""
    assert isinstance(run.recipe.model, CompressibleConfig)
    config = replace(run.recipe.model, precision=FLOAT)
    model = starting_network(run.recipe, config)
    _train(run, "dense", model, run.recipe.train, config, None)
    _reestimate(run, model)
    return Stage(phase="dense", model=model, config=config, accuracy=run.accuracy(model))


def structure(run: CompressionRun, before: Stage, teacher: nn.Module | None) -> Stage:
    """Keep the best neurons and train them on."""
    phase = run.compress.structure
    assert phase is not None
    config = with_widths(before.config, phase.widths)
    model = narrowed(before.model, before.config, best_neurons(before.model, phase.widths))
    _train(run, "structure", model, phase, config, teacher)
    return Stage(phase="structure", model=model, config=config, accuracy=run.accuracy(model))


def prune(run: CompressionRun, before: Stage, teacher: nn.Module | None) -> Stage:
    """Prune gradually while training, then drop the neurons that nothing reaches or that reach nothing."""
    phase = run.compress.prune
    model = build_model(before.config)
    model.load_state_dict(before.model.state_dict())
    pruner = Pruner(weight_layers(model), phase)
    _train(run, "prune", model, phase, before.config, teacher, after_step=pruner)
    pruner.finish()
    config = before.config
    if isinstance(config, CapsuleVggConfig) and config.batch_norm:
        # Not earlier: behind bytes a convolution without its norm has weights so small that a step would undo them.
        _reestimate(run, model)
        model, config = without_batch_norm(model, config)
    model, config = without_dead_neurons(model, config)
    return Stage(phase="prune", model=model, config=config, accuracy=run.accuracy(model))


def share(run: CompressionRun, before: Stage, teacher: nn.Module | None) -> Stage:
    """Cluster the weights, then train the code books with the activations and code books quantized."""
    phase = run.compress.share
    images, _ = tensors(run.dataset.train_images, run.dataset.train_labels)
    config = with_calibrated_ranges(replace(before.config, precision=run.model_config.precision), before.model, images)
    assert isinstance(config, CompressibleConfig)
    model = build_model(config)
    model.load_state_dict(before.model.state_dict())
    share_by_clustering(model, phase, seed=run.recipe.train.seed)
    _train(run, "share", model, phase, config, teacher)
    own_weights(model)
    fix_integers(model)
    model, config = without_dead_neurons(model, config)
    return Stage(phase="share", model=model, config=config, accuracy=run.accuracy(model))


@torch.no_grad()
def fix_integers(model: nn.Module) -> None:
    """Set latent weights and biases to the integers' values, which they then keep whatever else is removed."""
    for layer in weight_layers(model).values():
        weight, bias = layer.forward_weight(), layer.forward_bias()
        layer.weight.copy_(weight)
        if layer.bias is not None and bias is not None:
            layer.bias.copy_(bias)


def without_dead_neurons(model: nn.Sequential, config: CompressibleConfig) -> tuple[nn.Sequential, CompressibleConfig]:
    """Remove neurons that cannot matter, until none is left to remove."""
    while hidden_widths(config):
        live = [kept if len(kept) else torch.tensor([0]) for kept in live_neurons(model)]
        widths = [len(kept) for kept in live]
        if tuple(widths) == hidden_widths(config):
            return model.eval(), config
        model, config = narrowed(model, config, live), with_widths(config, widths)
    return model.eval(), config


def pooled_first(model: nn.Sequential) -> nn.Sequential:
    """Return the same layers with every max pool in front of its ReLU: the same function, with a quarter of its cost.

    Rounding and clamping are monotone. The gradient goes to the largest sum of a window, where behind the ReLU several
    may have become equal.
    """
    names = list(dict(model.named_children()))
    for index in range(1, len(names)):
        layer, before = model.get_submodule(names[index]), model.get_submodule(names[index - 1])
        if isinstance(layer, nn.MaxPool2d) and isinstance(before, QuantActivation):
            names[index - 1], names[index] = names[index], names[index - 1]
    ordered = nn.Sequential()
    for name in names:
        ordered.add_module(name, model.get_submodule(name))
    return ordered


def _reestimate(run: CompressionRun, model: nn.Module) -> None:
    reestimate_batch_norm(model, tensors(run.dataset.train_images, run.dataset.train_labels)[0])


def _train(
    run: CompressionRun,
    phase: str,
    model: nn.Sequential,
    config: TrainConfig | PhaseConfig,
    network: CompressibleConfig,
    teacher: nn.Module | None,
    *,
    after_step: AfterStep | None = None,
) -> None:
    training = run.recipe.train
    if isinstance(config, PhaseConfig):
        soft = run.compress.teacher
        training = replace(
            training,
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            augment=run.compress.augment or training.augment,
            reconstruction=None,
            distillation=None
            if soft is None
            else DistillationConfig(epochs=training.epochs, weight=soft.weight, temperature=soft.temperature),
        )
    # All that determines a phase names its state, so that recipes which agree up to a phase share it.
    earlier = [getattr(run.compress, name) for name in PHASES[1 : PHASES.index(phase) + 1]]
    of_all_phases = [run.compress.teacher, run.compress.augment] if earlier else None
    determined_by = (run.recipe.data.name, network, run.recipe.train, of_all_phases, earlier)
    train(
        beside_decoder(
            pooled_first(model), network.image, network.classes, training.reconstruction, seed=training.seed
        ),
        *tensors(run.dataset.train_images, run.dataset.train_labels),
        training,
        teacher=None if teacher is None else _logits(teacher),
        state_path=state_path(run.state_dir, phase, *determined_by),
        on_epoch=lambda record, _: run.on_epoch(phase, record),
        after_step=after_step,
    )


def _logits(teacher: nn.Module) -> Callable[[Tensor], Tensor]:
    teacher.eval()

    def logits(images: Tensor) -> Tensor:
        outputs: Tensor = teacher(images)
        return outputs

    return logits
