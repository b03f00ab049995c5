"""Losses of the classifiers."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from karui.sw.nn.capsule import SMALLEST_SQUARE
from karui.sw.train.config import TrainConfig

# Lengths that a class's capsule should exceed and the others' should not, and the weight of the latter.
PRESENT, ABSENT, ABSENT_WEIGHT = 0.9, 0.1, 0.5

Teacher = Callable[[Tensor], Tensor]


def squared_hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of ``max(0, 1 - t y)**2`` with t = +1 for the label's class and -1 for the others."""
    targets = torch.full_like(logits, -1.0).scatter_(1, labels[:, None], 1.0)
    return functional.relu(1 - targets * logits).square().mean()


def margin(squared_lengths: Tensor, labels: Tensor) -> Tensor:
    """Mean over the images of the margin loss of their capsules' squared lengths (Sabour et al. 2017, eq. 4)."""
    lengths = (squared_lengths + SMALLEST_SQUARE).sqrt()
    present = functional.one_hot(labels, lengths.shape[1])
    short, long = functional.relu(PRESENT - lengths).square(), functional.relu(lengths - ABSENT).square()
    return (present * short + ABSENT_WEIGHT * (1 - present) * long).sum(1).mean()


def distillation(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Cross entropy to the teacher's softened distribution, times the squared temperature (Hinton et al. 2015)."""
    targets = functional.softmax(teacher_logits / temperature, dim=1)
    return functional.cross_entropy(logits / temperature, targets) * temperature**2


def training_loss(
    config: TrainConfig, logits: Tensor, labels: Tensor, images: Tensor, teacher: Teacher | None
) -> Tensor:
    """Return the loss that a configuration asks for; `teacher` is there if it asks for distillation."""
    if config.loss == "squared_hinge":
        return squared_hinge(logits, labels)
    if config.loss == "margin":
        return margin(logits, labels)
    hard = functional.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
    if config.distillation is None or teacher is None:
        return hard
    weight = config.distillation.weight
    with torch.no_grad():
        teacher_logits = teacher(images)
    return weight * distillation(logits, teacher_logits, config.distillation.temperature) + (1 - weight) * hard
