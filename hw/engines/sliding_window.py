"""Windows of a feature map, for convolution as matrix-vector products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.line_buffer import LineBufferControl
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, ram_attributes, resolve
from karui.hw.memory.window_rows import WindowsConfig, bits_for
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import FIFO_LATENCY, ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.streams.timing import Cycles, Schedule, require_divisor
from karui.sw import ir
from karui.sw.numerics import pack, to_integers

READ_LATENCY = 2
"""Cycles from a read address to the element behind the block RAM and a plain register."""


@dataclass(frozen=True, kw_only=True)
class SlidingWindowConfig(WindowsConfig):
    """Parameters of a `SlidingWindow`: those of `WindowsConfig`, and the order of a window's elements.

    Parameters
    ----------
    groups : int
        Groups of neighbouring channels that come one after the other, each with its whole window; the lanes divide
        a group's channels.

    Raises
    ------
    ValueError
        Also if the groups do not divide the channels or the lanes not a group's channels.
    """

    groups: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divisor("groups of a sliding window", self.groups, self.channels, "channels")
        require_divisor("lanes of a sliding window", self.lanes, self.channels // self.groups, "channels of a group")

    @classmethod
    def for_node(cls, op: ir.SlidingWindow, feature_map: ir.Tensor, lanes: int) -> SlidingWindowConfig:
        """The parameters that compute a node of the graph, `lanes` channels a beat."""
        height, width, channels = feature_map.shape
        return cls(
            element=feature_map.number_format,
            height=height,
            width=width,
            channels=channels,
            lanes=lanes,
            kernel=op.kernel,
            stride=op.stride,
            padding=op.padding,
            pad_value=op.pad_value,
            groups=op.groups,
        )

    @property
    def group_beats(self) -> int:
        """Beats of a pixel's channels of one group."""
        return self.pixel_beats // self.groups

    @property
    def row_beats_out(self) -> int:
        """Beats a row of windows."""
        return self.output_width * self.kernel[0] * self.kernel[1] * self.pixel_beats

    @property
    def row_steps(self) -> int:
        """Cycles that a row of windows takes once its rows are there."""
        return self.row_beats_out

    @property
    def buffer_words(self) -> int:
        """Depth of the line buffer's memory, in beats."""
        return min(
            self.buffer_rows << bits_for(self.row_beats_in),
            self.row_beats_in << bits_for(self.buffer_rows),
        )

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; see `Schedule`."""
        accepted, starts = self.row_starts(arrivals)
        departures = starts[:, None] + np.arange(self.row_beats_out) + READ_LATENCY + FIFO_LATENCY
        return Schedule(accepted=accepted, departures=departures.reshape(-1))


class SlidingWindow(wiring.Component):
    """Cut the windows out of a feature map that arrives in raster order.

    A line buffer keeps whole rows of the map, in turn; a row of windows goes out, 1 beat a cycle, once the rows that
    it covers are complete, while the rows for the following ones arrive. Rows that no window covers are dropped.

    Parameters
    ----------
    config : SlidingWindowConfig

    Members
    -------
    i : In(stream)
        Map [height, width, channels] in raster order, `lanes` channels a beat, up to 1 beat a cycle.
    o : Out(stream)
        For each output position, row by row, the window's elements in the order (group, ky, kx, channel in the group),
        `lanes` a beat. The first beat follows 5 cycles after the last beat of the rows that it needs.
    """

    def __init__(self, config: SlidingWindowConfig) -> None:
        self.config = config
        lanes = stream.Signature(lanes_of(config.element, config.lanes))
        super().__init__({"i": In(lanes), "o": Out(lanes)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        width = len(self.i.payload.as_value())
        storage = resolve(config.storage, depth=config.buffer_words, limit=DISTRIBUTED_RAM_WORDS)
        m.submodules.line_buffer = line_buffer = memory.Memory(
            shape=Shape(width), depth=config.buffer_words, init=[], attrs=ram_attributes(storage)
        )
        write = line_buffer.write_port()
        read = line_buffer.read_port()
        m.submodules.rows = rows = LineBufferControl(config)
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(payload=lanes_of(config.element, config.lanes), period=1, latency=READ_LATENCY)
        )
        wiring.connect(m, output.o, wiring.flipped(self.o))
        issue = Signal()
        latency = config.write_latency
        write_address = self._address(rows.write_slot, rows.write_column)
        m.d.comb += [
            rows.valid.eq(self.i.valid),
            self.i.ready.eq(rows.ready),
            write.addr.eq(delayed(m, write_address, latency, name="write_address")),
            write.data.eq(delayed(m, self.i.payload.as_value(), latency, name="write_beat")),
            write.en.eq(delayed(m, rows.write, latency, name="write", control=True)),
            issue.eq(output.credit & rows.row_is_ready),
            output.reserve.eq(issue),
        ]
        is_padding = self._read(m, read, issue, rows)

        element = Signal(width, reset_less=True)
        m.d.sync += element.eq(read.data)
        m.d.comb += [
            output.i.valid.eq(delayed(m, issue, READ_LATENCY, name="valid", control=True)),
            output.i.payload.as_value().eq(element),
        ]
        if config.pad_value is not None and any(config.padding):
            pad_word = to_integers(pack(np.full((1, config.lanes), config.pad_value), config.element))[0]
            with m.If(delayed(m, is_padding, READ_LATENCY, name="is_padding")):
                m.d.comb += output.i.payload.as_value().eq(Const(pad_word, width))
        return m

    def _address(self, row: Value, column: Value) -> Value:
        """Concatenated, row or column first, whichever wastes less: no adder stands before the memory."""
        config = self.config
        row, column = row[: bits_for(config.buffer_rows)], column[: bits_for(config.row_beats_in)]
        if config.buffer_rows << bits_for(config.row_beats_in) == config.buffer_words:
            return Cat(column, row)
        return Cat(row, column)

    def _read(self, m: Module, read: memory.ReadPort, issue: Signal, rows: LineBufferControl) -> Value:
        """Read the windows' beats, one with each `issue`; returns whether the current one is padding."""
        config = self.config
        step = config.stride[1] * config.pixel_beats
        first_column = -config.padding[1] * config.pixel_beats
        # Columns count beats from the map's left edge: negative in the padding before it, too large in that behind.
        columns = signed(bits_for(config.row_beats_in + config.kernel[1] * config.pixel_beats) + 1)

        ends_pixel, ends_run, ends_group, ends_window = Signal(), Signal(), Signal(), Signal()
        beat = cycle(m, "beat", config.group_beats, step=issue)
        kernel_column = cycle(m, "kernel_column", config.kernel[1], step=ends_pixel)
        kernel_row = cycle(m, "kernel_row", config.kernel[0], step=ends_run)
        group = cycle(m, "group", config.groups, step=ends_group)
        position = cycle(m, "position", config.output_width, step=ends_window)
        slot = Signal(range(config.buffer_rows))
        column = Signal(columns, init=first_column)
        group_column = Signal(columns, init=first_column)
        window_column = Signal(columns, init=first_column)
        above, covered_below = rows.row.above, rows.row.above + rows.row.needed
        is_above_or_below = Signal()
        m.d.comb += [
            ends_pixel.eq(issue & beat.is_last),
            ends_run.eq(ends_pixel & kernel_column.is_last),
            ends_group.eq(ends_run & kernel_row.is_last),
            ends_window.eq(ends_group & group.is_last),
            rows.row_ends.eq(ends_window & position.is_last),
            is_above_or_below.eq((kernel_row.number < above) | (kernel_row.number >= covered_below)),
            read.addr.eq(self._address(slot, column)),
        ]
        with m.If(issue):
            m.d.sync += column.eq(column + 1)
        if config.groups > 1:
            with m.If(ends_pixel):
                m.d.sync += column.eq(column + (config.pixel_beats - config.group_beats + 1))
        with m.If(ends_run):
            m.d.sync += column.eq(group_column)
            with m.If(~is_above_or_below):
                m.d.sync += slot.eq(Mux(slot == config.buffer_rows - 1, 0, slot + 1))
        if config.groups > 1:
            with m.If(ends_group):
                m.d.sync += [
                    group_column.eq(group_column + config.group_beats),
                    column.eq(group_column + config.group_beats),
                    slot.eq(rows.slot),
                ]
        next_window = Signal(columns)
        m.d.comb += next_window.eq(window_column + step)
        with m.If(ends_window):
            m.d.sync += [
                window_column.eq(next_window),
                group_column.eq(next_window),
                column.eq(next_window),
                slot.eq(rows.slot),
            ]
        with m.If(rows.row_ends):
            m.d.sync += [
                window_column.eq(first_column),
                group_column.eq(first_column),
                column.eq(first_column),
                slot.eq(rows.following_slot),
            ]
        is_beside = (column < 0) | (column >= config.row_beats_in)
        return is_above_or_below | is_beside
