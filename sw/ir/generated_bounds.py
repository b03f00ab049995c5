"""Ranges of the integers that generated layers compute with, proven from constants and worst-case kernels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch

import numpy as np
import numpy.typing as npt

from karui.sw.ir.bounds import accumulator_range, depthwise_rows, product_range
from karui.sw.ir.puppet_ops import FACTOR, KERNEL, KERNEL_AREA, STATE, EulerGenerator, Generator, LowRankGenerator
from karui.sw.numerics import NumberFormat

Integers = npt.NDArray[np.int64]
Range = tuple[int, int]


def convolution_range(channels: int, element: NumberFormat) -> Range:
    """The range of a 3x3 convolution's sum, whatever its kernel."""
    corners = [word * element.maximum for word in (KERNEL.minimum, KERNEL.maximum)]
    return KERNEL_AREA * channels * corners[0], KERNEL_AREA * channels * corners[1]


@singledispatch
def generator_ranges(generator: Generator, constants: Mapping[str, Integers]) -> dict[str, Range]:
    """The range of each sum and product of a generator, by name, before it is rounded; partial sums included."""
    raise TypeError(f"{type(generator).__name__} generates no kernels")


@generator_ranges.register
def _(generator: EulerGenerator, constants: Mapping[str, Integers]) -> dict[str, Range]:
    outer = np.einsum("or,ir,kr->ikor", constants["u"], constants["v"], constants["t"])
    partial = outer.cumsum(axis=-1)
    limits = np.array([-generator.limit, generator.limit])
    return {
        "pattern": (min(0, int(partial.min())), max(0, int(partial.max()))),
        "depthwise": accumulator_range(depthwise_rows(constants["depthwise"]), STATE),
        "pointwise": accumulator_range(constants["pointwise"], STATE),
        "step": (
            int(np.multiply.outer(limits, constants["step"]).min()),
            int(np.multiply.outer(limits, constants["step"]).max()),
        ),
    }


@generator_ranges.register
def _(generator: LowRankGenerator, constants: Mapping[str, Integers]) -> dict[str, Range]:
    heights = np.arange(generator.levels) - generator.centre
    offsets = np.multiply.outer(heights, constants["c1"])
    half = (1 << generator.h_shift) >> 1
    terms = constants["c0"] + ((offsets + half) >> generator.h_shift)
    sums = np.einsum("gp,npr->ngrp", constants["phi"], terms).cumsum(axis=-1)
    outer = np.einsum("ir,kr->ikr", constants["v"], constants["t"]).reshape(-1, generator.rank)
    return {
        "offset": (int(offsets.min()), int(offsets.max())),
        "coefficient": (int(terms.min()), int(terms.max())),
        "phi": (min(0, int(sums.min())), max(0, int(sums.max()))),
        "factor": product_range(FACTOR, constants["u"]),
        "outer": (int(outer.min()), int(outer.max())),
        "kernel": accumulator_range(outer, FACTOR),
    }
