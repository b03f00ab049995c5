"""The Euler generator in hardware: a loop of a depthwise and a pointwise convolution over the kernels themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.activations.requantize import Requantize, RequantizeConfig
from karui.hw.engines.constant_engine import ConstantEngine, ConstantEngineConfig
from karui.hw.engines.depthwise_conv import ConstantDepthwiseConv, ConstantDepthwiseConvConfig, DepthwiseConvConfig
from karui.hw.engines.matrix_vector import MatrixVectorConfig, pe_groups
from karui.hw.engines.tap_window import Taps, TapWindowConfig
from karui.hw.generated.euler_update import EulerBegin, EulerLoopConfig, EulerUpdate
from karui.hw.generated.joints import chain, converter, to_both
from karui.hw.generated.loop_entry import LoopEntry, LoopEntryConfig
from karui.hw.generated.outer_columns import OuterColumns, OuterColumnsConfig
from karui.hw.memory.deep_fifo import DeepFifo, DeepFifoConfig
from karui.hw.memory.weight_rom import WeightRomConfig
from karui.hw.streams.stream import lanes_of
from karui.hw.streams.width_converter import WidthConverterConfig
from karui.sw.ir import EulerGenerator
from karui.sw.ir.generated_bounds import generator_ranges
from karui.sw.ir.puppet_ops import KERNEL, KERNEL_AREA, KERNEL_SIDE, STATE
from karui.sw.numerics import NumberFormat, Overflow, Rounding, format_for_range

ORDERS = 3
"""Readers of a frame's order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EulerGeneratorConfig:
    """Parameters of an `EulerKernels`.

    Parameters
    ----------
    generator : EulerGenerator
    order : StructLayout
        With the frame's `depth` and `level`.
    channels : int
    constants : mapping of str to ndarray of int64
        The generator's operands.
    formats : mapping of str to NumberFormat
        Of the sums, see `sum_formats`.
    lanes : int
        Output channels a beat of the state.
    taps : {"window", "column"}
        Of the depthwise convolution, as of a `TapWindow`.
    simd : int
        Inputs a cycle of the pointwise convolution.
    pace : int
        Cycles that a layer may take at least: the pattern, which a frame needs once, takes its terms so slowly.
    """

    generator: EulerGenerator
    order: data.StructLayout
    channels: int
    constants: Mapping[str, npt.NDArray[np.int64]]
    formats: Mapping[str, NumberFormat]
    lanes: int
    taps: Taps
    simd: int
    pace: int

    @property
    def elements(self) -> int:
        """Elements of a state."""
        return KERNEL_AREA * self.channels**2

    @property
    def beats(self) -> int:
        """Beats of a state."""
        return self.elements // self.lanes

    @property
    def columns(self) -> OuterColumnsConfig:
        """The pattern's vectors."""
        return OuterColumnsConfig(v=self._padded("v"), t=self._padded("t"), lanes=1)

    @property
    def columns_converter(self) -> WidthConverterConfig | None:
        """From the vectors' elements to the terms of a cycle."""
        return converter(self.columns.element, KERNEL_AREA * self.channels * self.rank, 1, self.terms)

    @property
    def terms(self) -> int:
        """Terms of the pattern a cycle, the fewest that keep up with a layer."""
        return -(-self.generator.rank // max(max(self.pace, self.layer_cycles) // self.beats, 1))

    @property
    def rank(self) -> int:
        """Terms of the pattern, with some of zero that make the cycles' terms alike."""
        return self.terms * -(-self.generator.rank // self.terms)

    @property
    def pattern(self) -> ConstantEngineConfig:
        """From the pattern's vectors to the pattern."""
        sums, shift = self.formats["pattern"], self.generator.pattern_shift
        return self._product(self._padded("u"), self.columns.element, sums, shift, self.terms)

    @property
    def loop(self) -> EulerLoopConfig:
        """The ends of the loop."""
        return EulerLoopConfig(
            generator=self.generator,
            order=self.order,
            beats=self.beats,
            lanes=self.lanes,
            base=self.constants["base"],
            step=self.constants["step"],
        )

    @property
    def entry(self) -> LoopEntryConfig:
        """Its entry."""
        return LoopEntryConfig(payload=lanes_of(STATE, self.lanes), beats=self.beats, order=self.order)

    @property
    def depthwise(self) -> ConstantDepthwiseConvConfig:
        """The convolution of each output channel's map of inputs and places."""
        weights = self.constants["depthwise"]
        windows = TapWindowConfig(
            element=STATE,
            height=self.channels,
            width=KERNEL_AREA,
            channels=self.channels,
            lanes=self.lanes,
            kernel=(KERNEL_SIDE, KERNEL_SIDE),
            padding=(1, 1, 1, 1),
            pad_value=0,
            taps=self.taps,
        )
        engine = DepthwiseConvConfig(
            windows=windows, weight_format=_format(weights), accumulator=self.formats["depthwise"]
        )
        return ConstantDepthwiseConvConfig(engine=engine, weights=weights)

    @property
    def smoothed(self) -> RequantizeConfig:
        """What rounds the depthwise sums."""
        return self._rounding(self.formats["depthwise"], self.generator.depthwise_shift)

    @property
    def pointwise_converter(self) -> WidthConverterConfig | None:
        """From the state's lanes to those of the pointwise convolution, if they differ."""
        return converter(STATE, self.elements, self.lanes, self.simd)

    @property
    def pointwise(self) -> ConstantEngineConfig:
        """The product with each position's output channels."""
        weights = self.constants["pointwise"]
        return self._product(weights, STATE, self.formats["pointwise"], self.generator.pointwise_shift, self.simd)

    @property
    def held(self) -> DeepFifoConfig:
        """States while their slopes are made: the rows that the depthwise convolution holds, and what is behind it."""
        windows = self.depthwise.engine.windows
        return DeepFifoConfig(element=STATE, lanes=self.lanes, depth=(windows.buffer_rows + 2) * windows.row_beats_in)

    @property
    def loop_queue(self) -> DeepFifoConfig:
        """A whole state between two steps, in so many block RAMs that their choice has no time behind a slow memory."""
        return DeepFifoConfig(element=STATE, lanes=self.lanes, depth=self.beats, registered=True)

    @property
    def layer_cycles(self) -> int:
        """Cycles of a step, its pipeline aside."""
        products = self.pointwise.engine
        return max(self.depthwise.engine.windows.frame_steps, products.interval)

    def _padded(self, factor: str) -> npt.NDArray[np.int64]:
        values = self.constants[factor]
        return np.pad(values, ((0, 0), (0, self.rank - values.shape[1])))

    def _product(
        self, weights: npt.NDArray[np.int64], element: NumberFormat, sums: NumberFormat, shift: int, simd: int
    ) -> ConstantEngineConfig:
        """A product with a matrix of constants, rounded to the state's format."""
        rom = WeightRomConfig(
            weights=weights,
            pe=self.lanes,
            simd=simd,
            weight_format=_format(weights),
            groups=pe_groups(self.lanes),
            relayed=True,
        )
        engine = MatrixVectorConfig(
            outputs=self.channels,
            inputs=weights.shape[1],
            pe=self.lanes,
            simd=simd,
            input_format=element,
            weight_format=_format(weights),
            accumulator=sums,
            activation=self._rounding(sums, shift),
            positions=KERNEL_AREA * self.channels,
            weight_latency=rom.latency,
        )
        return ConstantEngineConfig(engine=engine, weights=rom)

    def _rounding(self, sums: NumberFormat, shift: int) -> RequantizeConfig:
        return RequantizeConfig(
            channels=self.channels,
            lanes=self.lanes,
            multipliers=np.array([1]),
            offsets=np.array([0]),
            shift=shift,
            rounding=Rounding.HALF_UP,
            overflow=Overflow.SATURATE,
            input_format=sums,
            output_format=STATE,
            positions=KERNEL_AREA * self.channels,
        )


class EulerKernels(wiring.Component):
    """Generates the kernels of each frame's layers by Euler steps.

    The state goes round through a queue that holds all of it; a step begins as soon as its first rows are there, while
    the step before ends. Throughput a layer every ``config.layer_cycles`` cycles; latency, from a complexity to the
    last kernel of its frame, as `karui.hw.plan.generated_stage.GeneratedStageConfig.generation` predicts it for each
    depth.

    Parameters
    ----------
    config : EulerGeneratorConfig

    Members
    -------
    orders_0, orders_1, orders_2 : In(stream)
        Each frame's order, three times.
    given : In(1)
        A frame's order has come.
    o : Out(stream)
        Kernels in order (layer, input, place, output), `lanes` outputs a beat.
    """

    given: Signal
    o: stream.Interface

    def __init__(self, config: EulerGeneratorConfig) -> None:
        self.config = config
        order = In(stream.Signature(config.order))
        super().__init__(
            {f"orders_{reader}": order for reader in range(ORDERS)}
            | {"given": In(1), "o": Out(stream.Signature(lanes_of(KERNEL, config.lanes)))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.columns = columns = OuterColumns(config.columns)
        m.submodules.pattern = pattern = ConstantEngine(config.pattern)
        m.submodules.begin = begin = EulerBegin(config.loop)
        m.submodules.entry = entry = LoopEntry(config.entry)
        m.submodules.depthwise = depthwise = ConstantDepthwiseConv(config.depthwise)
        m.submodules.smoothed = smoothed = Requantize(config.smoothed)
        m.submodules.pointwise = pointwise = ConstantEngine(config.pointwise)
        m.submodules.held = held = DeepFifo(config.held)
        m.submodules.update = update = EulerUpdate(config.loop)
        m.submodules.loop = loop = DeepFifo(config.loop_queue)
        m.d.comb += columns.start.eq(self.given)
        for reader, orders in enumerate((begin.orders, entry.orders, update.orders)):
            wiring.connect(m, wiring.flipped(getattr(self, f"orders_{reader}")), orders)
        chain(m, "columns_converter", columns.o, config.columns_converter, pattern.i)
        wiring.connect(m, pattern.o, begin.i)
        wiring.connect(m, begin.o, entry.i)
        wiring.connect(m, depthwise.o, smoothed.i)
        chain(m, "pointwise_converter", smoothed.o, config.pointwise_converter, pointwise.i)
        wiring.connect(m, pointwise.o, update.i)
        wiring.connect(m, held.o, update.before)
        wiring.connect(m, update.again, loop.i)
        wiring.connect(m, loop.o, entry.again)
        wiring.connect(m, update.kernel, wiring.flipped(self.o))
        to_both(m, entry.o, depthwise.i, held.i)
        return m


def sum_formats(generator: EulerGenerator, constants: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, NumberFormat]:
    """Formats of a generator's sums, by name: the least that hold them whatever the state is."""
    ranges = generator_ranges(generator, constants)
    return {name: format_for_range(min(low, -1), high) for name, (low, high) in ranges.items()}


def _format(values: npt.NDArray[np.int64]) -> NumberFormat:
    return format_for_range(min(-1, int(values.min())), int(values.max()))
