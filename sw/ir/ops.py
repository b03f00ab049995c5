"""The operations of the integer graph, one frozen dataclass an operation.

Every operation takes integer tensors and yields one integer tensor, exactly. Feature maps are channels last (H, W, C);
"channel" below is always the last axis. Operands are named in the order in which a node lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from karui.sw.ir.capsule_ops import Repeat, Routing, SquaredLength, Squash
from karui.sw.ir.complexity_op import Complexity
from karui.sw.ir.puppet_ops import GeneratedLayers
from karui.sw.numerics import NumberFormat, Overflow, Rounding


@dataclass(frozen=True, kw_only=True)
class SlidingWindow:
    """Gather the window of every output position: (H, W, C) to (OH, OW, KH * KW * C).

    Elements are in order (group, ky, kx, channel within the group). Operands: the feature map. A convolution is a
    sliding window followed by a `MatrixVector` of as many groups.

    Parameters
    ----------
    kernel, stride : (int, int)
        Vertical, horizontal.
    padding : (int, int, int, int)
        Rows and columns added at top, left, bottom, right.
    pad_value : int or None
        The integer that padded elements have; it must be a word of the map's format, so a bipolar map is padded
        with -1 or +1 and never with a silent zero. None where nothing is padded.
    groups : int
        Divides the channels into runs of C / groups.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pad_value: int | None = None
    groups: int = 1

    def __post_init__(self) -> None:
        _check_window(self.kernel, self.stride)
        _check_padding(self.padding, self.pad_value)
        _check_groups(self.groups)


@dataclass(frozen=True, kw_only=True)
class MatrixVector:
    """Multiply the last axis by a matrix: (..., K) by weights (M, K / groups) to (..., M), plus an optional bias (M).

    Row m belongs to group m // (M / groups) and multiplies the K / groups consecutive elements of that group: the
    matrix is block diagonal, and only its blocks are stored. Operands: the vectors, the weights, optionally the bias.

    Parameters
    ----------
    accumulator : NumberFormat
        Format of the sums; `verify` proves from the actual weights that it is wide enough.
    groups : int
        Divides K and M; 1 is a full matrix.
    """

    accumulator: NumberFormat
    groups: int = 1

    def __post_init__(self) -> None:
        _check_groups(self.groups)


@dataclass(frozen=True, kw_only=True)
class BinaryBases:
    """Multiply by a matrix that is a sum of scaled binary ones: (..., K) to (..., M), plus an optional bias (M).

    Output m is ``sum over k of coefficients[m, k] * (bases[m, k] . x) + bias[m]``: the product with the matrix
    ``sum over k of coefficients[m, k] * bases[m, k]`` (see `effective_weights`), of which hardware computes each
    binary dot product from the bits of x. Row m belongs to group m // (M / groups), as of a `MatrixVector`. Operands:
    the vectors, unsigned; the bases (M, bases, K / groups), bipolar; the coefficients (M, bases); optionally the bias.

    Parameters
    ----------
    accumulator : NumberFormat
        Format of the sums; `verify` proves from the actual bases and coefficients that it is wide enough.
    groups : int
        Divides K and M; 1 is a full matrix.
    """

    accumulator: NumberFormat
    groups: int = 1

    def __post_init__(self) -> None:
        _check_groups(self.groups)


@dataclass(frozen=True, kw_only=True)
class DepthwiseConv:
    """Convolve each channel with its own kernel: (H, W, C) by weights (KH, KW, C) to (OH, OW, C), plus a bias (C).

    Operands: the feature map, the weights, optionally the bias. More than one kernel a channel is a `SlidingWindow`
    and a `MatrixVector` of C groups.

    Parameters
    ----------
    kernel, stride, padding, pad_value
        As of a `SlidingWindow`.
    accumulator : NumberFormat
        Format of the sums; `verify` proves from the actual weights that it is wide enough.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pad_value: int | None = None
    accumulator: NumberFormat

    def __post_init__(self) -> None:
        _check_window(self.kernel, self.stride)
        _check_padding(self.padding, self.pad_value)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Count the thresholds that a value reaches: the output is `output.at_level(number of thresholds <= value)`.

    Operands: the values (..., C), the thresholds (C or 1, levels - 1), ascending in each row. Any monotone step
    function of an integer is such a ladder.
    """

    output: NumberFormat


