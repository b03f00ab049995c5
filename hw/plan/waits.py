"""Waits that components have in common: ends of pipelines, buffers that replay vectors, line buffers."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import unsigned

from karui.hw.engines.tap_window import TapWindowConfig
from karui.hw.memory.replay_buffer import REPLAY_DELAY, ReplayBufferConfig
from karui.hw.memory.window_rows import WindowsConfig
from karui.hw.plan.event_graph import EventGraph
from karui.hw.streams.stream import FIFO_LATENCY, ElasticOutputConfig
from karui.hw.streams.timing import Cycles


def elastic(graph: EventGraph, begins: int, output: int, *, latency: int, period: int = 1) -> None:
    """An `ElasticOutput`, behind a pipeline that begins a result at each of the events."""
    places = ElasticOutputConfig(payload=unsigned(1), period=period, latency=latency).depth
    graph.wait(output, begins, latency + FIFO_LATENCY)
    graph.wait(begins, output, 1, lag=places)


def elastic_at(graph: EventGraph, steps: int, completing: Cycles, output: int, *, latency: int) -> None:
    """An `ElasticOutput` of results that only some of the steps complete; those wait for a place."""
    places = ElasticOutputConfig(payload=unsigned(1), period=1, latency=latency).depth
    results = np.arange(len(completing))
    graph.wait_at(output, results, steps, completing, latency + FIFO_LATENCY)
    graph.wait_at(steps, completing, output, results - places, 1)


def replayed(
    graph: EventGraph, beats: int, output: int, replay: ReplayBufferConfig, *, latency: int, runs: int = 1
) -> tuple[int, int]:
    """A `ReplayBuffer`, and a pipeline that makes each result of so many of its passes.

    Returns the takes of each vector's first pass, word by word, and the first cycles of all results.
    """
    words, results = replay.words, replay.passes // runs
    count = graph.size(beats)
    vectors = np.arange(count // words)
    # Cycles of a result after its first pass.
    rest = (runs - 1) * words
    result_latency = rest + words - 1 + latency
    places = ElasticOutputConfig(payload=unsigned(1), period=rest + words, latency=result_latency).depth
    # The first pass takes the words as they come; results stop at most before they begin.
    takes = graph.events(count)
    graph.wait(takes, beats, REPLAY_DELAY)
    begins = graph.events(graph.size(output), rest + words)
    first, last_words = vectors * results, (vectors + 1) * words - 1
    graph.wait_at(begins, first, takes, vectors * words, 0)
    graph.wait_at(takes, vectors * words, begins, first, 0)
    graph.wait(begins, output, 1, lag=places)
    graph.wait(output, begins, result_latency + FIFO_LATENCY)
    graph.wait_at(output, first, takes, last_words, rest + latency + FIFO_LATENCY)
    if replay.passes == 1:
        graph.wait(beats, takes, 1, lag=replay.capacity)
        return takes, begins
    if results > 1:
        graph.wait_at(begins, first + 1, takes, last_words, rest + 1)
    else:
        graph.wait_at(begins, first, takes, vectors * words - 1, rest + 1)
    # A word's place is free when the last pass has taken it.
    frees = graph.events(count)
    if results > 1:
        graph.wait_at(frees, vectors * words, begins, first + results - 1, rest)
    else:
        graph.wait_at(frees, vectors * words, takes, last_words, rest - words + 1)
    graph.wait(beats, frees, 1, lag=replay.capacity)
    return takes, begins


def line_buffer(config: WindowsConfig, graph: EventGraph, beats: int, steps: int) -> None:
    """A line buffer: rows of windows wait for rows of the map, and these for places that rows of windows release.

    A frame may be of several maps.
    """
    map_beats, map_steps = config.height * config.row_beats_in, config.output_height * config.row_steps
    maps = np.arange(graph.size(beats) // map_beats)
    rows = np.arange(config.output_height)
    needed = np.array([row.needed for row in config.window_rows])
    released = np.array([row.released for row in config.window_rows])
    last_needed = np.cumsum(released) - released + needed - 1
    graph.wait_at(
        steps,
        np.add.outer(maps * map_steps, rows * config.row_steps).reshape(-1),
        beats,
        np.add.outer(maps * map_beats, (last_needed + 1) * config.row_beats_in - 1).reshape(-1),
        1,
    )
    frames = 2 + config.buffer_rows // config.stored_rows
    makes_room = config.makes_room(frames)[-config.stored_rows :] - (frames - 1) * config.output_height
    stored = np.arange(config.stored_rows)
    graph.wait_at(
        beats,
        np.add.outer(maps * map_beats, stored * config.row_beats_in).reshape(-1),
        steps,
        np.add.outer(maps * map_steps, (makes_room + 1) * config.row_steps - 1).reshape(-1),
        1,
    )


def taps(config: TapWindowConfig, graph: EventGraph, beats: int, output: int, *, latency: int) -> None:
    """Steps through the columns of windows; every one of them waits for a place for the result that is next."""
    maps = graph.size(beats) // (config.height * config.row_beats_in)
    count = maps * config.output_height * config.row_steps
    steps = graph.events(count)
    line_buffer(config, graph, beats, steps)
    starts = np.arange(maps * config.output_height) * config.row_steps
    words = np.add.outer(starts, config.completing_steps).reshape(-1)
    completing = words[config.words_per_window - 1 :: config.words_per_window]
    results = np.arange(len(completing))
    graph.wait_at(output, results, steps, completing, latency + FIFO_LATENCY)
    places = ElasticOutputConfig(payload=unsigned(1), period=1, latency=latency).depth
    following = np.searchsorted(completing, np.arange(count))
    graph.wait_at(steps, np.arange(count), output, following - places, 1)
