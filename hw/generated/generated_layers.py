"""Layers with generated kernels: one convolution engine that a frame's map goes through as often as it is deep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.engines.matrix_vector import MatrixVector, MatrixVectorConfig, pe_groups
from karui.hw.engines.sliding_window import SlidingWindow, SlidingWindowConfig
from karui.hw.generated.euler_generator import ORDERS as EULER_ORDERS
from karui.hw.generated.euler_generator import EulerGeneratorConfig, EulerKernels, sum_formats
from karui.hw.generated.frame_orders import FrameOrders, FrameOrdersConfig
from karui.hw.generated.joints import chain, converter, to_both
from karui.hw.generated.kernel_memory import KERNEL_READ_LATENCY, KernelMemory, KernelMemoryConfig
from karui.hw.generated.layer_factors import LayerFactorsConfig
from karui.hw.generated.layer_scaling import LayerScaling, LayerScalingConfig
from karui.hw.generated.loop_entry import LoopEntry, LoopEntryConfig
from karui.hw.generated.low_rank_generator import ORDERS as LOW_RANK_ORDERS
from karui.hw.generated.low_rank_generator import LowRankGeneratorConfig, LowRankKernels
from karui.hw.memory.deep_fifo import DeepFifo, DeepFifoConfig
from karui.hw.streams.stream import lanes_of
from karui.hw.streams.timing import divisors, require_divisor
from karui.hw.streams.width_converter import WidthConverterConfig
from karui.sw.ir import EulerGenerator
from karui.sw.ir import GeneratedLayers as LayersOp
from karui.sw.ir.puppet_ops import KERNEL, KERNEL_AREA, KERNEL_SIDE
from karui.sw.numerics import NumberFormat

GeneratorConfig = EulerGeneratorConfig | LowRankGeneratorConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneratedLayersConfig:
    """Parameters of `GeneratedLayers`.

    Parameters
    ----------
    op : karui.sw.ir.GeneratedLayers
    height, width, channels : int
        Of the map.
    complexity : NumberFormat
        Format of a frame's complexity.
    constants : mapping of str to ndarray of int64
        The operation's operands.
    pe, simd : int
        Outputs and inputs of the convolution that are taken at once; they divide the channels.
    """

    op: LayersOp
    height: int
    width: int
    channels: int
    complexity: NumberFormat
    constants: Mapping[str, npt.NDArray[np.int64]]
    pe: int
    simd: int

    def __post_init__(self) -> None:
        require_divisor("pe", self.pe, self.channels, "channels")
        require_divisor("simd", self.simd, self.channels, "channels")

    @property
    def positions(self) -> int:
        """Positions of the map."""
        return self.height * self.width

    @property
    def elements(self) -> int:
        """Elements of the map."""
        return self.positions * self.channels

    @property
    def orders(self) -> FrameOrdersConfig:
        """What a frame's complexity orders."""
        readers = EULER_ORDERS if isinstance(self.op.generator, EulerGenerator) else LOW_RANK_ORDERS
        return FrameOrdersConfig(op=self.op, element=self.complexity, readers=2 + readers)

    @property
    def entry(self) -> LoopEntryConfig:
        """The entry of the loop."""
        return LoopEntryConfig(
            payload=lanes_of(self.op.output, self.simd), beats=self.elements // self.simd, order=self.orders.order
        )

    @property
    def windows(self) -> SlidingWindowConfig:
        """The windows of a layer's map."""
        return SlidingWindowConfig(
            element=self.op.output,
            height=self.height,
            width=self.width,
            channels=self.channels,
            lanes=self.simd,
            kernel=(KERNEL_SIDE, KERNEL_SIDE),
            padding=(1, 1, 1, 1),
            pad_value=0,
        )

    @property
    def convolution(self) -> MatrixVectorConfig:
        """The products of windows and kernels."""
        return MatrixVectorConfig(
            outputs=self.channels,
            inputs=KERNEL_AREA * self.channels,
            pe=self.pe,
            simd=self.simd,
            input_format=self.op.output,
            weight_format=KERNEL,
            accumulator=self.op.accumulator,
            positions=self.positions,
            weight_latency=KERNEL_READ_LATENCY,
        )

    @property
    def lanes_out(self) -> int:
        """Elements of a beat behind the convolution: as few as keep up with it."""
        return min(one for one in divisors(self.pe) if self.pe // one <= self.convolution.input_fold)

    @property
    def sums_converter(self) -> WidthConverterConfig | None:
        """From the convolution's lanes to those behind it."""
        return converter(self.op.accumulator, self.elements, self.pe, self.lanes_out)

    @property
    def scaling(self) -> LayerScalingConfig:
        """What makes words of sums."""
        return LayerScalingConfig(
            op=self.op,
            order=self.orders.order,
            positions=self.positions,
            channels=self.channels,
            lanes=self.lanes_out,
            multipliers=self.constants["multipliers"],
            offsets=self.constants["offsets"],
        )

    @property
    def loop_converter(self) -> WidthConverterConfig | None:
        """From the lanes behind the convolution to those before it."""
        return converter(self.op.output, self.elements, self.lanes_out, self.simd)

    @property
    def held_converter(self) -> WidthConverterConfig | None:
        """The contrary, for what a residual layer adds."""
        return converter(self.op.output, self.elements, self.simd, self.lanes_out)

    @property
    def loop_queue(self) -> DeepFifoConfig:
        """A whole map between two layers."""
        return DeepFifoConfig(element=self.op.output, lanes=self.simd, depth=max(3, self.entry.beats), registered=True)

    @property
    def held(self) -> DeepFifoConfig:
        """A residual layer's input while its sums are made: what the line buffer holds, and what is behind it."""
        depth = (self.windows.buffer_rows + 2) * self.windows.row_beats_in
        return DeepFifoConfig(element=self.op.output, lanes=self.simd, depth=depth)

    @property
    def memory(self) -> KernelMemoryConfig:
        """The kernels' memory."""
        return KernelMemoryConfig(
            outputs=self.channels,
            inputs=self.channels,
            places=KERNEL_AREA,
            pe=self.pe,
            simd=self.simd,
            groups=pe_groups(self.pe),
            weight_format=KERNEL,
            lanes=self.kernels.lanes,
            reads=self.positions,
        )

    @cached_property
    def kernels(self) -> GeneratorConfig:
        """The generator: the least multipliers at which a layer's kernels take no longer than its convolution.

        If there are none, those that take the least time.
        """
        group = self.pe // pe_groups(self.pe)
        lanes = [one for one in divisors(self.pe) if group % one == 0 or one % group == 0]
        found = [one for count in lanes for one in self._generators(count)]
        hidden = [one for one in found if one.layer_cycles <= self.convolution.interval]
        if not hidden:
            return min(found, key=lambda one: (one.layer_cycles, _products(one)))
        return min(hidden, key=lambda one: (_products(one), one.layer_cycles))

    @cached_property
    def _sum_formats(self) -> dict[str, NumberFormat]:
        assert isinstance(self.op.generator, EulerGenerator)
        return sum_formats(self.op.generator, self.constants)

    def _generators(self, lanes: int) -> list[GeneratorConfig]:
        order = self.orders.order
        if isinstance(self.op.generator, EulerGenerator):
            formats = self._sum_formats
            return [
                EulerGeneratorConfig(
                    generator=self.op.generator,
                    order=order,
                    channels=self.channels,
                    constants=self.constants,
                    formats=formats,
                    lanes=lanes,
                    taps=taps,
                    simd=simd,
                    pace=self.convolution.interval,
                )
                for taps in ("column", "window")
                for simd in divisors(self.channels)
                if simd % lanes == 0 or lanes % simd == 0
            ]
        factors = LayerFactorsConfig(op=self.op, order=order, channels=self.channels, constants=self.constants)
        return [
            LowRankGeneratorConfig(factors=factors, lanes=lanes, simd=simd) for simd in divisors(self.op.generator.rank)
        ]


def _products(generator: GeneratorConfig) -> int:
    """Multipliers of a generator, about."""
    match generator:
        case EulerGeneratorConfig():
            return generator.lanes * (generator.terms + generator.simd + generator.depthwise.engine.simd + 1)
        case LowRankGeneratorConfig():
            return generator.lanes * generator.simd + generator.columns.lanes


class GeneratedLayers(wiring.Component):
    """Convolves a map as often as its frame's complexity says, with kernels that are generated meanwhile.

    A map goes round: windows, products with the kernels of its layer, scaling, and a queue that holds a map. Kernels
    lie in a memory of two halves: while one is convolved with, the next layer's, or the next frame's first, are
    written to the other. A layer begins as soon as the first rows of the layer before and its kernels are there.

    Throughput a frame every depth times ``config.convolution.interval`` cycles where the generator keeps up; interval
    and latency as `karui.hw.plan.generated_stage.GeneratedStageConfig` predicts them, to the cycle, for each depth.

    Parameters
    ----------
    config : GeneratedLayersConfig

    Members
    -------
    i_0 : In(stream)
        Maps [height, width, channels] in raster order, `simd` channels a beat.
    i_1 : In(stream)
        Complexities, one a frame.
    o : Out(stream)
        Maps, ``config.lanes_out`` channels a beat.
    """

    i_0: stream.Interface
    i_1: stream.Interface
    o: stream.Interface

    def __init__(self, config: GeneratedLayersConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i_0": In(stream.Signature(lanes_of(config.op.output, config.simd))),
                "i_1": In(stream.Signature(lanes_of(config.complexity, 1))),
                "o": Out(stream.Signature(lanes_of(config.op.output, config.lanes_out))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.orders = orders = FrameOrders(config.orders)
        m.submodules.kernels = kernels = _generator(config.kernels)
        m.submodules.memory = memory = KernelMemory(config.memory)
        m.submodules.entry = entry = LoopEntry(config.entry)
        m.submodules.windows = windows = SlidingWindow(config.windows)
        m.submodules.convolution = convolution = MatrixVector(config.convolution)
        m.submodules.scaling = scaling = LayerScaling(config.scaling)
        m.submodules.loop = loop = DeepFifo(config.loop_queue)
        wiring.connect(m, wiring.flipped(self.i_1), orders.i)
        wiring.connect(m, orders.outputs[0], entry.orders)
        wiring.connect(m, orders.outputs[1], scaling.orders)
        for reader, order in enumerate(orders.outputs[2:]):
            wiring.connect(m, order, getattr(kernels, f"orders_{reader}"))
        m.d.comb += kernels.given.eq(orders.given)
        wiring.connect(m, kernels.o, memory.i)
        wiring.connect(m, memory.o, convolution.weights)

        wiring.connect(m, wiring.flipped(self.i_0), entry.i)
        if config.op.residual:
            m.submodules.held = held = DeepFifo(config.held)
            to_both(m, entry.o, windows.i, held.i)
            chain(m, "held_converter", held.o, config.held_converter, scaling.before)
        else:
            wiring.connect(m, entry.o, windows.i)
        wiring.connect(m, windows.o, convolution.i)
        chain(m, "sums_converter", convolution.o, config.sums_converter, scaling.i)
        chain(m, "loop_converter", scaling.again, config.loop_converter, loop.i)
        wiring.connect(m, loop.o, entry.again)
        wiring.connect(m, scaling.o, wiring.flipped(self.o))
        return m


def _generator(config: GeneratorConfig) -> EulerKernels | LowRankKernels:
    match config:
        case EulerGeneratorConfig():
            return EulerKernels(config)
        case LowRankGeneratorConfig():
            return LowRankKernels(config)
