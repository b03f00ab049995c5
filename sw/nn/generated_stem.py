"""A first convolution whose kernels are views of the Euler generator's initial state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from karui.sw.nn.euler_puppeteer import EulerPuppeteer
from karui.sw.nn.image_groups import ImageGroups, convolve, pooled_view
from karui.sw.nn.quant_activation import QuantReLU


class GeneratedStem(nn.Module):
    """A network's first convolution with batch norm and ReLU, its kernels views of the Euler generator's first state.

    Parameters
    ----------
    puppeteer
        Whose state it is; another module's, which owns its parameters. Its kernels are 3x3.
    in_channels, out_channels, stride
        Of the convolution.
    limit
        See `QuantReLU`; it has real values.
    """

    def __init__(
        self, puppeteer: EulerPuppeteer, in_channels: int, out_channels: int, *, stride: int, limit: float = 4.0
    ) -> None:
        super().__init__()
        # Not a submodule: its parameters would have two names.
        self._puppeteer = (puppeteer,)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = QuantReLU(limit=limit)

    def forward(self, images: Tensor, complexity: Tensor) -> Tensor:
        (puppeteer,) = self._puppeteer
        levels = puppeteer.levels.of(complexity.flatten())
        batch = ImageGroups(torch.zeros_like(levels), levels)
        with torch.autocast("cpu", enabled=False):
            state = torch.unflatten(puppeteer.states(batch.depths, batch.levels)[0], 3, (puppeteer.side,) * 2)
        kernels = pooled_view(state.to(images.dtype), self.out_channels, self.in_channels)
        sums = convolve(images[batch.order], kernels, batch.counts, stride=self.stride)
        activated: Tensor = self.activation(self.norm(sums[batch.back]))
        return activated
