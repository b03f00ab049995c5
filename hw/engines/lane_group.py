"""A group of processing elements: dot products, sums and activation of neighbouring outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from karui.hw.activations.double_rounding import DoubleRoundingConfig, DoubleRoundingPipeline
from karui.hw.activations.requantize import RequantizeConfig, RequantizePipeline
from karui.hw.activations.threshold import ThresholdConfig, ThresholdPipeline, level_word
from karui.hw.arithmetic.accumulate import Accumulate, AccumulateConfig
from karui.hw.arithmetic.binary_dot_product import BinaryDotProduct, BinaryDotProductConfig
from karui.hw.arithmetic.integer_dot_product import IntegerDotProduct, IntegerDotProductConfig, Multiplier
from karui.hw.arithmetic.popcount import LutInputs
from karui.hw.arithmetic.xnor_popcount import XnorPopcount, XnorPopcountConfig
from karui.hw.streams.stream import Tagged, lanes_of
from karui.sw.numerics import NumberFormat

ScalingConfig = RequantizeConfig | DoubleRoundingConfig
"""Activations that multiply."""

SumActivation = ThresholdConfig | ScalingConfig | Literal["sign"] | None
"""What becomes of a sum: thresholds, a multiplication, one level for sums of 0 and more, or nothing."""

ProductsConfig = XnorPopcountConfig | BinaryDotProductConfig | IntegerDotProductConfig
"""How dot products are computed."""


def products(
    rows: int,
    simd: int,
    input_format: NumberFormat,
    weight_format: NumberFormat,
    *,
    multiplier: Multiplier,
    lut_inputs: LutInputs,
) -> ProductsConfig:
    """The dot products of `rows` weight vectors with `simd` activations of a format."""
    if not weight_format.is_bipolar:
        return IntegerDotProductConfig(
            rows=rows, simd=simd, input_format=input_format, weight_format=weight_format, multiplier=multiplier
        )
    if input_format.is_bipolar:
        return XnorPopcountConfig(rows=rows, simd=simd, lut_inputs=lut_inputs)
    return BinaryDotProductConfig(rows=rows, simd=simd, input_format=input_format)


@dataclass(frozen=True, kw_only=True, eq=False)
class LaneGroupConfig:
    """Parameters of a `LaneGroup`.

    Parameters
    ----------
    lanes : int
        Processing elements.
    simd : int
        Inputs that each multiplies in a cycle.
    terms : int
        Beats that one sum takes.
    input_format, weight_format, output_format : NumberFormat
        Of an input element, a weight and a result.
    scale : int
        1 or 2: what a beat's term is multiplied with before it is added.
    sum_format : NumberFormat
        Format of the sums.
    initial : ndarray, shape (folds, lanes)
        What each sum starts from.
    activation : ThresholdConfig, ScalingConfig, "sign" or None
        What is done with a sum.
    multiplier : {"dsp", "lut"}
        What the products with integer weights are made of.
    lut_inputs : {4, 6}
        Inputs of the target's look-up tables.
    """

    lanes: int
    simd: int
    terms: int
    input_format: NumberFormat
    weight_format: NumberFormat
    output_format: NumberFormat
    scale: Literal[1, 2]
    sum_format: NumberFormat
    initial: npt.NDArray[Any]
    activation: SumActivation
    multiplier: Multiplier = "dsp"
    lut_inputs: LutInputs = 4

    @property
    def products(self) -> ProductsConfig:
        """The dot products of a beat."""
        return products(
            self.lanes,
            self.simd,
            self.input_format,
            self.weight_format,
            multiplier=self.multiplier,
            lut_inputs=self.lut_inputs,
        )

    @property
    def sums(self) -> AccumulateConfig:
        """The sums of a fold's dot products."""
        term = self.products.term_format
        return AccumulateConfig(
            lanes=self.lanes,
            terms=self.terms,
            term_format=NumberFormat(kind=term.kind, bits=term.bits + self.scale - 1),
            sum_format=self.sum_format,
            initial=self.initial,
        )

    @property
    def latency(self) -> int:
        """Cycles from the last operands of a fold to its results."""
        activation = 0 if self.activation is None or self.activation == "sign" else self.activation.latency
        return self.products.latency + self.sums.latency + activation


class LaneGroup(wiring.Component):
    """Neighbouring outputs of an engine: a fixed-latency pipeline from operands to results.

    Latency `config.latency` cycles from the last operands of a fold, throughput a beat of operands a cycle.

    Parameters
    ----------
    config : LaneGroupConfig

    Members
    -------
    i : In(Tagged)
        Operands, ``config.products.operands``.
    o : Out(Tagged)
        Results, a beat for each run of `terms` operands.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: LaneGroupConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(Tagged(config.products.operands)),
                "o": Out(Tagged(lanes_of(config.output_format, config.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.products = products = _products(config.products)
        m.submodules.sums = sums = Accumulate(config.sums)
        wiring.connect(m, wiring.flipped(self.i), products.i)
        m.d.comb += sums.i.valid.eq(products.o.valid)
        for lane in range(config.lanes):
            m.d.comb += sums.i.payload[lane].eq(products.o.payload[lane] << (config.scale - 1))
        if isinstance(config.activation, ThresholdConfig | ScalingConfig):
            m.submodules.activation = activation = activation_pipeline(config.activation)
            wiring.connect(m, sums.o, activation.i)
            wiring.connect(m, activation.o, wiring.flipped(self.o))
            return m
        m.d.comb += self.o.valid.eq(sums.o.valid)
        for lane in range(config.lanes):
            total = sums.o.payload[lane]
            result = total if config.activation is None else level_word(~total[-1], config.output_format)
            m.d.comb += self.o.payload[lane].eq(result)
        return m


def _products(config: ProductsConfig) -> XnorPopcount | BinaryDotProduct | IntegerDotProduct:
    match config:
        case XnorPopcountConfig():
            return XnorPopcount(config)
        case BinaryDotProductConfig():
            return BinaryDotProduct(config)
        case IntegerDotProductConfig():
            return IntegerDotProduct(config)


def activation_pipeline(
    config: ThresholdConfig | ScalingConfig,
) -> ThresholdPipeline | RequantizePipeline | DoubleRoundingPipeline:
    """What applies an activation to sums."""
    match config:
        case ThresholdConfig():
            return ThresholdPipeline(config)
        case RequantizeConfig():
            return RequantizePipeline(config)
        case DoubleRoundingConfig():
            return DoubleRoundingPipeline(config)
