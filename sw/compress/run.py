"""The pipeline of a recipe, from its seed to the bytes of the file that ships."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from karui.sw.coding.container import SizeAccount
from karui.sw.compress.config import CompressConfig
from karui.sw.compress.packed_network import pack_network, read_network
from karui.sw.compress.pipeline import CompressionRun, OnPhaseEpoch, Stage, compress
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import held_out_accuracy
from karui.sw.train.recipe import TrainingRecipe


@dataclass(frozen=True, kw_only=True, eq=False)
class CompressedRecipe:
    """What a pipeline has made.

    Parameters
    ----------
    stages
        Networks behind each phase.
    data
        The file.
    account
        What each bit of it is for.
    accuracy
        Fraction of the test images that the network read back from the file classifies right.
    metadata
        JSON values: figures and conditions.
    """

    stages: tuple[Stage, ...]
    data: bytes
    account: SizeAccount
    accuracy: float
    metadata: dict[str, Any]


def compress_recipe(
    recipe: TrainingRecipe,
    config: CompressConfig,
    *,
    data_dir: Path | None = None,
    state_dir: Path | None = None,
    on_epoch: OnPhaseEpoch = lambda phase, record: None,
) -> CompressedRecipe:
    """Train, prune, share and pack a recipe's network.

    Parameters
    ----------
    recipe, config
        Sections [data], [model], [train], and [compress].
    data_dir
        Folder of the data sets, see `karui.sw.data.datasets.load`.
    state_dir
        Folder for the states after each epoch; a run found there is resumed.
    on_epoch
        Called after every epoch with its phase.
    """
    dataset = load_data(recipe, data_dir)
    run = CompressionRun(recipe=recipe, compress=config, dataset=dataset, state_dir=state_dir, on_epoch=on_epoch)
    stages = tuple(compress(run))
    data, account = pack_network(
        stages[-1].model,
        run.packed_config(stages[-1]),
        vectors=config.share.vectors,
        books=config.share.books,
    )
    accuracy = held_out_accuracy(read_network(data).model, dataset)
    metadata = {
        "recipe": recipe.name,
        "data": dataset.provenance,
        "accuracies": {**{stage.phase: stage.accuracy for stage in stages}, "model": accuracy},
        "train": asdict(recipe.train),
        "compress": asdict(config),
        "torch": torch.__version__,
    }
    return CompressedRecipe(stages=stages, data=data, account=account, accuracy=accuracy, metadata=metadata)
