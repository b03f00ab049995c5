"""Shape and number format of an operation's output: what makes a node legal, one function an operation."""

from __future__ import annotations

from functools import singledispatch

from karui.sw.ir.ops import ArgMax, Flatten, MatrixVector, MaxPool, Op, Requantize, SlidingWindow, Threshold
from karui.sw.ir.tensor import GraphError, Tensor
from karui.sw.numerics import unsigned


@singledispatch
def infer(op: Op, *operands: Tensor) -> Tensor:
    """The output edge of an operation.

    Raises
    ------
    GraphError
        If the operands do not fit the operation.
    """
    raise TypeError(f"{type(op).__name__} is not an operation of the integer graph")


@infer.register
def _(op: SlidingWindow, *operands: Tensor) -> Tensor:
    (feature_map,) = _operands(op, operands, 1)
    height, width, channels = _feature_map(op, feature_map)
    top, left, bottom, right = op.padding
    if op.pad_value is not None and not feature_map.number_format.holds_range(op.pad_value, op.pad_value):
        raise GraphError(f"pad_value {op.pad_value} is not a word of the map's format {feature_map.number_format}")
    rows, columns = _positions(op.kernel, op.stride, (height + top + bottom, width + left + right))
    return Tensor(
        shape=(rows, columns, op.kernel[0] * op.kernel[1] * channels), number_format=feature_map.number_format
    )


@infer.register
def _(op: MatrixVector, *operands: Tensor) -> Tensor:
    vectors, weights, *bias = _operands(op, operands, 2, 3)
    if len(weights.shape) != 2 or not vectors.shape or vectors.shape[-1] != weights.shape[1]:
        raise GraphError(
            f"weights of shape (outputs, inputs) = {weights.shape} do not fit vectors of shape "
            f"{vectors.shape}: the last axis must have {weights.shape[-1]} elements"
        )
    if bias and bias[0].shape != weights.shape[:1]:
        raise GraphError(f"the bias has shape {bias[0].shape}, but {weights.shape[0]} outputs need {weights.shape[:1]}")
    return Tensor(shape=(*vectors.shape[:-1], weights.shape[0]), number_format=op.accumulator)


@infer.register
def _(op: Threshold, *operands: Tensor) -> Tensor:
    values, thresholds = _operands(op, operands, 2)
    channels = values.shape[-1]
    allowed = [(rows, op.output.levels - 1) for rows in (channels, 1)]
    if thresholds.shape not in allowed:
        raise GraphError(
            f"thresholds of shape {thresholds.shape} do not fit {channels} channels and an output of "
            f"{op.output.levels} levels: the shape must be {allowed[0]} or {allowed[1]}"
        )
    return Tensor(shape=values.shape, number_format=op.output)


@infer.register
def _(op: Requantize, *operands: Tensor) -> Tensor:
    values, multiplier, offset = _operands(op, operands, 3)
    channels = values.shape[-1]
    for what, operand in (("multipliers", multiplier), ("offsets", offset)):
        if operand.shape not in ((channels,), (1,)):
            raise GraphError(
                f"{what} of shape {operand.shape} do not fit {channels} channels: the shape must be "
                f"({channels},) or (1,)"
            )
    return Tensor(shape=values.shape, number_format=op.output)


@infer.register
def _(op: MaxPool, *operands: Tensor) -> Tensor:
    (feature_map,) = _operands(op, operands, 1)
    height, width, channels = _feature_map(op, feature_map)
    rows, columns = _positions(op.kernel, op.stride, (height, width))
    return Tensor(shape=(rows, columns, channels), number_format=feature_map.number_format)


@infer.register
def _(op: ArgMax, *operands: Tensor) -> Tensor:
    (vector,) = _operands(op, operands, 1)
    if len(vector.shape) != 1:
        raise GraphError(f"arg max takes a vector, not a tensor of shape {vector.shape}")
    return Tensor(shape=(1,), number_format=unsigned(max(1, (vector.shape[0] - 1).bit_length())))


@infer.register
def _(op: Flatten, *operands: Tensor) -> Tensor:
    (tensor,) = _operands(op, operands, 1)
    return Tensor(shape=(tensor.elements,), number_format=tensor.number_format)


def _operands(op: Op, operands: tuple[Tensor, ...], *allowed: int) -> tuple[Tensor, ...]:
    if len(operands) not in allowed:
        counts = " or ".join(map(str, allowed))
        raise GraphError(f"{type(op).__name__} takes {counts} operands, not {len(operands)}")
    return operands


def _feature_map(op: Op, tensor: Tensor) -> tuple[int, int, int]:
    if len(tensor.shape) != 3:
        raise GraphError(
            f"{type(op).__name__} takes a feature map (height, width, channels), not a tensor of shape {tensor.shape}"
        )
    height, width, channels = tensor.shape
    return height, width, channels


def _positions(kernel: tuple[int, int], stride: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    if kernel[0] > size[0] or kernel[1] > size[1]:
        raise GraphError(
            f"a kernel of {kernel[0]}x{kernel[1]} does not fit a map of {size[0]}x{size[1]}, padding included"
        )
    return (size[0] - kernel[0]) // stride[0] + 1, (size[1] - kernel[1]) // stride[1] + 1
