"""Pooling of a feature map: maxima and sums over windows."""

from __future__ import annotations

from karui.hw.engines.adjoining_pool import AdjoiningPool
from karui.hw.engines.overlapping_pool import OverlappingPool
from karui.hw.engines.pool_config import PoolConfig


def pool(config: PoolConfig) -> AdjoiningPool | OverlappingPool:
    """The component that takes the maximum (of bits, their OR) or the sum over each window, channel by channel.

    Windows that adjoin (the stride is the kernel, or there is a single window, as of a global pool) need a memory of
    one row of partial results, all others a line buffer. The throughput is a beat of the map a cycle, but for a cycle
    a row and column of padding behind the map; see `PoolConfig.interval`.
    """
    return AdjoiningPool(config) if config.adjoins else OverlappingPool(config)
