"""How late the beats of a component may leave it without holding up what it takes in: one function a kind of buffer.

The latest cycles follow from the last beat to the first: a place of the input buffer has to be free when the next beat
for it comes, so what empties it has to be done; work follows work at a distance; and of the results that are under way
or wait at the output, there are never more than places for them.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np
from amaranth.hdl import unsigned

from karui.hw.channel_shuffle import READ_LATENCY as SHUFFLE_LATENCY
from karui.hw.channel_shuffle import ChannelShuffleConfig
from karui.hw.depthwise_conv import ConstantDepthwiseConvConfig
from karui.hw.engines import ConstantMatrixVectorConfig
from karui.hw.pool_config import PoolConfig
from karui.hw.requantize import RequantizeConfig
from karui.hw.sliding_window import READ_LATENCY, SlidingWindowConfig
from karui.hw.stream import FIFO_LATENCY, ElasticOutputConfig
from karui.hw.tap_window import TapWindowConfig
from karui.hw.threshold import ThresholdConfig
from karui.hw.timing import Cycles
from karui.hw.width_converter import WidthConverterConfig
from karui.hw.window_rows import WindowsConfig

NEVER = 1 << 60
"""A cycle that never comes: the deadline of what nothing waits for."""


@singledispatch
def deadlines(config: object, accepted: Cycles, departures: Cycles, limit: Cycles) -> Cycles:
    """The latest cycles in which output beats may be transferred.

    Parameters
    ----------
    config : StreamConfig
        The component's parameters. One without a function of its own is never late.
    accepted : ndarray of int64
        Cycles by which each input beat has to be accepted.
    departures : ndarray of int64
        Cycles in which each output beat leaves if nothing is late.
    limit : ndarray of int64
        Cycles by which each output beat has to leave for other reasons.
    """
    return departures


def _transfers(
    work: Cycles, distances: Cycles, *, latency: int, places: int, limit: Cycles, steps_wait: bool = False
) -> Cycles:
    """Latest transfers of results.

    Parameters
    ----------
    work : ndarray of int64
        Cycles by which the work for each result has to begin.
    distances : ndarray of int64
        Cycles from the beginning of each to that of the next, at least.
    latency : int
        Cycles from the beginning to the departure of the result.
    places : int
        Results under way or at the output, at most.
    limit : ndarray of int64
        Cycles by which each result has to leave.
    steps_wait : bool
        Whether not only the beginning waits for a place, but all steps from the beginning before on.
    """
    begins, leaves, gaps = work.tolist(), limit.tolist(), distances.tolist()
    for result in reversed(range(len(begins))):
        if (following := result + places) < len(begins):
            steps = gaps[following - 1] if steps_wait else 1
            leaves[result] = min(leaves[result], begins[following] - steps)
        begins[result] = min(begins[result], leaves[result] - latency)
        if result + 1 < len(begins):
            begins[result] = min(begins[result], begins[result + 1] - gaps[result])
    return np.array(leaves, dtype=np.int64)


def _places(latency: int, period: int = 1) -> int:
    return ElasticOutputConfig(payload=unsigned(1), period=period, latency=latency).depth


def _of_rows(config: WindowsConfig, latency: int, accepted: Cycles, departures: Cycles, limit: Cycles) -> Cycles:
    """The last step of a row of windows has to be done when the first beat comes for which it makes room."""
    frames = len(accepted) // (config.height * config.row_beats_in)
    makes_room = config.makes_room(frames)
    needed = accepted.reshape(frames, config.height, -1)[:, : config.stored_rows, 0].reshape(-1) - 1
    results = departures.reshape(frames * config.output_height, -1)
    work = np.full(results.shape, NEVER)
    np.minimum.at(work[:, -1], makes_room[makes_room >= 0], needed[makes_room >= 0])
    distances = np.empty(results.shape, dtype=np.int64)
    distances[:, :-1] = np.diff(results, axis=1)
    # A row's last result comes of its last step.
    distances[:, -1] = config.row_steps - (results[0, -1] - results[0, 0])
    return _transfers(
        work.reshape(-1),
        distances.reshape(-1),
        latency=latency + FIFO_LATENCY,
        places=_places(latency),
        limit=limit,
        steps_wait=isinstance(config, TapWindowConfig),
    )


@deadlines.register
def _(config: SlidingWindowConfig, accepted: Cycles, departures: Cycles, limit: Cycles) -> Cycles:
    return _of_rows(config, READ_LATENCY, accepted, departures, limit)


@deadlines.register
def _(config: ConstantDepthwiseConvConfig, accepted: Cycles, departures: Cycles, limit: Cycles) -> Cycles:
    return _of_rows(config.engine.windows, config.engine.pipeline_latency, accepted, departures, limit)


@deadlines.register
def _(config: PoolConfig, accepted: Cycles, departures: Cycles, limit: Cycles) -> Cycles:
    if config.adjoins:
        return departures
    return _of_rows(config.windows, config.overlapping_latency, accepted, departures, limit)


@deadlines.register
def _(config: ConstantMatrixVectorConfig, accepted: Cycles, departures: Cycles, limit: Cycles) -> Cycles:
    replay = config.engine.replay
    words, passes = replay.words, replay.passes
    # The last pass over a vector takes each word before the one comes that is to lie in its place.
    needed = np.full(len(accepted), NEVER)
    needed[: -replay.capacity] = accepted[replay.capacity :] - 1
    work = np.full((len(accepted) // words, passes), NEVER)
    work[:, -1] = (needed.reshape(-1, words) - np.arange(words)).min(axis=1)
    latency = words - 1 + config.engine.pipeline_latency
    return _transfers(
        work.reshape(-1),
        np.full(work.size, words),
        latency=latency + FIFO_LATENCY,
        places=_places(latency, words),
        limit=limit,
    )


@deadlines.register(ThresholdConfig)
@deadlines.register(RequantizeConfig)
def _(config: ThresholdConfig | RequantizeConfig, accepted: Cycles, departures: Cycles, limit: Cycles) -> Cycles:
    return _transfers(
        accepted,
        np.ones_like(accepted),
        latency=config.latency + FIFO_LATENCY,
        places=_places(config.latency),
        limit=limit,
    )


@deadlines.register
def _(config: ChannelShuffleConfig, accepted: Cycles, departures: Cycles, limit: Cycles) -> Cycles:
    if config.words == 1:
        return departures
    # Room for a pixel is there once the one before the last is read.
    work = np.full((len(accepted) // config.words, config.words), NEVER)
    work[:-2, -1] = accepted.reshape(work.shape)[2:, 0] - 1
    return _transfers(
        work.reshape(-1),
        np.ones_like(accepted),
        latency=SHUFFLE_LATENCY + FIFO_LATENCY,
        places=_places(SHUFFLE_LATENCY),
        limit=limit,
    )


@deadlines.register
def _(config: WidthConverterConfig, accepted: Cycles, departures: Cycles, limit: Cycles) -> Cycles:
    latest = np.minimum(limit, NEVER)
    behind = config.behind(len(accepted))
    np.minimum.at(latest, behind[behind >= 0], accepted[behind >= 0] - 1)
    order = np.arange(len(latest))
    return np.minimum.accumulate((latest - order)[::-1])[::-1] + order
