"""What each bit of a file is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SizeAccount:
    """The bits of a file by tensor and kind.

    Parameters
    ----------
    rows : mapping
        Bits by the tensor's name ("" for what belongs to no tensor) and kind: header, metadata, map (of kept rows
        and columns), code table, code book, gaps, fillers, codes, biases (all of a raw tensor's values), padding,
        checksum.
    """

    rows: Mapping[tuple[str, str], int]

    @property
    def total(self) -> int:
        """Bits of the file."""
        return sum(self.rows.values())

    @property
    def by_kind(self) -> dict[str, int]:
        """Bits of each kind, over all tensors."""
        return self._sum(1)

    @property
    def by_tensor(self) -> dict[str, int]:
        """Bits of each tensor, "" for what belongs to none."""
        return self._sum(0)

    def _sum(self, index: int) -> dict[str, int]:
        bits: Counter[str] = Counter()
        for row, count in self.rows.items():
            bits[row[index]] += count
        return dict(bits)
