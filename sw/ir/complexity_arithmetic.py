"""What a `Complexity` computes, its float64 reference, and the depths that follow from it.

The graph's golden kernel, training and tests of the hardware share these integers.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from karui.sw.ir.complexity_op import (
    BINS,
    BINS_PER_OCTAVE,
    COMPLEXITY_FRACTION,
    MANTISSA_BITS,
    Complexity,
    ComplexityTables,
)
from karui.sw.numerics import Rounding, leading_bits, saturate, shift_right

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_CHUNK = 250
"""Images at once: so many stay in a processor's cache."""
DEEPEST = 8
"""The depth of images of the largest complexity: entropies of 256 bins are 8 bits at most, and coth(1 / 8) is 8.04."""
_TIE = 1e-9
"""Part of a bin's lower edge by which a float64 magnitude may fall short of it: exact ones meet edges."""


def complexity_words(op: Complexity, images: npt.NDArray[np.integer], tables: ComplexityTables) -> Integers:
    """The words of images (n, H, W, C), one each."""
    totals = np.concatenate([[0], np.cumsum(tables.growth)])
    words = [np.zeros(0, dtype=np.int64)]
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].astype(np.int64)
        of_pixels = totals[histograms(chunk.reshape(len(chunk), -1))].sum(axis=1)
        of_spectrum = totals[histograms(spectrum_bins(op, chunk, tables))].sum(axis=1)
        sums = of_pixels + images.shape[-1] * of_spectrum
        word = shift_right(op.offset - sums * op.multiplier, op.shift, Rounding.HALF_UP)
        words.append(saturate(word, op.output.minimum, op.output.maximum))
    return np.concatenate(words)


def brightness(images: Integers) -> Integers:
    """The brightness of images (n, H, W, 1 or 3)."""
    if images.shape[-1] == 1:
        return images[..., 0]
    return (images[..., 0] + 2 * images[..., 1] + images[..., 2]) >> 2


def spectrum(op: Complexity, images: Integers, tables: ComplexityTables) -> tuple[Integers, Integers]:
    """Both parts of the half spectrum (n, 2, W / 2 + 1, H / 2 + 1): at the frequencies (u, v), and at (u, -v)."""
    height, width = images.shape[1:3]
    # Every sum stays far below 2**53: float64 has it exactly.
    lines = (brightness(images) - op.centre).astype(np.float64)
    a, b = (_rounded(lines @ waves, op.row_shift) for waves in _waves(tables.rows, width))
    cosines, sines = _waves(tables.columns, height)
    # (n, y, u) becomes (n, u, v).
    p, r, q, s = (part.swapaxes(1, 2) @ waves for part, waves in ((a, cosines), (a, sines), (b, sines), (b, cosines)))
    real, imaginary = np.stack([p - q, p + q], axis=1), np.stack([r + s, s - r], axis=1)
    real[:, :, 0, 0] += float(op.centre * height * width) * 2.0 ** (op.column_shift + op.fraction)
    return tuple(_rounded(part, op.column_shift).astype(np.int64) for part in (real, imaginary))  # type: ignore[return-value]


