"""Which transfers inside layers with generated kernels wait for which, for frames of one depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from karui.hw.generated.euler_generator import EulerGeneratorConfig
from karui.hw.generated.euler_update import BEGIN_LATENCY
from karui.hw.generated.frame_orders import GIVEN_LATENCY, ORDERS_LATENCY
from karui.hw.generated.generated_layers_config import GeneratedLayersConfig
from karui.hw.generated.kernel_memory import HALVES, WRITE_DELAY, KernelMemoryConfig
from karui.hw.generated.loop_entry import FRAME_GAP, KNOWN_LATENCY
from karui.hw.generated.low_rank_generator import LowRankGeneratorConfig
from karui.hw.generated.outer_columns import START_LATENCY, OuterColumnsConfig
from karui.hw.memory.deep_fifo import DeepFifoConfig
from karui.hw.memory.replay_buffer import ReplayBufferConfig
from karui.hw.plan.event_graph import EventGraph
from karui.hw.plan.fifo_depths import Queue
from karui.hw.plan.waits import elastic, replayed
from karui.hw.streams.width_converter import WidthConverterConfig


class InnerTransfers(Protocol):
    """`karui.hw.plan.transfers.connect`."""

    def __call__(self, config: object, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Let the transfers of a component wait for one another."""


class GeneratedTransfers:
    """Adds the waits of `GeneratedLayers` to a graph.

    Parameters
    ----------
    config : GeneratedLayersConfig
    depth : int
        Of the frames.
    graph : EventGraph
        Takes up the waits.
    connect : callable
        Adds those of a component inside.
    """

    def __init__(self, config: GeneratedLayersConfig, depth: int, graph: EventGraph, connect: InnerTransfers) -> None:
        self._config = config
        self._depth = depth
        self._graph = graph
        self._connect = connect

    def connect(self, maps: int, complexity: int, output: int) -> None:
        """Add the waits between maps and complexities in, and maps out."""
        config, graph, depth = self._config, self._graph, self._depth
        entry = self._entry(maps, complexity)
        windows = graph.events(depth * config.positions * config.convolution.inputs // config.simd)
        self._connect(config.windows, graph, [entry], [windows])
        results = graph.events(depth * config.elements // config.pe)
        convolution = config.convolution
        takes, begins = replayed(graph, windows, results, convolution.replay, latency=convolution.pipeline_latency)
        sums = self._converted(config.sums_converter, results)
        self._orders(complexity, sums)
        if config.op.residual:
            before = self._converted(config.held_converter, self._queue(config.held, entry))
            self._together(sums, before)
        words = graph.events(graph.size(sums))
        elastic(graph, sums, words, latency=config.scaling.latency)
        self._part(output, words, (depth - 1) * graph.size(output))
        self._round(config.loop_converter, config.loop_queue, words, entry)

        kernels = self.kernels(complexity)
        starts = np.arange(1, depth + 1) * config.memory.beats - 1
        filled = graph.events(depth)
        graph.wait_at(filled, np.arange(depth), kernels, starts, WRITE_DELAY)
        released = self._read(config.memory, convolution.replay, filled, takes, begins)
        first = np.arange(depth)
        graph.wait_at(kernels, first * config.memory.beats, released, first - HALVES, config.memory.release_delay)

    def kernels(self, complexity: int) -> int:
        """Add the waits of the generator alone; returns the transfers of the kernels that leave it."""
        match self._config.kernels:
            case EulerGeneratorConfig() as generator:
                return self._euler(generator, complexity)
            case LowRankGeneratorConfig() as generator:
                return self._low_rank(generator, complexity)

    def _euler(self, generator: EulerGeneratorConfig, complexity: int) -> int:
        """The kernels' transfers, by Euler steps."""
        graph, depth, only = self._graph, self._depth, np.array([0])
        first, vectors = self._columns(generator.columns, generator.columns_converter, 1)
        graph.wait_at(first, only, complexity, only, GIVEN_LATENCY + START_LATENCY)
        pattern = graph.events(generator.beats)
        self._connect(generator.pattern, graph, [vectors], [pattern])
        self._orders(complexity, pattern)
        state = graph.events(generator.beats)
        elastic(graph, pattern, state, latency=BEGIN_LATENCY)
        entry = self._entry(state, complexity)
        smooth, rounded = graph.events(depth * generator.beats), graph.events(depth * generator.beats)
        self._connect(generator.depthwise, graph, [entry], [smooth])
        self._connect(generator.smoothed, graph, [smooth], [rounded])
        slopes = graph.events(depth * generator.beats)
        pointwise = self._converted(generator.pointwise_converter, rounded)
        self._connect(generator.pointwise, graph, [pointwise], [slopes])
        self._together(slopes, self._queue(generator.held, entry))
        self._orders(complexity, slopes)
        kernels = graph.events(depth * generator.beats)
        elastic(graph, slopes, kernels, latency=generator.loop.update_latency)
        self._round(None, generator.loop_queue, kernels, entry)
        return kernels

    def _low_rank(self, generator: LowRankGeneratorConfig, complexity: int) -> int:
        """The kernels' transfers, from factors of each layer."""
        graph, depth, factors = self._graph, self._depth, generator.factors
        layers, only = np.arange(depth), np.array([0])
        passes = graph.events(depth, factors.pass_cycles)
        graph.wait_at(passes, only, passes, only - 1, factors.pass_cycles + KNOWN_LATENCY)
        graph.wait_at(passes, only, complexity, only, ORDERS_LATENCY + KNOWN_LATENCY)
        filled = graph.events(depth)
        graph.wait(filled, passes, factors.pass_cycles - 1 + WRITE_DELAY)
        _, vectors = self._columns(generator.columns, generator.columns_converter, depth)
        kernels = graph.events(depth * generator.products.positions * generator.products.output_fold)
        products = generator.products
        takes, begins = replayed(graph, vectors, kernels, products.replay, latency=products.pipeline_latency)
        released = self._read(generator.memory, products.replay, filled, takes, begins)
        graph.wait_at(passes, layers, released, layers - HALVES, generator.memory.release_delay)
        return kernels

    def _columns(
        self, columns: OuterColumnsConfig, converter: WidthConverterConfig | None, maps: int
    ) -> tuple[int, int]:
        """Steps and transfers of outer columns."""
        steps, vectors = (self._graph.events(maps * columns.beats) for _ in range(2))
        elastic(self._graph, steps, vectors, latency=columns.latency)
        return steps, self._converted(converter, vectors)

    def _read(
        self, memory: KernelMemoryConfig, replay: ReplayBufferConfig, filled: int, takes: int, begins: int
    ) -> int:
        """Let products wait for the matrix of their layer; returns the cycles of each matrix' last take."""
        graph, layers = self._graph, np.arange(self._depth)
        words, results = memory.reads * replay.words, memory.reads * replay.passes
        graph.wait_at(takes, layers * words, filled, layers, 0)
        released = graph.events(self._depth)
        if replay.passes == 1:
            graph.wait_at(released, layers, takes, (layers + 1) * words - 1, 0)
        else:
            graph.wait_at(released, layers, begins, (layers + 1) * results - 1, replay.words - 1)
        return released

    def _entry(self, beats: int, complexity: int) -> int:
        """All that enters a loop, of which the first map comes from outside."""
        entry = self._graph.events(self._depth * self._graph.size(beats))
        self._part(beats, entry, 0)
        self._orders(complexity, entry)
        return entry

    def _orders(self, complexity: int, beats: int) -> None:
        """A frame's beats wait for its order, and for the frame before."""
        only = np.array([0])
        self._graph.wait_at(beats, only, complexity, only, ORDERS_LATENCY + KNOWN_LATENCY)
        self._graph.wait_at(beats, only, beats, only - 1, FRAME_GAP)

    def _round(self, converter: WidthConverterConfig | None, queue: DeepFifoConfig, results: int, entry: int) -> None:
        """The way from a loop's results to its entry, for all layers but the last."""
        graph, depth = self._graph, self._depth
        if depth == 1:
            return
        leaves = graph.events(graph.size(results) // depth * (depth - 1))
        self._part(leaves, results, 0)
        again = self._queue(queue, self._converted(converter, leaves))
        self._part(again, entry, graph.size(entry) // depth)

    def _converted(self, converter: WidthConverterConfig | None, beats: int) -> int:
        if converter is None:
            return beats
        converted = self._graph.events(self._graph.size(beats) * converter.lanes_in // converter.lanes_out)
        self._connect(converter, self._graph, [beats], [converted])
        return converted

    def _queue(self, config: DeepFifoConfig, writes: int) -> int:
        """The reads of a FIFO."""
        reads = self._graph.events(self._graph.size(writes))
        queue = Queue.connect(self._graph, writes, reads, config.lanes * config.element.bits)
        self._graph.wait(queue.writes, queue.moves, 1, lag=config.depth - 1)
        if not config.registered:
            return reads
        # The register takes a word as it gives one.
        registered = self._graph.events(self._graph.size(reads))
        self._graph.wait(registered, reads, 1)
        self._graph.wait(reads, registered, 0, lag=1)
        return registered

    def _together(self, one: int, other: int) -> None:
        """Beats of two streams are taken at once."""
        self._graph.wait(one, other, 0)
        self._graph.wait(other, one, 0)

    def _part(self, part: int, whole: int, start: int) -> None:
        """Beats of a stream are some of another's."""
        own = np.arange(self._graph.size(part))
        self._graph.wait_at(part, own, whole, own + start, 0)
        self._graph.wait_at(whole, own + start, part, own, 0)
