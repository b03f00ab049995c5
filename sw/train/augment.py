"""Random geometric distortion of image batches."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Ranges of the distortion; each image of a batch draws its own. All zero is no distortion.

    Parameters
    ----------
    shift
        Largest shift in pixels, in each direction.
    rotation
        Largest rotation in degrees.
    scale
        Largest relative change of size.
    shear
        Largest horizontal shear.
    elastic
        Standard deviation in pixels of a displacement field drawn on a coarse grid and interpolated (a cheap form of
        the elastic distortion of Simard et al. 2003).
    elastic_grid
        Points of that grid in each direction.
    flip
        Mirror every other image horizontally, at random.
    whole_pixels
        Shift by whole pixels, so that no pixel is interpolated. Valid without rotation, scale, shear and elastic.
    """

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    elastic_grid: int = 5
    flip: bool = False
    whole_pixels: bool = False

    def __post_init__(self) -> None:
        for name in ("shift", "rotation", "scale", "shear", "elastic"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.elastic_grid < 2:
            raise ValueError(f"elastic_grid must be at least 2, not {self.elastic_grid}")
        if self.whole_pixels and any((self.rotation, self.scale, self.shear, self.elastic)):
            raise ValueError("whole_pixels goes with shift and flip alone; remove rotation, scale, shear and elastic")


def augment(images: Tensor, config: AugmentConfig) -> Tensor:
    """Distort a float batch N x C x H x W of integer pixels; what comes in from outside is 0, pixels stay integers.

    Draws from torch's default generator.
    """
    if config.flip:
        mirrored = torch.rand(len(images)) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if not any((config.shift, config.rotation, config.scale, config.shear, config.elastic)):
        return images
    count, channels, height, width = images.shape
    grid = functional.affine_grid(_affine(images, config), [count, channels, height, width], align_corners=False)
    if config.elastic:
        coarse = torch.randn(count, 2, config.elastic_grid, config.elastic_grid) * config.elastic
        field = functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1) * torch.tensor([2 / width, 2 / height])
    mode = "nearest" if config.whole_pixels else "bilinear"
    return functional.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False).round()


def _affine(images: Tensor, config: AugmentConfig) -> Tensor:
    """Return a 2 x 3 matrix an image, from output to input coordinates in units of half the image."""
    count, _, height, width = images.shape
    angle = _uniform(count, math.radians(config.rotation))
    size = 1 + _uniform(count, config.scale)
    shear = _uniform(count, config.shear)
    shift = _uniform(2 * count, config.shift).view(count, 2)
    if config.whole_pixels:
        shift = shift.round()
    matrix = torch.empty(count, 2, 3)
    matrix[:, 0, 0] = size * angle.cos()
    matrix[:, 0, 1] = size * (shear * angle.cos() - angle.sin())
    matrix[:, 1, 0] = size * angle.sin()
    matrix[:, 1, 1] = size * (shear * angle.sin() + angle.cos())
    matrix[:, :, 2] = shift * torch.tensor([2 / width, 2 / height])
    return matrix


def _uniform(count: int, limit: float) -> Tensor:
    return (torch.rand(count) * 2 - 1) * limit
