"""Shape and number format of an operation's output: what makes a node legal, one function an operation."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

from karui.sw.ir.bounds import butterfly_ranges, squared_length_range
from karui.sw.ir.capsule_checks import check_fraction, check_routing, check_squash
from karui.sw.ir.capsule_ops import Repeat, Routing, SquaredLength, Squash
from karui.sw.ir.complexity_op import BINS_PER_OCTAVE, COMPLEXITY_FRACTION, TWIDDLE_FRACTION, Complexity
from karui.sw.ir.ops import (
    Add,
    ArgMax,
    BinaryBases,
    ChannelShuffle,
    Concat,
    DepthwiseConv,
    DoubleRounding,
    Flatten,
    Gather,
    MatrixVector,
    MaxPool,
    MaxUnpool,
    Op,
    Requantize,
    SlidingWindow,
    SumPool,
    Threshold,
    WalshHadamard,
)
from karui.sw.ir.puppet_ops import GeneratedLayers
from karui.sw.ir.tensor import GraphError, Tensor
from karui.sw.numerics import format_for_range, unsigned

Fraction = int | tuple[int, ...]

# Sums of two such words fit 64 bits.
_LARGEST_WORD = 1 << 62


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
    rows, columns = _windows(op, feature_map)
    _check_pad_value(op, feature_map)
    channels = feature_map.shape[-1]
    _check_divides(op.groups, channels, "channels")
    return Tensor(
        shape=(rows, columns, op.kernel[0] * op.kernel[1] * channels), number_format=feature_map.number_format
    )


@infer.register
def _(op: MatrixVector, *operands: Tensor) -> Tensor:
    vectors, weights, *bias = _operands(op, operands, 2, 3)
    if len(weights.shape) != 2 or not vectors.shape or vectors.shape[-1] != weights.shape[1] * op.groups:
        groups = f" in {op.groups} groups" if op.groups > 1 else ""
        raise GraphError(
            f"weights of shape (outputs, inputs) = {weights.shape}{groups} do not fit vectors of shape "
            f"{vectors.shape}: the last axis must have {weights.shape[-1] * op.groups} elements"
        )
    _check_divides(op.groups, weights.shape[0], "outputs")
    _check_bias(weights.shape[0], bias)
    return Tensor(shape=(*vectors.shape[:-1], weights.shape[0]), number_format=op.accumulator)


@infer.register
def _(op: BinaryBases, *operands: Tensor) -> Tensor:
    vectors, bases, coefficients, *bias = _operands(op, operands, 3, 4)
    if len(bases.shape) != 3 or not vectors.shape or vectors.shape[-1] != bases.shape[2] * op.groups:
        groups = f" in {op.groups} groups" if op.groups > 1 else ""
        raise GraphError(
            f"bases of shape (outputs, bases, inputs) = {bases.shape}{groups} do not fit vectors of shape "
            f"{vectors.shape}: the last axis must have {bases.shape[-1] * op.groups} elements"
        )
    if coefficients.shape != bases.shape[:2]:
        raise GraphError(
            f"the coefficients have shape {coefficients.shape}, but {bases.shape[0]} outputs of {bases.shape[1]} bases "
            f"need {bases.shape[:2]}"
        )
    if not bases.number_format.is_bipolar:
        raise GraphError(f"bases are bipolar, -1 or +1, not {bases.number_format}")
    if vectors.number_format.kind != "unsigned":
        raise GraphError(f"BinaryBases takes unsigned words, whose bits it counts, not {vectors.number_format}")
    _check_divides(op.groups, bases.shape[0], "outputs")
    _check_bias(bases.shape[0], bias)
    return Tensor(shape=(*vectors.shape[:-1], bases.shape[0]), number_format=op.accumulator)


@infer.register
def _(op: DepthwiseConv, *operands: Tensor) -> Tensor:
    feature_map, weights, *bias = _operands(op, operands, 2, 3)
    rows, columns = _windows(op, feature_map)
    _check_pad_value(op, feature_map)
    channels = feature_map.shape[-1]
    if weights.shape != (*op.kernel, channels):
        raise GraphError(
            f"weights of shape {weights.shape} do not fit a kernel of {op.kernel[0]}x{op.kernel[1]} and {channels} "
            f"channels: the shape must be {(*op.kernel, channels)}"
        )
    _check_bias(channels, bias)
    return Tensor(shape=(rows, columns, channels), number_format=op.accumulator)


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
    _check_channelwise(values, multipliers=multiplier, offsets=offset)
    return Tensor(shape=values.shape, number_format=op.output)


@infer.register
def _(op: DoubleRounding, *operands: Tensor) -> Tensor:
    values, multiplier, exponent = _operands(op, operands, 3)
    _check_channelwise(values, multipliers=multiplier, exponents=exponent)
    return Tensor(shape=values.shape, number_format=op.output)


@infer.register
def _(op: MaxPool, *operands: Tensor) -> Tensor:
    (feature_map,) = _operands(op, operands, 1)
    rows, columns = _windows(op, feature_map)
    return Tensor(shape=(rows, columns, feature_map.shape[-1]), number_format=feature_map.number_format)


@infer.register
def _(op: MaxUnpool, *operands: Tensor) -> Tensor:
    elements, places = _operands(op, operands, 2)
    _check_not_bipolar(op, elements.number_format.is_bipolar)
    if len(elements.shape) != 3 or len(places.shape) != 3:
        raise GraphError(
            f"MaxUnpool takes feature maps (height, width, channels), not shapes {elements.shape} and {places.shape}"
        )
    height, width, channels = elements.shape
    if places.shape != (height * op.kernel[0], width * op.kernel[1], channels):
        raise GraphError(
            f"elements of shape {elements.shape} have no places in windows of {op.kernel[0]}x{op.kernel[1]} of a map "
            f"of shape {places.shape}"
        )
    return Tensor(shape=places.shape, number_format=elements.number_format)


@infer.register
def _(op: SumPool, *operands: Tensor) -> Tensor:
    (feature_map,) = _operands(op, operands, 1)
    rows, columns = _windows(op, feature_map)
    element = feature_map.number_format
    _check_not_bipolar(op, element.is_bipolar)
    height, width, channels = feature_map.shape
    top, left, _, _ = op.padding
    most = _most_covered(op.kernel[0], op.stride[0], top, height, rows) * _most_covered(
        op.kernel[1], op.stride[1], left, width, columns
    )
    sums = format_for_range(most * element.minimum, most * element.maximum)
    return Tensor(shape=(rows, columns, channels), number_format=replace(sums, fraction=element.fraction))


@infer.register
def _(op: Add, *operands: Tensor) -> Tensor:
    one, other = _operands(op, operands, 2)
    if one.shape != other.shape:
        raise GraphError(f"Add takes two tensors of equal shape, not of {one.shape} and {other.shape}")
    formats = one.number_format, other.number_format
    _check_not_bipolar(op, any(element.is_bipolar for element in formats))
    low = sum(element.minimum << shift for element, shift in zip(formats, op.shifts, strict=True))
    high = sum(element.maximum << shift for element, shift in zip(formats, op.shifts, strict=True))
    aligned = [_shifted(element.fraction, shift) for element, shift in zip(formats, op.shifts, strict=True)]
    # Where the shifts do not align the operands' binary points, the sum stands for nothing but its integer.
    fraction = aligned[0] if aligned[0] == aligned[1] else 0
    return Tensor(shape=one.shape, number_format=replace(format_for_range(low, high), fraction=fraction))


@infer.register
def _(op: Concat, *operands: Tensor) -> Tensor:
    if len(operands) < 2:
        raise GraphError(f"Concat takes 2 operands or more, not {len(operands)}")
    first = operands[0]
    for other in operands[1:]:
        if other.shape[:-1] != first.shape[:-1]:
            raise GraphError(
                f"Concat takes tensors equal but for their channels, not of {first.shape} and {other.shape}"
            )
        if other.number_format != first.number_format:
            raise GraphError(
                f"Concat takes tensors of equal format, not {first.number_format} and {other.number_format}; "
                "requantize one of them"
            )
    channels = sum(operand.shape[-1] for operand in operands)
    return Tensor(shape=(*first.shape[:-1], channels), number_format=first.number_format)


@infer.register
def _(op: ChannelShuffle, *operands: Tensor) -> Tensor:
    (tensor,) = _operands(op, operands, 1)
    _check_divides(op.groups, tensor.shape[-1], "channels")
    return tensor


@infer.register
def _(op: WalshHadamard, *operands: Tensor) -> Tensor:
    (tensor,) = _operands(op, operands, 1)
    if not tensor.shape or tensor.shape[-1] % op.size:
        raise GraphError(f"a Walsh-Hadamard transform of size {op.size} does not divide a tensor of {tensor.shape}")
    ranges = butterfly_ranges(op, tensor.number_format)
    widest = max(high for _, high in ranges)
    if widest >= _LARGEST_WORD:
        raise GraphError(
            f"a Walsh-Hadamard transform of size {op.size} makes words of {tensor.number_format} grow to {widest}, "
            f"more than 62 bits hold: give its stages shifts"
        )
    low, high = ranges[-1]
    fraction = _common_fraction(tensor.number_format.fraction)
    words = replace(format_for_range(min(low, -1), high), fraction=_shifted(fraction, -sum(op.stage_shifts)))
    return Tensor(shape=tensor.shape, number_format=words)


@infer.register
def _(op: Gather, *operands: Tensor) -> Tensor:
    tensor, indices = _operands(op, operands, 2)
    if not tensor.shape or len(indices.shape) != 1 or not indices.elements:
        raise GraphError(
            f"Gather takes a tensor with channels and a vector of indices, not shapes {tensor.shape} and "
            f"{indices.shape}"
        )
    element = replace(tensor.number_format, fraction=_common_fraction(tensor.number_format.fraction))
    return Tensor(shape=(*tensor.shape[:-1], *indices.shape), number_format=element)


@infer.register
def _(op: Repeat, *operands: Tensor) -> Tensor:
    (tensor,) = _operands(op, operands, 1)
    return Tensor(shape=(op.times, *tensor.shape), number_format=tensor.number_format)


@infer.register
def _(op: Squash, *operands: Tensor) -> Tensor:
    vectors, gains = _operands(op, operands, 2)
    _check_divided(op, op.length, vectors)
    check_squash(op, vectors.number_format, gains)
    return Tensor(shape=vectors.shape, number_format=op.output)


@infer.register
def _(op: SquaredLength, *operands: Tensor) -> Tensor:
    (vectors,) = _operands(op, operands, 1)
    _check_divided(op, op.length, vectors)
    low, high = squared_length_range(op.length, vectors.number_format)
    fraction = 2 * _common_fraction(vectors.number_format.fraction)
    sums = replace(format_for_range(low, high), fraction=fraction)
    return Tensor(shape=(*vectors.shape[:-1], vectors.shape[-1] // op.length), number_format=sums)


@infer.register
def _(op: Routing, *operands: Tensor) -> Tensor:
    predictions, gains, powers, reciprocals = _operands(op, operands, 4)
    _check_divided(op, op.outputs * op.length, predictions)
    if predictions.shape[:-1] not in ((), (op.iterations,)):
        raise GraphError(
            f"Routing takes the predictions of a frame, or as many times those as it has iterations, {op.iterations}, "
            f"not {predictions.shape}"
        )
    check_routing(op, predictions.number_format, gains, powers, reciprocals)
    return Tensor(shape=(op.outputs * op.length,), number_format=op.output)


@infer.register
def _(op: Complexity, *operands: Tensor) -> Tensor:
    image, *tables = _operands(op, operands, 5)
    pixel = image.number_format
    is_image = len(image.shape) == 3 and min(image.shape[:2]) > 1 and image.shape[-1] in (1, 3)
    if not is_image or pixel.kind != "unsigned" or not 2 <= pixel.bits <= 8:
        raise GraphError(f"Complexity takes an image (height, width, 1 or 3) of 2 to 8 bits unsigned, not {image}")
    if op.centre != 1 << (pixel.bits - 1):
        raise GraphError(f"the centre of {pixel} is {1 << (pixel.bits - 1)}, not {op.centre}")
    height, width, _ = image.shape
    for what, table, shape, fraction in zip(
        ("twiddles of rows", "twiddles of columns", "growth", "steps of an octave"),
        tables,
        ((2, width), (2, height), (image.elements,), (BINS_PER_OCTAVE - 1,)),
        (TWIDDLE_FRACTION, TWIDDLE_FRACTION, COMPLEXITY_FRACTION, 0),
        strict=True,
    ):
        if table.shape != shape:
            raise GraphError(f"the {what} of an image of {image} have shape {shape}, not {table.shape}")
        check_fraction(what, table.number_format, fraction)
    check_fraction("complexity", op.output, COMPLEXITY_FRACTION)
    return Tensor(shape=(1,), number_format=op.output)


@infer.register
def _(op: GeneratedLayers, *operands: Tensor) -> Tensor:
    feature_map, complexity, *constants = _operands(op, operands, 2 + len(op.constants(1)))
    if len(feature_map.shape) != 3 or feature_map.number_format.kind != "unsigned":
        raise GraphError(f"GeneratedLayers takes a map (height, width, channels) of unsigned words, not {feature_map}")
    if feature_map.number_format != op.output:
        raise GraphError(f"GeneratedLayers of {op.output} takes a map of the same, not of {feature_map.number_format}")
    if complexity.shape != (1,) or complexity.number_format.kind != "unsigned":
        raise GraphError(f"GeneratedLayers takes a complexity of one unsigned word, not {complexity}")
    for (name, shape), constant in zip(op.constants(feature_map.shape[-1]).items(), constants, strict=True):
        if constant.shape != shape:
            raise GraphError(f"the constant {name} of GeneratedLayers has shape {shape}, not {constant.shape}")
    return feature_map


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


def _windows(op: SlidingWindow | DepthwiseConv | MaxPool | SumPool, tensor: Tensor) -> tuple[int, int]:
    """Rows and columns of window positions."""
    if len(tensor.shape) != 3:
        raise GraphError(
            f"{type(op).__name__} takes a feature map (height, width, channels), not a tensor of shape {tensor.shape}"
        )
    top, left, bottom, right = op.padding
    size = tensor.shape[0] + top + bottom, tensor.shape[1] + left + right
    if op.kernel[0] > size[0] or op.kernel[1] > size[1]:
        raise GraphError(
            f"a kernel of {op.kernel[0]}x{op.kernel[1]} does not fit a map of {size[0]}x{size[1]}, padding included"
        )
    return (size[0] - op.kernel[0]) // op.stride[0] + 1, (size[1] - op.kernel[1]) // op.stride[1] + 1


def _most_covered(kernel: int, stride: int, before: int, size: int, positions: int) -> int:
    """Along one axis: the most elements of the map, not of its padding, that a window covers."""
    starts = (position * stride - before for position in range(positions))
    return max(min(start + kernel, size) - max(start, 0) for start in starts)


def _shifted(fraction: Fraction, shift: int) -> Fraction:
    return fraction + shift if isinstance(fraction, int) else tuple(each + shift for each in fraction)


def _common_fraction(fraction: Fraction) -> int:
    """The fraction of all channels where it is one; words of several mixed stand for nothing but their integers."""
    if isinstance(fraction, int):
        return fraction
    return fraction[0] if len(set(fraction)) == 1 else 0


def _check_pad_value(op: SlidingWindow | DepthwiseConv, feature_map: Tensor) -> None:
    if op.pad_value is not None and not feature_map.number_format.holds_range(op.pad_value, op.pad_value):
        raise GraphError(f"pad_value {op.pad_value} is not a word of the map's format {feature_map.number_format}")


def _check_divides(groups: int, count: int, what: str) -> None:
    if count % groups:
        raise GraphError(f"{groups} groups do not divide {count} {what}")


def _check_bias(outputs: int, bias: list[Tensor]) -> None:
    if bias and bias[0].shape != (outputs,):
        raise GraphError(f"the bias has shape {bias[0].shape}, but {outputs} outputs need ({outputs},)")


def _check_channelwise(values: Tensor, **operands: Tensor) -> None:
    channels = values.shape[-1]
    for what, operand in operands.items():
        if operand.shape not in ((channels,), (1,)):
            raise GraphError(
                f"{what} of shape {operand.shape} do not fit {channels} channels: the shape must be "
                f"({channels},) or (1,)"
            )


def _check_divided(op: Op, run: int, tensor: Tensor) -> None:
    if not tensor.shape or tensor.shape[-1] % run:
        raise GraphError(f"{type(op).__name__} takes runs of {run} elements, which do not divide {tensor.shape}")


def _check_not_bipolar(op: Op, bipolar: bool) -> None:
    if bipolar:
        raise GraphError(f"{type(op).__name__} takes unsigned or signed words, not bipolar ones")
