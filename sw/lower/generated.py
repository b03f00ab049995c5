"""Puppet-CNN's layers: an image's complexity, and convolutions with kernels generated for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import torch

from karui.sw.ir import GraphError
from karui.sw.ir.puppet_ops import EulerGenerator, Generator, LowRankGenerator
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.lower.values import Integers, Lowering, Scores, Value, fixed, integers, one_fraction
from karui.sw.nn.continuous_puppeteer import BASIS_WORDS, FACTOR_WORDS, ContinuousPuppeteer
from karui.sw.nn.euler_puppeteer import STATE_FRACTION, STEP_FRACTION, EulerPuppeteer
from karui.sw.nn.factor import Factor
from karui.sw.nn.generated_layers import GeneratedLayers
from karui.sw.nn.image_complexity import PIXEL, ImageComplexity
from karui.sw.nn.puppeteer import Puppeteer
from karui.sw.numerics import NumberFormat

Constants = dict[str, Integers]


def lower_complexity(layer: ImageComplexity, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """An `ImageComplexity`."""
    what = "layer ImageComplexity"
    value = fixed(lowering, what, name, value)
    if lowering.build.tensor(value.edge).number_format != PIXEL:
        raise UnsupportedLayer(f"{what} of anything but pixels of 8 bits", name)
    edge = lowering.build.complexity(lowering.node_name(name, "complexity"), value.edge)
    fraction = np.array([_fraction(lowering.build.tensor(edge).number_format)])
    return Value(edge=edge, shape=(1,), order=np.arange(1), fraction=fraction)


def lower_generated_layers(
    layer: GeneratedLayers, lowering: Lowering, name: str, feature_map: Value | Scores, complexity: Value | Scores
) -> Value:
    """A `GeneratedLayers` of integer kernels and activations."""
    what = "layer GeneratedLayers"
    if layer.activation.bits is None:
        raise UnsupportedLayer(f"{what} without bits, whose outputs are real,", name)
    if layer.widths:
        raise UnsupportedLayer(f"{what} of several widths", name)
    value, of_frame = fixed(lowering, what, name, feature_map), fixed(lowering, what, name, complexity)
    if len(value.shape) != 3 or value.shape[0] != layer.channels:
        raise GraphError(f"{name}: {layer} does not fit a tensor of shape {value.shape}")
    if one_fraction(what, name, value) != layer.activation.fraction:
        raise UnsupportedLayer(f"{what} on activations of another range than its own", name)
    generator, constants = generator_of(layer.puppeteer, layer.depth_range)
    multipliers, offsets, shift = layer.scaling()
    levels = layer.puppeteer.levels
    edge = lowering.build.generated_layers(
        lowering.node_name(name, "generated"),
        value.edge,
        of_frame.edge,
        generator,
        constants | {"multipliers": integers(multipliers), "offsets": integers(offsets)},
        first_depth=layer.first_depth,
        depth_steps=layer.depth_steps,
        level_shift=levels.shift,
        first_level=levels.first,
        shift=shift,
        residual=layer.residual,
    )
    return Value(edge=edge, shape=value.shape, order=value.order, fraction=value.fraction)


@singledispatch
def generator_of(puppeteer: Puppeteer, depths: range) -> tuple[Generator, Constants]:
    """A generator of words as a part of the graph's operation, and its constants by their names."""
    raise UnsupportedLayer(f"kernels of {type(puppeteer).__name__}", "puppeteer")


@generator_of.register
def _(puppeteer: EulerPuppeteer, depths: range) -> tuple[Generator, Constants]:
    pattern = puppeteer.pattern
    if pattern is None:
        raise UnsupportedLayer("EulerPuppeteer without a pattern", "puppeteer")
    depthwise, pointwise = _words(puppeteer.depthwise), _words(puppeteer.pointwise)
    u, v, t = (_words(factor) for factor in (pattern.u, pattern.v, pattern.t))
    generator = EulerGenerator(
        levels=puppeteer.levels.count,
        rank=puppeteer.rank,
        pattern_shift=_right("pattern_shift", u.fraction + v.fraction + t.fraction - STATE_FRACTION),
        depthwise_shift=_right("depthwise_shift", depthwise.fraction),
        pointwise_shift=_right("pointwise_shift", pointwise.fraction),
        limit=int(puppeteer.limit * 2**STATE_FRACTION),
        step_shift=STEP_FRACTION,
        kernel_shift=STATE_FRACTION - puppeteer.kernel_fraction,
    )
    return generator, {
        "base": integers(puppeteer.base * 2.0**STATE_FRACTION),
        "u": u.words,
        "v": v.words,
        "t": t.words,
        "depthwise": depthwise.words[:, 0].transpose(1, 2, 0),
        "pointwise": pointwise.words,
        "step": integers(puppeteer.step * 2.0**STEP_FRACTION),
    }


@generator_of.register
def _(puppeteer: ContinuousPuppeteer, depths: range) -> tuple[Generator, Constants]:
    u, v, t, coefficients = (
        _words(factor) for factor in (puppeteer.u, puppeteer.v, puppeteer.t, puppeteer.coefficients)
    )
    basis, factor = _fraction(BASIS_WORDS), _fraction(FACTOR_WORDS)
    generator = LowRankGenerator(
        levels=puppeteer.levels.count,
        rank=puppeteer.rank,
        terms=puppeteer.basis.terms,
        centre=puppeteer.centre,
        h_shift=puppeteer.offset_shift,
        a_shift=_right("a_shift", basis + coefficients.fraction - factor),
        u_shift=_right("u_shift", u.fraction),
        kernel_shift=_right("kernel_shift", factor + v.fraction + t.fraction - puppeteer.kernel_fraction),
    )
    return generator, {
        "u": u.words,
        "v": v.words,
        "t": t.words,
        "phi": _sampled(puppeteer, depths),
        "c0": coefficients.words[0],
        "c1": coefficients.words[1],
    }


def _sampled(puppeteer: ContinuousPuppeteer, depths: range) -> Integers:
    """The words of the functions of the depth, a row for each depth's each layer."""
    of_row = torch.tensor([(depth, layer) for depth in depths for layer in range(1, depth + 1)])
    return integers(puppeteer.sampled(of_row[:, 0], of_row[:, 1], torch.float64) * 2.0 ** _fraction(BASIS_WORDS))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Words:
    """Constants as words, each ``word * 2**-fraction``."""

    words: Integers
    fraction: int


def _words(factor: Factor) -> _Words:
    return _Words(words=integers(factor.integer_weight()), fraction=int(factor.weight_fraction()))


def _right(name: str, shift: int) -> int:
    """Refuse a shift to the left, which no operation has."""
    if shift < 0:
        raise GraphError(f"{name} would be {shift}: the constants' steps are coarser than those of what they make")
    return shift


def _fraction(words: NumberFormat) -> int:
    assert isinstance(words.fraction, int)
    return words.fraction
