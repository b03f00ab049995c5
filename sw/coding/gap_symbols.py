"""Gaps as symbols of a small alphabet: the small ones each, the others in ranges with raw low bits behind.

A gap is cut like a floating-point number: its `precise` leading bits make the symbol, the bits below follow raw. With
as many precise bits as a gap has, every gap is a symbol: the plain form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from karui.sw.coding.relative_index import Entries

Integers = npt.NDArray[np.int64]

FILLER = 0


@dataclass(frozen=True, kw_only=True)
class GapSymbols:
    """An alphabet of gaps.

    Symbol 0 is a filler, 2**gap_bits zeros. Symbol 1 + s stands for the gap s where s < 2**precise; beyond, each
    doubling of the gap has 2**(precise - 1) symbols.

    Parameters
    ----------
    gap_bits : int
        Width of the largest gap, 0 to 15.
    precise : int
        Leading bits of a gap that its symbol tells, 0 to gap_bits; 0 with gap_bits 0 alone.
    """

    gap_bits: int
    precise: int

    def __post_init__(self) -> None:
        if not min(self.gap_bits, 1) <= self.precise <= self.gap_bits:
            raise ValueError(f"symbols tell 1 to {self.gap_bits} leading bits of a gap, not {self.precise}")

    @property
    def alphabet(self) -> int:
        """Number of symbols, filler included."""
        return 1 + (1 << self.precise) + (self.gap_bits - self.precise << self.precise >> 1)

    def split(self, entries: Entries) -> tuple[Integers, Integers, Integers]:
        """Symbols of entries, the raw bits behind each, and their widths."""
        # frexp's exponent is the number of a gap's bits, exact for integers this small.
        widths = np.maximum(np.frexp(entries.gaps.astype(np.float64))[1].astype(np.int64) - self.precise, 0)
        symbols = 1 + (entries.gaps >> widths) + (widths << self.precise >> 1)
        raw = entries.gaps & ((1 << widths) - 1)
        fillers = entries.codes == 0
        return np.where(fillers, FILLER, symbols), raw, np.where(fillers, 0, widths)

    def widths(self, symbols: Integers) -> Integers:
        """Raw bits behind each symbol."""
        if self.precise == 0:
            return np.zeros(symbols.size, dtype=np.int64)
        return np.where(symbols == FILLER, 0, np.maximum((symbols - 1 >> (self.precise - 1)) - 1, 0))

    def join(self, symbols: Integers, raw: Integers) -> Integers:
        """Gaps of symbols and the raw bits behind each; a filler's is the largest."""
        widths = self.widths(symbols)
        leading = symbols - 1 - (widths << self.precise >> 1)
        return np.where(symbols == FILLER, (1 << self.gap_bits) - 1, leading << widths | raw)
