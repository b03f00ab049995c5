"""Convolutions with generated kernels, as many as an image needs: the puppet of Puppet-CNN (Xing and Wang 2024)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from karui.sw.ir.complexity_op import COMPLEXITY_BITS
from karui.sw.ir.generated_kernels import layer_output
from karui.sw.ir.puppet_ops import KERNEL_AREA, KERNEL_SIDE
from karui.sw.nn.image_groups import ImageGroups, convolve, pooled_view
from karui.sw.nn.puppeteer import Puppeteer
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
        Generates the kernels, 3x3; of words, if activations are.
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
    channels
        Of the generated kernels.
    norms
        A batch norm a layer, common to all depths.

    Raises
    ------
    ValueError
        If depths, widths or the generator's kernels are not as above.
    """

    def __init__(
        self,
        puppeteer: Puppeteer,
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
        if puppeteer.side != KERNEL_SIDE:
            raise ValueError(f"generated layers have kernels of 3 x 3, not of {puppeteer.side} x {puppeteer.side}")
        if bits is not None and not puppeteer.is_quantized:
            raise ValueError(f"activations of {bits} bits need kernels of words; build the generator with bits")
        self.puppeteer = puppeteer
        self.channels = puppeteer.channels
        self.first_depth = first_depth
        self.depth_steps = tuple(depth_steps)
        self.residual = residual
        self.widths = tuple(widths)
        self.activation = QuantReLU(bits=bits, limit=limit)
        self.norms = nn.ModuleList(PositiveBatchNorm2d(self.width(layer)) for layer in range(self.last_depth))

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

    def levels_of(self, depth: int) -> range:
        """The levels that images of a depth can have."""
        steps = (0, *self.depth_steps, 1 << COMPLEXITY_BITS)
        place = depth - self.first_depth
        first, last = self.puppeteer.levels.of(torch.tensor([steps[place], steps[place + 1] - 1])).tolist()
        return range(first, last + 1)

    def forward(self, feature_map: Tensor, complexity: Tensor) -> Tensor:
        """Convolve maps (N, C, H, W), C that of the first width, by words of complexity (N) or (N, 1), int64.

        Returns
        -------
        Tensor
            Maps of `channels`; H and W halved once for each of `widths`.
        """
        batch = ImageGroups(self.depths(complexity.flatten()), self.puppeteer.levels.of(complexity.flatten()))
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
        if self.activation.bits is None or norm.training or self.widths:
            sums = convolve(values, pooled_view(kernels.to(values.dtype), self.width(layer), values.shape[1]), counts)
            scaled = norm(sums)
            activated: Tensor = self.activation(values + scaled if self.residual else scaled)
            return functional.max_pool2d(activated, 2) if layer < len(self.widths) else activated
        with torch.autocast("cpu", enabled=False):
            return self._words(layer, values, kernels, counts)

    @torch.no_grad()
    def _words(self, layer: int, values: Tensor, kernels: Tensor, counts: list[int]) -> Tensor:
        """The layer as the graph computes it, in integers held by floats."""
        fraction = self.activation.fraction
        words, kernels = (values * 2.0**fraction).to(self._sum_type), kernels * 2.0**self.puppeteer.kernel_fraction
        sums = convolve(words, kernels.to(self._sum_type), counts).long()
        multipliers, offsets, shift = self.scaling()
        outputs = layer_output(
            words.long(),
            sums,
            multipliers[layer][:, None, None],
            offsets[layer][:, None, None],
            shift=shift,
            output=unsigned(self._bits),
            residual=self.residual,
        )
        scaled: Tensor = (outputs * 2.0**-fraction).to(values.dtype)
        return scaled

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
        gains = gains * 2.0**-self.puppeteer.kernel_fraction
        offsets = offsets * 2.0**self.activation.fraction
        largest = (1 << MULTIPLIER_BITS) - 1
        shift = max(math.floor(math.log2(largest / float(gains.max()))), 0)
        return (gains * 2.0**shift).round().long().clamp(max=largest), (offsets * 2.0**shift).round().long(), shift

    def extra_repr(self) -> str:
        return f"{self.channels}, depths {self.first_depth} to {self.last_depth}, residual={self.residual}"


class PositiveBatchNorm2d(nn.BatchNorm2d):
    """A batch norm with gains of `SMALLEST_GAIN` at least: training sets them back to that before each forward pass."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.gains(), self.bias, eps=self.eps
            )
        # Past autograd: between two forward passes of one backward pass nothing changes.
        self.weight.data.clamp_(min=SMALLEST_GAIN)
        return super().forward(input)

    def gains(self) -> Tensor:
        """The weights that count."""
        return self.weight.clamp(min=SMALLEST_GAIN)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Gain and offset of a batch norm in float64."""
    assert isinstance(norm, PositiveBatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.gains().double() / (norm.running_var.double() + norm.eps).sqrt()
    return gain, norm.bias.double() - norm.running_mean.double() * gain
