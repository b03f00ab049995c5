"""The training loop: one epoch after the other, each restartable from the state written after the one before."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from karui.sw.nn.binary_weight import clamp_latent_weights
from karui.sw.train.augment import augment
from karui.sw.train.config import TrainConfig
from karui.sw.train.limited_precision import round_stored_weights
from karui.sw.train.loss import Teacher, training_loss
from karui.sw.train.optimizer import build_optimizer
from karui.sw.train.reconstruction import ReconstructionTraining
from karui.sw.train.state import load_state, save_state


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """What an epoch reports: its number from 1, their total, mean loss and accuracy on the distorted images."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    seconds: float


OnEpoch = Callable[[EpochRecord, nn.Module], None]
# Called after every optimizer step with the fraction of all steps that are done, up to 1.
AfterStep = Callable[[float], None]


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: TrainConfig,
    *,
    teacher: Teacher | None = None,
    state_path: Path | None = None,
    on_epoch: OnEpoch | None = None,
    after_step: AfterStep | None = None,
) -> None:
    """Train a model in place; it ends in evaluation mode.

    The random generator is seeded anew from the seed and the epoch's number at the start of every epoch, so a training
    that was interrupted and resumed from `state_path` ends with the same bits as one that was not.

    Parameters
    ----------
    model
        Model whose input is a float batch of integer pixels, and whose output are logits.
    images, labels
        Training images (uint8, N x C x H x W) and class indices.
    config
        Configuration; `config.threads` is the caller's to set.
    teacher
        Gives a batch's logits where the configuration asks for distillation.
    state_path
        File that takes the state after every epoch, and from which training resumes if it is there.
    on_epoch
        Called after every epoch with its record and the model.
    after_step
        Called after every step; what it changes must be in the model's state, for the training to be resumable.
    """
    optimizer = build_optimizer(model, config)
    first_epoch = load_state(state_path, model, optimizer, config) if state_path is not None else 0
    for epoch in range(first_epoch, config.epochs):
        started = time.monotonic()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed * 1_000_003 + epoch)
            loss, accuracy = _train_epoch(model, optimizer, images, labels, config, teacher, epoch, after_step)
        if state_path is not None:
            save_state(state_path, model, optimizer, config, epoch + 1)
        if on_epoch is not None:
            seconds = time.monotonic() - started
            record = EpochRecord(epoch=epoch + 1, epochs=config.epochs, loss=loss, accuracy=accuracy, seconds=seconds)
            on_epoch(record, model)
    model.eval()


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    config: TrainConfig,
    teacher: Teacher | None,
    epoch: int,
    after_step: AfterStep | None,
) -> tuple[float, float]:
    model.train()
    order = torch.randperm(len(images))
    # A last batch of one image has no variance to normalize by; a partial batch is left out, another one each epoch.
    steps = max(len(images) // config.batch_size, 1)
    total_loss, correct, seen = 0.0, 0, 0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at((epoch + step / steps) / config.epochs)
        chosen = order[step * config.batch_size : (step + 1) * config.batch_size]
        batch, batch_labels = augment(images[chosen].float(), config.augment), labels[chosen]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.arithmetic == "bfloat16"):
            logits = model(batch).float()
        loss = training_loss(config, logits, batch_labels, batch, teacher)
        if isinstance(model, ReconstructionTraining):
            loss = loss + model.penalty(batch_labels, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        clamp_latent_weights(model)
        if config.limited_precision is not None:
            round_stored_weights(model, config.limited_precision)
        if after_step is not None:
            after_step((epoch + (step + 1) / steps) / config.epochs)
        # A label an image, or one a pixel.
        total_loss += loss.item() * batch_labels.numel()
        correct += int((logits.argmax(1) == batch_labels).sum())
        seen += batch_labels.numel()
    return total_loss / seen, correct / seen
