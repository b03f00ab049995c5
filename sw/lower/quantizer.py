"""Quantizers of imported models: which integer word a real number becomes, as their definitions compute it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.lower.real_meaning import Meaning, add, multiply, plain
from karui.sw.numerics import BIPOLAR, NumberFormat, format_for_range, signed, unsigned

Floats = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]

# QONNX's rounding modes of `Quant`; ROUND is to nearest, ties to even.
ROUNDING_MODES: dict[str, Callable[[Floats], Floats]] = {
    "ROUND": np.round,
    "HALF_EVEN": np.round,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.fix,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantizer:
    """A nondecreasing step function from real numbers to integer words.

    Parameters
    ----------
    words : callable
        From real numbers (..., C) to integers, in the model's float type.
    output : NumberFormat
        Format of the words.
    meaning : Meaning
        The real numbers that the words stand for.
    """

    words: Callable[[Floats], Integers]
    output: NumberFormat
    meaning: Meaning


def uniform_quantizer(
    scale: Floats, zero_point: Floats, bits: int, *, is_signed: bool, narrow: bool, rounding_mode: str
) -> Quantizer:
    """QONNX's ``Quant``: divide by the scale, add the zero point, clamp, round.

    One signed bit is bipolar, as in QONNX's own execution. A narrow range leaves out the lowest signed or the highest
    unsigned word.

    Parameters
    ----------
    scale, zero_point : ndarray
        Shape (C,) or (1,).
    bits : int
        1 to 64.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """
    if not np.all(scale > 0):
        raise ValueError(f"the scale must be positive, not {scale.min()}")
    if not np.all(zero_point == np.rint(zero_point)):
        raise ValueError("the zero point must be an integer")
    mode = ROUNDING_MODES.get(rounding_mode.upper())
    if mode is None:
        raise ValueError(f"rounding_mode must be one of {', '.join(ROUNDING_MODES)}, not {rounding_mode!r}")
    if bits == 1 and is_signed:
        return bipolar_quantizer(scale, lambda x: x / scale + zero_point, offset=-zero_point)
    output = signed(bits) if is_signed else unsigned(bits)
    low, high = output.minimum + (narrow and is_signed), output.maximum - (narrow and not is_signed)

    def words(values: Floats) -> Integers:
        limited = np.clip(values / scale + zero_point, low, high)
        rounded: Integers = mode(limited).astype(np.int64)
        return rounded

    return Quantizer(words=words, output=output, meaning=_grid(scale, -zero_point))


def bipolar_quantizer(
    scale: Floats, compared: Callable[[Floats], Floats] = lambda x: x, offset: Floats | None = None
) -> Quantizer:
    """QONNX's ``BipolarQuant``: +scale from 0 upwards, -scale below."""
    if not np.all(scale > 0):
        raise ValueError(f"the scale must be positive, not {scale.min()}")

    def words(values: Floats) -> Integers:
        return np.where(compared(values) >= 0, 1, -1).astype(np.int64)

    return Quantizer(words=words, output=BIPOLAR, meaning=_grid(scale, np.zeros(1) if offset is None else offset))


def multi_threshold(thresholds: Floats, out_scale: float, out_bias: float) -> Quantizer:
    """FINN's ``MultiThreshold``: ``out_scale * (number of thresholds <= x) + out_bias``.

    The words are the integers whose multiple by the output's step is the output where there are such, bipolar for the
    two values -s and +s, else the count itself.

    Parameters
    ----------
    thresholds : ndarray
        Shape (C or 1, steps).
    out_scale, out_bias : float
        Attributes of the node.

    Raises
    ------
    ValueError
        If the output does not depend on the input.
    """
    steps = thresholds.shape[1]
    if out_scale == 0.0 or steps == 0:
        raise ValueError(f"out_scale {out_scale:g} and {steps} thresholds make the output constant")
    scale, bias = np.float32(out_scale), np.float32(out_bias)
    start = float(bias) / float(scale)

    def count(values: Floats) -> Integers:
        reached: Integers = np.count_nonzero(values[..., None] >= thresholds, axis=-1).astype(np.int64)
        return reached

    if steps == 1 and start == -0.5:
        words, output, grid = (lambda x: 2 * count(x) - 1), BIPOLAR, plain(float(scale) / 2)
    else:
        first = int(start) if start == int(start) else 0
        words, output = (lambda x: count(x) + first), format_for_range(first, first + steps)
        grid = plain(float(scale), start - first)
    levels = np.array([[output.at_level(0)], [output.at_level(1)]]) if output.is_bipolar else _column(first, steps)
    # The model scales, rounds, adds and rounds again: where that differs from one rounding, keep its two steps.
    rounded_twice = np.arange(steps + 1, dtype=np.float32)[:, None] * scale + bias
    if not np.array_equal(grid.evaluate(levels), rounded_twice):
        counts = plain(0.5, 1.0) if output.is_bipolar else plain(1.0, -float(first))
        grid = counts.then(multiply(np.array([scale]))).then(add(np.array([bias])))
    return Quantizer(words=words, output=output, meaning=grid)


def _column(first: int, steps: int) -> Integers:
    return np.arange(first, first + steps + 1, dtype=np.int64)[:, None]


def _grid(scale: Floats, offset: Floats) -> Meaning:
    return Meaning(scale=scale.astype(np.float64), offset=offset.astype(np.float64))
