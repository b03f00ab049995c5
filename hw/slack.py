"""How long a component can put off its work without putting off what it takes in: one function a kind of buffer.

All work of a component is put off alike, so that its order and its distances stay; then only its input buffer matters:
each place of it must still be free when the next beat for it comes.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from karui.hw.depthwise_conv import ConstantDepthwiseConvConfig
from karui.hw.engines import ConstantMatrixVectorConfig
from karui.hw.pool_config import PoolConfig
from karui.hw.replay_buffer import REPLAY_DELAY, ReplayBufferConfig
from karui.hw.timing import Cycles, consecutive
from karui.hw.window_rows import WindowsConfig


@singledispatch
def slack(config: object, accepted: Cycles) -> int:
    """Cycles by which a component that takes its input at the given cycles may be late.

    Parameters
    ----------
    config : StreamConfig
        The component's parameters; 0 for those without an input buffer.
    accepted : ndarray of int64
        Cycles in which its input beats are transferred.
    """
    return 0


@slack.register
def _(config: WindowsConfig, accepted: Cycles) -> int:
    _, starts = config.row_starts(accepted)
    frames = len(accepted) // (config.height * config.row_beats_in)
    makes_room = config.makes_room(frames)
    first_beats = accepted.reshape(frames, config.height, -1)[:, : config.stored_rows, 0].reshape(-1)
    waits = makes_room >= 0
    return _least(first_beats[waits] - (starts[makes_room[waits]] + config.row_steps))


@slack.register
def _(config: ReplayBufferConfig, accepted: Cycles) -> int:
    _, last_takes = config.takes(accepted)
    if config.passes == 1:
        freed = consecutive(accepted + REPLAY_DELAY)
    else:
        freed = (last_takes[:, -1:] - np.arange(config.words)[::-1]).reshape(-1)
    return _least(accepted[config.capacity :] - (freed[: -config.capacity] + 1))


@slack.register
def _(config: ConstantMatrixVectorConfig, accepted: Cycles) -> int:
    return slack(config.engine.replay, accepted)


@slack.register
def _(config: ConstantDepthwiseConvConfig, accepted: Cycles) -> int:
    return slack(config.engine.windows, accepted)


@slack.register
def _(config: PoolConfig, accepted: Cycles) -> int:
    return 0 if config.adjoins else slack(config.windows, accepted)


def _least(cycles: Cycles) -> int:
    """The least of what is left over, 0 where nothing waits."""
    return max(0, int(cycles.min())) if len(cycles) else 0
