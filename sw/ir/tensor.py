"""Edges of the integer graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karui.sw.numerics import NumberFormat


class GraphError(ValueError):
    """A graph that means nothing, or not what it says; the message names the node."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Shape (without the batch) and number format of an edge."""

    shape: tuple[int, ...]
    number_format: NumberFormat

    @property
    def elements(self) -> int:
        """Elements of one frame."""
        return int(np.prod(self.shape))

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} {self.number_format}"
