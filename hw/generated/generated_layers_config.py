"""Parameters of layers with generated kernels: the parts that they are made of, and the generator that keeps up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from karui.hw.engines.matrix_vector import MatrixVectorConfig, pe_groups
from karui.hw.engines.sliding_window import SlidingWindowConfig
from karui.hw.generated.euler_generator import ORDERS as EULER_ORDERS
from karui.hw.generated.euler_generator import EulerGeneratorConfig, sum_formats
from karui.hw.generated.frame_orders import FrameOrdersConfig
from karui.hw.generated.joints import converter
from karui.hw.generated.kernel_memory import KERNEL_READ_LATENCY, KernelMemoryConfig
from karui.hw.generated.layer_factors import LayerFactorsConfig
from karui.hw.generated.layer_scaling import LayerScalingConfig
from karui.hw.generated.loop_entry import LoopEntryConfig
from karui.hw.generated.low_rank_generator import ORDERS as LOW_RANK_ORDERS
from karui.hw.generated.low_rank_generator import LowRankGeneratorConfig
from karui.hw.memory.deep_fifo import DeepFifoConfig
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