@dataclass(frozen=True, kw_only=True)
class Requantize:
    """Scale to a narrower format: ``overflow(round((x * multiplier + offset) / 2**shift))``.

    Operands: the values (..., C), the multipliers (C or 1), the offsets (C or 1).

    Parameters
    ----------
    shift : int
        0 or more.
    rounding : Rounding
        Of the bits shifted out.
    overflow : Overflow
        Saturate at the output format's limits, or wrap.
    output : NumberFormat
        Unsigned or signed.
    """

    shift: int
    rounding: Rounding
    overflow: Overflow
    output: NumberFormat

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"requantize shifts right by 0 or more, not {self.shift}")
        if self.output.is_bipolar:
            raise ValueError("requantize yields unsigned or signed words; use a threshold for a bipolar output")


@dataclass(frozen=True, kw_only=True)
class DoubleRounding:
    """Requantize as TensorFlow Lite does, rounding twice.

    ``clamp(rounding_divide(doubling_high_multiply(x << max(e, 0), m), max(-e, 0)) + zero_point, minimum, maximum)``
    with the functions of `karui.sw.numerics`: the fixed-point multiplier m / 2**31 rounds its product with ties
    towards plus infinity, the division by 2**-e with ties away from zero.

    Operands: the values (..., C), the multipliers m (C or 1; 0 to 2**31 - 1), the exponents e (C or 1; -31 to 31,
    TensorFlow Lite's ``shift``: to the left where positive).

    Parameters
    ----------
    output : NumberFormat
        Unsigned or signed.
    zero_point : int
        The word that stands for zero.
    minimum, maximum : int
        Limits of the words, a fused activation included.
    """

    output: NumberFormat
    zero_point: int
    minimum: int
    maximum: int

    def __post_init__(self) -> None:
        if self.output.is_bipolar:
            raise ValueError("double rounding yields unsigned or signed words; use a threshold for a bipolar output")
        if self.minimum > self.maximum or not self.output.holds_range(self.minimum, self.maximum):
            raise ValueError(
                f"double rounding clamps to words of {self.output}, not to {self.minimum} .. {self.maximum}; it holds "
                f"{self.output.minimum} .. {self.output.maximum}"
            )


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """Maximum over windows of a feature map: (H, W, C) to (OH, OW, C); rows and columns left over are dropped.

    Operands: the feature map.

    Parameters
    ----------
    kernel, stride : (int, int)
        Vertical, horizontal.
    padding : (int, int, int, int)
        Rows and columns added at top, left, bottom, right, less than the kernel's; padded elements never win.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        _check_pool(self.kernel, self.stride, self.padding)


@dataclass(frozen=True, kw_only=True)
class MaxUnpool:
    """Put each element where a max pool found its maximum, zeros elsewhere: (H / KH, W / KW, C) to (H, W, C).

    The place is that of the largest element in the window of a second map, of equal ones the first in order (ky, kx):
    what a max pool of that map keeps. Operands: the elements, unsigned or signed; the map (H, W, C), of any format.

    Parameters
    ----------
    kernel : (int, int)
        Vertical, horizontal; windows lie side by side.
    """

    kernel: tuple[int, int]

    def __post_init__(self) -> None:
        _check_window(self.kernel, self.kernel)


@dataclass(frozen=True, kw_only=True)
class SumPool:
    """Sum over windows of a feature map: (H, W, C) to (OH, OW, C), in the narrowest format of the exact range.

    Operands: the feature map. An average pool is a sum pool whose successor divides; a global one has a kernel as
    large as the map.

    Parameters
    ----------
    kernel, stride : (int, int)
        Vertical, horizontal.
    padding : (int, int, int, int)
        Rows and columns added at top, left, bottom, right, less than the kernel's; padded elements count as zero.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        _check_pool(self.kernel, self.stride, self.padding)


@dataclass(frozen=True, kw_only=True)
class Add:
    """Sum of two tensors of equal shape, aligned by shifts to the left: ``(a << shifts[0]) + (b << shifts[1])``.

    Operands: two activations, unsigned or signed. The sum has the narrowest format of the exact range.

    Parameters
    ----------
    shifts : (int, int)
        0 or more.
    """

    shifts: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if min(self.shifts) < 0:
            raise ValueError(f"add shifts its operands left by 0 or more, not by {self.shifts}; shift the other one")


@dataclass(frozen=True, kw_only=True)
class Concat:
    """Join tensors of equal format, and equal but for their channels, along the channels.

    Operands: two or more activations, in order.
    """


