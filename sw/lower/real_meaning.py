"""What the integers of an edge mean to a float model: the model's own elementwise arithmetic, kept to be evaluated.

Between two quantizers a model scales, shifts, normalizes and rectifies. Each of these steps is monotone in a channel,
in floating point too (rounding is monotone), so the whole is a monotone function of the integer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One elementwise float operation.

    Parameters
    ----------
    function : callable
        Of the values (..., C) and the operands, in the model's float type.
    operands : tuple of ndarray
        Each of shape (C,) or (1,).
    direction : ndarray of int
        -1 where the function falls, +1 where it rises, 0 where it is constant; shape (C,) or (1,).
    line : (ndarray, ndarray) or None
        Slope and intercept where the function is a straight line.
    """

    function: Callable[..., Floats]
    operands: tuple[Floats, ...]
    direction: Integers
    line: tuple[Doubles, Doubles] | None


def add(constant: Floats) -> Step:
    """``x + constant``."""
    return Step(function=np.add, operands=(constant,), direction=_UP, line=(_ONE, _double(constant)))


def subtract(constant: Floats) -> Step:
    """``x - constant``."""
    return Step(function=np.subtract, operands=(constant,), direction=_UP, line=(_ONE, -_double(constant)))


def subtract_from(constant: Floats) -> Step:
    """``constant - x``."""
    return Step(function=lambda x, c: c - x, operands=(constant,), direction=-_UP, line=(-_ONE, _double(constant)))


def multiply(constant: Floats) -> Step:
    """``x * constant``."""
    return Step(
        function=np.multiply, operands=(constant,), direction=_sign(constant), line=(_double(constant), 0.0 * _ONE)
    )


def divide(constant: Floats) -> Step:
    """``x / constant``."""
    return Step(
        function=np.divide, operands=(constant,), direction=_sign(constant), line=(1.0 / _double(constant), 0.0 * _ONE)
    )


def clamp(low: Floats, high: Floats) -> Step:
    """``min(max(x, low), high)``."""
    return Step(
        function=lambda x, a, b: np.minimum(np.maximum(x, a), b), operands=(low, high), direction=_UP, line=None
    )


def leaky_rectify(slope: Floats) -> Step:
    """``x`` where it is positive, else ``slope * x``; the slope is 0 or more (0: the rectifier)."""
    return Step(function=lambda x, s: np.where(x > 0, x, s * x), operands=(slope,), direction=_UP, line=None)


def normalize(scale: Floats, bias: Floats, mean: Floats, variance: Floats, epsilon: float) -> Step:
    """Batch normalization in inference, in the order of operations of ONNX's definition."""
    deviation = np.sqrt(variance + np.asarray(epsilon, dtype=variance.dtype))
    slope = _double(scale) / _double(deviation)
    return Step(
        function=lambda x, s, b, m, d: s * (x - m) / d + b,
        operands=(scale, bias, mean, deviation),
        direction=_sign(scale),
        line=(slope, _double(bias) - slope * _double(mean)),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Meaning:
    """The real numbers that the integer words of an edge stand for.

    A word q of channel c stands for ``steps(float32(scale[c] * (q + offset[c])))``. The product is rounded once, from
    float64: for the sums of a matrix product it is the exact sum, rounded, whatever order the model's own float sum is
    taken in.

    Parameters
    ----------
    scale, offset : ndarray of float64
        Shape (C,) or (1,).
    steps : tuple of Step
        Applied one after the other.
    """

    scale: Doubles
    offset: Doubles
    steps: tuple[Step, ...] = ()

    def evaluate(self, words: npt.NDArray[Any]) -> Floats:
        """The real numbers of words of shape (..., C)."""
        values: Floats = (self.scale * (words + self.offset)).astype(np.float32)
        for step in self.steps:
            values = step.function(values, *step.operands)
        return values

    def then(self, step: Step) -> Meaning:
        """The meaning after one more step."""
        return replace(self, steps=(*self.steps, step))

    @property
    def direction(self) -> Integers:
        """-1 where the meaning falls as the word rises, +1 where it rises, 0 where it is constant."""
        direction = _sign(self.scale)
        for step in self.steps:
            direction = direction * step.direction
        return direction

    def negated(self, signs: Integers) -> Meaning:
        """The meaning of the words times `signs`, which are -1 or +1 a channel."""
        return replace(self, scale=self.scale * signs, offset=self.offset * signs)

    def line(self) -> tuple[Doubles, Doubles] | None:
        """Slope s and offset o with ``s * (q + o)`` the meaning in exact arithmetic, None if it is no such line."""
        if not self.steps:
            return self.scale, self.offset
        slope, intercept = self.scale, self.scale * self.offset
        for step in self.steps:
            if step.line is None:
                return None
            slope, intercept = slope * step.line[0], intercept * step.line[0] + step.line[1]
        if np.any(slope == 0.0):
            return None
        return slope, intercept / slope

    def repeated(self, times: int) -> Meaning:
        """The meaning where the channels recur `times` times: those of a flattened feature map."""

        def tile(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return array if array.shape == (1,) else np.tile(array, times)

        steps = tuple(
            replace(
                step,
                operands=tuple(map(tile, step.operands)),
                direction=tile(step.direction),
                line=None if step.line is None else (tile(step.line[0]), tile(step.line[1])),
            )
            for step in self.steps
        )
        return replace(self, scale=tile(self.scale), offset=tile(self.offset), steps=steps)

    @property
    def is_uniform(self) -> bool:
        """Whether all channels mean the same."""
        arrays = [self.scale, self.offset, *(operand for step in self.steps for operand in step.operands)]
        return all(bool(np.all(array == array[0])) for array in arrays)


def plain(scale: float = 1.0, offset: float = 0.0) -> Meaning:
    """The meaning ``scale * (q + offset)`` in all channels."""
    return Meaning(scale=np.array([scale], dtype=np.float64), offset=np.array([offset], dtype=np.float64))


def is_plain(meaning: Meaning) -> bool:
    """Whether the words mean themselves."""
    return not meaning.steps and bool(np.all(meaning.scale == 1) and np.all(meaning.offset == 0))


_UP = np.ones(1, dtype=np.int64)
_ONE = np.ones(1, dtype=np.float64)


def _double(values: Floats) -> Doubles:
    return values.astype(np.float64)


def _sign(values: Floats) -> Integers:
    return np.sign(values).astype(np.int64)
