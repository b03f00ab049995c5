"""Ranges of integers, proven from formats and the actual constants."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from karui.sw.ir.capsule_ops import Routing
from karui.sw.ir.ops import WalshHadamard
from karui.sw.numerics import NumberFormat, shift_right


def accumulator_range(
    weights: npt.NDArray[np.int64], inputs: NumberFormat, bias: npt.NDArray[np.int64] | None = None
) -> tuple[int, int]:
    """The smallest and the largest sum that any input can reach.

    Each product ``w * x`` is extreme at an end of x's range, so the bound is attained: it is exact, not an estimate.

    Parameters
    ----------
    weights : ndarray of int64, shape (M, K)
        Row by row what is multiplied into one sum: of a grouped product (M, K / groups); of a depthwise convolution
        `depthwise_rows`; of binary bases `effective_weights`.
    inputs : NumberFormat
        Format of the inputs.
    bias : ndarray of int64, shape (M,), optional
    """
    at_minimum, at_maximum = weights * inputs.minimum, weights * inputs.maximum
    start = np.zeros(len(weights), dtype=np.int64) if bias is None else bias
    low = start + np.minimum(at_minimum, at_maximum).sum(axis=1)
    high = start + np.maximum(at_minimum, at_maximum).sum(axis=1)
    # Partial sums start at the bias (or zero) and must fit too.
    return int(min(low.min(), start.min())), int(max(high.max(), start.max()))


def depthwise_rows(weights: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Weights (KH, KW, C) of a depthwise convolution as one row (KH * KW) a channel."""
    return weights.reshape(-1, weights.shape[-1]).T


def effective_weights(bases: npt.NDArray[np.int64], coefficients: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The matrix (M, K / groups) that binary bases (M, bases, K / groups) times coefficients (M, bases) add up to."""
    return (coefficients[:, None, :] @ bases)[:, 0]


def product_range(factor: NumberFormat, multiplier: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The smallest and the largest product of a word of `factor` and one of the multipliers."""
    corners = np.stack([multiplier * factor.minimum, multiplier * factor.maximum])
    return int(corners.min()), int(corners.max())


def butterfly_ranges(op: WalshHadamard, inputs: NumberFormat) -> tuple[tuple[int, int], ...]:
    """The range of the words behind each stage of a transform, divisions included.

    Sums and differences of two words from low to high reach from ``min(2 low, low - high)`` to
    ``max(2 high, high - low)``; rounding is monotone. Their formats are the narrowest that the words' extremes need:
    without shifts the last stage's is that of the exact sums. Before its division a sum needs one bit more than the
    words of the stage in front.
    """
    low, high = inputs.minimum, inputs.maximum
    ranges = []
    for shift in op.stage_shifts:
        ends = min(2 * low, low - high), max(2 * high, high - low)
        low, high = (int(shift_right(end, shift, op.rounding)) for end in ends)
        ranges.append((low, high))
    return tuple(ranges)


def squared_length_range(length: int, inputs: NumberFormat) -> tuple[int, int]:
    """The smallest and the largest sum of so many squares; a signed word is largest squared at its minimum."""
    least = 1 if inputs.is_bipolar else 0
    return length * least, length * max(inputs.minimum**2, inputs.maximum**2)


def routing_sum_range(op: Routing, inputs: NumberFormat, capsules: int) -> tuple[int, int]:
    """The range of a weighted sum of predictions of so many capsules, before it is rounded: all of one sign."""
    return capsules * op.largest_coupling * inputs.minimum, capsules * op.largest_coupling * inputs.maximum


def agreement_range(op: Routing, inputs: NumberFormat) -> tuple[int, int]:
    """The range of a dot product of a prediction and an output capsule."""
    low, high = product_range(inputs, np.array([op.output.minimum, op.output.maximum]))
    return op.length * low, op.length * high