@dataclass(frozen=True, kw_only=True)
class ChannelShuffle:
    """Interleave groups of channels: output channel ``i * groups + g`` is input channel ``g * (C / groups) + i``.

    Operands: the feature map or vector.

    Parameters
    ----------
    groups : int
        Divides the channels.
    """

    groups: int

    def __post_init__(self) -> None:
        _check_groups(self.groups)


@dataclass(frozen=True, kw_only=True)
class WalshHadamard:
    """Multiply every run of `size` consecutive elements of the last axis by the Hadamard matrix of that size.

    The matrix is Sylvester's, unnormalised: H(1) = 1, H(2 n) = [[H(n), H(n)], [H(n), -H(n)]]; elements are in natural
    order. Stage k = 0 .. log2(size) - 1 of the butterfly replaces elements x, y at a distance of size / 2**(k + 1) by
    x + y, x - y, each divided by ``2**shifts[k]``. The output has the narrowest signed format of `butterfly_ranges`.

    Operands: an activation, unsigned, signed or bipolar.

    Parameters
    ----------
    size : int
        A power of two, 2 or more, which divides the last axis.
    shifts : tuple of int or None
        One a stage, 0 or more; None where nothing is divided: the words grow by a bit a stage and are exact.
    rounding : Rounding
        Of the bits shifted out.
    """

    size: int
    shifts: tuple[int, ...] | None = None
    rounding: Rounding = Rounding.HALF_UP

    def __post_init__(self) -> None:
        if self.size < 2 or self.size & (self.size - 1):
            raise ValueError(f"a Walsh-Hadamard transform has a size of 2, 4, 8, ..., not {self.size}")
        if self.shifts is not None and (len(self.shifts) != len(self.distances) or min(self.shifts) < 0):
            raise ValueError(
                f"a Walsh-Hadamard transform of size {self.size} has {len(self.distances)} stages, each with a shift "
                f"of 0 or more, not {self.shifts}"
            )

    @property
    def distances(self) -> tuple[int, ...]:
        """How far apart the elements are that a stage combines, stage by stage."""
        return tuple(1 << stage for stage in range(self.size.bit_length() - 2, -1, -1))

    @property
    def stage_shifts(self) -> tuple[int, ...]:
        """Shift of each stage."""
        return self.shifts or (0,) * len(self.distances)


@dataclass(frozen=True, kw_only=True)
class Gather:
    """Pick elements of the last axis: (..., C) by indices (M) to (..., M); output m is input ``indices[m]``, or 0.

    The zero is at an index of -1. It permutes, repeats, pads and truncates. Operands: an activation, the constant
    indices, -1 to C - 1.
    """


@dataclass(frozen=True, kw_only=True)
class ArgMax:
    """Index of the largest element of a vector, (M) to (1); of equal ones the lowest index.

    Operands: the vector.
    """


@dataclass(frozen=True, kw_only=True)
class Flatten:
    """View a tensor as a vector in C order (row, column, channel): an order of the stream, no hardware.

    Operands: the tensor.
    """


Op = (
    SlidingWindow
    | MatrixVector
    | BinaryBases
    | DepthwiseConv
    | Threshold
    | Requantize
    | DoubleRounding
    | MaxPool
    | MaxUnpool
    | SumPool
    | Add
    | Concat
    | ChannelShuffle
    | WalshHadamard
    | Gather
    | Repeat
    | Squash
    | SquaredLength
    | Routing
    | Complexity
    | GeneratedLayers
    | ArgMax
    | Flatten
)

OPS: tuple[type[Op], ...] = get_args(Op)


def _check_window(kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    if min(kernel) < 1 or min(stride) < 1:
        raise ValueError(f"kernel and stride are 1 or more, not {kernel} and {stride}")


def _check_padding(padding: tuple[int, int, int, int], pad_value: int | None) -> None:
    if min(padding) < 0:
        raise ValueError(f"padding (top, left, bottom, right) is 0 or more, not {padding}")
    if any(padding) and pad_value is None:
        raise ValueError(f"padding {padding} needs a pad_value: state which integer fills the border")


def _check_pool(kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int]) -> None:
    _check_window(kernel, stride)
    # A window of nothing but padding would have no maximum.
    if min(padding) < 0 or max(padding[0::2]) >= kernel[0] or max(padding[1::2]) >= kernel[1]:
        raise ValueError(
            f"a pool's padding (top, left, bottom, right) is 0 or more and less than its kernel {kernel}, not {padding}"
        )


def _check_groups(groups: int) -> None:
    if groups < 1:
        raise ValueError(f"groups are 1 or more, not {groups}")
