"""What each operation computes, in integers, on a batch of frames: one function an operation.

Matrix products run in float32 where every partial sum is proven below 2**24, in float64 below 2**53: both are exact
there, and PyTorch has no fast integer product.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch

import numpy as np
import torch
from torch import Tensor

from karui.sw.ir import (
    Add,
    ArgMax,
    BinaryBases,
    ChannelShuffle,
    Complexity,
    Concat,
    DepthwiseConv,
    DoubleRounding,
    Flatten,
    Gather,
    GeneratedLayers,
    MatrixVector,
    MaxPool,
    MaxUnpool,
    Op,
    Repeat,
    Requantize,
    Routing,
    SlidingWindow,
    SquaredLength,
    Squash,
    SumPool,
    Threshold,
    WalshHadamard,
)
from karui.sw.ir.capsule_arithmetic import route_passes, squash
from karui.sw.ir.complexity_arithmetic import complexity_words
from karui.sw.ir.complexity_op import ComplexityTables
from karui.sw.ir.generated_kernels import depths_of, kernels_of, layer_output, levels_of
from karui.sw.numerics import (
    NumberFormat,
    Overflow,
    doubling_high_multiply,
    rounding_divide,
    saturate,
    shift_right,
)

_FLOAT32_EXACT = 1 << 24
_FLOAT64_EXACT = 1 << 53
# Frames of a convolution with kernels of their own: bounds the memory of unfolded windows.
_FRAMES_AT_ONCE = 128


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
    windows = _windows(op, maps, op.pad_value or 0)
    grouped = windows.reshape(*windows.shape[:3], op.groups, maps.shape[-1] // op.groups, *op.kernel)
    # (n, oh, ow, g, c, ky, kx) becomes (n, oh, ow, g, ky, kx, c).
    return grouped.permute(0, 1, 2, 3, 5, 6, 4).flatten(start_dim=3)


@compute.register
def _(op: MatrixVector, *operands: Tensor) -> Tensor:
    vectors, weights, *bias = operands
    sums = _product(vectors, weights, op.groups)
    return sums + bias[0] if bias else sums


@compute.register
def _(op: BinaryBases, *operands: Tensor) -> Tensor:
    vectors, bases, coefficients, *bias = operands
    sums = _product(vectors, (coefficients.unsqueeze(1) @ bases).squeeze(1), op.groups)
    return sums + bias[0] if bias else sums


@compute.register
def _(op: DepthwiseConv, *operands: Tensor) -> Tensor:
    maps, weights, *bias = operands
    windows = _windows(op, maps, op.pad_value or 0)
    # Integers, one position of the kernel at a time: nothing is unfolded and nothing rounded.
    sums = torch.zeros_like(windows[..., 0, 0])
    for row in range(op.kernel[0]):
        for column in range(op.kernel[1]):
            sums += windows[..., row, column] * weights[row, column]
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
def _(op: DoubleRounding, *operands: Tensor) -> Tensor:
    values, multipliers, exponents = operands
    high = doubling_high_multiply(values << exponents.clamp(min=0), multipliers)
    words: Tensor = saturate(rounding_divide(high, (-exponents).clamp(min=0)) + op.zero_point, op.minimum, op.maximum)
    return words


@compute.register
def _(op: MaxPool, *operands: Tensor) -> Tensor:
    return _windows(op, operands[0], torch.iinfo(torch.int64).min).amax(dim=(4, 5))


@compute.register
def _(op: MaxUnpool, *operands: Tensor) -> Tensor:
    elements, maps = operands
    frames, height, width, channels = elements.shape
    rows, columns = op.kernel
    # (n, h, ky, w, kx, c) becomes (n, h, w, c, ky * kx), and in the end back.
    windows = maps.reshape(frames, height, rows, width, columns, channels).permute(0, 1, 3, 5, 2, 4).flatten(4)
    unpooled = torch.zeros_like(windows).scatter_(4, _first_largest(windows), elements.unsqueeze(4))
    unpooled = unpooled.reshape(frames, height, width, channels, rows, columns).permute(0, 1, 4, 2, 5, 3)
    return unpooled.reshape(frames, height * rows, width * columns, channels)


@compute.register
def _(op: SumPool, *operands: Tensor) -> Tensor:
    return _windows(op, operands[0], 0).sum(dim=(4, 5))


@compute.register
def _(op: Add, *operands: Tensor) -> Tensor:
    one, other = (operand << shift for operand, shift in zip(operands, op.shifts, strict=True))
    return one + other


@compute.register
def _(op: Concat, *operands: Tensor) -> Tensor:
    return torch.cat(operands, dim=-1)


@compute.register
def _(op: ChannelShuffle, *operands: Tensor) -> Tensor:
    (values,) = operands
    grouped = values.reshape(*values.shape[:-1], op.groups, values.shape[-1] // op.groups)
    return grouped.transpose(-1, -2).flatten(start_dim=-2)


@compute.register
def _(op: WalshHadamard, *operands: Tensor) -> Tensor:
    (values,) = operands
    shape = values.shape
    for distance, shift in zip(op.distances, op.stage_shifts, strict=True):
        one, other = values.reshape(-1, 2, distance).unbind(dim=1)
        values = shift_right(torch.stack([one + other, one - other], dim=1), shift, op.rounding)
    return values.reshape(shape)


@compute.register
def _(op: Gather, *operands: Tensor) -> Tensor:
    values, indices = operands
    return values[..., indices.clamp(min=0)].masked_fill(indices < 0, 0)


@compute.register
def _(op: Repeat, *operands: Tensor) -> Tensor:
    (values,) = operands
    return values.unsqueeze(1).expand(-1, op.times, *values.shape[1:])


@compute.register
def _(op: Squash, *operands: Tensor) -> Tensor:
    values, gains = operands
    squashed: Tensor = squash(op, values.reshape(*values.shape[:-1], -1, op.length), gains)
    return squashed.flatten(start_dim=-2)


@compute.register
def _(op: SquaredLength, *operands: Tensor) -> Tensor:
    (values,) = operands
    return values.reshape(*values.shape[:-1], -1, op.length).square().sum(dim=-1)


@compute.register
def _(op: Routing, *operands: Tensor) -> Tensor:
    values, *tables = operands
    # Predictions of the frame, or of each iteration.
    passes = [values] * op.iterations if values.ndim == 2 else values.unbind(1)
    predictions = [one.reshape(len(one), -1, op.outputs, op.length) for one in passes]
    routed: Tensor = route_passes(op, predictions, *tables)
    return routed.flatten(start_dim=1)


@compute.register
def _(op: Complexity, *operands: Tensor) -> Tensor:
    images, *tables = (operand.cpu().numpy() for operand in operands)
    words = complexity_words(op, images, ComplexityTables(*tables))
    return torch.from_numpy(words).unsqueeze(1).to(operands[0].device)


@compute.register
def _(op: GeneratedLayers, *operands: Tensor) -> Tensor:
    maps, complexity, *values = operands
    constants = dict(zip(op.constants(maps.shape[-1]), values, strict=True))
    arrays = {name: value.numpy() for name, value in constants.items()}
    words = complexity[:, 0].numpy()
    depths, levels = depths_of(op, words), levels_of(op, words)
    outputs = torch.empty_like(maps)
    for depth in np.unique(depths):
        own_levels, level_of = np.unique(levels[depths == depth], return_inverse=True)
        kernels = torch.from_numpy(kernels_of(op, arrays, int(depth), own_levels)).flatten(start_dim=3)
        for index in range(len(own_levels)):
            alike = torch.from_numpy(np.flatnonzero(depths == depth)[level_of == index])
            for start in range(0, len(alike), _FRAMES_AT_ONCE):
                frames = alike[start : start + _FRAMES_AT_ONCE]
                outputs[frames] = _generated_layers(op, maps[frames], kernels[index], constants)
    return outputs


def _generated_layers(op: GeneratedLayers, maps: Tensor, kernels: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
    """Convolve maps with kernels (depth, outputs, 9 * inputs)."""
    window = SlidingWindow(kernel=(3, 3), padding=(1, 1, 1, 1), pad_value=0)
    for layer, weights in enumerate(kernels):
        sums = _product(compute(window, maps), weights, 1)
        maps = layer_output(
            maps,
            sums,
            constants["multipliers"][layer],
            constants["offsets"][layer],
            shift=op.shift,
            output=op.output,
            residual=op.residual,
        )
    return maps


@compute.register
def _(op: ArgMax, *operands: Tensor) -> Tensor:
    return _first_largest(operands[0])


@compute.register
def _(op: Flatten, *operands: Tensor) -> Tensor:
    return operands[0].flatten(start_dim=1)


def _first_largest(vectors: Tensor) -> Tensor:
    """Index of the largest element of the last axis, of equal ones the lowest; the axis stays, with one element."""
    # torch.argmax does not promise which of equal elements it names; of the keys no two are equal.
    count = vectors.shape[-1]
    keys = vectors * count + torch.arange(count - 1, -1, -1, device=vectors.device)
    return keys.argmax(dim=-1, keepdim=True)


def _product(vectors: Tensor, weights: Tensor, groups: int) -> Tensor:
    """Vectors (..., K) times the blocks (M, K / groups) of a matrix."""
    if vectors.numel() == 0:
        return vectors.new_zeros((*vectors.shape[:-1], weights.shape[0]))
    # |any partial sum| <= K * max|x| * max|w|, whatever order the product is summed in.
    bound = weights.shape[1] * int(vectors.abs().max()) * int(weights.abs().max())
    if bound >= _FLOAT64_EXACT:
        raise OverflowError(f"sums may reach {bound}, more than float64 holds exactly")
    exact = torch.float32 if bound < _FLOAT32_EXACT else torch.float64
    if groups == 1:
        products = vectors.to(exact) @ weights.to(exact).T
    else:
        blocks = weights.to(exact).reshape(groups, -1, weights.shape[1])
        parts = vectors.to(exact).reshape(*vectors.shape[:-1], groups, weights.shape[1])
        products = torch.einsum("...gk,gmk->...gm", parts, blocks).flatten(start_dim=-2)
    return products.to(torch.int64)


def _windows(op: SlidingWindow | DepthwiseConv | MaxPool | SumPool, maps: Tensor, pad_value: int) -> Tensor:
    """A view of all windows, (n, oh, ow, c, ky, kx)."""
    top, left, bottom, right = op.padding
    if any(op.padding):
        maps = torch.nn.functional.pad(maps, (0, 0, left, right, top, bottom), value=pad_value)
    return maps.unfold(1, op.kernel[0], op.stride[0]).unfold(2, op.kernel[1], op.stride[1])


def _wrap(values: Tensor, number_format: NumberFormat) -> Tensor:
    mask = (1 << number_format.bits) - 1
    return ((values - number_format.minimum) & mask) + number_format.minimum
