"""Pruning of weights or vectors by magnitude: scores, masks, and a gradual schedule that may let them come back.

Sources: magnitude pruning with retraining (Han et al. 2015), the cubic schedule (Zhu and Gupta 2017), dynamic network
surgery (Guo et al. 2016), layer-adaptive magnitudes (Lee et al. 2021, LAMP).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from karui.sw.compress.config import PruneConfig
from karui.sw.nn.quant_weight import QuantWeightLayer
from karui.sw.nn.weight_vectors import from_weight_vectors, weight_vectors


class Mask(nn.Module):
    """Parametrization of a weight: those outside the mask count as zero.

    Parameters
    ----------
    weight
        The weight to come; at first nothing is masked.
    regrow
        Whether masked weights still learn, straight through, and so can come back.

    Attributes
    ----------
    mask
        1 for kept weights, else 0; a buffer, as `steps` is, so that both are part of a training's state.
    steps
        Optimizer steps so far.
    """

    mask: Tensor
    steps: Tensor

    def __init__(self, weight: Tensor, *, regrow: bool) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones_like(weight))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.regrow = regrow

    def forward(self, weight: Tensor) -> Tensor:
        kept = weight * self.mask
        # The sum is exact: weight + 0 or weight - weight.
        return weight + (kept - weight).detach() if self.regrow else kept


class Pruner:
    """Masks on the weights of layers, made denser or sparser as a training goes on.

    The fraction of kept weights falls from 1 to its end value along the cubic ``end + (1 - end) * (1 - t)**3`` while
    t = progress / ramp runs from 0 to 1, and stays there for the rest of the training, which retrains what is kept.

    Parameters
    ----------
    layers
        Layers by name; their weights are parametrized by a `Mask` until `finish`.
    config
        What is kept, how it is chosen, and when.
    """

    def __init__(self, layers: Mapping[str, QuantWeightLayer], config: PruneConfig) -> None:
        if config.scope == "layer" and len(config.keep) != len(layers):
            raise ValueError(
                f"keep has {len(config.keep)} fractions for {len(layers)} layers ({', '.join(layers)}); with scope = "
                f'"layer" give one a layer'
            )
        self.vectors = config.vectors or (1,) * len(layers)
        for (name, layer), vector in zip(layers.items(), self.vectors, strict=True):
            row = layer.weight.numel() // layer.vector_rows
            if layer.weight.numel() % vector or (row % vector and vector % row):
                raise ValueError(
                    f"vectors of {vector} divide neither the rows of {row} weights of {name} nor consist of whole ones"
                )
        self.layers = layers
        self.config = config
        for layer in layers.values():
            parametrize.register_parametrization(layer, "weight", Mask(layer.weight, regrow=config.regrow))
        self.masks = [_mask(layer) for layer in layers.values()]

    def __call__(self, progress: float) -> None:
        """Count a step; after every so many, and after the last, choose the weights that are kept from here on."""
        for mask in self.masks:
            mask.steps += 1
            mask.regrow = self.config.regrow and progress < self.config.freeze
        if progress >= 1.0 or int(self.masks[0].steps) % self.config.every == 0:
            self.prune(min(progress / self.config.ramp, 1.0))

    @torch.no_grad()
    def prune(self, done: float = 1.0) -> None:
        """Keep the best weights, as many as the schedule has left when a fraction `done` of it is over.

        Weights that no longer learn do not come back: choosing again among as many as there are changes nothing.
        """
        keep = [end + (1 - end) * (1 - done) ** 3 for end in self.config.keep]
        weights = [
            _original(layer) if mask.regrow else layer.weight
            for layer, mask in zip(self.layers.values(), self.masks, strict=True)
        ]
        norms = [
            weight.abs() if vector == 1 else weight_vectors(weight, vector).norm(dim=1)
            for weight, vector in zip(weights, self.vectors, strict=True)
        ]
        scores = [lamp_score(norm) if self.config.score == "lamp" else norm for norm in norms]
        if self.config.scope == "layer":
            chosen = [top_mask([score], fraction)[0] for score, fraction in zip(scores, keep, strict=True)]
        else:
            chosen = top_mask(scores, keep[0])
        for mask, values, vector in zip(self.masks, chosen, self.vectors, strict=True):
            kept = values.view(-1, 1).expand(-1, vector)
            mask.mask.copy_(from_weight_vectors(kept, tuple(mask.mask.shape)))

    def finish(self) -> None:
        """Make the masked weights the layers' own."""
        for layer in self.layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def top_mask(scores: list[Tensor], fraction: float) -> list[Tensor]:
    """Mark the entries of the highest scores over several tensors: ``round(fraction * entries)`` of them, at least 1.

    Ties go to the entries that come first, so that the number is exact.
    """
    flat = torch.cat([score.flatten() for score in scores])
    mask = torch.zeros_like(flat)
    mask[flat.argsort(descending=True, stable=True)[: max(round(fraction * len(flat)), 1)]] = 1.0
    parts = torch.split(mask, [score.numel() for score in scores])
    return [part.view(score.shape) for part, score in zip(parts, scores, strict=True)]


def lamp_score(weight: Tensor) -> Tensor:
    """Squared magnitude over the sum of all squares in the tensor that are at least as large (Lee et al. 2021)."""
    squares, order = weight.flatten().square().sort(descending=True)
    score = torch.empty_like(squares)
    # Zeros score zero: after the last non-zero weight the sum of a layer that is all zero would divide by zero.
    score[order] = squares / squares.cumsum(0).clamp_min(torch.finfo(squares.dtype).tiny)
    return score.view(weight.shape)


def _mask(layer: nn.Module) -> Mask:
    (mask,) = layer.parametrizations.weight  # type: ignore[union-attr, misc]
    assert isinstance(mask, Mask)
    return mask


def _original(layer: nn.Module) -> Tensor:
    original = layer.parametrizations.weight.original  # type: ignore[union-attr]
    assert isinstance(original, Tensor)
    return original
