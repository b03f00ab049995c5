"""Multiplication by a power of two: in hardware another position of the binary point."""

from torch import Tensor, nn


class PowerOfTwoScale(nn.Module):
    """Multiply by ``2**-fraction``, exactly: words stay the same, each stands for ``word * 2**-fraction``.

    In front of a network without batch norm it brings integer pixels to the unit range, where weights of the usual
    size and the usual step sizes train.

    Parameters
    ----------
    fraction
        Binary digits right of the point, 0 to 64.
    """

    def __init__(self, *, fraction: int) -> None:
        super().__init__()
        if not 0 <= fraction <= 64:
            raise ValueError(f"fraction must be 0 to 64 binary digits, not {fraction}")
        self.fraction = fraction

    def forward(self, words: Tensor) -> Tensor:
        return words * 2.0**-self.fraction

    def extra_repr(self) -> str:
        return f"fraction={self.fraction}"
