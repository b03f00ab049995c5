"""What each operation computes, in integers, on a batch of frames: one function an operation.

Matrix products run in float32 where every partial sum is proven below 2**24, in float64 below 2**53: both are exact
there, and PyTorch has no fast integer product.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor

from karui.sw.ir import ArgMax, Flatten, MatrixVector, MaxPool, Op, Requantize, SlidingWindow, Threshold
from karui.sw.numerics import NumberFormat, Overflow, saturate, shift_right

_FLOAT32_EXACT = 1 << 24
_FLOAT64_EXACT = 1 << 53


@singledispatch
def compute(op: Op, *operands: Tensor) -> Tensor:
    """The output of an operation.

    Parameters
    ----------
    op : Op
        The operation.
    *operands : Tensor
        int64; activations of shape (batch, ...), constants without the batch.

    Returns
    -------
    Tensor
        int64, with the batch.
    """
    raise TypeError(f"{type(op).__name__} has no golden kernel")


@compute.register
def _(op: SlidingWindow, *operands: Tensor) -> Tensor:
    (maps,) = operands
    top, left, bottom, right = op.padding
    if op.pad_value is not None:
        maps = torch.nn.functional.pad(maps, (0, 0, left, right, top, bottom), value=op.pad_value)
    windows = maps.unfold(1, op.kernel[0], op.stride[0]).unfold(2, op.kernel[1], op.stride[1])
    # unfold appends the window's axes: (n, oh, ow, c, ky, kx) becomes (n, oh, ow, ky, kx, c).
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(start_dim=3)


@compute.register
def _(op: MatrixVector, *operands: Tensor) -> Tensor:
    vectors, weights, *bias = operands
    if vectors.numel() == 0:
        return vectors.new_zeros((*vectors.shape[:-1], weights.shape[0]))
    # |any partial sum| <= K * max|x| * max|w|, whatever order the product is summed in.
    bound = vectors.shape[-1] * int(vectors.abs().max()) * int(weights.abs().max())
    if bound >= _FLOAT64_EXACT:
        raise OverflowError(f"sums may reach {bound}, more than float64 holds exactly")
    exact = torch.float32 if bound < _FLOAT32_EXACT else torch.float64
    sums = (vectors.to(exact) @ weights.to(exact).T).to(torch.int64)
    return sums + bias[0] if bias else sums


@compute.register
def _(op: Threshold, *operands: Tensor) -> Tensor:
    values, thresholds = operands
    channels, steps = values.shape[-1], thresholds.shape[1]
    if steps == 1:
        levels = (values >= thresholds[:, 0]).to(torch.int64)
    else:
        rows = values.reshape(-1, channels).T.contiguous()
        levels = torch.searchsorted(thresholds.expand(channels, steps).contiguous(), rows, right=True)
        levels = levels.T.reshape(values.shape)
    return levels * (2 if op.output.is_bipolar else 1) + op.output.minimum


@compute.register
def _(op: Requantize, *operands: Tensor) -> Tensor:
    values, multiplier, offset = operands
    scaled = shift_right(values * multiplier + offset, op.shift, op.rounding)
    if op.overflow is Overflow.SATURATE:
        limited: Tensor = saturate(scaled, op.output.minimum, op.output.maximum)
        return limited
    return _wrap(scaled, op.output)


@compute.register
def _(op: MaxPool, *operands: Tensor) -> Tensor:
    (maps,) = operands
    windows = maps.unfold(1, op.kernel[0], op.stride[0]).unfold(2, op.kernel[1], op.stride[1])
    return windows.flatten(start_dim=4).amax(dim=4)


@compute.register
def _(op: ArgMax, *operands: Tensor) -> Tensor:
    (vectors,) = operands
    # torch.argmax does not promise which of equal elements it names; the largest key does: ties go to the lowest index.
    count = vectors.shape[-1]
    keys = vectors * count + torch.arange(count - 1, -1, -1, device=vectors.device)
    return keys.argmax(dim=-1, keepdim=True)


@compute.register
def _(op: Flatten, *operands: Tensor) -> Tensor:
    return operands[0].flatten(start_dim=1)


def _wrap(values: Tensor, number_format: NumberFormat) -> Tensor:
    mask = (1 << number_format.bits) - 1
    return ((values - number_format.minimum) & mask) + number_format.minimum
