"""Which transfers of a component wait for which: one function a kind of component.

A beat is transferred when it is there and its reader has room for it. So its cycle follows from others: the beats
that the result is made of came in, results before it made room at the output, a row of the line buffer was released.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

import numpy as np
from amaranth.hdl import unsigned

from karui.hw.activations.double_rounding import DoubleRoundingConfig
from karui.hw.activations.requantize import RequantizeConfig
from karui.hw.activations.threshold import ThresholdConfig
from karui.hw.compressed.sparse_matrix_vector import SparseMatrixVectorConfig
from karui.hw.engines.add import LATENCY as ADD_LATENCY
from karui.hw.engines.add import AddConfig
from karui.hw.engines.arg_max import ArgMaxConfig
from karui.hw.engines.bit_plane_engine import BitPlaneEngineConfig
from karui.hw.engines.channel_shuffle import READ_LATENCY as SHUFFLE_LATENCY
from karui.hw.engines.channel_shuffle import ChannelShuffleConfig
from karui.hw.engines.complexity_config import STORE_LATENCY, ComplexityConfig
from karui.hw.engines.concat import LATENCY as CONCAT_LATENCY
from karui.hw.engines.concat import ConcatConfig
from karui.hw.engines.constant_engine import ConstantEngineConfig
from karui.hw.engines.depthwise_conv import ConstantDepthwiseConvConfig
from karui.hw.engines.fourier_sums import HALVES
from karui.hw.engines.gather import READ_LATENCY as GATHER_LATENCY
from karui.hw.engines.gather import GatherConfig
from karui.hw.engines.histogram_sum import BANKS
from karui.hw.engines.pool_config import ADJOINING_LATENCY, PoolConfig
from karui.hw.engines.prediction_source import BUFFERS, PassingPredictionsConfig
from karui.hw.engines.repeat import READ_LATENCY as REPEAT_LATENCY
from karui.hw.engines.repeat import RepeatConfig
from karui.hw.engines.routing import RoutingConfig
from karui.hw.engines.sliding_window import READ_LATENCY, SlidingWindowConfig
from karui.hw.engines.squared_length import SquaredLengthConfig
from karui.hw.engines.squash import SquashConfig
from karui.hw.engines.walsh_hadamard import WalshHadamardConfig
from karui.hw.memory.replay_buffer import REPLAY_DELAY
from karui.hw.plan.event_graph import EventGraph
from karui.hw.plan.fifo_depths import Queue
from karui.hw.plan.generated_stage import GeneratedStageConfig
from karui.hw.plan.generated_transfers import GeneratedTransfers
from karui.hw.plan.waits import elastic, elastic_at, line_buffer, replayed, taps
from karui.hw.streams.fork import ForkConfig
from karui.hw.streams.stream import FIFO_LATENCY, ElasticOutputConfig
from karui.hw.streams.width_converter import WidthConverterConfig


@singledispatch
def connect(config: object, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    """Let the transfers of a component wait for one another.

    Parameters
    ----------
    config : StreamConfig
        The component's parameters.
    graph : EventGraph
        Takes up the waits.
    inputs, outputs : sequence of int
        The events of the beats' transfers at each of the component's streams.
    """
    raise TypeError(f"which transfers of a {type(config).__name__} wait for which is not known")


def connect_skid_buffer(graph: EventGraph, beats: int, output: int) -> None:
    """Let the beats out of a `SkidBuffer` wait for those into it, and for room."""
    graph.wait(output, beats, 1)
    graph.wait(beats, output, 1, lag=2)


def connect_reverse_slice(graph: EventGraph, beats: int, output: int) -> None:
    """Let the beats out of a `ReverseSlice` leave as they come, and those into it wait for its register."""
    graph.wait(output, beats, 0)
    graph.wait(beats, output, 1, lag=1)


@connect.register
def _(config: ForkConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    offered = graph.events(graph.size(inputs[0]))
    graph.wait(offered, inputs[0], 1)
    for output in outputs:
        graph.wait(output, offered, 0)
        graph.wait(offered, output, 1, lag=1)
        graph.wait(inputs[0], output, 1, lag=2)


@connect.register
def _(config: AddConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    first, second = inputs
    graph.wait(first, second, 0)
    graph.wait(second, first, 0)
    elastic(graph, first, outputs[0], latency=ADD_LATENCY)


@connect.register
def _(config: ConcatConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    whole = graph.events(graph.size(outputs[0]))
    beats = np.arange(graph.size(whole)).reshape(config.positions, -1)
    for part, places in zip(inputs, np.split(beats, np.cumsum(config.pixel_beats)[:-1], axis=1), strict=True):
        own, of_whole = np.arange(graph.size(part)), places.reshape(-1)
        graph.wait_at(whole, of_whole, part, own, 0)
        graph.wait_at(part, own, whole, of_whole, 0)
    elastic(graph, whole, outputs[0], latency=CONCAT_LATENCY)


@connect.register(ThresholdConfig)
@connect.register(RequantizeConfig)
@connect.register(DoubleRoundingConfig)
def _(
    config: ThresholdConfig | RequantizeConfig | DoubleRoundingConfig,
    graph: EventGraph,
    inputs: Sequence[int],
    outputs: Sequence[int],
) -> None:
    elastic(graph, inputs[0], outputs[0], latency=config.latency)


@connect.register
def _(config: SquashConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    places = ElasticOutputConfig(payload=unsigned(1), period=1, latency=config.latency).depth
    first = np.arange(0, graph.size(outputs[0]), config.folds)
    # The others of a vector's beats follow at once.
    graph.wait_at(outputs[0], first, inputs[0], first + config.folds - 1, config.vector_latency + FIFO_LATENCY)
    graph.wait(inputs[0], outputs[0], 1, lag=places)


@connect.register
def _(config: RoutingConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    if isinstance(config.predictions, PassingPredictionsConfig):
        _passing(config, config.predictions, graph, inputs[0], outputs[0])
        return
    first, last, only = graph.events(1), graph.events(1), np.array([0])
    # A frame's passes begin when all of its predictions are there; the last one of them waits for room for its result.
    graph.wait_at(first, only, inputs[0], np.array([config.beats - 1]), 1)
    graph.wait_at(last, only, first, only, (config.op.iterations - 1) * config.iteration_cycles)
    graph.wait_at(last, only, outputs[0], np.array([(1 - config.results) * config.turn - 1]), 1)
    graph.wait_at(first, only, last, only - 1, config.pass_cycles + 1)
    graph.wait_at(inputs[0], only, last, only - BUFFERS, config.pass_cycles + 1)
    graph.wait_at(outputs[0], only, last, only, config.result_latency)


def _passing(
    config: RoutingConfig, predictions: PassingPredictionsConfig, graph: EventGraph, words: int, output: int
) -> None:
    """Passes that take predictions as they come."""
    takes, starts = graph.events(graph.size(words)), graph.events(config.op.iterations)
    queue = Queue.connect(graph, words, takes, predictions.lanes * predictions.element.bits)
    graph.wait(words, queue.moves, 1, lag=predictions.depth - 1)
    # A prediction is taken when its last beat is behind the queue.
    begins = np.arange(0, graph.size(words), predictions.folds)
    graph.wait_at(takes, begins, words, begins + predictions.folds - 1, FIFO_LATENCY)
    passes = np.arange(config.op.iterations)
    graph.wait_at(takes, passes * config.beats, starts, passes, 1)
    # Behind the last prediction of a pass there are the steps that weigh, then the output capsules become ready.
    steps = config.pass_cycles - config.beats
    graph.wait_at(starts, passes[1:], takes, passes[1:] * config.beats - 1, steps + config.vector_latency + 1)
    graph.wait_at(starts, passes[:1], takes, passes[:1] - 1, steps + 1)
    only, end = np.array([0]), passes[-1:]
    graph.wait_at(starts, end, output, np.array([(1 - config.results) * config.turn - 1]), 1)
    last = (end + 1) * config.beats - 1
    graph.wait_at(output, only, takes, last, config.result_latency - config.pass_cycles + steps)


@connect.register
def _(config: ComplexityConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    (words,), only, frame = inputs, np.array([0]), config.beats
    # Passes over rows and columns, between which there is a cycle.
    rows, columns = (graph.events(1, sums.cycles + 1) for sums in (config.rows, config.columns))
    # An image begins when a half of the memory is free and a histogram clear.
    graph.wait_at(words, only, rows, only - HALVES, config.rows.cycles + 1)
    graph.wait_at(words, only, words, only - 1 - (BANKS - 1) * frame, config.pixels.clear_cycles)
    if config.is_paced:
        graph.wait_at(words, only, words, only - frame, config.interval)
    graph.wait_at(rows, only, words, only + frame - 1, STORE_LATENCY)
    graph.wait_at(rows, only, columns, only - HALVES, config.columns.cycles + 1)
    graph.wait_at(columns, only, rows, only, config.rows.cycles + config.row_latency)
    cleared = config.columns.cycles + config.column_latency + config.magnitudes.clear_cycles
    graph.wait_at(columns, only, columns, only - BANKS, cleared)
    elastic(graph, columns, outputs[0], latency=config.result_latency, period=config.output.period)


@connect.register(ArgMaxConfig)
@connect.register(SquaredLengthConfig)
def _(
    config: ArgMaxConfig | SquaredLengthConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]
) -> None:
    places = ElasticOutputConfig(payload=unsigned(1), period=config.beats, latency=config.latency).depth
    vectors = np.arange(graph.size(outputs[0]))
    last = (vectors + 1) * config.beats - 1
    graph.wait_at(outputs[0], vectors, inputs[0], last, config.latency + FIFO_LATENCY)
    graph.wait_at(inputs[0], last, outputs[0], vectors - places, 1)


@connect.register
def _(config: ConstantEngineConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    engine = config.engine
    runs = engine.rounds * engine.turns if isinstance(engine, BitPlaneEngineConfig) else 1
    replayed(graph, inputs[0], outputs[0], engine.replay, latency=engine.pipeline_latency, runs=runs)


@connect.register
def _(config: SparseMatrixVectorConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    vectors, words, row_steps = np.arange(config.positions), config.input_fold, sum(config.steps)
    passes = graph.events(config.positions, config.period)
    rows = graph.events(config.positions * row_steps)
    graph.wait_at(passes, vectors, inputs[0], (vectors + 1) * words - 1, 2)
    before = config.pass_cycles + config.release_cycles + 1
    graph.wait_at(inputs[0], vectors * words, passes, vectors - config.buffers, before)
    # Sums have a place each in two halves of the memories.
    graph.wait_at(rows, vectors * row_steps, passes, vectors, config.pass_cycles + config.completion_cycles + 1)
    graph.wait_at(passes, vectors, rows, (vectors - 1) * row_steps - 1, 1)
    beats = np.arange(graph.size(outputs[0]))
    ends = np.add.outer(vectors * row_steps, np.cumsum(config.steps)).reshape(-1) - 1
    begins = ends + 1 - np.tile(config.steps, config.positions)
    latency = config.result_latency + max(config.steps) - 1
    places = ElasticOutputConfig(payload=unsigned(1), period=1, latency=latency).depth
    graph.wait_at(outputs[0], beats, rows, ends, config.result_latency + FIFO_LATENCY)
    graph.wait_at(rows, begins, outputs[0], beats - places, 1)


@connect.register
def _(config: SlidingWindowConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    steps = graph.events(graph.size(outputs[0]))
    line_buffer(config, graph, inputs[0], steps)
    elastic(graph, steps, outputs[0], latency=READ_LATENCY)


@connect.register
def _(config: ConstantDepthwiseConvConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    taps(config.engine.windows, graph, inputs[0], outputs[0], latency=config.engine.pipeline_latency)


@connect.register
def _(config: PoolConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    if not config.adjoins:
        taps(config.windows, graph, inputs[0], outputs[0], latency=config.overlapping_latency)
        return
    beats = np.arange(graph.size(inputs[0])).reshape(config.height, config.width, config.pixel_beats)
    rows = np.arange(1, config.output_height + 1) * config.kernel[0] - 1
    columns = np.arange(1, config.output_width + 1) * config.kernel[1] - 1
    elastic_at(graph, inputs[0], beats[rows][:, columns].reshape(-1), outputs[0], latency=ADJOINING_LATENCY)


@connect.register
def _(config: GeneratedStageConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    maps, complexity = inputs
    GeneratedTransfers(config.layers, config.depth, graph, connect).connect(maps, complexity, outputs[0])


@connect.register
def _(config: ChannelShuffleConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    if config.words == 1:
        connect_skid_buffer(graph, inputs[0], outputs[0])
        return
    takes = graph.events(graph.size(outputs[0]))
    first = np.arange(config.positions) * config.words
    last = first + config.words - 1
    graph.wait_at(takes, first, inputs[0], last, 1)
    graph.wait_at(inputs[0], first, takes, last - 2 * config.words, 1)
    elastic(graph, takes, outputs[0], latency=SHUFFLE_LATENCY)


@connect.register
def _(config: GatherConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    takes = graph.events(graph.size(outputs[0]))
    vectors = np.arange(config.positions)
    graph.wait_at(takes, vectors * config.words_out, inputs[0], (vectors + 1) * config.words_in - 1, 1)
    graph.wait_at(inputs[0], vectors * config.words_in, takes, (vectors - 1) * config.words_out - 1, 1)
    elastic(graph, takes, outputs[0], latency=GATHER_LATENCY)


@connect.register
def _(config: RepeatConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    count = graph.size(inputs[0])
    takes, beats = graph.events(graph.size(outputs[0])), np.arange(count)
    graph.wait_at(takes, beats, inputs[0], beats, REPLAY_DELAY)
    # A beat's place is free when it was handed out for the last time.
    frees = graph.events(count)
    graph.wait_at(frees, beats, takes, graph.size(takes) - count + beats, 0)
    graph.wait(inputs[0], frees, 1, lag=config.replay.capacity)
    elastic(graph, takes, outputs[0], latency=REPEAT_LATENCY)


@connect.register
def _(config: WalshHadamardConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    count = graph.size(inputs[0])
    steps = graph.events(count)
    beats = np.arange(count).reshape(-1, config.beats)
    # The first result leaves in the step that the last beat makes; the others have one each that needs no beat.
    graph.wait_at(steps, beats[:, 0], inputs[0], beats[:, -1], 0)
    graph.wait_at(inputs[0], beats[:, -1], steps, beats[:, 0], 0)
    early = beats[:, :-1].reshape(-1)
    graph.wait_at(inputs[0], early, steps, early - config.beats + 1, 0)
    elastic(graph, steps, outputs[0], latency=config.latency)


@connect.register
def _(config: WidthConverterConfig, graph: EventGraph, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    beats, words = np.arange(graph.size(inputs[0])), np.arange(graph.size(outputs[0]))
    if not config.is_multiple:
        aligned = graph.events(len(beats))
        leaves = graph.events(len(words))
        graph.wait(aligned, inputs[0], 1)
        graph.wait(inputs[0], aligned, 0, lag=1)
        completing = ((words + 1) * config.lanes_out - 1) // config.lanes_in
        graph.wait_at(leaves, words, aligned, completing, 1)
        # What is left of the beats before is at most a part of a word, but for the one that leaves meanwhile.
        graph.wait_at(aligned, beats, leaves, beats * config.lanes_in // config.lanes_out - 1, 0)
        connect_skid_buffer(graph, leaves, outputs[0])
        return
    if config.lanes_out > config.lanes_in:
        pieces = config.lanes_out // config.lanes_in
        shifts = graph.events(len(beats))
        last = (words + 1) * pieces - 1
        graph.wait(shifts, inputs[0], 1)
        graph.wait(inputs[0], shifts, 0, lag=1)
        graph.wait_at(outputs[0], words, shifts, last, config.widening_latency - 1)
        graph.wait_at(shifts, last, outputs[0], words - 1, 1)
        return
    pieces = config.lanes_in // config.lanes_out
    loads = graph.events(len(beats), pieces)
    first = beats * pieces
    graph.wait(loads, inputs[0], 1)
    graph.wait(inputs[0], loads, 1, lag=1)
    graph.wait_at(outputs[0], first, loads, beats, 1)
    graph.wait_at(loads, beats, outputs[0], first - 1, 0)
