"""The puppeteer of Puppet-CNN (Xing and Wang 2024): kernels of all layers from one differential equation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from karui.sw.ir.complexity_op import COMPLEXITY_FRACTION
from karui.sw.ir.puppet_ops import KERNEL, KERNEL_SIDE
from karui.sw.nn.precision import check_power_of_two
from karui.sw.numerics import NumberFormat, signed

# End of the range of kernels.
KERNEL_LIMIT = 16.0
# Standard deviation of a kernel's weights before training. The constant exp(1 - H**-2) differs by 0.1 between H = 4 and
# 7; over a neuron's inputs, which are all positive, a constant adds up, what is random does not: beside weights of 0.3
# it is most of what all channels see, and they all see the same.
KERNEL_DEVIATION = 2.0


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Steps of the complexity H that kernels are generated for: all frames of a step have the H of its middle.

    Parameters
    ----------
    first, count
        The first step and how many there are; frames beyond are counted to the nearest.
    shift
        A step is ``2**shift`` words of H, which has `COMPLEXITY_FRACTION` binary digits.
    """

    first: int
    count: int
    shift: int

    def __post_init__(self) -> None:
        if self.first < 1 or self.count < 1 or not 0 <= self.shift <= COMPLEXITY_FRACTION:
            raise ValueError(
                f"levels need first and count of at least 1 and a shift of 0 to {COMPLEXITY_FRACTION}, not "
                f"first={self.first}, count={self.count}, shift={self.shift}"
            )

    def of(self, words: Tensor) -> Tensor:
        """The level of complexities in words."""
        return ((words >> self.shift) - self.first).clamp(0, self.count - 1)

    def complexities(self) -> Tensor:
        """H of each level, in float64."""
        middles = torch.arange(self.count, dtype=torch.float64) + self.first + 0.5
        return middles * 2.0 ** (self.shift - COMPLEXITY_FRACTION)


class Puppeteer(nn.Module, ABC):
    """Base of what generates kernels for frames, which depend on a frame's depth and level alone.

    Parameters
    ----------
    channels
        Of the maps that the kernels convolve.
    levels
        Complexities that kernels are generated for.
    rank
        Outer products among the constants.
    bits
        Width of the constants; real ones without.
    kernel_limit
        End of the kernels' range, a power of two.
    side
        Rows and columns of a kernel.
    """

    def __init__(
        self,
        channels: int,
        levels: Levels,
        *,
        rank: int,
        bits: int | None,
        kernel_limit: float,
        side: int = KERNEL_SIDE,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.levels = levels
        self.rank = rank
        self.bits = bits
        self.side = side
        self.kernel_words = kernel_words(kernel_limit)

    @abstractmethod
    def kernels(self, depths: Tensor, levels: Tensor) -> list[Tensor]:
        """Generate the kernels of all layers.

        Parameters
        ----------
        depths, levels
            One of each a group of frames, int64, the depths descending.

        Returns
        -------
        list of Tensor
            Of each layer the kernels (groups, C, C, side, side) of the groups at least so deep: the first ones.
        """

    @abstractmethod
    def prepared(self, depth: int) -> Callable[[Tensor], Sequence[Tensor]]:
        """Compute once what all frames of a depth have in common: generation as it is deployed.

        No gradient reaches the constants.

        Returns
        -------
        callable
            From levels, int64 (n), to the kernels of each of the `depth` layers, (n, C, C, side, side).
        """

    @property
    def kernel_fraction(self) -> int:
        """n of a kernel's ``weight = word * 2**-n``."""
        assert isinstance(self.kernel_words.fraction, int)
        return self.kernel_words.fraction

    def arithmetic(self) -> torch.dtype:
        """Where words must be exact, float64, in which all sums are; float32 for the optimizer's steps."""
        return torch.float32 if self.training or not self.is_quantized else torch.float64

    @property
    def is_quantized(self) -> bool:
        """Whether kernels are words."""
        return self.bits is not None


def kernel_words(limit: float) -> NumberFormat:
    """Format of the kernels of a range that ends at a power of two."""
    return signed(KERNEL.bits, KERNEL.bits - 1 - int(math.log2(check_power_of_two("kernel_limit", limit))))
