"""How far the integers of a `Complexity` may be from its float64 reference: proven, image by image."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from karui.sw.ir.bounds import accumulator_range
from karui.sw.ir.capsule_ops import single_fraction
from karui.sw.ir.complexity_arithmetic import (
    Floats,
    Integers,
    binned_magnitudes,
    histograms,
    mirror_counts,
    reference_spectrum,
    whole,
)
from karui.sw.ir.complexity_op import (
    BINS,
    COMPLEXITY_FRACTION,
    GROWTH_BITS,
    MANTISSA_BITS,
    PART_BITS,
    TWIDDLE_FRACTION,
    Complexity,
    ComplexityTables,
)
from karui.sw.ir.tensor import GraphError
from karui.sw.numerics import Rounding, shift_right, signed

_CHUNK = 250


def spectrum_error(op: Complexity, height: int, width: int) -> float:
    """By how much a magnitude of the integer spectrum is off at most.

    With X the centre and t = 2**-(TWIDDLE_FRACTION + 1) the error of a cosine or sine: each part of a
    row's sum is off by ``W X t`` through the twiddles and half a unit through rounding, so the complex sum by sqrt 2
    of that; its own magnitude is W X at most. Over H rows the first errors add up, twiddles that are off by
    ``sqrt(2) t`` add H W X times that (and, times the first error, a part that is smaller still); then both parts are
    rounded.
    """
    off = 2.0 ** -(TWIDDLE_FRACTION + 1)
    row = math.sqrt(2) * (width * op.centre * off + 2.0 ** -(single_fraction(op.sums) + 1))
    columns = height * (row * (1 + math.sqrt(2) * off) + width * op.centre * math.sqrt(2) * off)
    return columns + math.sqrt(2) * 2.0 ** -(op.fraction + 1)


def largest_part(op: Complexity, height: int, width: int) -> int:
    """What no part of the integer spectrum exceeds."""
    largest = height * width * (2 * op.centre - 1) + spectrum_error(op, height, width)
    return math.ceil(math.ldexp(largest, op.fraction))


def word_error(op: Complexity, shape: tuple[int, ...]) -> float:
    """By how much the complexity is off at most where all bins are right, in bits.

    Each of up to 256 entries of c log2 c is off by half a unit, the multiplier by half of its last place, the offset
    by half of one; and the word is rounded.
    """
    height, width, channels = shape
    elements, magnitudes, unit = height * width * channels, height * width, 2.0**-COMPLEXITY_FRACTION
    entries = (min(BINS, elements) / elements + min(BINS, magnitudes) / magnitudes) / 2 * unit / 2
    largest = elements * (math.log2(elements) + math.log2(magnitudes)) / unit
    scaling = (largest + 1) / 2 * 2.0**-op.shift * unit
    return entries + scaling + unit / 2


def entropy_change(moved: Integers, fullest: Integers, elements: int) -> Floats:
    """By how much a complexity changes at most where so many of the spectrum's elements go to other bins.

    Each changes the sum of c log2 c by a growth of the fuller of both bins, which is less than ``log2 c + 1 / log 2``.
    """
    most = np.minimum(fullest + moved, elements)
    return np.asarray(moved * (np.log2(most) + 1 / math.log(2)) / (2 * elements))


def error_bounds(op: Complexity, images: npt.NDArray[np.integer]) -> tuple[Floats, Integers]:
    """For each image (H, W, C) of a batch by how much its complexity is off at most, and how many bins may be wrong.

    A bin may be wrong only if its magnitude is so close to an edge that `spectrum_error`, or the rounding of that edge,
    takes it to the other side. That supposes all roundings to add up: bins are wrong far less often.
    """
    _, height, width, _ = images.shape
    error = spectrum_error(op, height, width)
    counts = mirror_counts(height, width)
    bounds, wrong = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    for start in range(0, len(images), _CHUNK):
        magnitudes = reference_spectrum(images[start : start + _CHUNK].astype(np.int64))
        off = error + magnitudes * 2.0 ** -(MANTISSA_BITS + 1)
        low, here, high = (binned_magnitudes(op, at) for at in (magnitudes - off, magnitudes, magnitudes + off))
        moved = ((low != high) * counts).sum(axis=(1, 2, 3))
        fullest = histograms(whole(here, height, width)).max(axis=1)
        bounds.append(word_error(op, images.shape[1:]) + entropy_change(moved, fullest, height * width))
        wrong.append(moved)
    return np.concatenate(bounds), np.concatenate(wrong)


def check_values(op: Complexity, tables: ComplexityTables) -> None:
    """Check that tables suit an operation: sums of rows and powers are proven to fit, steps ascend.

    Raises
    ------
    GraphError
        If they do not.
    """
    rows, columns, growth, steps = tables
    one = 1 << TWIDDLE_FRACTION
    for what, table, low, high in (
        ("twiddles are", np.concatenate([rows, columns], axis=1), -one, one),
        ("growth of c log2 c is", growth, 0, (1 << GROWTH_BITS) - 1),
        ("steps of an octave are", steps, 0, (1 << MANTISSA_BITS) - 1),
    ):
        if table.min() < low or table.max() > high:
            raise GraphError(f"the {what} {low} to {high}, not {table.min()} to {table.max()}")
    if np.any(np.diff(steps) < 0):
        raise GraphError("the steps of an octave do not ascend")
    height, width = columns.shape[1], rows.shape[1]
    waves = rows[:, np.outer(np.arange(width // 2 + 1), np.arange(width)) % width].reshape(-1, width)
    ends = accumulator_range(waves, signed(op.centre.bit_length()))
    low, high = (shift_right(end, op.row_shift, Rounding.HALF_UP) for end in ends)
    if not op.sums.holds_range(low, high):
        raise GraphError(f"sums of rows reach from {low} to {high}, more than the format {op.sums} holds")
    if largest_part(op, height, width) >> PART_BITS:
        raise GraphError(
            f"parts of the spectrum of an image of {height}x{width} with {op.fraction} fractional bits take more than "
            f"{PART_BITS} bits: use fewer fractional bits"
        )
