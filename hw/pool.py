"""Max pooling of a feature map."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from amaranth.hdl import Module, Mux, Shape, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.counters import cycle
from karui.hw.memory_style import DISTRIBUTED_RAM_WORDS, Storage, ram_attributes, resolve
from karui.hw.sliding_window import SlidingWindow, SlidingWindowConfig
from karui.hw.stream import FIFO_LATENCY, ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.timing import Cycles, Schedule, consecutive, require_divisor
from karui.sw.numerics import NumberFormat

LATENCY = 3
UPDATE_DISTANCE = 4
"""Beats after which the partial maximum of a window can be read back from memory."""


@dataclass(frozen=True, kw_only=True)
class MaxPoolConfig:
    """Parameters of a `MaxPool`.

    Parameters
    ----------
    element : NumberFormat
        Format of the map's elements.
    height, width, channels : int
        Shape of the feature map.
    lanes : int
        Channels a beat; divides the channels.
    kernel, stride : (int, int)
        Vertical, horizontal. Rows and columns left over are dropped.
    storage : {"block", "distributed", "auto"}
        Memory of the partial maxima.

    Raises
    ------
    ValueError
        If the kernel is larger than the map.
    """

    element: NumberFormat
    height: int
    width: int
    channels: int
    lanes: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        require_divisor("lanes of a max pool", self.lanes, self.channels, "channels")
        if min(self.height, self.width, *self.kernel, *self.stride) < 1:
            raise ValueError(
                f"map {self.height}x{self.width}, kernel {self.kernel} and stride {self.stride} must be 1 or more"
            )
        if self.kernel[0] > self.height or self.kernel[1] > self.width:
            raise ValueError(f"a max pool of {self.kernel} does not fit a map of {self.height}x{self.width}")

    @property
    def output_height(self) -> int:
        """Rows of the result."""
        return (self.height - self.kernel[0]) // self.stride[0] + 1

    @property
    def output_width(self) -> int:
        """Columns of the result."""
        return (self.width - self.kernel[1]) // self.stride[1] + 1

    @property
    def pixel_beats(self) -> int:
        """Beats a pixel."""
        return self.channels // self.lanes

    @property
    def windows(self) -> SlidingWindowConfig | None:
        """The sliding window that takes overlapping or spaced windows apart; None where windows adjoin."""
        adjoin = self.kernel == self.stride
        # Rows so short that a window's partial maximum would be read back too soon are taken apart too.
        row_distance = (self.width - self.kernel[1] + 1) * self.pixel_beats
        in_time = self.output_width == 1 or row_distance >= UPDATE_DISTANCE
        if adjoin and in_time:
            return None
        return SlidingWindowConfig(
            element=self.element,
            height=self.height,
            width=self.width,
            channels=self.channels,
            lanes=self.lanes,
            kernel=self.kernel,
            stride=self.stride,
            storage=self.storage,
        )

    @property
    def one_window(self) -> MaxPoolConfig:
        """The pool of a map that is a single window."""
        return replace(self, height=self.kernel[0], width=self.kernel[1], stride=self.kernel)

    @property
    def interval(self) -> int:
        """Cycles a frame: the beats of the map, or of its windows where these do not adjoin."""
        return self.height * self.width * self.pixel_beats if self.windows is None else self.windows.interval

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; see `Schedule`."""
        if self.windows is not None:
            cut = self.windows.schedule(arrivals)
            return Schedule(accepted=cut.accepted, departures=self.one_window.schedule(cut.departures).departures)
        accepted = consecutive(arrivals)
        rows = np.arange(1, self.output_height + 1) * self.kernel[0] - 1
        columns = np.arange(1, self.output_width + 1) * self.kernel[1] - 1
        maps = accepted.reshape(-1, self.height, self.width, self.pixel_beats)
        return Schedule(accepted=accepted, departures=maps[:, rows][:, :, columns].reshape(-1) + LATENCY + FIFO_LATENCY)


