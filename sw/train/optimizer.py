"""The optimizers of the training loop."""

import torch
from torch import nn

from karui.sw.train.config import TrainConfig

MOMENTUM = 0.9


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build the optimizer that a configuration asks for over all parameters of a model.

    Weight decay holds for matrices and kernels alone: biases and batch norms have no scale that it could help.
    """
    if config.optimizer == "adam" and not config.weight_decay:
        return torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    parameters = list(model.parameters())
    groups = [
        {"params": [parameter for parameter in parameters if parameter.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=MOMENTUM, nesterov=True, fused=True)
