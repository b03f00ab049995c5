"""Output stage that keeps the class scores integer and gives the loss a trainable temperature."""

import math

import torch
from torch import Tensor, nn

from karui.sw.nn.straight_through import round_identity


class LogitScale(nn.Module):
    """Logits ``scale * (x + round(bias))`` of integer scores x.

    One positive scale for all classes does not change their order, so the class is the arg max of the integers
    ``x + integer_bias()``. Ties go to the lowest index, as `torch.argmax` and the arg max in hardware do; below
    2**22 the float32 product keeps distinct scores distinct.

    Parameters
    ----------
    features
        Number of classes.
    initial_scale
        Starting value of the scale; the inverse square root of the last layer's inputs gives logits of order one.
    """

    def __init__(self, features: int, *, initial_scale: float = 1.0) -> None:
        super().__init__()
        if initial_scale <= 0:
            raise ValueError(f"initial_scale must be positive, not {initial_scale}")
        self.features = features
        self.log_scale = nn.Parameter(torch.tensor(math.log(initial_scale)))
        self.bias = nn.Parameter(torch.zeros(features))

    def integer_bias(self) -> Tensor:
        """Return the bias of each class that the deployed network adds, as int64."""
        return torch.round(self.bias.detach()).to(torch.int64)

    def forward(self, scores: Tensor) -> Tensor:
        return self.log_scale.exp() * (scores + round_identity(self.bias))

    def extra_repr(self) -> str:
        return f"{self.features}"
