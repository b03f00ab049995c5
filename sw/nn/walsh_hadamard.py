"""The fast Walsh-Hadamard transform."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from karui.sw.nn.rounded_words import round_words
from karui.sw.numerics import Rounding

# A pass multiplies by matrices of up to 32 x 32: fewer passes over the memory than a butterfly of two inputs makes, and
# still O(n log n). On a CPU four times as fast.
_RADIX_BITS = 5
# Elements that go through all passes before the next ones' turn: half a megabyte of floats, which stays in the cache.
# From 2,048 elements a vector it takes 0.6 times as long as passes over a whole batch.
_BLOCK = 1 << 17


class _WalshHadamard(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _stages(values, 0, values.shape[-1].bit_length() - 1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        # The matrix is symmetric.
        return walsh_hadamard(grad_outputs[0])


class _RoundedWalshHadamard(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, fraction: int, shifts: tuple[int, ...], rounding: Rounding) -> Tensor:
        start = 0
        for stop, shift in enumerate(shifts, 1):
            if shift or stop == len(shifts):
                values, start = _stages(values, start, stop), stop
            if shift:
                fraction -= shift
                values = round_words(values * 2.0**fraction, rounding) * 2.0**-fraction
        return values

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return walsh_hadamard(grad_outputs[0]), None, None, None


def walsh_hadamard(values: Tensor) -> Tensor:
    """Multiply vectors by Sylvester's Hadamard matrix, unnormalised: H(1) = 1, H(2 n) = [[H, H], [H, -H]].

    Applied twice it multiplies by n. Integers up to 2**24 in float32 (2**53 in float64) are transformed exactly.

    Parameters
    ----------
    values
        Any batch shape; the last axis, of a power of two elements n, is transformed. Input and output are in natural
        order; `sequency_order` sorts outputs by their number of sign changes.

    Returns
    -------
    Tensor
        Same shape and type, after O(n log n) operations a vector.

    Raises
    ------
    ValueError
        If the last axis is not a power of two.
    """
    _check_size(values.shape[-1])
    transformed: Tensor = _WalshHadamard.apply(values)  # type: ignore[no-untyped-call]
    return transformed


def rounded_walsh_hadamard(values: Tensor, *, fraction: int, shifts: tuple[int, ...], rounding: Rounding) -> Tensor:
    """Transform multiples of ``2**-fraction`` as `karui.sw.ir.WalshHadamard` does, rounding behind each stage.

    Behind stage k, at distances n / 2, n / 4, ... 1, the grid's step is ``2**shifts[k]`` times as coarse as before. The
    values are not divided, so this is `walsh_hadamard` but for the rounding; its gradient is that of `walsh_hadamard`.

    Parameters
    ----------
    values
        Floats on the grid, whose words' sums stay below half of what the type holds exactly.
    fraction
        Of the input; the output is on the grid of ``fraction - sum(shifts)``.
    shifts
        One a stage, 0 or more.
    rounding
        Of words between two of the coarser grid.

    Raises
    ------
    ValueError
        If the last axis is not a power of two, or there is not one shift a stage.
    """
    _check_size(values.shape[-1])
    stages = values.shape[-1].bit_length() - 1
    if len(shifts) != stages or min(shifts, default=0) < 0:
        raise ValueError(f"{values.shape[-1]} elements take {stages} stages, each with a shift >= 0, not {shifts}")
    transformed: Tensor = _RoundedWalshHadamard.apply(values, fraction, shifts, rounding)  # type: ignore[no-untyped-call]
    return transformed


def sequency_order(size: int) -> Tensor:
    """Return the permutation that sorts the transform's outputs: ``walsh_hadamard(x)[..., sequency_order(n)]``.

    Element k of the result belongs to the row of the Hadamard matrix with k sign changes: the row in natural order is
    the bit-reversed Gray code of k.

    Raises
    ------
    ValueError
        If the size is not a power of two.
    """
    _check_size(size)
    sequency = torch.arange(size)
    gray, order = sequency ^ (sequency >> 1), torch.zeros_like(sequency)
    for bit in range(size.bit_length() - 1):
        order = (order << 1) | ((gray >> bit) & 1)
    return order


def _stages(values: Tensor, start: int, stop: int) -> Tensor:
    """Stages `start` to `stop` - 1 of the butterfly."""
    rows = values.reshape(-1, values.shape[-1])
    step = max(1, _BLOCK // rows.shape[1])
    if len(rows) <= step:
        return _block_stages(rows, start, stop).reshape(values.shape)
    transformed = torch.empty_like(rows)
    for first in range(0, len(rows), step):
        transformed[first : first + step] = _block_stages(rows[first : first + step], start, stop)
    return transformed.reshape(values.shape)


def _block_stages(rows: Tensor, start: int, stop: int) -> Tensor:
    """Stages `start` to `stop` - 1 of a few rows: the stages of neighbouring bits are one small Hadamard matrix."""
    shape, count = rows.shape, stop - start
    passes = -(-count // _RADIX_BITS)
    inner = shape[1] >> start
    for index in range(passes):
        factor = 1 << (count * (index + 1) // passes - count * index // passes)
        inner //= factor
        matrix = _hadamard(factor, rows.dtype, rows.device)
        if inner == 1:
            rows = rows.reshape(-1, factor) @ matrix
        else:
            blocks = rows.reshape(-1, factor, inner)
            rows = torch.bmm(matrix.expand(len(blocks), factor, factor), blocks)
    return rows.reshape(shape)


@lru_cache
def _hadamard(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    matrix = torch.ones(1, 1, dtype=dtype, device=device)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


def _check_size(size: int) -> None:
    if size < 1 or size & (size - 1):
        raise ValueError(
            f"a Walsh-Hadamard transform takes 1, 2, 4, 8, ... elements, not {size}; pad them with zeros to "
            f"{1 << max(0, size - 1).bit_length()}"
        )
