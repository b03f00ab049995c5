"""Pooling of windows that overlap, are spaced, or reach into padding."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.engines.pool_config import PoolConfig
from karui.hw.engines.tap_window import TAP_LATENCY, TapWindow
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import ElasticOutput, ElasticOutputConfig, delayed, lanes_of


class OverlappingPool(wiring.Component):
    """Reduce windows whose taps a `TapWindow` puts side by side.

    First in a tree, registered at each level, then, where a word is a column, column by column.

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
        config = self.config
        m.submodules.windows = windows = TapWindow(config.windows)
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(
                payload=lanes_of(config.result, config.lanes), period=1, latency=config.overlapping_latency
            )
        )
        wiring.connect(m, wiring.flipped(self.i), windows.i)
        wiring.connect(m, output.o, wiring.flipped(self.o))
        m.d.comb += [windows.credit.eq(output.credit), output.reserve.eq(windows.completes)]

        words = config.windows.words_per_window
        tree_latency = config.overlapping_latency - TAP_LATENCY - (words > 1)
        valid = delayed(m, windows.o.valid, tree_latency, name="reduced", control=True)
        column = cycle(m, "column", words, step=valid)
        complete = Signal()
        if words > 1:
            m.d.sync += complete.eq(valid & column.is_last)
        else:
            m.d.comb += complete.eq(valid)
        m.d.comb += output.i.valid.eq(complete)
        for lane in range(config.lanes):
            taps = [windows.o.payload[tap][lane] for tap in range(config.windows.word_taps)]
            result = self._tree(m, taps, lane)
            if words > 1:
                total = Signal.like(output.i.payload[lane], name=f"total_{lane}", reset_less=True)
                with m.If(valid):
                    m.d.sync += total.eq(Mux(column.is_first, result, config.combined(total, result)))
                result = total
            m.d.comb += output.i.payload[lane].eq(result)
        return m

    def _tree(self, m: Module, values: list[Value], lane: int) -> Value:
        level = 0
        while len(values) > 1:
            reduced: list[Value] = []
            for index in range(0, len(values), 2):
                pair = values[index : index + 2]
                value = pair[0] if len(pair) == 1 else self.config.combined(*pair)
                register = Signal(value.shape(), name=f"lane_{lane}_level_{level}_{index // 2}", reset_less=True)
                m.d.sync += register.eq(value)
                reduced.append(register)
            values, level = reduced, level + 1
        return values[0]
