"""Windows of a feature map, for convolution as matrix-vector products."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.counters import cycle
from karui.hw.memory_style import DISTRIBUTED_RAM_WORDS, Storage, ram_attributes, resolve
from karui.hw.stream import FIFO_LATENCY, ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.timing import Cycles, Schedule, consecutive, require_divisor
from karui.sw import ir
from karui.sw.numerics import NumberFormat, pack, to_integers

READ_LATENCY = 2
"""Cycles from a read address to the element behind the block RAM and a plain register."""


class WindowRow(NamedTuple):
    """What one row of windows needs of the line buffer.

    Parameters
    ----------
    above : int
        Kernel rows that lie in the padding above the map.
    needed : int
        Rows of the map that have to be there: those that the windows cover and those that are then released.
    released : int
        Rows of the map, from the oldest on, that no later window covers.
    needed_on : int
        Rows, the released ones included, that have to be there for the next row of windows to follow at once.
    """

    above: int
    needed: int
    released: int
    needed_on: int


@dataclass(frozen=True, kw_only=True)
class SlidingWindowConfig:
    """Parameters of a `SlidingWindow`.

    Parameters
    ----------
    element : NumberFormat
        Format of the map's elements.
    height, width, channels : int
        Shape of the feature map.
    lanes : int
        Channels a beat; divides the channels.
    kernel, stride : (int, int)
        Vertical, horizontal. A stride beyond the kernel skips rows and columns.
    padding : (int, int, int, int)
        Rows and columns added at top, left, bottom, right; each less than the kernel.
    pad_value : int or None
        The integer that fills the padding; a word of the format.
    storage : {"block", "distributed", "auto"}
        Memory of the line buffer.

    Raises
    ------
    ValueError
        If the kernel does not fit the padded map, the padding holds whole windows, or the pad value is missing or no
        word of the format.
    """

    element: NumberFormat
    height: int
    width: int
    channels: int
    lanes: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pad_value: int | None = None
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        require_divisor("lanes of a sliding window", self.lanes, self.channels, "channels")
        top, left, bottom, right = self.padding
        if min(self.height, self.width, *self.kernel, *self.stride) < 1 or min(self.padding) < 0:
            raise ValueError(
                f"map {self.height}x{self.width}, kernel {self.kernel} and stride {self.stride} must be 1 or more, "
                f"padding {self.padding} 0 or more"
            )
        for kernel, size, before, after, axis in (
            (self.kernel[0], self.height, top, bottom, "rows"),
            (self.kernel[1], self.width, left, right, "columns"),
        ):
            if kernel > size + before + after:
                raise ValueError(
                    f"a kernel of {kernel} {axis} does not fit a map of {size} {axis} padded by {before} and {after}"
                )
            if max(before, after) >= kernel:
                raise ValueError(
                    f"padding by {before} and {after} {axis} makes windows of padding alone for a kernel of {kernel} "
                    f"{axis}; use at most {kernel - 1}"
                )
        if any(self.padding):
            if self.pad_value is None:
                raise ValueError(f"padding {self.padding} needs a pad_value")
            if not self.element.admits(np.array([self.pad_value])):
                raise ValueError(f"pad_value {self.pad_value} is no word of the number format {self.element}")

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
        )

    @property
    def output_height(self) -> int:
        """Rows of windows."""
        return (self.height + self.padding[0] + self.padding[2] - self.kernel[0]) // self.stride[0] + 1

    @property
    def output_width(self) -> int:
        """Windows in a row."""
        return (self.width + self.padding[1] + self.padding[3] - self.kernel[1]) // self.stride[1] + 1

    @property
    def pixel_beats(self) -> int:
        """Beats a pixel."""
        return self.channels // self.lanes

    @property
    def row_beats_in(self) -> int:
        """Beats a row of the map."""
        return self.width * self.pixel_beats

    @property
    def row_beats_out(self) -> int:
        """Beats a row of windows."""
        return self.output_width * self.kernel[0] * self.kernel[1] * self.pixel_beats

    @property
    def window_rows(self) -> tuple[WindowRow, ...]:
        """What each row of windows needs, from top to bottom."""
        kernel, stride = self.kernel[0], self.stride[0]
        tops = [row * stride - self.padding[0] for row in range(self.output_height)]
        oldest = [max(0, top) for top in tops]
        # The last row of windows releases what it covers; rows below are never stored.
        until = [*oldest[1:], self.stored_rows]
        covered = [min(top + kernel, self.height) - first for top, first in zip(tops, oldest, strict=True)]
        released = [end - first for end, first in zip(until, oldest, strict=True)]
        needed = list(map(max, covered, released))
        following = (*needed[1:], needed[0])
        return tuple(
            WindowRow(above=first - top, needed=rows, released=gone, needed_on=gone + on)
            for top, first, rows, gone, on in zip(tops, oldest, needed, released, following, strict=True)
        )

    @property
    def stored_rows(self) -> int:
        """Rows of the map down to the last that a window covers; those below are dropped on arrival."""
        last_top = (self.output_height - 1) * self.stride[0] - self.padding[0]
        return min(self.height, last_top + self.kernel[0])

    @cached_property
    def buffer_rows(self) -> int:
        """Rows of the line buffer: what a row of windows still holds plus all that the next one needs.

        So the rows for the next windows, and for the first windows of the next frame, arrive while windows go out.
        """
        return max(row.needed_on for row in self.window_rows)

    @property
    def buffer_words(self) -> int:
        """Depth of the line buffer's memory, in beats."""
        return min(
            self.buffer_rows << _bits_for(self.row_beats_in),
            self.row_beats_in << _bits_for(self.buffer_rows),
        )

    @cached_property
    def interval(self) -> int:
        """Cycles a frame: the beats of the map or of the windows, whichever are more.

        Taken from the timing model itself, since rows that differ in cost (at the padding) can leave a few cycles more.
        """
        frames = 12
        departures = self.schedule(np.zeros(frames * self.height * self.row_beats_in, dtype=np.int64)).departures
        ends = departures.reshape(frames, -1)[:, -1]
        return int(ends[-1] - ends[-5] + 3) // 4

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; see `Schedule`."""
        rows = self.window_rows
        frames = len(arrivals) // (self.height * self.row_beats_in)
        released = np.cumsum([row.released for row in rows] * frames)
        held_first = released - np.tile([row.released for row in rows], frames)
        last_needed = held_first + np.tile([row.needed for row in rows], frames) - 1
        # The row of windows whose end makes room for each stored row, -1 where there is room from the start.
        makes_room = np.searchsorted(released, np.arange(self.stored_rows * frames) - self.buffer_rows + 1)
        makes_room[: self.buffer_rows] = -1

        accepted = np.empty(len(arrivals), dtype=np.int64)
        complete: list[int] = []
        starts: list[int] = []

        def start_of(window_row: int) -> int:
            while len(starts) <= window_row:
                begins = complete[last_needed[len(starts)]] + 1
                starts.append(max(begins, starts[-1] + self.row_beats_out) if starts else begins)
            return starts[window_row]

        earliest = 0
        for row in range(frames * self.height):
            beats = slice(row * self.row_beats_in, (row + 1) * self.row_beats_in)
            if row % self.height < self.stored_rows and makes_room[len(complete)] >= 0:
                earliest = max(earliest, start_of(int(makes_room[len(complete)])) + self.row_beats_out)
            accepted[beats] = consecutive(np.maximum(arrivals[beats], earliest))
            earliest = int(accepted[beats.stop - 1]) + 1
            if row % self.height < self.stored_rows:
                complete.append(earliest - 1)
        start_of(len(released) - 1)
        departures = np.array(starts)[:, None] + np.arange(self.row_beats_out) + READ_LATENCY + FIFO_LATENCY
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
        For each output position, row by row, the window's elements in the order (ky, kx, channel), `lanes` a beat.
        The first beat follows 5 cycles after the last beat of the rows that it needs.
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
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(payload=lanes_of(config.element, config.lanes), period=1, latency=READ_LATENCY)
        )
        wiring.connect(m, output.o, wiring.flipped(self.o))

        rows_held = Signal(range(config.buffer_rows + 1))
        row_stored, row_ends = Signal(), Signal()
        window_row = self._window_row(m, row_ends)
        m.d.sync += rows_held.eq(Mux(row_ends, rows_held - window_row.released, rows_held) + row_stored)
        # Whether the rows that the windows cover are there, for the next cycle: compared in the cycle itself, the row
        # counter would stand before every register that a beat moves.
        ready = Signal()
        with m.If(row_ends):
            m.d.sync += ready.eq(Mux(row_stored, rows_held + 1, rows_held) >= window_row.needed_on)
        with m.Else():
            m.d.sync += ready.eq(Mux(row_stored, rows_held + 1, rows_held) >= window_row.needed)

        self._store(m, write, rows_held, row_stored)
        issue = Signal()
        m.d.comb += [
            issue.eq(output.credit & ready),
            output.reserve.eq(issue),
        ]
        is_padding = self._read(m, read, issue, window_row, row_ends)

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
        row, column = row[: _bits_for(config.buffer_rows)], column[: _bits_for(config.row_beats_in)]
        if config.buffer_rows << _bits_for(config.row_beats_in) == config.buffer_words:
            return Cat(column, row)
        return Cat(row, column)

    def _store(self, m: Module, write: memory.WritePort, rows_held: Signal, row_stored: Signal) -> None:
        """Write the map's rows, in turn, into the rows of the line buffer that are free."""
        config = self.config
        transfer, ends_row = Signal(), Signal()
        store_column = cycle(m, "store_column", config.row_beats_in, step=transfer)
        store_row = cycle(m, "store_row", config.height, step=ends_row)
        store_slot = cycle(m, "store_slot", config.buffer_rows, step=row_stored)
        is_dropped = Signal()
        m.d.comb += [
            is_dropped.eq(store_row.number >= config.stored_rows),
            self.i.ready.eq(is_dropped | (rows_held != config.buffer_rows)),
            transfer.eq(self.i.valid & self.i.ready),
            ends_row.eq(transfer & store_column.is_last),
            row_stored.eq(ends_row & ~is_dropped),
            write.addr.eq(self._address(store_slot.number, store_column.number)),
            write.data.eq(self.i.payload.as_value()),
            write.en.eq(transfer & ~is_dropped),
        ]

    def _read(
        self, m: Module, read: memory.ReadPort, issue: Signal, window_row: data.View[Any], row_ends: Signal
    ) -> Value:
        """Read the windows' beats, one with each `issue`; returns whether the current one is padding."""
        config = self.config
        _, left, _, _ = config.padding
        run_beats = config.kernel[1] * config.pixel_beats
        step = config.stride[1] * config.pixel_beats
        first_column = -left * config.pixel_beats
        # Columns count beats from the map's left edge: negative in the padding before it, too large in that behind.
        columns = signed(_bits_for(config.row_beats_in + config.kernel[1] * config.pixel_beats) + 1)

        ends_run, ends_window = Signal(), Signal()
        beat = cycle(m, "beat", run_beats, step=issue)
        kernel_row = cycle(m, "kernel_row", config.kernel[0], step=ends_run)
        position = cycle(m, "position", config.output_width, step=ends_window)
        slot = Signal(range(config.buffer_rows))
        oldest_slot = Signal.like(slot)
        column = Signal(columns, init=first_column)
        window_column = Signal(columns, init=first_column)
        above, covered_below = window_row.above, window_row.above + window_row.needed
        is_above_or_below = Signal()
        m.d.comb += [
            ends_run.eq(issue & beat.is_last),
            ends_window.eq(ends_run & kernel_row.is_last),
            row_ends.eq(ends_window & position.is_last),
            is_above_or_below.eq((kernel_row.number < above) | (kernel_row.number >= covered_below)),
            read.addr.eq(self._address(slot, column)),
        ]
        with m.If(issue):
            m.d.sync += column.eq(column + 1)
        with m.If(ends_run):
            m.d.sync += column.eq(window_column)
            with m.If(~is_above_or_below):
                m.d.sync += slot.eq(Mux(slot == config.buffer_rows - 1, 0, slot + 1))
        next_window = Signal(columns)
        m.d.comb += next_window.eq(window_column + step)
        with m.If(ends_window):
            m.d.sync += [
                window_column.eq(next_window),
                column.eq(next_window),
                slot.eq(oldest_slot),
            ]
        following = Signal(range(2 * config.buffer_rows))
        next_oldest = Signal.like(slot)
        m.d.comb += [
            following.eq(oldest_slot + window_row.released),
            next_oldest.eq(Mux(following >= config.buffer_rows, following - config.buffer_rows, following)),
        ]
        with m.If(row_ends):
            m.d.sync += [
                window_column.eq(first_column),
                column.eq(first_column),
                oldest_slot.eq(next_oldest),
                slot.eq(next_oldest),
            ]
        is_beside = (column < 0) | (column >= config.row_beats_in)
        return is_above_or_below | is_beside

    def _window_row(self, m: Module, advance: Signal) -> data.View[Any]:
        """Registers with the current row of windows; only rows at the padding differ from the others."""
        rows = self.config.window_rows
        usual = Counter(rows).most_common(1)[0][0]
        layout = data.StructLayout(
            {field: range(max(getattr(row, field) for row in rows) + 1) for field in WindowRow._fields}
        )
        current = Signal(layout, init=rows[0]._asdict())
        window_row = cycle(m, "window_row", len(rows), step=advance)
        with m.If(advance):
            m.d.sync += current.eq(layout.const(usual._asdict()))
            with m.Switch(window_row.number):
                for before, row in enumerate((*rows[1:], rows[0])):
                    if row != usual:
                        with m.Case(before):
                            m.d.sync += current.eq(layout.const(row._asdict()))
        return current


def _bits_for(count: int) -> int:
    """Bits that number `count` things."""
    return (count - 1).bit_length()
