"""Pooling of a feature map: maxima and sums over windows."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.adjoining_pool import AdjoiningPool
from karui.hw.overlapping_pool import OverlappingPool
from karui.hw.pool_config import PoolConfig
from karui.hw.stream import lanes_of


class Pool(wiring.Component):
    """Take the maximum (of bits, their OR) or the sum over each window of a feature map, channel by channel.

    Windows that adjoin (the stride is the kernel, or there is a single window, as of a global pool) need a memory of
    one row of partial results, all others a line buffer. The throughput is a beat of the map a cycle, but for a cycle
    a row and column of padding behind the map; see `PoolConfig.interval`.

    Parameters
    ----------
    config : PoolConfig

    Members
    -------
    i : In(stream)
        Map [height, width, channels] in raster order, `lanes` channels a beat.
    o : Out(stream)
        Results in raster order, `lanes` channels a beat.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: PoolConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.element, config.lanes))),
                "o": Out(stream.Signature(lanes_of(config.result, config.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.pool = pool = (AdjoiningPool if self.config.adjoins else OverlappingPool)(self.config)
        wiring.connect(m, wiring.flipped(self.i), pool.i)
        wiring.connect(m, pool.o, wiring.flipped(self.o))
        return m
