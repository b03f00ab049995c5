"""The complexity of an image: entropies of its pixels and of its spectrum, as one operation of the integer graph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from karui.sw.ir.capsule_ops import single_fraction
from karui.sw.numerics import NumberFormat, signed, unsigned

COMPLEXITY_FRACTION = 12
"""Fractional bits of a complexity, and of the table of c log2 c."""
COMPLEXITY_BITS = COMPLEXITY_FRACTION + 4
"""Bits of a complexity."""
TWIDDLE_FRACTION = 16
"""Fractional bits of cosines and sines."""
MANTISSA_BITS = 16
"""Bits below the leading one of a power that choose its bin."""
BINS = 256
BINS_PER_OCTAVE = 8
"""Bins of an octave of power, so 16 of an octave of magnitude."""
OCTAVES = BINS // (2 * BINS_PER_OCTAVE)
"""Octaves of magnitude that have bins of their own."""
_SPECTRUM_FRACTION = 4
GROWTH_BITS = 16
"""Bits of an entry of the table of c log2 c's growth at most."""
PART_BITS = 23
"""Bits of a part of the spectrum without its sign at most: its square's leading bits fit 64 bits."""
_SUM_BITS = 18
# A multiplier from 2**16 to 2**17 is 1 / (2 N) to 2**-17 of its value.
_MULTIPLIER_BITS = 17

Table = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Complexity:
    """Measure an image: (H, W, C), one or three channels of 2 to 8 bits unsigned, to one word.

    The word is ``(E1 + E2) / 2`` in bits, with E1 the entropy of the histogram of all words, E2 that of the magnitudes
    of the 2-D spectrum of the brightness: the channel itself, or ``(R + 2 G + B) >> 2``. A histogram's entropy is
    ``log2 N - (1 / N) sum of c log2 c`` over the counts c of N elements. With c[k] and s[k] the cosines and sines of a
    table, indices modulo its length, and x the brightness less `centre`,

    - for each row y and frequency u of 0 to W / 2: A and B are ``sum over x`` of ``x c[u x]`` and of ``x s[u x]``,
      rounded half up to `sums`;
    - for each u and each frequency v of 0 to H / 2, over the rows: ``P = sum A c[v y]``, ``R = sum A s[v y]``,
      ``Q = sum B s[v y]``, ``S = sum B c[v y]``; the parts at (u, v) are ``P - Q`` and ``R + S``, those at (u, -v)
      ``P + Q`` and ``S - R``, rounded half up to `fraction` fractional bits; at (0, 0) half the range is given back,
      times H W;
    - a power, the sum of both parts' squares, is exact; its leading one at place p and the `MANTISSA_BITS` bits below
      it, of which so many steps m of a table are reached, choose bin
      ``saturate(BINS_PER_OCTAVE (p - 2 (lowest + fraction)) + m)`` of `BINS`; a power of 0 is in bin 0;
    - (u, v) counts twice where it has a mirror, 0 < u < W / 2; (u, -v) counts where 0 < v < H / 2.

    With s1 and s2 both histograms' sums of c log2 c, by the table that holds how this grows from a count to the next,
    the word is ``saturate(round_half_up((offset - (s1 + C s2) multiplier) / 2**shift))``.

    Operands: the image; twiddles of rows (2, W) and of columns (2, H), cosines and sines; the growth of c log2 c
    (H W C); the steps of an octave of power (BINS_PER_OCTAVE - 1), ascending. `complexity_of` makes all of them.

    Parameters
    ----------
    centre : int
        Half of the words' range.
    sums : NumberFormat
        Signed, of the rows' sums A and B.
    fraction : int
        Fractional bits of the spectrum; 0 or more.
    lowest : int
        Power of two of the magnitude where bin 0 begins, -fraction or more: magnitudes below are in bin 0 too.
    multiplier, offset, shift : int
        What makes a word of both sums.
    output : NumberFormat
        Unsigned.
    """

    centre: int
    sums: NumberFormat
    fraction: int
    lowest: int
    multiplier: int
    offset: int
    shift: int
    output: NumberFormat

    def __post_init__(self) -> None:
        for name in ("centre", "multiplier", "offset", "shift", "row_shift", "column_shift"):
            if getattr(self, name) < 1:
                raise ValueError(f"a complexity has a {name} of 1 or more, not {getattr(self, name)}")
        if self.fraction < 0 or self.lowest < -self.fraction:
            raise ValueError(
                f"a complexity's bins begin at 2**{-self.fraction}, the least magnitude but 0, or above it, not at "
                f"2**{self.lowest}"
            )
        if self.sums.kind != "signed" or self.output.kind != "unsigned":
            raise ValueError(
                f"a complexity has signed sums of rows and an unsigned word, not {self.sums} and {self.output}"
            )

    @property
    def row_shift(self) -> int:
        """Binary places that sums of rows drop."""
        return TWIDDLE_FRACTION - single_fraction(self.sums)

    @property
    def column_shift(self) -> int:
        """Binary places that sums of columns drop."""
        return TWIDDLE_FRACTION + single_fraction(self.sums) - self.fraction

    @property
    def first_bin(self) -> int:
        """What is taken from the number of a power's part of an octave to make its bin."""
        return 2 * BINS_PER_OCTAVE * (self.lowest + self.fraction)


