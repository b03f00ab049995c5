"""Any convolutional network as a puppet: the kernels that it owns give way to generated ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from karui.sw.ir.complexity_op import COMPLEXITY_FRACTION
from karui.sw.nn.euler_puppeteer import SLOPE_GAIN, EulerPuppeteer
from karui.sw.nn.image_complexity import ImageComplexity
from karui.sw.nn.image_groups import ImageGroups, pooled_view
from karui.sw.nn.puppeteer import KERNEL_DEVIATION, Levels

# Time that all layers' steps take together, at most: that of Puppet-CNN, whose depth is coth(1 / H) at steps of
# tanh(1 / H). The state grows exponentially with it, and deep networks would have their last kernels at the limit.
WHOLE_TIME = 1.0


class PuppetNetwork(nn.Module):
    """A network of torch's layers whose `nn.Conv2d` have the kernels of an Euler generator, in floating point.

    The generated state is as large as the largest convolution; each layer takes an average-pooled view of it, scaled
    to what a network's own kernels would be drawn with. Images of one step of complexity share their kernels and run
    through the network together: its depth is fixed, whatever the image, the step size is theirs. All else, biases,
    batch norms, linear layers, one- and three-dimensional and transposed convolutions, stays the network's own; batch
    norms see one group of images at a time.

    Parameters
    ----------
    network
        Any module of one input; its convolutions lose their weights, in place.
    image
        Channels, height and width of the images.
    level_bits
        Kernels change with the complexity in steps of ``2**-level_bits``.
    pattern_rank
        Outer products in the generator's initial state.

    Attributes
    ----------
    network, puppeteer
        The two.

    Raises
    ------
    ValueError
        If there is no convolution, a kernel is not square or no plain parameter, or `level_bits` is out of range. The
        network is as it was then.
    """

    def __init__(
        self, network: nn.Module, image: tuple[int, int, int], *, level_bits: int = 1, pattern_rank: int = 16
    ) -> None:
        super().__init__()
        if not 0 <= level_bits <= COMPLEXITY_FRACTION:
            raise ValueError(f"level_bits must be 0 to {COMPLEXITY_FRACTION}, not {level_bits}")
        convolutions = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
        if not convolutions:
            raise ValueError("a network without convolutions has no kernels to generate")
        for name, module in convolutions.items():
            kernels = module._parameters.get("weight")
            if kernels is None or isinstance(kernels, nn.UninitializedParameter):
                raise ValueError(
                    f"{name or 'the convolution'} has no plain weight; "
                    "take parametrizations off, and run lazy layers once"
                )
            if kernels.shape[2] != kernels.shape[3]:
                raise ValueError(
                    f"{name or 'the convolution'} has kernels of {kernels.shape[2]} x {kernels.shape[3]}; "
                    "only square ones can be generated"
                )
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name, module in convolutions.items():
            self.shapes[f"{name}.weight" if name else "weight"] = tuple(module.weight.shape)
            del module.weight
            module.register_buffer("weight", None)
        self.network = network
        self.complexity = ImageComplexity(image)
        per_unit = 1 << level_bits
        levels = Levels(first=per_unit, count=8 * per_unit, shift=COMPLEXITY_FRACTION - level_bits)
        longest = len(self.shapes) * math.tanh(1 / float(levels.complexities()[0]))
        self.puppeteer = EulerPuppeteer(
            max(max(shape[:2]) for shape in self.shapes.values()),
            levels,
            rank=pattern_rank,
            side=max(shape[2] for shape in self.shapes.values()),
            slope_gain=SLOPE_GAIN * min(1.0, WHOLE_TIME / longest),
        )

    def forward(self, images: Tensor) -> Tensor:
        levels = self.puppeteer.levels.of(self.complexity(images))
        batch = ImageGroups(torch.full_like(levels, len(self.shapes)), levels)
        states = self.puppeteer.kernels(batch.depths, batch.levels)
        views = [_view(state, shape) for state, shape in zip(states, self.shapes.values(), strict=True)]
        outputs = []
        for group, part in enumerate(torch.split(images[batch.order], batch.counts)):
            kernels = dict(zip(self.shapes, (view[group] for view in views), strict=True))
            outputs.append(functional_call(self.network, kernels, (part,)))
        return torch.cat(outputs)[batch.back]


def _view(kernels: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Kernels (groups, C, C, side, side) as those of a convolution of a shape."""
    outputs, inputs, side, _ = shape
    view = pooled_view(kernels, outputs, inputs)
    if side < kernels.shape[3]:
        pooled = nn.functional.adaptive_avg_pool2d(view.flatten(0, 2), (side, side))
        view = pooled.view(*view.shape[:3], side, side)
    # He's deviation, from that of the state; a mean of n independent values has a deviation of n**-0.5.
    averaged = kernels[0].numel() / view[0].numel()
    scaled: Tensor = view * ((2 * averaged / (inputs * side**2)) ** 0.5 / KERNEL_DEVIATION)
    return scaled
