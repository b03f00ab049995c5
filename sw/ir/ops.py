"""The operations of the integer graph, one frozen dataclass an operation.

Every operation takes integer tensors and yields one integer tensor, exactly. Feature maps are channels last (H, W, C);
"channel" below is always the last axis. Operands are named in the order in which a node lists them.
"""

from __future__ import annotations

from dataclasses import dataclass

from karui.sw.numerics import NumberFormat, Overflow, Rounding


@dataclass(frozen=True, kw_only=True)
class SlidingWindow:
    """Gather the window of every output position: (H, W, C) to (OH, OW, KH * KW * C), elements in order (ky, kx, c).

    Operands: the feature map. A convolution is a sliding window followed by a `MatrixVector`.

    Parameters
    ----------
    kernel, stride : (int, int)
        Vertical, horizontal.
    padding : (int, int, int, int)
        Rows and columns added at top, left, bottom, right.
    pad_value : int or None
        The integer that padded elements have; it must be a word of the map's format, so a bipolar map is padded
        with -1 or +1 and never with a silent zero. None where nothing is padded.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pad_value: int | None = None

    def __post_init__(self) -> None:
        _check_window(self.kernel, self.stride)
        if min(self.padding) < 0:
            raise ValueError(f"padding (top, left, bottom, right) is 0 or more, not {self.padding}")
        if any(self.padding) and self.pad_value is None:
            raise ValueError(f"padding {self.padding} needs a pad_value: state which integer fills the border")


@dataclass(frozen=True, kw_only=True)
class MatrixVector:
    """Multiply the last axis by a matrix: (..., K) by weights (M, K) to (..., M), plus an optional bias (M).

    Operands: the vectors, the weights, optionally the bias.

    Parameters
    ----------
    accumulator : NumberFormat
        Format of the sums; `verify` proves from the actual weights that it is wide enough.
    """

    accumulator: NumberFormat


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
class MaxPool:
    """Maximum over windows of a feature map: (H, W, C) to (OH, OW, C); rows and columns left over are dropped.

    Operands: the feature map.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]

    def __post_init__(self) -> None:
        _check_window(self.kernel, self.stride)


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


Op = SlidingWindow | MatrixVector | Threshold | Requantize | MaxPool | ArgMax | Flatten

OPS: tuple[type[Op], ...] = (SlidingWindow, MatrixVector, Threshold, Requantize, MaxPool, ArgMax, Flatten)


def _check_window(kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    if min(kernel) < 1 or min(stride) < 1:
        raise ValueError(f"kernel and stride are 1 or more, not {kernel} and {stride}")
