"""The state of an unfinished training: model, optimizer, configuration and the number of finished epochs."""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from karui.sw.train.config import TrainConfig


class StateMismatchError(ValueError):
    """A state belongs to another training than the one that would resume from it."""


def save_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig, finished: int
) -> None:
    """Write the state; a kill at any moment leaves the old state or the new one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "config": asdict(config),
        "finished": finished,
    }
    torch.save(state, unfinished)
    unfinished.replace(path)


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig) -> int:
    """Restore the state if the file is there; return the number of finished epochs.

    Raises
    ------
    StateMismatchError
        If the state is of a training with another configuration or another model.
    """
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    # Keys that the state was written without had no other value than their default.
    saved = asdict(TrainConfig(epochs=config.epochs)) | state["config"]
    if saved != asdict(config):
        changed = sorted(key for key, value in asdict(config).items() if saved[key] != value)
        raise StateMismatchError(
            f"{path} is the state of a training with other values of {', '.join(changed)}; "
            f"delete it to start anew, or restore the values"
        )
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise StateMismatchError(f"{path} is the state of another model; delete it to start anew") from error
    optimizer.load_state_dict(state["optimizer"])
    finished: int = state["finished"]
    return finished
