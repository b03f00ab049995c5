"""Activations of one bit."""

import torch
from torch import Tensor, nn

from karui.sw.nn.straight_through import sign_hard_tanh


class BinaryActivation(nn.Module):
    """Sign activation, ``x >= 0 -> +1``, with the hard-tanh straight-through gradient of `sign_hard_tanh`."""

    def forward(self, real: Tensor) -> Tensor:
        return sign_hard_tanh(real)


class InputBinarize(nn.Module):
    """Turn integer pixels into bits: ``x >= threshold -> +1``, else -1. Pixels carry no gradient.

    Parameters
    ----------
    threshold
        Smallest pixel value that becomes +1.
    """

    def __init__(self, threshold: int = 128) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.where(pixels >= self.threshold, 1.0, -1.0)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}"