class ComplexityTables(NamedTuple):
    """The tables of a `Complexity`, in the order of its operands."""

    rows: Table
    columns: Table
    growth: Table
    steps: Table


def complexity_of(shape: tuple[int, ...], pixel: NumberFormat) -> tuple[Complexity, ComplexityTables]:
    """The `Complexity` of images of a shape (H, W, C) and a format, and its tables.

    Sums of rows have 18 bits, as a multiplier takes them; the bins are those of the 16 octaves below the least power of
    two that no magnitude reaches.

    Raises
    ------
    ValueError
        If it is not the shape of an image of 2x2 or more, with 1 or 3 channels, or of one of so many elements that the
        table's entries had more than `GROWTH_BITS`, from 24,108 on.
    """
    if len(shape) != 3 or min(shape[:2]) < 2 or shape[-1] not in (1, 3):
        raise ValueError(f"a complexity is that of an image (height, width, 1 or 3), not of shape {shape}")
    height, width, channels = shape
    count, magnitudes = height * width * channels, height * width
    growth = _growth(count)
    if growth.max() >> GROWTH_BITS:
        raise ValueError(
            f"a complexity is that of an image of fewer than 24,108 elements, not of {height} x {width} x {channels}: "
            "resize it"
        )
    # The brightness less the centre, summed over a row, has as many bits as the words and log2 of the width.
    fraction = _SUM_BITS - pixel.bits - (width - 1).bit_length()
    reach = (magnitudes * pixel.maximum).bit_length()
    spectrum_fraction = min(_SPECTRUM_FRACTION, PART_BITS - reach)
    shift = _MULTIPLIER_BITS - 1 + (2 * count - 1).bit_length()
    logarithms = (math.log2(count) + math.log2(magnitudes)) / 2
    op = Complexity(
        centre=1 << (pixel.bits - 1),
        sums=signed(_SUM_BITS, fraction=fraction),
        fraction=spectrum_fraction,
        lowest=max(reach - OCTAVES, -spectrum_fraction),
        multiplier=round((1 << shift) / (2 * count)),
        offset=round(math.ldexp(logarithms, COMPLEXITY_FRACTION + shift)),
        shift=shift,
        output=unsigned(COMPLEXITY_BITS, fraction=COMPLEXITY_FRACTION),
    )
    return op, ComplexityTables(rows=_twiddles(width), columns=_twiddles(height), growth=growth, steps=_octave_steps())


def _twiddles(length: int) -> Table:
    angles = 2 * np.pi * np.arange(length) / length
    return _integers(np.stack([np.cos(angles), np.sin(angles)]) * (1 << TWIDDLE_FRACTION))


def _growth(count: int) -> Table:
    """How c log2 c, rounded, grows from each count c below `count` to the next."""
    counts = np.arange(count + 1, dtype=np.float64)
    exact = counts * np.log2(np.maximum(counts, 1))
    rounded = _integers(exact * (1 << COMPLEXITY_FRACTION))
    return rounded[1:] - rounded[:-1]


def _octave_steps() -> Table:
    """Where the parts of an octave begin behind the first one, as bits below the leading one."""
    parts = np.arange(1, BINS_PER_OCTAVE) / BINS_PER_OCTAVE
    return _integers((np.exp2(parts) - 1) * (1 << MANTISSA_BITS))


def _integers(values: npt.NDArray[np.float64]) -> Table:
    rounded: Table = np.rint(values).astype(np.int64)
    return rounded
