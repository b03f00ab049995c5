"""The complexity of images, which decides on the depth of the network that they get."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from karui.sw.ir.complexity_arithmetic import complexity_words
from karui.sw.ir.complexity_op import Complexity, ComplexityTables, complexity_of
from karui.sw.numerics import unsigned

PIXEL = unsigned(8)


class ImageComplexity(nn.Module):
    """Words of `karui.sw.ir.complexity_op.Complexity`, int64 (N), of a batch of integer pixels (N, C, H, W).

    They have no gradient.

    Parameters
    ----------
    image
        Channels, height and width.

    Raises
    ------
    ValueError
        If images have another shape, or pixels that are no integers of 0 to 255.
    """

    def __init__(self, image: tuple[int, int, int]) -> None:
        super().__init__()
        self.image = tuple(image)
        self.op, self.tables = complexity_of_bytes(image)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        if tuple(images.shape[1:]) != self.image:
            raise ValueError(f"images must be N x {' x '.join(map(str, self.image))}, not {tuple(images.shape)}")
        if not _are_bytes(images):
            raise ValueError(
                f"pixels must be integers of 0 to 255, not {images.min():g} to {images.max():g} with fractions or "
                "beyond; take the bytes of the image"
            )
        pixels = images.to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return torch.from_numpy(complexity_words(self.op, pixels, self.tables))


def complexity_of_bytes(image: tuple[int, int, int]) -> tuple[Complexity, ComplexityTables]:
    """The complexity of images of 8 bits (channels, height, width) and its tables, see `complexity_of`."""
    channels, height, width = image
    return complexity_of((height, width, channels), PIXEL)


def _are_bytes(images: Tensor) -> bool:
    if images.dtype == torch.uint8:
        return True
    return bool(((images >= PIXEL.minimum) & (images <= PIXEL.maximum) & (images % 1 == 0)).all())