class MaxPool(wiring.Component):
    """Take the maximum over each window of a feature map, channel by channel; of bits, their OR.

    Where windows adjoin (the stride is the kernel), a memory of one row of results keeps the partial maxima. Windows
    that overlap or are spaced are first cut out by a `SlidingWindow`.

    Parameters
    ----------
    config : MaxPoolConfig

    Members
    -------
    i : In(stream)
        Map [height, width, channels] in raster order, `lanes` channels a beat, 1 beat a cycle.
    o : Out(stream)
        Maxima in raster order, `lanes` channels a beat, 5 cycles after the last beat of their window.
    """

    def __init__(self, config: MaxPoolConfig) -> None:
        self.config = config
        lanes = stream.Signature(lanes_of(config.element, config.lanes))
        super().__init__({"i": In(lanes), "o": Out(lanes)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        if config.windows is not None:
            m.submodules.windows = windows = SlidingWindow(config.windows)
            m.submodules.maximum = maximum = MaxPool(config.one_window)
            wiring.connect(m, wiring.flipped(self.i), windows.i)
            wiring.connect(m, windows.o, maximum.i)
            wiring.connect(m, maximum.o, wiring.flipped(self.o))
            return m

        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(payload=lanes_of(config.element, config.lanes), period=1, latency=LATENCY)
        )
        wiring.connect(m, output.o, wiring.flipped(self.o))
        transfer = Signal()
        kept, is_first, is_last, same_row, address = self._position(m, transfer)
        m.d.comb += [
            self.i.ready.eq(~is_last | output.credit),
            transfer.eq(self.i.valid & self.i.ready),
            output.reserve.eq(transfer & is_last),
        ]

        # Cycle 0 reads the partial maximum, 1 registers it, 2 compares and registers the result, 3 writes it back.
        updates = delayed(m, transfer & kept, 2, name="updates", control=True)
        element = Signal(lanes_of(config.element, config.lanes))
        partial = Signal.like(element)
        result = Signal.like(element, reset_less=True)
        m.d.comb += element.as_value().eq(delayed(m, self.i.payload.as_value(), 2, name="element"))
        starts = delayed(m, is_first, 2, name="starts")
        larger = Signal.like(element)
        for lane in range(config.lanes):
            m.d.comb += larger[lane].eq(self._larger(element[lane], partial[lane], starts))
        with m.If(updates):
            m.d.sync += result.eq(larger)
        m.d.comb += [
            output.i.payload.eq(result),
            output.i.valid.eq(delayed(m, transfer & is_last, LATENCY, name="valid", control=True)),
        ]

        near = config.pixel_beats < UPDATE_DISTANCE
        if not near or (config.output_width > 1 and config.kernel[0] > 1):
            m.d.comb += partial.as_value().eq(self._memory(m, result.as_value(), address, updates))
        if near:
            # The same window's maximum is still on its way to the memory: take it from the results, one pixel back.
            pixel_back = result.as_value()
            for _ in range(config.pixel_beats - 1):
                earlier = Signal.like(pixel_back, reset_less=True)
                with m.If(updates):
                    m.d.sync += earlier.eq(pixel_back)
                pixel_back = earlier
            with m.If(delayed(m, same_row, 2, name="same_row")):
                m.d.comb += partial.as_value().eq(pixel_back)
        return m

    def _larger(self, element: Value, partial: Value, starts: Value) -> Value:
        if self.config.element.bits == 1:
            return element | (partial & ~starts)
        # The sign of the difference: a single carry chain.
        return Mux(starts | (partial - element)[-1], element, partial)

    def _memory(self, m: Module, result: Value, address: Signal, updates: Value) -> Value:
        """The partial maxima of a row of windows; returns the one at `address`, two cycles later."""
        config = self.config
        depth = config.output_width * config.pixel_beats
        storage = resolve(config.storage, depth=depth, limit=DISTRIBUTED_RAM_WORDS)
        m.submodules.partial_maxima = maxima = memory.Memory(
            shape=Shape(len(result)), depth=depth, init=[], attrs=ram_attributes(storage)
        )
        write, read = maxima.write_port(), maxima.read_port()
        m.d.comb += [
            read.addr.eq(address),
            write.addr.eq(delayed(m, address, LATENCY, name="address")),
            write.data.eq(result),
            write.en.eq(delayed(m, updates, 1, name="updated", control=True)),
        ]
        return delayed(m, read.data, 1, name="partial")

    def _position(self, m: Module, transfer: Signal) -> tuple[Signal, Signal, Signal, Signal, Signal]:
        """Follow the beats through the map.

        Returns whether the current beat lies in a window, is the window's first or last for its channels, whether its
        partial maximum is that of the pixel before, and the address of the partial maximum.
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
