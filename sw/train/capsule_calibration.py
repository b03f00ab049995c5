"""Ranges of the words between capsule layers, from a trained float network.

A word that saturates costs accuracy, a bit that is never used costs half a step: a range ends at the smallest power of
two that the largest magnitude over the calibration images does not reach. Of the weighted sums that magnitude is taken
over all iterations of the routing.

What calibration leaves open is proven. Accumulators of predictions are as wide as the graph's verification demands of
actual weights. A sum of I predictions, up to ``2**7`` in steps, times coefficients below ``2**12`` is within
``2**19 * I``, which signed words of ``20 + log2(I)`` bits hold. A capsule is shorter than 1, so 8 bits hold it. An
agreement is at most the length of a prediction, ``sqrt(vector) * votes``; so logits, which are log2(e) times that,
stay within their range of 128 for ``128 / (1.45 * sqrt(vector) * votes)`` iterations, 11 with vectors of 16 and votes
up to 2, and saturate beyond.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from karui.sw.models.build import LightConfig
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.capsule_ranges import CapsuleRanges
from karui.sw.models.capsule_vgg import CapsuleVggConfig
from karui.sw.nn.capsule import CapsulePrediction, DynamicRouting

CALIBRATION_IMAGES = 5000


def with_calibrated_ranges(config: LightConfig, model: nn.Sequential, images: Tensor) -> LightConfig:
    """Return a configuration with the ranges that its capsules lack; others come back as they are.

    Parameters
    ----------
    config
        Of the network to be.
    model
        The trained float network.
    images
        Training images (uint8); the first `CALIBRATION_IMAGES` are used.
    """
    if isinstance(config, CapsNetConfig | CapsuleVggConfig) and config.ranges is None:
        return replace(config, ranges=calibrated_ranges(model, images[:CALIBRATION_IMAGES]))
    return config


@torch.no_grad()
def calibrated_ranges(model: nn.Sequential, images: Tensor, *, batch_size: int = 250) -> CapsuleRanges:
    """Return the ranges that a trained float network with capsules needs.

    Parameters
    ----------
    model
        Ends in evaluation mode.
    images
        Calibration images (uint8).
    batch_size
        Images a step.
    """
    model.eval()
    votes = sums = 0.0
    for start in range(0, len(images), batch_size):
        values = images[start : start + batch_size].float()
        for layer in model:
            if isinstance(layer, DynamicRouting):
                sums = max(sums, *(float(iteration.abs().max()) for iteration in layer.all_sums(values)))
            values = layer(values)
            if isinstance(layer, CapsulePrediction):
                votes = max(votes, float(values.abs().max()))
    return CapsuleRanges(votes=limit_above(votes), sums=limit_above(sums))


def limit_above(magnitude: float) -> float:
    """The smallest power of two above a magnitude."""
    return 2.0 ** math.frexp(magnitude)[1]
