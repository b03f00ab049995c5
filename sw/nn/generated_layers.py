"""Convolutions with generated kernels, as many as an image needs: the puppet of Puppet-CNN (Xing and Wang 2024)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from karui.sw.ir.puppet_ops import KERNEL_AREA
from karui.sw.nn.puppeteer import EulerPuppeteer, Puppeteer
from karui.sw.nn.quant_activation import QuantReLU
from karui.sw.numerics import unsigned

# Of the words that batch norm multiplies sums by.
MULTIPLIER_BITS = 12
# Gains of batch norms are kept from 0: a kernel that many layers share cannot take the sign of one.
SMALLEST_GAIN = 2.0**-6
FLOAT32_EXACT = 1 << 24


class GeneratedLayers(nn.Module):
    """Convolution, batch norm and ReLU for each layer 1 .. D of an image, D its depth, with kernels generated for it.

    All images of a batch that have depth and level in common share their kernels, which are generated once.
    Convolutions have 3x3 kernels and a stride of 1, and zeros around the map. With quantized kernels and activations
    the outputs in evaluation mode are the words of `karui.sw.ir.GeneratedLayers`, batch norms as multipliers and
    offsets included.

    Parameters
    ----------
    puppeteer
        Generates the kernels.
    first_depth
        Of images less complex than any of `depth_steps`.
    depth_steps
        Words of complexity from which on an image has one layer more.
    residual
        Whether layers add their input.
    widths
        Output channels of the first layers, if other than `channels`, with a 2x2 max pool behind each: kernels of fewer
        channels are average-pooled views of the generated ones. Fewer layers than the least depth; these networks have
        no graph.
    bits, limit
        Of the activations and of the input, see `QuantReLU`.

    Attributes
    ----------
    norms
        A batch norm a layer, common to all depths.
    """

    def __init__(
        self,
        puppeteer: Puppeteer,
        channels: int,
        *,
        first_depth: int,
        depth_steps: Sequence[int],
        residual: bool = False,
        widths: Sequence[int] = (),
        bits: int | None = None,
        limit: float = 4.0,
    ) -> None:
        super().__init__()
        if first_depth < 1 or list(depth_steps) != sorted(set(depth_steps)):
            raise ValueError(f"depths start at 1 or more and their steps ascend, not {first_depth} and {depth_steps}")
        if len(widths) >= first_depth or (widths and residual):
            raise ValueError(
                f"widths of their own are for less than the first {first_depth} layers of a network that is not "
                f"residual, not {list(widths)}"
            )
        self.puppeteer = puppeteer
        self.channels = channels
        self.first_depth = first_depth
        self.depth_steps = tuple(depth_steps)
        self.residual = residual
        self.widths = tuple(widths)
        self.activation = QuantReLU(bits=bits, limit=limit)
        self.norms = nn.ModuleList(nn.BatchNorm2d(self.width(layer)) for layer in range(self.last_depth))

    @property
    def last_depth(self) -> int:
        """The largest depth."""
        return self.first_depth + len(self.depth_steps)

    @property
    def depth_range(self) -> range:
        """The depths that images have."""
        return range(self.first_depth, self.last_depth + 1)

    def width(self, layer: int) -> int:
        """Output channels of a layer, counted from 0."""
        return self.widths[layer] if layer < len(self.widths) else self.channels

    def depths(self, words: Tensor) -> Tensor:
        """The depth of images of so much complexity, in words."""
        return self.first_depth + torch.bucketize(words, torch.tensor(self.depth_steps, dtype=words.dtype), right=True)

    def forward(self, feature_map: Tensor, complexity: Tensor) -> Tensor:
        batch = Grouped(self.depths(complexity.flatten()), self.puppeteer.levels.of(complexity.flatten()))
        # A state of 16 bits does not fit bfloat16, where convolutions may compute.
        with torch.autocast("cpu", enabled=False):
            kernels = self.puppeteer.kernels(batch.depths, batch.levels)
        values, finished = feature_map[batch.order], []
        for layer, of_groups in enumerate(kernels):
            counts = batch.counts[: len(of_groups)]
            if sum(counts) < len(values):
                finished.append(values[sum(counts) :])
            values = self._layer(layer, values[: sum(counts)], of_groups, counts)
        return torch.cat([values, *reversed(finished)])[batch.back]

    def _layer(self, layer: int, values: Tensor, kernels: Tensor, counts: list[int]) -> Tensor:
        norm = self.norms[layer]
        assert isinstance(norm, nn.BatchNorm2d)
        if self.activation.bits is None or norm.training or self.widths:
            sums = convolve(values, pooled_view(kernels.to(values.dtype), self.width(layer), values.shape[1]), counts)
            with torch.no_grad():
                norm.weight.clamp_(min=SMALLEST_GAIN)
            scaled = norm(sums)
            activated: Tensor = self.activation(values + scaled if self.residual else scaled)
            return functional.max_pool2d(activated, 2) if layer < len(self.widths) else activated
        return self._words(layer, values, kernels, counts)

    @torch.no_grad()
    def _words(self, layer: int, values: Tensor, kernels: Tensor, counts: list[int]) -> Tensor:
        """The layer as the graph computes it, in integers held by floats."""
        fraction = self.activation.fraction
        words, kernels = (values * 2.0**fraction).to(self._sum_type), kernels * 2.0**self.kernel_fraction
        sums = convolve(words, kernels.to(self._sum_type), counts).double()
        multipliers, offsets, shift = self.scaling()
        scaled = sums * multipliers[layer].double()[:, None, None] + offsets[layer].double()[:, None, None]
        # Exact: products of 24 and 12 bits and an offset, in 53.
        rounded = (scaled * 2.0**-shift + 0.5).floor()
        if self.residual:
            rounded = rounded + words
        rounded = rounded.clamp(0, unsigned(self._bits).maximum)
        return (rounded * 2.0**-fraction).to(values.dtype)

    @property
    def kernel_fraction(self) -> int:
        """n of a kernel's ``weight = word * 2**-n``."""
        fraction = self.puppeteer.kernel_words.fraction
        assert isinstance(fraction, int)
        return fraction

    @property
    def _bits(self) -> int:
        if self.activation.bits is None:
            raise ValueError("generated layers without bits have real values; build them with bits")
        return self.activation.bits

    @property
    def _sum_type(self) -> torch.dtype:
        """A type that holds the convolutions' sums exactly."""
        largest = KERNEL_AREA * self.channels * unsigned(self._bits).maximum * -self.puppeteer.kernel_words.minimum
        return torch.float32 if largest < FLOAT32_EXACT else torch.float64

    @torch.no_grad()
    def scaling(self) -> tuple[Tensor, Tensor, int]:
        """The batch norms as ``(sum * multiplier + offset) >> shift`` with int64 (layers, channels), rounded half up.

        The shift is the largest with which all multipliers have `MULTIPLIER_BITS`.
        """
        gains, offsets = (torch.stack(parts) for parts in zip(*map(_affine, self.norms), strict=True))
        gains = gains * 2.0**-self.kernel_fraction
        offsets = offsets * 2.0**self.activation.fraction
        largest = (1 << MULTIPLIER_BITS) - 1
        shift = max(math.floor(math.log2(largest / float(gains.max()))), 0)
        return (gains * 2.0**shift).round().long().clamp(max=largest), (offsets * 2.0**shift).round().long(), shift

    def extra_repr(self) -> str:
        return f"{self.channels}, depths {self.first_depth} to {self.last_depth}, residual={self.residual}"


