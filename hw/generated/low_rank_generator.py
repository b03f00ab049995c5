"""The low-rank generator in hardware: outer products weighted by a layer's factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.activations.requantize import RequantizeConfig
from karui.hw.engines.matrix_vector import MatrixVector, MatrixVectorConfig, pe_groups
from karui.hw.generated.joints import chain, converter
from karui.hw.generated.kernel_memory import KERNEL_READ_LATENCY, KernelMemory, KernelMemoryConfig
from karui.hw.generated.layer_factors import LayerFactors, LayerFactorsConfig
from karui.hw.generated.outer_columns import OuterColumns, OuterColumnsConfig
from karui.hw.streams.stream import lanes_of
from karui.hw.streams.timing import divisors
from karui.hw.streams.width_converter import WidthConverterConfig
from karui.sw.ir import LowRankGenerator
from karui.sw.ir.puppet_ops import FACTOR, KERNEL, KERNEL_AREA
from karui.sw.numerics import Overflow, Rounding, format_for_range

ORDERS = 1
"""Readers of a frame's order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRankGeneratorConfig:
    """Parameters of `LowRankKernels`.

    Parameters
    ----------
    factors : LayerFactorsConfig
        What makes a layer's factors, of the operation's generator.
    lanes : int
        Output channels a beat.
    simd : int
        Terms a cycle; divides the rank.
    """

    factors: LayerFactorsConfig
    lanes: int
    simd: int

    @property
    def channels(self) -> int:
        """Of the maps that the kernels convolve."""
        return self.factors.channels

    @property
    def generator(self) -> LowRankGenerator:
        """The operation's."""
        return self.factors.generator

    @property
    def columns(self) -> OuterColumnsConfig:
        """The vectors that are weighted: as few elements a cycle as keep up with the products."""
        folds = self.channels // self.lanes
        lanes = min(one for one in divisors(self.simd) if self.simd // one <= folds)
        constants = self.factors.constants
        return OuterColumnsConfig(v=constants["v"], t=constants["t"], lanes=lanes, endless=True)

    @property
    def columns_converter(self) -> WidthConverterConfig | None:
        """To the products' lanes."""
        elements = KERNEL_AREA * self.channels * self.generator.rank
        return converter(self.columns.element, elements, self.columns.lanes, self.simd)

    @property
    def memory(self) -> KernelMemoryConfig:
        """Where they are read from."""
        return KernelMemoryConfig(
            outputs=self.channels,
            inputs=self.generator.rank,
            places=1,
            pe=self.lanes,
            simd=self.simd,
            groups=pe_groups(self.lanes),
            weight_format=FACTOR,
            lanes=1,
            reads=KERNEL_AREA * self.channels,
        )

    @property
    def products(self) -> MatrixVectorConfig:
        """The products of vectors and factors, rounded to kernels."""
        low, high = self.factors.ranges["kernel"]
        sums = format_for_range(min(low, -1), high)
        return MatrixVectorConfig(
            outputs=self.channels,
            inputs=self.generator.rank,
            pe=self.lanes,
            simd=self.simd,
            input_format=self.columns.element,
            weight_format=FACTOR,
            accumulator=sums,
            activation=RequantizeConfig(
                channels=self.channels,
                lanes=self.lanes,
                multipliers=np.array([1]),
                offsets=np.array([0]),
                shift=self.generator.kernel_shift,
                rounding=Rounding.HALF_UP,
                overflow=Overflow.SATURATE,
                input_format=sums,
                output_format=KERNEL,
                positions=KERNEL_AREA * self.channels,
            ),
            positions=KERNEL_AREA * self.channels,
            weight_latency=KERNEL_READ_LATENCY,
        )

    @property
    def layer_cycles(self) -> int:
        """Cycles of a layer's kernels, the pipeline aside."""
        return max(self.products.interval, self.factors.pass_cycles)


class LowRankKernels(wiring.Component):
    """Generates the kernels of each frame's layers, each from its place in the depth alone.

    The factors of the next layer are made while this one's are used. Throughput a layer every ``config.layer_cycles``
    cycles; latency, from a complexity to the last kernel of its frame, as
    `karui.hw.plan.generated_stage.GeneratedStageConfig.generation` predicts it for each depth.

    Parameters
    ----------
    config : LowRankGeneratorConfig

    Members
    -------
    orders_0 : In(stream)
        Each frame's order.
    given : In(1)
        A frame's order has come; of no use here.
    o : Out(stream)
        Kernels in order (layer, input, place, output), `lanes` outputs a beat.
    """

    orders_0: stream.Interface
    given: Signal
    o: stream.Interface

    def __init__(self, config: LowRankGeneratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "orders_0": In(stream.Signature(config.factors.order)),
                "given": In(1),
                "o": Out(stream.Signature(lanes_of(KERNEL, config.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.columns = columns = OuterColumns(config.columns)
        m.submodules.factors = factors = LayerFactors(config.factors)
        m.submodules.memory = memory = KernelMemory(config.memory)
        m.submodules.products = products = MatrixVector(config.products)
        wiring.connect(m, wiring.flipped(self.orders_0), factors.orders)
        wiring.connect(m, factors.o, memory.i)
        wiring.connect(m, memory.o, products.weights)
        chain(m, "columns_converter", columns.o, config.columns_converter, products.i)
        wiring.connect(m, products.o, wiring.flipped(self.o))
        return m
