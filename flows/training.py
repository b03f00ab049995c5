"""Stage train: the shipped network, or a training from the recipe's seed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from karui.flows.build_folder import BuildFolder
from karui.flows.compression_plot import plot
from karui.flows.recipe import PACKED_SUFFIX, Recipe
from karui.flows.settings import Settings
from karui.sw.coding.container import read_container
from karui.sw.compress.config import CompressConfig
from karui.sw.compress.packed_network import read_network
from karui.sw.compress.run import compress_recipe
from karui.sw.compress.share_signs import share_trained
from karui.sw.compress.structure import weight_layers
from karui.sw.decompose.config import DecomposeConfig
from karui.sw.decompose.convert import OnSearch
from karui.sw.decompose.decomposed_file import is_decomposed, read_decomposed
from karui.sw.decompose.run import decompose_recipe
from karui.sw.train.checkpoint import load_checkpoint, save_checkpoint
from karui.sw.train.data import load_data
from karui.sw.train.evaluate import held_out_accuracy
from karui.sw.train.loop import EpochRecord, OnEpoch
from karui.sw.train.run import save_trained, train_recipe

# Called with the phase ("training", "teacher", "float phase", "prune", ...) and each epoch's record.
OnTraining = Callable[[str, EpochRecord], None]


def run_train(
    folder: BuildFolder,
    settings: Settings,
    *,
    data_dir: Path | None = None,
    on_epoch: OnTraining = lambda phase, record: None,
    on_search: OnSearch = lambda text, done, total: None,
) -> dict[str, Any]:
    """Put a trained network into the build folder.

    A training that was cut off goes on from its last epoch when the stage is run again with the same settings.

    Returns
    -------
    dict
        The stage's result, as ``train.json`` has it.
    """
    folder.begin("train")
    recipe = settings.load_recipe()
    started = time.monotonic()
    history: list[dict[str, float]] = []
    target, other = folder.checkpoint, folder.packed
    if recipe.is_packed:
        target, other = other, target
    other.unlink(missing_ok=True)
    if recipe.checkpoint is not None and not settings.retrain and settings.seed is None:
        source = "shipped"
        shutil.copyfile(recipe.checkpoint, target)
        metadata = _shipped_metadata(recipe, target, data_dir)
        if recipe.compress is not None:
            _draw(recipe, target, metadata["accuracies"]["model"])
    else:
        source = "trained"
        state = folder.training_state
        _keep_state_of(state, settings)
        history = _history(state)

        def note(phase: str, record: EpochRecord, *, first: int | None) -> None:
            if first is not None:
                entry = {"epoch": first + record.epoch, "loss": record.loss, "accuracy": record.accuracy}
                history[first + record.epoch - 1 :] = [entry]
                _log(state).write_text("".join(json.dumps(line) + "\n" for line in history))
            on_epoch(phase, record)

        if recipe.compress is not None:
            metadata = _compress(recipe, recipe.compress, target, state, data_dir, note)
        elif recipe.decompose is not None:
            metadata = _decompose(recipe, recipe.decompose, folder, data_dir, note, on_search)
        else:
            metadata = _train(recipe, target, state, data_dir, note)
        shutil.rmtree(state)
    result = {
        "source": source,
        "accuracy": metadata["accuracies"]["model"],
        "metadata": metadata,
        "history": history,
        "seconds": round(time.monotonic() - started, 2),
    }
    folder.finish("train", result, inputs=[target])
    return result


def load_network(path: Path) -> nn.Module:
    """Rebuild a trained network from any form of file, in evaluation mode."""
    if path.suffix != PACKED_SUFFIX:
        return load_checkpoint(path).model
    return read_decomposed(path) if is_decomposed(read_container(path)) else read_network(path).model


def _shipped_metadata(recipe: Recipe, path: Path, data_dir: Path | None) -> dict[str, Any]:
    """A checkpoint's own; a container holds no figures, every byte of it is the network: they are measured."""
    if not recipe.is_packed:
        return load_checkpoint(path).metadata
    dataset = load_data(recipe.training, data_dir)
    return {
        "recipe": recipe.name,
        "data": dataset.provenance,
        "accuracies": {"model": held_out_accuracy(load_network(path), dataset)},
    }


