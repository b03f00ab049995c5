"""Plain post-training quantization of weights, which binary bases are measured against."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Scale = Literal["layer", "filter", "filter-mse"]

# Parts of the largest magnitude that are tried as the end of the range.
_PARTS = torch.linspace(0.1, 1.0, 91, dtype=torch.float64).tolist()


@torch.no_grad()
def uniform_weights(weights: Tensor, bits: int, scale: Scale) -> Tensor:
    """Weights rounded to the symmetric levels -L .. L times a step, L = 2^(bits - 1) - 1.

    Parameters
    ----------
    weights : Tensor, shape (filters, N)
    bits : int
        2 or more.
    scale : str
        The step takes the largest magnitude of the ``layer`` or of each ``filter`` to L; ``filter-mse`` takes the part
        of it, of each filter, with the least squared error.

    Raises
    ------
    ValueError
        If there are fewer than 2 bits.
    """
    if bits < 2:
        raise ValueError(f"symmetric levels about zero take 2 bits or more, not {bits}")
    rows, top = weights.double(), (1 << (bits - 1)) - 1
    largest = rows.abs().amax(dim=1, keepdim=True)
    if scale == "layer":
        largest = largest.max().expand_as(largest)
    best = _rounded(rows, largest / top, top)
    if scale == "filter-mse":
        for part in _PARTS:
            tried = _rounded(rows, part * largest / top, top)
            better = (tried - rows).square().sum(1) < (best - rows).square().sum(1)
            best = torch.where(better[:, None], tried, best)
    return best


def _rounded(rows: Tensor, step: Tensor, top: int) -> Tensor:
    safe = torch.where(step > 0, step, torch.ones_like(step))
    return torch.round(rows / safe).clamp(-top, top) * safe
