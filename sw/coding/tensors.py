"""What a container holds: tensors of integers as they are, and tensors that share the vectors of a code book."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.coding.integer_block import WIDEST
from karui.sw.coding.relative_index import check_gap_bits
from karui.sw.numerics import NumberFormat

MOST_AXES = 7
LARGEST_BOOK = 1 << 12
LARGEST_FRACTION = 127

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class RawTensor:
    """Integers, each of its own: biases and other small things.

    Parameters
    ----------
    name : str
        Unique in its container, not empty.
    values : ndarray of int
        Integers of the format.
    number_format : NumberFormat
        At most 32 bits; its own fraction is 0.
    fraction : int
        A value q stands for q * 2**-fraction.

    Raises
    ------
    ValueError
        If the values are not of the format or the parameters out of range.
    """

    name: str
    values: Integers
    number_format: NumberFormat
    fraction: int = 0

    def __post_init__(self) -> None:
        _check(self.name, self.shape, self.number_format, self.fraction)
        _check_integers(f"values of the tensor {self.name!r}", self.values, self.number_format)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.values.shape


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedTensor:
    """Weights that share the vectors of a code book; pruned vectors are zero.

    Parameters
    ----------
    name : str
        Unique in its container, not empty.
    shape : tuple of int
        Shape of the tensor; the first axis counts its rows.
    vector : int
        Neighbouring weights d of a row that share an index; divides the weights of a row.
    code_book : ndarray of int, shape (k, d)
        The vectors, integers of the format; 0 to 4096 of them.
    number_format : NumberFormat
        At most 32 bits; its own fraction is 0.
    fraction : int
        A weight q stands for q * 2**-fraction.
    codes : ndarray of int, shape (weights / d,)
        For each vector of the tensor, row by row, 0 for zeros or 1 + the index of its vector in the code book.
    gap_bits : int or None
        Width of the gaps between entries in which the weights are meant for hardware, 0 to 15; None for a code for
        every vector. The file keeps it; it does not depend on it, for it has the smallest gaps of its own.

    Raises
    ------
    ValueError
        If the parameters do not fit one another.
    """

    name: str
    shape: tuple[int, ...]
    vector: int
    code_book: Integers
    number_format: NumberFormat
    fraction: int = 0
    codes: Integers
    gap_bits: int | None = None

    def __post_init__(self) -> None:
        _check(self.name, self.shape, self.number_format, self.fraction)
        weights = math.prod(self.shape)
        if weights == 0 or not self.shape:
            raise ValueError(f"the tensor {self.name!r} of shape {list(self.shape)} has no rows of weights to share")
        if self.vector < 1 or weights // self.shape[0] % self.vector:
            raise ValueError(
                f"vectors of {self.vector} weights do not divide the rows of {weights // self.shape[0]} weights of "
                f"the tensor {self.name!r}"
            )
        book = self.code_book
        if book.ndim != 2 or book.shape[1] != self.vector or len(book) > LARGEST_BOOK:
            raise ValueError(
                f"the code book of {self.name!r} has shape (k, {self.vector}), k <= {LARGEST_BOOK}, "
                f"not {list(book.shape)}"
            )
        _check_integers(f"code book of the tensor {self.name!r}", book, self.number_format)
        vectors = weights // self.vector
        if self.codes.shape != (vectors,) or not np.issubdtype(self.codes.dtype, np.integer):
            raise ValueError(
                f"the tensor {self.name!r} has {vectors} integer codes, not {self.codes.dtype}{list(self.codes.shape)}"
            )
        if self.codes.min() < 0 or self.codes.max() > len(book):
            raise ValueError(
                f"codes of the tensor {self.name!r} are 0 to {len(book)}, not {self.codes.min()} to {self.codes.max()}"
            )
        if self.gap_bits is not None:
            check_gap_bits(self.gap_bits)

    @property
    def values(self) -> Integers:
        """The weights' integers, in the tensor's shape."""
        zero_and_book = np.vstack([np.zeros((1, self.vector), dtype=np.int64), self.code_book])
        return zero_and_book[self.codes].reshape(self.shape)


Tensor = RawTensor | SharedTensor


def _check(name: str, shape: tuple[int, ...], number_format: NumberFormat, fraction: int) -> None:
    if not name:
        raise ValueError("a tensor of a container has a name")
    if len(shape) > MOST_AXES:
        raise ValueError(f"the tensor {name!r} has {len(shape)} axes, a container's have at most {MOST_AXES}")
    if number_format.bits > WIDEST:
        raise ValueError(f"the tensor {name!r} has integers of at most {WIDEST} bits, not {number_format.bits}")
    if number_format.fraction != 0:
        raise ValueError(f"the tensor {name!r} has its fraction apart: its number format must have 0")
    if not -LARGEST_FRACTION <= fraction <= LARGEST_FRACTION:
        raise ValueError(f"the tensor {name!r} has a fraction within +-{LARGEST_FRACTION}, not {fraction}")


def _check_integers(what: str, values: npt.NDArray[Any], number_format: NumberFormat) -> None:
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{what}: integers are needed, not {values.dtype}")
    if not number_format.admits(values):
        raise ValueError(f"{what}: {values.min()} to {values.max()} do not fit the number format {number_format}")