def _train(
    recipe: Recipe, target: Path, state: Path, data_dir: Path | None, note: Callable[..., None]
) -> dict[str, Any]:
    def reporter(phase: str, first: int | None = None) -> OnEpoch:
        return lambda record, model: note(phase, record, first=first)

    trained = train_recipe(
        recipe.training,
        data_dir=data_dir,
        state_dir=state,
        on_epoch=reporter("training", 0),
        on_teacher_epoch=reporter("teacher"),
        on_pretrain_epoch=reporter("float phase"),
    )
    if recipe.share is not None:
        trained = share_trained(
            trained,
            recipe.share,
            data_dir=data_dir,
            state_dir=state,
            on_epoch=reporter("share", recipe.training.train.epochs),
        )
    save_trained(target, trained)
    return load_checkpoint(target).metadata


def _compress(
    recipe: Recipe,
    config: CompressConfig,
    target: Path,
    state: Path,
    data_dir: Path | None,
    note: Callable[..., None],
) -> dict[str, Any]:
    """All phases in one history, one behind the other."""
    structure = 0 if config.structure is None else config.structure.epochs
    lengths = {
        "dense": recipe.training.train.epochs,
        "structure": structure,
        "prune": config.prune.epochs,
        "share": config.share.epochs,
    }
    first = dict(zip(lengths, accumulate(lengths.values(), initial=0), strict=False))
    compressed = compress_recipe(
        recipe.training,
        config,
        data_dir=data_dir,
        state_dir=state,
        on_epoch=lambda phase, record: note(phase, record, first=first[phase]),
    )
    unfinished = target.with_name(target.name + ".unfinished")
    unfinished.write_bytes(compressed.data)
    unfinished.replace(target)
    dense = {name: layer.weight.detach().numpy() for name, layer in weight_layers(compressed.stages[0].model).items()}
    _draw(recipe, target, compressed.accuracy, before=dense)
    return compressed.metadata


def _draw(
    recipe: Recipe, packed: Path, accuracy: float, *, before: dict[str, npt.NDArray[np.float32]] | None = None
) -> None:
    """Draw what is in a compressed file, beside it; over the weights before compression where they are known."""
    title = f"{recipe.name}: {100 * (1 - accuracy):.2f} % error, {packed.stat().st_size:,} bytes"
    plot(title, packed, packed.with_suffix(".svg"), before=before)


def _decompose(
    recipe: Recipe,
    config: DecomposeConfig,
    folder: BuildFolder,
    data_dir: Path | None,
    note: Callable[..., None],
    on_search: OnSearch,
) -> dict[str, Any]:
    """Float weights, given or trained, then bases; trained ones stay beside the file."""
    trains = recipe.training.train.epochs > 0
    decomposed = decompose_recipe(
        recipe.training,
        config,
        weights=None if trains else recipe.weights,
        data_dir=data_dir,
        state_dir=folder.training_state,
        on_epoch=lambda record, model: note("training", record, first=0),
        on_search=on_search,
    )
    if trains:
        accuracies = {"model": decomposed.accuracies["float"]}
        metadata = {**decomposed.metadata, "accuracies": accuracies}
        save_checkpoint(folder.floats, decomposed.floats, recipe.training.model, metadata)
    _write(folder.packed, decomposed.data)
    return decomposed.metadata


def _write(target: Path, data: bytes) -> None:
    unfinished = target.with_name(target.name + ".unfinished")
    unfinished.write_bytes(data)
    unfinished.replace(target)


def _log(state: Path) -> Path:
    return state / "history.jsonl"


def _history(state: Path) -> list[dict[str, float]]:
    log = _log(state)
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


def _keep_state_of(state: Path, settings: Settings) -> None:
    """Drop the state of a training with another recipe or seed: it must not be resumed."""
    mark = state / "settings.json"
    wanted = json.dumps({"recipe": settings.recipe, "seed": settings.seed})
    if state.is_dir() and (not mark.is_file() or mark.read_text() != wanted):
        shutil.rmtree(state)
    state.mkdir(parents=True, exist_ok=True)
    mark.write_text(wanted)
