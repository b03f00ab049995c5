"""Normalization of images, in front of a network that was trained on normalized ones."""

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """``(pixel / 255 - mean) / deviation`` of integer pixels.

    Parameters
    ----------
    mean, deviation : tuple of float
        One for all channels, or one a channel.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        super().__init__()
        if len(mean) != len(deviation) or not mean or min(deviation) <= 0:
            raise ValueError(f"a mean and a positive deviation a channel, not {mean} and {deviation}")
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels / 255 - self.mean) / self.deviation
