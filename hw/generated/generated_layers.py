"""Layers with generated kernels: one convolution engine that a frame's map goes through as often as it is deep."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.engines.matrix_vector import MatrixVector
from karui.hw.engines.sliding_window import SlidingWindow
from karui.hw.generated.euler_generator import EulerGeneratorConfig, EulerKernels
from karui.hw.generated.frame_orders import FrameOrders
from karui.hw.generated.generated_layers_config import GeneratedLayersConfig, GeneratorConfig
from karui.hw.generated.joints import chain, to_both
from karui.hw.generated.kernel_memory import KernelMemory
from karui.hw.generated.layer_scaling import LayerScaling
from karui.hw.generated.loop_entry import LoopEntry
from karui.hw.generated.low_rank_generator import LowRankGeneratorConfig, LowRankKernels
from karui.hw.memory.deep_fifo import DeepFifo
from karui.hw.streams.stream import lanes_of


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