class GeneratedStem(nn.Module):
    """A network's first convolution with batch norm and ReLU, its kernels views of the Euler generator's first state.

    Parameters
    ----------
    puppeteer
        Whose state it is; another module's, which owns its parameters.
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
        batch = Grouped(torch.zeros_like(levels), levels)
        with torch.autocast("cpu", enabled=False):
            state = torch.unflatten(puppeteer.states(batch.depths, batch.levels)[0], 3, (puppeteer.side,) * 2)
        kernels = pooled_view(state.to(images.dtype), self.out_channels, self.in_channels)
        sums = convolve(images[batch.order], kernels, batch.counts, stride=self.stride)
        activated: Tensor = self.activation(self.norm(sums[batch.back]))
        return activated


class Grouped:
    """A batch sorted into groups of images that have their kernels in common, the deepest first.

    Parameters
    ----------
    depths, levels
        One of each an image.

    Attributes
    ----------
    depths, levels
        One of each a group.
    counts
        Images of each group.
    order, back
        Images in the order of the groups, and from that order back to the batch's.
    """

    def __init__(self, depths: Tensor, levels: Tensor) -> None:
        span = int(levels.max()) + 1 if len(levels) else 1
        pairs, counts = torch.unique(depths * span + levels, return_counts=True)
        self.depths, self.levels = (pairs // span).flip(0), (pairs % span).flip(0)
        self.counts: list[int] = counts.flip(0).tolist()
        self.order = torch.argsort(-(depths * span + levels), stable=True)
        self.back = torch.argsort(self.order)


def pooled_view(kernels: Tensor, outputs: int, inputs: int) -> Tensor:
    """Kernels (groups, C, C, side, side) averaged over neighbouring channels: (groups, outputs, inputs, side, side)."""
    if kernels.shape[1:3] == (outputs, inputs):
        return kernels
    of_places = kernels.movedim((3, 4), (1, 2)).flatten(0, 2)
    pooled = functional.adaptive_avg_pool2d(of_places[:, None], (outputs, inputs))
    return pooled.view(len(kernels), *kernels.shape[3:], outputs, inputs).movedim((1, 2), (3, 4))


def convolve(values: Tensor, kernels: Tensor, counts: Sequence[int], *, stride: int = 1) -> Tensor:
    """Convolve neighbouring images of each group with the group's kernels (groups, outputs, inputs, 3, 3).

    A convolution a group is the fastest on CPUs: at groups of four images it takes 1.3 times as long as one
    convolution of all images with the same kernels, products of unfolded maps three times.
    """
    parts = torch.split(values.contiguous(), list(counts))
    return torch.cat(
        [functional.conv2d(part, kernel, stride=stride, padding=1) for part, kernel in zip(parts, kernels, strict=True)]
    )


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Gain and offset of a batch norm in float64."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.double().clamp(min=SMALLEST_GAIN) / (norm.running_var.double() + norm.eps).sqrt()
    return gain, norm.bias.double() - norm.running_mean.double() * gain
