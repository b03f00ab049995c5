"""The decomposition of a recipe: float weights, calibration, the bytes of the file that ships."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from karui.sw.coding.size_account import SizeAccount
from karui.sw.configuration import ConfigurationError
from karui.sw.decompose.config import DecomposeConfig
from karui.sw.decompose.convert import LayerReport, OnSearch, convert
from karui.sw.decompose.decomposed_file import pack_decomposed, read_decomposed
from karui.sw.models.build import FloatConfig, LightConfig, family_of
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import held_out_accuracy
from karui.sw.train.loop import OnEpoch
from karui.sw.train.recipe import TrainingRecipe
from karui.sw.train.run import train_recipe


@dataclass(frozen=True, kw_only=True, eq=False)
class DecomposedRecipe:
    """What a decomposition has made.

    Parameters
    ----------
    data
        The file.
    account
        What each bit of it is for.
    floats
        The network before, in evaluation mode.
    layers
        Bases, bits and error of each layer.
    accuracies
        Fractions of the test images: ``float``, and ``model`` of the network read back from the file.
    metadata
        JSON values: figures and conditions.
    """

    data: bytes
    account: SizeAccount
    floats: nn.Sequential
    layers: tuple[LayerReport, ...]
    accuracies: dict[str, float]
    metadata: dict[str, Any]


def decompose_recipe(
    recipe: TrainingRecipe,
    config: DecomposeConfig,
    *,
    weights: Path | None = None,
    data_dir: Path | None = None,
    state_dir: Path | None = None,
    on_epoch: OnEpoch | None = None,
    on_search: OnSearch = lambda text, done, total: None,
) -> DecomposedRecipe:
    """Decompose a recipe's network, and pack it.

    Parameters
    ----------
    recipe, config
        Sections [data], [model], [train], and [decompose].
    weights
        Checkpoint of the float network; without it, it is trained as [train] says.
    data_dir
        Folder of the data sets, see `karui.sw.data.datasets.load`.
    state_dir
        Folder for the states after each epoch of a training; one found there is resumed.
    on_epoch
        Called after every epoch of a training.
    on_search
        Called in the search for bases with the layer, and with its filters done and in all.
    """
    if not isinstance(recipe.model, FloatConfig | LightConfig):
        raise ConfigurationError(f"{recipe.name} [decompose]: family {family_of(recipe.model)} is binary already")
    dataset = load_data(recipe, data_dir)
    if weights is not None:
        model = load_checkpoint(weights).model
    else:
        model = train_recipe(recipe, data_dir=data_dir, state_dir=state_dir, on_epoch=on_epoch).model
    images = torch.tensor(dataset.train_images[: config.calibration_images]).float()
    decomposed = convert(model, images, config, progress=on_search)
    data, account = pack_decomposed(decomposed.model, recipe.model)
    accuracies = {
        "float": held_out_accuracy(model, dataset),
        "model": held_out_accuracy(read_decomposed(data), dataset),
    }
    metadata = {
        "recipe": recipe.name,
        "data": dataset.provenance,
        "accuracies": accuracies,
        "layers": [asdict(layer) for layer in decomposed.layers],
        "decompose": asdict(config),
        "torch": torch.__version__,
    }
    return DecomposedRecipe(
        data=data,
        account=account,
        floats=model,
        layers=decomposed.layers,
        accuracies=accuracies,
        metadata=metadata,
    )
