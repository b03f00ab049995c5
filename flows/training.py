"""Stage train: the shipped checkpoint, or a training from the recipe's seed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from karui.flows.build_folder import BuildFolder
from karui.flows.settings import Settings
from karui.sw.train.checkpoint import load_checkpoint
from karui.sw.train.loop import EpochRecord, OnEpoch
from karui.sw.train.run import save_trained, train_recipe

# Called with the phase ("training", "teacher", "float phase") and each epoch's record.
OnTraining = Callable[[str, EpochRecord], None]


def run_train(
    folder: BuildFolder,
    settings: Settings,
    *,
    data_dir: Path | None = None,
    on_epoch: OnTraining = lambda phase, record: None,
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
    if recipe.checkpoint is not None and not settings.retrain and settings.seed is None:
        source = "shipped"
        shutil.copyfile(recipe.checkpoint, folder.checkpoint)
    else:
        source = "trained"
        state = folder.training_state
        log = state / "history.jsonl"
        _keep_state_of(state, settings)
        history = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []

        def note(phase: str) -> OnEpoch:
            def on_record(record: EpochRecord, model: nn.Module) -> None:
                entry = {"epoch": record.epoch, "loss": record.loss, "accuracy": record.accuracy}
                if phase == "training":
                    history[record.epoch - 1 :] = [entry]
                    log.write_text("".join(json.dumps(line) + "\n" for line in history))
                on_epoch(phase, record)

            return on_record

        trained = train_recipe(
            recipe.training,
            data_dir=data_dir,
            state_dir=state,
            on_epoch=note("training"),
            on_teacher_epoch=note("teacher"),
            on_pretrain_epoch=note("float phase"),
        )
        save_trained(folder.checkpoint, trained)
        shutil.rmtree(state)
    metadata = load_checkpoint(folder.checkpoint).metadata
    result = {
        "source": source,
        "accuracy": metadata["accuracies"]["model"],
        "metadata": metadata,
        "history": history,
        "seconds": round(time.monotonic() - started, 2),
    }
    folder.finish("train", result, inputs=[folder.checkpoint])
    return result


def _keep_state_of(state: Path, settings: Settings) -> None:
    """Drop the state of a training with another recipe or seed: it must not be resumed."""
    mark = state / "settings.json"
    wanted = json.dumps({"recipe": settings.recipe, "seed": settings.seed})
    if state.is_dir() and (not mark.is_file() or mark.read_text() != wanted):
        shutil.rmtree(state)
    state.mkdir(parents=True, exist_ok=True)
    mark.write_text(wanted)
