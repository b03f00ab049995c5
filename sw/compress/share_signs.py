"""Sharing of binary weights: rows are composed of few vectors of signs, and the network trains on so constrained.

The code book stays; training moves the latent weights, and with them which of its vectors stands where. The gradient
passes straight through that choice, as it does through the sign (Courbariaux et al. 2015).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from karui.sw.compress.cluster import binary_k_means
from karui.sw.compress.config import SignSharingConfig
from karui.sw.nn.binary_weight import BinaryWeightLayer, binary_layers
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import held_out_accuracy, tensors
from karui.sw.train.loop import OnEpoch, train
from karui.sw.train.phases import state_path
from karui.sw.train.run import TrainedRecipe
from karui.sw.train.seeding import threads


def share_trained(
    trained: TrainedRecipe,
    config: SignSharingConfig,
    *,
    data_dir: Path | None = None,
    state_dir: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> TrainedRecipe:
    """Share a trained network's binary weights and train it on, with the teacher that it had.

    Parameters
    ----------
    trained
        As `karui.sw.train.run.train_recipe` leaves it; its model is changed in place.
    config
        Section [share].
    data_dir, state_dir, on_epoch
        As of `train_recipe`.

    Returns
    -------
    TrainedRecipe
        With plain binary weights; the accuracy before is ``unshared``.
    """
    recipe, model = trained.recipe, trained.model
    dataset = load_data(recipe, data_dir)
    phase = replace(
        recipe.train,
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    with threads(phase.threads):
        norms = fold_falling_scales(model)
        share_signs(model, config, seed=phase.seed)
        train(
            model,
            *tensors(dataset.train_images, dataset.train_labels),
            phase,
            teacher=trained.teacher,
            state_path=state_path(state_dir, "share", recipe.data.name, recipe.model, recipe.train, config),
            on_epoch=on_epoch,
            after_step=lambda progress: _keep_rising(norms),
        )
        own_signs(model)
        accuracies = {"unshared": trained.accuracies["model"], "model": held_out_accuracy(model, dataset)}
    return replace(trained, accuracies=accuracies, further={"share": asdict(config)})


@torch.no_grad()
def fold_falling_scales(model: nn.Sequential) -> list[_BatchNorm]:
    """Let binary rows take over the minus of a negative batch norm's scale: the same function, every scale at least 0.

    Hardware compares with thresholds from below, so lowering negates the rows of negative scales: vectors of such rows
    would not be the code book's.

    Returns
    -------
    list of batch norms
        Those behind binary layers.
    """
    norms = []
    for layer, norm in pairwise(model):
        if isinstance(layer, BinaryWeightLayer) and isinstance(norm, _BatchNorm):
            falling = norm.weight < 0
            layer.weight[falling] *= -1
            norm.weight[falling] *= -1
            assert norm.running_mean is not None
            norm.running_mean[falling] *= -1
            norms.append(norm)
    return norms


@torch.no_grad()
def _keep_rising(norms: list[_BatchNorm]) -> None:
    for norm in norms:
        norm.weight.clamp_(min=0)


@torch.no_grad()
def share_signs(model: nn.Module, config: SignSharingConfig, *, seed: int) -> None:
    """Give every binary layer but the last a code book, clustered with the latent weights' magnitudes as importances.

    The last one, of a row a class, is small, and each of its weights counts. Layers whose inputs the vector does not
    divide are left out too.
    """
    layers = sharable(model, config.vector)
    codes = config.codes * len(layers) if len(config.codes) == 1 else config.codes
    if len(codes) != len(layers):
        raise ValueError(f"codes must be one number or {len(layers)}, one a layer, not {list(config.codes)}")
    for layer, k in zip(layers, codes, strict=True):
        latent = layer.weight.movedim(1, -1).reshape(-1, config.vector).numpy()
        signs = np.where(latent < 0, np.float32(-1), np.float32(1))
        clustering = binary_k_means(signs, k, importance=np.abs(latent), seed=seed)
        layer.code_book = torch.tensor(clustering.code_book)


def sharable(model: nn.Module, vector: int) -> list[BinaryWeightLayer]:
    """Return the binary layers that have a code book of such vectors."""
    return [layer for layer in binary_layers(model)[:-1] if layer.weight.shape[1] % vector == 0]


@torch.no_grad()
def own_signs(model: nn.Module) -> None:
    """Make the vectors chosen last the layers' own weights, without code books."""
    for layer in binary_layers(model):
        layer.weight.copy_(layer.binary_weight())
        layer.code_book = None