def mirror_counts(height: int, width: int) -> Integers:
    """How often each magnitude of a half spectrum (2, W / 2 + 1, H / 2 + 1) is in the whole one."""
    u, v = np.arange(width // 2 + 1), np.arange(height // 2 + 1)
    has_mirror = 1 + ((u > 0) & (2 * u < width)).astype(np.int64)[:, None]
    return np.stack([has_mirror + 0 * v, has_mirror * ((v > 0) & (2 * v < height))])


def whole(bins: Integers, height: int, width: int) -> Integers:
    """Bins of the whole spectrum, of those of the half one."""
    places = np.repeat(np.arange(bins[0].size), mirror_counts(height, width).ravel())
    return bins.reshape(len(bins), -1)[:, places]


def power_bins(op: Complexity, powers: Integers, steps: Integers) -> Integers:
    """The bins of powers."""
    place, index = leading_bits(powers, MANTISSA_BITS)
    part = np.searchsorted(steps, index, side="right")
    bins: Integers = np.clip(BINS_PER_OCTAVE * place + part - op.first_bin, 0, BINS - 1)
    return bins


def spectrum_bins(op: Complexity, images: Integers, tables: ComplexityTables) -> Integers:
    """The bins of all H W magnitudes of each image, (n, H W), in no order that matters."""
    real, imaginary = spectrum(op, images, tables)
    bins = power_bins(op, real * real + imaginary * imaginary, tables.steps)
    return whole(bins, *images.shape[1:3])


def histograms(bins: Integers) -> Integers:
    """Counts (n, BINS) of bins (n, ...)."""
    images = len(bins)
    return np.bincount((np.arange(images)[:, None] * BINS + bins).ravel(), minlength=images * BINS).reshape(-1, BINS)


def reference_complexity(op: Complexity, images: npt.NDArray[np.integer]) -> Floats:
    """The complexities of images (n, H, W, C) in float64: no table, no rounding, the same bins."""
    found = [np.zeros(0)]
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].astype(np.int64)
        of_spectrum = histograms(whole(binned_magnitudes(op, reference_spectrum(chunk)), *chunk.shape[1:3]))
        found.append((_entropies(histograms(chunk.reshape(len(chunk), -1))) + _entropies(of_spectrum)) / 2)
    return np.concatenate(found)


def reference_spectrum(images: Integers) -> Floats:
    """The magnitudes of which `spectrum` has the parts, in float64."""
    magnitudes = np.abs(np.fft.rfft2(brightness(images)))
    v = np.arange(images.shape[1] // 2 + 1)
    return np.stack([magnitudes[:, v], magnitudes[:, -v]], axis=1).swapaxes(2, 3)


def binned_magnitudes(op: Complexity, magnitudes: Floats) -> Integers:
    """The bins of float64 magnitudes, as `power_bins` has them of powers."""
    octaves = np.log2(np.maximum(magnitudes, 2.0**op.lowest) * (1 + _TIE)) - op.lowest
    bins: Integers = np.floor(2 * BINS_PER_OCTAVE * octaves).astype(np.int64).clip(0, BINS - 1)
    return bins


def depth_steps(first: int, last: int, fraction: int = COMPLEXITY_FRACTION) -> tuple[int, ...]:
    """The least words from which on a network is first + 1, ..., last layers deep.

    A depth is ``floor(coth(1 / H))`` of a complexity H, limited to `first` and `last`. For D of 2 and more
    ``coth(1 / H) >= D`` is ``H >= 2 / log((D + 1) / (D - 1))``, an irrational number (Lindemann): no word is a tie.

    Raises
    ------
    ValueError
        If the depths are not 1 or more, the first one the least.
    """
    if not 1 <= first <= last:
        raise ValueError(f"depths ascend from 1 or more, not from {first} to {last}")
    # log1p keeps the quotient exact to a few units of the last place, far finer than words.
    complexities = (2 / math.log1p(2 / (depth - 1)) for depth in range(first + 1, last + 1))
    return tuple(math.ceil(math.ldexp(complexity, fraction)) for complexity in complexities)


def depths(words: Integers, first: int, last: int) -> Integers:
    """The depths of words."""
    return first + np.searchsorted(np.array(depth_steps(first, last)), words, side="right")


def _waves(twiddles: Integers, length: int) -> tuple[Floats, Floats]:
    """Cosines and sines (length, frequencies) of the frequencies from 0 to half the length."""
    angles = np.outer(np.arange(length), np.arange(length // 2 + 1)) % length
    cosines, sines = twiddles[:, angles].astype(np.float64)
    return cosines, sines


def _rounded(sums: Floats, shift: int) -> Floats:
    return np.floor(sums * 2.0**-shift + 0.5)


def _entropies(counts: Integers) -> Floats:
    total = counts[0].sum()
    logarithms = np.log2(np.maximum(counts, 1))
    return np.asarray(np.log2(total) - (counts * logarithms).sum(axis=1) / total)
