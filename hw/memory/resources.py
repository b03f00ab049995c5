"""Cells of a device, as a sum: what designs are estimated in."""

from __future__ import annotations

from dataclasses import dataclass

# ECP5 block RAM: 16 Kibit plus parity, as words of 36, 18, 9, 4, 2 or 1 bits.
_BLOCK_RAM_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Cells of a device.

    Parameters
    ----------
    luts : int
        Four-input look-up tables, those of carry cells included.
    block_rams : int
        18 Kibit block memories.
    dsps : int
        18 x 18 multipliers.
    """

    luts: int = 0
    block_rams: int = 0
    dsps: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            luts=self.luts + other.luts,
            block_rams=self.block_rams + other.block_rams,
            dsps=self.dsps + other.dsps,
        )

    def __sub__(self, other: Resources) -> Resources:
        return Resources(
            luts=self.luts - other.luts,
            block_rams=self.block_rams - other.block_rams,
            dsps=self.dsps - other.dsps,
        )

    def fits(self, budget: Resources) -> bool:
        """Whether no resource exceeds the budget's."""
        return self.luts <= budget.luts and self.block_rams <= budget.block_rams and self.dsps <= budget.dsps


def memory_cost(words: int, bits: int, *, distributed: int) -> Resources:
    """Cells of a memory that is built from look-up tables up to a depth of `distributed` words."""
    if words <= 1:
        return Resources()
    if words <= distributed:
        return Resources(luts=bits * -(-words // 16))
    return Resources(block_rams=min(-(-words // depth) * -(-bits // width) for depth, width in _BLOCK_RAM_SHAPES))
