"""Ranges of the words between capsule layers."""

import math
from dataclasses import dataclass, fields

from karui.sw.nn.precision import check_power_of_two
from karui.sw.numerics import NumberFormat, signed


@dataclass(frozen=True, kw_only=True)
class CapsuleRanges:
    """Ends of symmetric ranges, powers of two, of words that no activation clamps in the float network.

    `karui.sw.train.capsule_calibration` finds them for a trained one.

    Parameters
    ----------
    votes
        Elements of the predictions, words of 8 bits.
    sums
        Elements of the routing's weighted sums, words of 16 bits.
    """

    votes: float
    sums: float

    def __post_init__(self) -> None:
        for field in fields(self):
            check_power_of_two(f"{field.name} of ranges", getattr(self, field.name))


def signed_words(bits: int, limit: float) -> NumberFormat:
    """Signed words that reach from -limit to a step below limit, a power of two."""
    return signed(bits, bits - math.frexp(limit)[1])


UNCALIBRATED = CapsuleRanges(votes=4.0, sums=32.0)
"""Of networks before their training."""
