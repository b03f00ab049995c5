"""Section [decompose] of a recipe: how a trained network becomes one of binary bases, without training."""

from __future__ import annotations

from dataclasses import dataclass

from karui.sw.decompose.bases import MOST_BASES
from karui.sw.decompose.calibrate import Clipping

MOST_BITS = 8


@dataclass(frozen=True, kw_only=True)
class DecomposeConfig:
    """Bases and bits of each layer, and how they are found.

    Parameters
    ----------
    bases
        Of each filter: one number for all layers, or one a layer from the input on. Without it, `error_budget` or
        `size_budget` decides.
    activation_bits
        Of the words that layers take: one number for all layers, or one a layer.
    error_budget
        Each layer takes the fewest bases with at most this relative squared error of its weights.
    size_budget
        Fraction of the float weights' bits that the layers may take together; bases go where they save most error.
    weights
        File of float weights beside the recipe. They are decomposed where [train] has no epochs; else they are what it
        gave, shipped to be compared with.
    calibration_images
        Training images, from the first on, that the ranges are taken from.
    clipping
        ``mse`` takes the part of the observed range with the least squared error, ``none`` all of it.
    coefficient_bits, multiplier_bits
        Widths of the coefficients, and of the multipliers of quantization sub-layers.
    restarts, iterations, seed
        Of the search for bases.
    """

    bases: tuple[int, ...] = ()
    activation_bits: tuple[int, ...] = (8,)
    error_budget: float | None = None
    size_budget: float | None = None
    weights: str | None = None
    calibration_images: int = 1000
    clipping: Clipping = "mse"
    coefficient_bits: int = 16
    multiplier_bits: int = 16
    restarts: int = 32
    iterations: int = 160
    seed: int = 1

    def __post_init__(self) -> None:
        ways = [bool(self.bases), self.error_budget is not None, self.size_budget is not None]
        if sum(ways) != 1:
            raise ValueError("give one of bases, error_budget and size_budget")
        if not all(1 <= bases <= MOST_BASES for bases in self.bases):
            raise ValueError(f"bases must be 1 to {MOST_BASES} a layer, not {list(self.bases)}")
        if not self.activation_bits or not all(1 <= bits <= MOST_BITS for bits in self.activation_bits):
            raise ValueError(f"activation_bits must be 1 to {MOST_BITS} a layer, not {list(self.activation_bits)}")
        for name in ("error_budget", "size_budget"):
            budget = getattr(self, name)
            if budget is not None and not 0 < budget < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {budget}")
        for name in ("coefficient_bits", "multiplier_bits"):
            if not 2 <= getattr(self, name) <= 24:
                raise ValueError(f"{name} must be 2 to 24, not {getattr(self, name)}")
        for name in ("calibration_images", "restarts", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
