"""What generated layers compute, in NumPy integers: depths, levels, kernels and the scaling of a layer.

Golden kernels, quantized layers' tests and tests of the hardware share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.ir.puppet_ops import (
    FACTOR,
    KERNEL,
    KERNEL_AREA,
    KERNEL_SIDE,
    STATE,
    EulerGenerator,
    GeneratedLayers,
    Generator,
    LowRankGenerator,
)
from karui.sw.numerics import NumberFormat, Rounding, saturate, shift_right

Integers = npt.NDArray[np.int64]


def depths_of(op: GeneratedLayers, complexity: Integers) -> Integers:
    """The depth of frames of so much complexity."""
    return op.first_depth + np.searchsorted(np.array(op.depth_steps, dtype=np.int64), complexity, side="right")


def levels_of(op: GeneratedLayers, complexity: Integers) -> Integers:
    """The level of frames of so much complexity."""
    return ((complexity >> op.level_shift) - op.first_level).clip(0, op.generator.levels - 1)


def kernels_of(op: GeneratedLayers, constants: Mapping[str, Integers], depth: int, levels: Integers) -> Integers:
    """The kernels of frames of one depth.

    Parameters
    ----------
    op : GeneratedLayers
    constants : mapping of str to ndarray of int64
        The generator's operands, by the names of `GeneratedLayers.constants`.
    depth : int
    levels : ndarray of int64, shape (n,)

    Returns
    -------
    ndarray of int64, shape (n, depth, C, 9, C)
        Words of `KERNEL` with axes (level, layer, output, place, input).
    """
    return generate(op.generator, constants, op.depths, depth, np.asarray(levels))


@singledispatch
def generate(
    generator: Generator, constants: Mapping[str, Integers], depths: range, depth: int, levels: Integers
) -> Integers:
    """What `kernels_of` returns, of any generator."""
    raise TypeError(f"{type(generator).__name__} generates no kernels")


@generate.register
def _(
    generator: EulerGenerator, constants: Mapping[str, Integers], depths: range, depth: int, levels: Integers
) -> Integers:
    state = initial_state(generator, constants, levels)
    kernels = []
    for _ in range(depth):
        state = euler_step(generator, constants, levels, state)
        kernels.append(_rounded(state, generator.kernel_shift, KERNEL))
    return np.stack(kernels, axis=1).transpose(0, 1, 4, 3, 2)


def initial_state(generator: EulerGenerator, constants: Mapping[str, Integers], levels: Integers) -> Integers:
    """P of layer 0 for each level, (n, C, 9, C): input channels, places, output channels."""
    terms = np.einsum("or,ir,kr->iko", constants["u"], constants["v"], constants["t"])
    pattern = _rounded(terms, generator.pattern_shift, STATE)
    return _saturated(constants["base"][levels][:, None, None, None] + pattern, STATE)


def euler_step(
    generator: EulerGenerator, constants: Mapping[str, Integers], levels: Integers, state: Integers
) -> Integers:
    """P of the next layer."""
    channels = state.shape[1]
    edge = np.pad(state, ((0, 0), (1, 1), (1, 1), (0, 0)))
    sums = np.zeros_like(state)
    for row in range(KERNEL_SIDE):
        for column in range(KERNEL_SIDE):
            view = edge[:, row : row + channels, column : column + KERNEL_AREA]
            sums += view * constants["depthwise"][row, column]
    depthwise = _rounded(sums, generator.depthwise_shift, STATE)
    slope = shift_right(depthwise @ constants["pointwise"].T, generator.pointwise_shift, Rounding.HALF_UP)
    limited = saturate(slope, -generator.limit, generator.limit)
    step = constants["step"][levels][:, None, None, None]
    return _saturated(state + shift_right(limited * step, generator.step_shift, Rounding.HALF_UP), STATE)


@generate.register
def _(
    generator: LowRankGenerator, constants: Mapping[str, Integers], depths: range, depth: int, levels: Integers
) -> Integers:
    first = sum(each for each in depths if each < depth)
    factors = layer_factors(generator, constants, levels)[:, first : first + depth]
    columns = np.einsum("ir,kr->kir", constants["v"], constants["t"])
    return _rounded(np.einsum("nlor,kir->nloki", factors, columns, optimize=True), generator.kernel_shift, KERNEL)


def layer_factors(generator: LowRankGenerator, constants: Mapping[str, Integers], levels: Integers) -> Integers:
    """The factors A of each level and each row of phi, (n, rows, C, rank)."""
    offset = shift_right(
        constants["c1"] * (levels - generator.centre)[:, None, None], generator.h_shift, Rounding.HALF_UP
    )
    coefficients = _rounded(constants["phi"] @ (constants["c0"] + offset), generator.a_shift, FACTOR)
    return _rounded(constants["u"] * coefficients[:, :, None], generator.u_shift, FACTOR)


def layer_output(
    maps: Any, sums: Any, multipliers: Any, offsets: Any, *, shift: int, output: NumberFormat, residual: bool
) -> Any:
    """What a layer makes of its input and its sums; of integer NumPy arrays or torch tensors alike.

    Parameters
    ----------
    maps, sums : array or Tensor
        Of one shape.
    multipliers, offsets : array or Tensor
        One each a channel, of a shape that broadcasts to theirs.
    shift, output, residual
        See `GeneratedLayers`.
    """
    scaled = shift_right(sums * multipliers + offsets, shift, Rounding.HALF_UP)
    return saturate(maps + scaled if residual else scaled, output.minimum, output.maximum)


def _rounded(values: Integers, shift: int, words: NumberFormat) -> Integers:
    return _saturated(shift_right(values, shift, Rounding.HALF_UP), words)


def _saturated(values: Integers, words: NumberFormat) -> Integers:
    limited: Integers = saturate(values, words.minimum, words.maximum)
    return limited
