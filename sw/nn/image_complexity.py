"""The complexity of images, which decides on the depth of the network that they get."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from karui.sw.ir.complexity_arithmetic import complexity_words
from karui.sw.ir.complexity_op import complexity_of
from karui.sw.numerics import unsigned

PIXEL = unsigned(8)


class ImageComplexity(nn.Module):
    """Words of `karui.sw.ir.complexity_op.Complexity`, int64 (N), of a batch of integer pixels (N, C, H, W).

    They have no gradient.

    Parameters
    ----------
    image
        Channels, height and width.
    """

    def __init__(self, image: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = image
        self.op, self.tables = complexity_of((height, width, channels), PIXEL)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        pixels = images.to(torch.int64).permute(0, 2, 3, 1).numpy()
        return torch.from_numpy(complexity_words(self.op, pixels, self.tables))
