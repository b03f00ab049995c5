"""Pooling of windows that adjoin: no row of the map is kept, only a row of partial results."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Shape, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.engines.pool_config import ADJOINING_LATENCY, UPDATE_DISTANCE, PoolConfig
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, ram_attributes, resolve
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import ElasticOutput, ElasticOutputConfig, delayed, lanes_of


class AdjoiningPool(wiring.Component):
    """Reduce windows that adjoin; a memory of one row of results keeps the partial ones.

    Parameters
    ----------
    config : PoolConfig
        Of windows that adjoin.

    Members
    -------
    i : In(stream)
        Map [height, width, channels] in raster order, `lanes` channels a beat, 1 beat a cycle.
    o : Out(stream)
        Results in raster order, `lanes` channels a beat, 5 cycles after the last beat of their window.
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
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(payload=lanes_of(config.result, config.lanes), period=1, latency=ADJOINING_LATENCY)
        )
        wiring.connect(m, output.o, wiring.flipped(self.o))
        transfer = Signal()
        kept, is_first, is_last, same_row, address = self._position(m, transfer)
        m.d.comb += [
            self.i.ready.eq(~is_last | output.credit),
            transfer.eq(self.i.valid & self.i.ready),
            output.reserve.eq(transfer & is_last),
        ]

        # Cycle 0 reads the partial result, 1 registers it, 2 compares and registers the result, 3 writes it back.
        updates = delayed(m, transfer & kept, 2, name="updates", control=True)
        element = Signal(lanes_of(config.element, config.lanes))
        partial = Signal(lanes_of(config.result, config.lanes))
        result = Signal.like(partial, reset_less=True)
        m.d.comb += element.as_value().eq(delayed(m, self.i.payload.as_value(), 2, name="element"))
        starts = delayed(m, is_first, 2, name="starts")
        with m.If(updates):
            for lane in range(config.lanes):
                m.d.sync += result[lane].eq(self._updated(element[lane], partial[lane], starts))
        m.d.comb += [
            output.i.payload.eq(result),
            output.i.valid.eq(delayed(m, transfer & is_last, ADJOINING_LATENCY, name="valid", control=True)),
        ]

        near = config.pixel_beats < UPDATE_DISTANCE
        if not near or (config.output_width > 1 and config.kernel[0] > 1):
            m.d.comb += partial.as_value().eq(self._memory(m, result.as_value(), address, updates))
        if near:
            # The window's partial result is still on its way to the memory: take it from the results, one pixel back.
            pixel_back = result.as_value()
            for _ in range(config.pixel_beats - 1):
                earlier = Signal.like(pixel_back, reset_less=True)
                with m.If(updates):
                    m.d.sync += earlier.eq(pixel_back)
                pixel_back = earlier
            with m.If(delayed(m, same_row, 2, name="same_row")):
                m.d.comb += partial.as_value().eq(pixel_back)
        return m

    def _updated(self, element: Value, partial: Value, starts: Value) -> Value:
        if self.config.reduction == "sum":
            return Mux(starts, 0, partial) + element
        if self.config.element.bits == 1:
            return element | (partial & ~starts)
        # The sign of the difference: a single carry chain.
        return Mux(starts | (partial - element)[-1], element, partial)

    def _memory(self, m: Module, result: Value, address: Signal, updates: Value) -> Value:
        """The partial results of a row of windows; returns the one at `address`, two cycles later."""
        config = self.config
        depth = config.output_width * config.pixel_beats
        storage = resolve(config.storage, depth=depth, limit=DISTRIBUTED_RAM_WORDS)
        m.submodules.partial_results = results = memory.Memory(
            shape=Shape(len(result)), depth=depth, init=[], attrs=ram_attributes(storage)
        )
        write, read = results.write_port(), results.read_port()
        m.d.comb += [
            read.addr.eq(address),
            write.addr.eq(delayed(m, address, ADJOINING_LATENCY, name="address")),
            write.data.eq(result),
            write.en.eq(delayed(m, updates, 1, name="updated", control=True)),
        ]
        return delayed(m, read.data, 1, name="partial")

    def _position(self, m: Module, transfer: Signal) -> tuple[Signal, Signal, Signal, Signal, Signal]:
        """Follow the beats through the map.

        Returns whether the current beat lies in a window, is the window's first or last for its channels, whether its
        partial result is that of the pixel before, and the address of the partial result.
        """
        config = self.config
        kernel_height, kernel_width = config.kernel
        ends_pixel, ends_row, ends_map = Signal(), Signal(), Signal()
        beat = cycle(m, "beat", config.pixel_beats, step=transfer)
        column = cycle(m, "column", config.width, step=ends_pixel)
        row = cycle(m, "row", config.height, step=ends_row)
        kernel_column, kernel_row = Signal(range(kernel_width)), Signal(range(kernel_height))
        address = Signal(range(config.output_width * config.pixel_beats))
        window_address = Signal.like(address)
        kept, is_first, is_last, same_window = Signal(), Signal(), Signal(), Signal()
        ends_kernel_column, ends_kernel_row = kernel_column == kernel_width - 1, kernel_row == kernel_height - 1
        m.d.comb += [
            kept.eq(
                (column.number < config.output_width * kernel_width)
                & (row.number < config.output_height * kernel_height)
            ),
            is_first.eq((kernel_column == 0) & (kernel_row == 0)),
            is_last.eq(kept & ends_kernel_column & ends_kernel_row),
            same_window.eq((kernel_column != 0) | (config.output_width == 1)),
            ends_pixel.eq(transfer & beat.is_last),
            ends_row.eq(ends_pixel & column.is_last),
            ends_map.eq(ends_row & row.is_last),
        ]
        with m.If(transfer):
            m.d.sync += address.eq(address + 1)
        with m.If(ends_pixel):
            m.d.sync += kernel_column.eq(kernel_column + 1)
            with m.If(ends_kernel_column):
                m.d.sync += [kernel_column.eq(0), window_address.eq(address + 1)]
            with m.Else():
                m.d.sync += address.eq(window_address)
        with m.If(ends_row):
            m.d.sync += [
                kernel_column.eq(0),
                address.eq(0),
                window_address.eq(0),
                kernel_row.eq(Mux(ends_kernel_row, 0, kernel_row + 1)),
            ]
        with m.If(ends_map):
            m.d.sync += kernel_row.eq(0)
        return kept, is_first, is_last, same_window, address
