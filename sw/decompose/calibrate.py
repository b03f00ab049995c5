"""The range of each layer's inputs, from images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx

from karui.sw.decompose.float_network import FloatNetwork, WeightLayer

Clipping = Literal["none", "mse"]
# Values kept of each layer for the choice of its range, at most.
_SAMPLES = 1 << 16
# Parts of the observed range that are tried.
_PARTS = torch.linspace(0.05, 1.0, 96, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """What a layer's inputs were.

    Parameters
    ----------
    minimum, maximum : float
        Over all calibration images.
    samples : Tensor of float64
        Some of the values, evenly from all images.
    """

    minimum: float
    maximum: float
    samples: Tensor


@dataclass(frozen=True, kw_only=True)
class WordGrid:
    """The real numbers of the words 0 .. 2^bits - 1: ``minimum + step * word``.

    Parameters
    ----------
    minimum, step : float
        The step is positive.
    bits : int
    zero_word : int
        The word of zero, or the word nearest to it where zero is none.
    """

    minimum: float
    step: float
    bits: int
    zero_word: int

    def round_trip(self, values: Tensor) -> Tensor:
        """The values as the words have them."""
        words = torch.floor((values - self.minimum) / self.step + 0.5).clamp(0, (1 << self.bits) - 1)
        return self.minimum + self.step * words


def word_grid(minimum: float, maximum: float, bits: int, *, holds_zero: bool) -> WordGrid:
    """A grid over a range.

    With `holds_zero` the range is widened until it holds zero, then moved by less than a step so that zero is a word.
    A range of one value is widened likewise: a constant map is exact, and a map of zeros has a step of 1.

    Raises
    ------
    ValueError
        If the range is not finite or is empty.
    """
    if not (-float("inf") < minimum <= maximum < float("inf")):
        raise ValueError(f"a layer's inputs range from {minimum} to {maximum}; network or images are not finite")
    top = (1 << bits) - 1
    if holds_zero or minimum == maximum:
        minimum, maximum = min(minimum, 0.0), max(maximum, 0.0)
    # A difference may underflow where the values do not.
    step = (maximum - minimum) / top or (1.0 if maximum == minimum else torch.finfo(torch.float64).tiny)
    zero_word = min(max(int(-minimum / step + 0.5), 0), top)
    if holds_zero:
        minimum = -zero_word * step
    return WordGrid(minimum=minimum, step=step, bits=bits, zero_word=zero_word)


def choose_grid(observed: Observed, bits: int, *, holds_zero: bool, clipping: Clipping) -> WordGrid:
    """The grid of the whole range, or of the part of it with the least squared error on the samples."""
    whole = word_grid(observed.minimum, observed.maximum, bits, holds_zero=holds_zero)
    if clipping == "none" or not len(observed.samples):
        return whole
    grids = [
        word_grid(part * observed.minimum, part * observed.maximum, bits, holds_zero=holds_zero)
        for part in _PARTS.tolist()
    ]
    losses = [float((grid.round_trip(observed.samples) - observed.samples).square().sum()) for grid in grids]
    return grids[min(range(len(grids)), key=losses.__getitem__)]


@torch.no_grad()
def observe(network: FloatNetwork, images: Tensor, *, batch_size: int = 100) -> dict[str, Observed]:
    """Run images through a network and note the inputs of its layers.

    Parameters
    ----------
    network : FloatNetwork
    images : Tensor
        As the network takes them, but for their type.
    batch_size : int

    Raises
    ------
    ValueError
        If there are no images.
    """
    if not len(images):
        raise ValueError("calibration takes one image or more, not none")
    layers = network.weight_layers()
    dtype = next(iter(layers.values())).weight.dtype
    batches = torch.split(images, batch_size)
    parts: dict[str, list[Observed]] = {name: [] for name in layers}
    watcher = _Watcher(network.graph, _SAMPLES // len(batches) + 1)
    for batch in batches:
        watcher.run(batch.to(dtype))
        for name, part in watcher.seen.items():
            parts[name].append(part)
        watcher.seen.clear()
    return {
        name: Observed(
            minimum=min(part.minimum for part in seen),
            maximum=max(part.maximum for part in seen),
            samples=torch.cat([part.samples for part in seen]),
        )
        for name, seen in parts.items()
    }


class _Watcher(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, samples: int) -> None:
        super().__init__(graph)
        self.samples = samples
        self.seen: dict[str, Observed] = {}

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(self.fetch_attr(target), WeightLayer):
            values = args[0].flatten()
            # An odd step visits all channels and columns.
            step = max(1, len(values) // self.samples) | 1
            self.seen[target] = Observed(
                minimum=float(values.min()), maximum=float(values.max()), samples=values[::step].double()
            )
        return super().call_module(target, args, kwargs)
