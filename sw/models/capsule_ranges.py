"""Ranges of the words between capsule layers, and how they follow from a trained float network.

A word that is saturated costs accuracy, a bit that is never used costs half a step: a range ends at the smallest power
of two that the largest magnitude over the calibration images does not reach. Of the sums of a routing iteration that
magnitude is taken over all iterations. What the ranges leave open is proven instead of measured: accumulators of the
predictions and sums are as wide as the graph's verification demands of actual weights and formats, a capsule is shorter
than 1, and the logits, which grow by less than ``log2(e) * vector * votes`` an iteration, have a range of 128.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from karui.sw.nn.capsule import CapsulePrediction, DynamicRouting
from karui.sw.numerics import NumberFormat, signed


@dataclass(frozen=True, kw_only=True)
class CapsuleRanges:
    """Ends of symmetric ranges, powers of two.

    Parameters
    ----------
    primary
        Elements of a primary capsule before squashing; the float network clamps them too, and learns to live with it. A
        capsule of 8 elements of 2 has a length of 5.7, squashed to 0.97.
    votes
        Elements of the predictions.
    sums
        Elements of the routing's weighted sums.
    """

    primary: float = 2.0
    votes: float = 2.0
    sums: float = 16.0

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit <= 0 or math.frexp(limit)[0] != 0.5:
                raise ValueError(f"{field.name} of ranges must be a power of two such as 0.5, 1 or 4, not {limit}")


def signed_words(bits: int, limit: float) -> NumberFormat:
    """Signed words that reach from -limit to a step below limit, a power of two."""
    return signed(bits, bits - math.frexp(limit)[1])


@torch.no_grad()
def calibrated_ranges(model: nn.Sequential, images: Tensor, *, batch_size: int = 250) -> CapsuleRanges:
    """Return the ranges that a trained float network needs.

    Parameters
    ----------
    model
        With the layers of `karui.sw.models.capsnet.capsule_layers`, in floating point.
    images
        Calibration images (uint8), from the training set.
    batch_size
        Images a step.
    """
    model.eval()
    largest = {"votes": 0.0, "sums": 0.0}
    for start in range(0, len(images), batch_size):
        values = images[start : start + batch_size].float()
        for layer in model:
            if isinstance(layer, DynamicRouting):
                sums = max(float(sums.abs().max()) for sums in layer.all_sums(values))
                largest["sums"] = max(largest["sums"], sums)
            values = layer(values)
            if isinstance(layer, CapsulePrediction):
                largest["votes"] = max(largest["votes"], float(values.abs().max()))
    primary = model.get_submodule("requantize").limit
    assert isinstance(primary, float)
    return CapsuleRanges(primary=primary, **{name: limit_above(value) for name, value in largest.items()})


def limit_above(magnitude: float) -> float:
    """The smallest power of two above a magnitude."""
    return 2.0 ** math.frexp(magnitude)[1]
