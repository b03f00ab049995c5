"""Windows of a feature map with their taps side by side, for operations on each channel of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.line_buffer import LineBufferControl
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, ram_attributes, resolve
from karui.hw.memory.window_rows import WindowsConfig, bits_for
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import Tagged, delayed, lanes_of
from karui.hw.streams.timing import Cycles
from karui.sw import ir
from karui.sw.numerics import pack, to_integers

TAP_LATENCY = 3
"""Cycles from the step that completes a word to its valid tag: block RAM, a plain register, the order of the rows."""
MEMORY_DISTANCE = 4
"""Beats of a pixel from which on a memory can keep the columns before the current one: it is written 3 cycles after
the step and read 1 cycle after it."""

Taps = Literal["window", "column"]
"""What a word holds: all taps of a window, or those of one of its columns."""


@dataclass(frozen=True, kw_only=True)
class TapWindowConfig(WindowsConfig):
    """Parameters of a `TapWindow`: those of `WindowsConfig`, and what a word holds.

    Parameters
    ----------
    taps : {"window", "column"}
        Whole windows: a row of them takes a step for each column of the map that it covers, so at stride 1 nearly
        every step yields a word. Columns: a step and a word for each column of each window.
    """

    taps: Taps

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.taps not in ("window", "column"):
            raise ValueError(f"taps must be window or column, not {self.taps!r}")

    @classmethod
    def for_node(cls, op: ir.DepthwiseConv, feature_map: ir.Tensor, *, lanes: int, taps: int) -> TapWindowConfig:
        """The windows of a node of the graph, `lanes` channels and `taps` of each (KH or KH * KW) a word."""
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
            taps="column" if taps == op.kernel[0] else "window",
        )

    @property
    def word_taps(self) -> int:
        """Taps of a word."""
        return self.kernel[0] * (self.kernel[1] if self.taps == "window" else 1)

    @property
    def words_per_window(self) -> int:
        """Words that one window comes in, for each beat of channels."""
        return 1 if self.taps == "window" else self.kernel[1]

    @property
    def row_words(self) -> int:
        """Words of a row of windows."""
        return self.output_width * self.pixel_beats * self.words_per_window

    @property
    def row_columns(self) -> int:
        """Columns of the map and of the padding behind it that a row of whole windows passes through."""
        return (self.output_width - 1) * self.stride[1] + self.lead_columns + 1

    @property
    def lead_columns(self) -> int:
        """Columns before the one that completes the first window of a row."""
        return self.kernel[1] - 1 - self.padding[1]

    @property
    def row_steps(self) -> int:
        """Cycles that a row of windows takes once its rows are there."""
        return self.row_words if self.taps == "column" else self.row_columns * self.pixel_beats

    @property
    def completing_steps(self) -> Cycles:
        """The steps of a row of windows that complete a word."""
        steps: Cycles = np.arange(self.row_steps)
        if self.taps == "window":
            column = steps // self.pixel_beats - self.lead_columns
            steps = steps[(column >= 0) & (column % self.stride[1] == 0)]
        return steps

    def word_steps(self, arrivals: Cycles) -> tuple[Cycles, Cycles]:
        """The cycle in which each beat is accepted, and the step that completes each word, never held back."""
        accepted, starts = self.row_starts(arrivals)
        return accepted, (starts[:, None] + self.completing_steps).reshape(-1)


class TapWindow(wiring.Component):
    """Yield the windows of a feature map that arrives in raster order, beat of channels by beat of channels.

    A line buffer keeps whole rows of the map, each in a memory of its own, so that the taps of a column are read at
    once. Rows of windows follow one another without a gap once their rows are there, while the following ones arrive.
    Whole windows are put together from the column that is read and the KW - 1 before it, which are kept for each beat
    of channels; no element is read twice for a row of windows. Taps in the padding are replaced by multiplexers.

    The pipeline cannot be stalled: it ends in the user's `ElasticOutput`.

    Parameters
    ----------
    config : TapWindowConfig

    Members
    -------
    i : In(stream)
        Map [height, width, channels] in raster order, `lanes` channels a beat, up to 1 beat a cycle.
    credit : In(1)
        A word may be sent.
    completes : Out(1)
        This step sends the last word of a window, which `o` shows 3 cycles later (`TAP_LATENCY`).
    steps : Out(1)
        This step sends a word.
    o : Out(Tagged)
        Words, for each output position and beat of channels one, or one for each column of the window. Element
        ``[kx * KH + ky][lane]`` of a whole window, ``[ky][lane]`` of a column. The first step follows 2 cycles after
        the last beat of the rows that a window covers; registers and one multiplexer.
    """

    i: stream.Interface
    credit: Signal
    completes: Signal
    steps: Signal
    o: wiring.PureInterface

    def __init__(self, config: TapWindowConfig) -> None:
        self.config = config
        lanes = lanes_of(config.element, config.lanes)
        super().__init__(
            {
                "i": In(stream.Signature(lanes)),
                "credit": In(1),
                "completes": Out(1),
                "steps": Out(1),
                "o": Out(Tagged(data.ArrayLayout(lanes, config.word_taps))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.rows = rows = LineBufferControl(config)
        issue = Signal()
        m.d.comb += [
            rows.valid.eq(self.i.valid),
            self.i.ready.eq(rows.ready),
            issue.eq(self.credit & rows.row_is_ready),
        ]
        if config.taps == "column":
            address, is_beside = self._walk_windows(m, issue, rows)
            column = self._column(m, rows, address, is_beside)
            m.d.comb += [
                self.o.valid.eq(delayed(m, issue, TAP_LATENCY, name="valid", control=True)),
                self.o.payload.as_value().eq(column),
            ]
        else:
            self._whole_windows(m, issue, rows)
        return m

    def _walk_windows(self, m: Module, issue: Signal, rows: LineBufferControl) -> tuple[Value, Value]:
        """Step through the columns of each window; returns where they lie in a row, and whether beside the map."""
        config = self.config
        first = -config.padding[1] * config.pixel_beats
        # Addresses count beats from the map's left edge: negative in the padding before it, too large behind.
        addresses = signed(bits_for(config.row_beats_in + config.kernel[1] * config.pixel_beats) + 1)
        ends_beat, ends_window = Signal(), Signal()
        kernel_column = cycle(m, "kernel_column", config.kernel[1], step=issue)
        beat = cycle(m, "beat", config.pixel_beats, step=ends_beat)
        position = cycle(m, "position", config.output_width, step=ends_window)
        address = Signal(addresses, init=first)
        beat_address = Signal(addresses, init=first)
        window_address = Signal(addresses, init=first)
        next_window = Signal(addresses)
        m.d.comb += [
            ends_beat.eq(issue & kernel_column.is_last),
            ends_window.eq(ends_beat & beat.is_last),
            rows.row_ends.eq(ends_window & position.is_last),
            next_window.eq(window_address + config.stride[1] * config.pixel_beats),
            self.steps.eq(issue),
            self.completes.eq(ends_beat),
        ]
        with m.If(issue):
            m.d.sync += address.eq(address + config.pixel_beats)
        for ends, following in (
            (ends_beat, beat_address + 1),
            (ends_window, next_window),
            (rows.row_ends, Const(first, addresses)),
        ):
            with m.If(ends):
                m.d.sync += [address.eq(following), beat_address.eq(following)]
                if ends is not ends_beat:
                    m.d.sync += window_address.eq(following)
        return address[: bits_for(config.row_beats_in)], (address < 0) | (address >= config.row_beats_in)

    def _whole_windows(self, m: Module, issue: Signal, rows: LineBufferControl) -> None:
        """Step through the columns of a row of windows; the last of a window's columns completes it."""
        config = self.config
        ends_column = Signal()
        beat = cycle(m, "beat", config.pixel_beats, step=issue)
        column = cycle(m, "column", config.row_columns, step=ends_column)
        address = Signal(range(config.row_columns * config.pixel_beats))
        # Columns until the next one that completes a window.
        until = Signal(range(max(config.lead_columns + 1, config.stride[1])), init=config.lead_columns)
        is_beside = Signal()
        m.d.comb += [
            ends_column.eq(issue & beat.is_last),
            rows.row_ends.eq(ends_column & column.is_last),
            self.steps.eq(issue & (until == 0)),
            self.completes.eq(self.steps),
            is_beside.eq(column.number >= config.width),
        ]
        with m.If(issue):
            m.d.sync += address.eq(address + 1)
        with m.If(ends_column):
            m.d.sync += until.eq(Mux(until == 0, config.stride[1] - 1, until - 1))
        with m.If(rows.row_ends):
            m.d.sync += [address.eq(0), until.eq(config.lead_columns)]

        current = self._column(m, rows, address[: bits_for(config.row_beats_in)], is_beside)
        advances = delayed(m, issue, TAP_LATENCY, name="advances", control=True)
        earlier = self._earlier_columns(m, current, advances, beat.number)
        taps = [current]
        for distance, tap in enumerate(earlier, start=1):
            # Only windows that begin in the padding see what is left of the row before.
            if distance > config.lead_columns:
                is_left = delayed(m, column.number < distance, TAP_LATENCY, name=f"left_{distance}")
                tap = Mux(is_left, self._padding(len(tap)), tap)
            taps.append(tap)
        m.d.comb += [
            self.o.valid.eq(delayed(m, self.steps, TAP_LATENCY, name="valid", control=True)),
            self.o.payload.as_value().eq(Cat(reversed(taps))),
        ]

    def _column(self, m: Module, rows: LineBufferControl, address: Value, is_beside: Value) -> Signal:
        """The taps at an address of each row that the windows cover, `TAP_LATENCY` cycles later."""
        config = self.config
        width = len(self.i.payload.as_value())
        storage = resolve(config.storage, depth=config.row_beats_in, limit=DISTRIBUTED_RAM_WORDS)
        banks: list[Value] = []
        latency = config.write_latency
        column = delayed(m, rows.write_column, latency, name="write_column")
        beat = delayed(m, self.i.payload.as_value(), latency, name="write_beat")
        for slot in range(config.buffer_rows):
            m.submodules[f"row_{slot}"] = row = memory.Memory(
                shape=Shape(width), depth=config.row_beats_in, init=[], attrs=ram_attributes(storage)
            )
            write, read = row.write_port(), row.read_port()
            m.d.comb += [
                write.addr.eq(column),
                write.data.eq(beat),
                write.en.eq(
                    delayed(m, rows.write & (rows.write_slot == slot), latency, name=f"write_{slot}", control=True)
                ),
                read.addr.eq(address),
            ]
            banks.append(delayed(m, read.data, 1, name=f"bank_{slot}"))

        # Tap ky is in slot (slot - above + ky) modulo the slots.
        slots = config.buffer_rows
        most_above = max(row.above for row in config.window_rows)
        back = Array([Const(-above % slots, range(slots)) for above in range(most_above + 1)])[rows.row.above]
        ahead = Signal(range(2 * slots))
        first = Signal(range(slots), reset_less=True)
        m.d.comb += ahead.eq(rows.slot + back)
        m.d.sync += first.eq(Mux(ahead >= slots, ahead - slots, ahead))
        first = delayed(m, first, 1, name="first")
        result = Signal(config.kernel[0] * width, name="taps", reset_less=True)
        for kernel_row in range(config.kernel[0]):
            tap = Signal(width, name=f"tap_{kernel_row}")
            with m.Switch(first):
                for slot in range(slots):
                    with m.Case(slot):
                        m.d.comb += tap.eq(banks[(slot + kernel_row) % slots])
            if any(config.padding):
                outside = Signal(name=f"outside_{kernel_row}")
                above, covered_below = rows.row.above, rows.row.above + rows.row.needed
                m.d.comb += outside.eq((kernel_row < above) | (kernel_row >= covered_below) | is_beside)
                tap = Mux(delayed(m, outside, TAP_LATENCY - 1, name=f"outside_{kernel_row}"), self._padding(width), tap)
            m.d.sync += result[kernel_row * width : (kernel_row + 1) * width].eq(tap)
        return result

    def _earlier_columns(self, m: Module, current: Signal, advances: Value, beat: Value) -> list[Value]:
        """The KW - 1 columns before the current one, of the same channels, the nearest first."""
        config = self.config
        count, width = config.kernel[1] - 1, len(current)
        if count == 0:
            return []
        if config.pixel_beats < MEMORY_DISTANCE:
            columns: list[Value] = []
            column: Value = current
            for distance in range(count * config.pixel_beats):
                register = Signal(width, name=f"earlier_{distance}", reset_less=True)
                with m.If(advances):
                    m.d.sync += register.eq(column)
                column = register
                if (distance + 1) % config.pixel_beats == 0:
                    columns.append(column)
            return columns
        storage = resolve(config.storage, depth=config.pixel_beats, limit=DISTRIBUTED_RAM_WORDS)
        m.submodules.earlier_columns = columns_memory = memory.Memory(
            shape=Shape(count * width), depth=config.pixel_beats, init=[], attrs=ram_attributes(storage)
        )
        write, read = columns_memory.write_port(), columns_memory.read_port()
        read_address = delayed(m, beat, 1, name="beat")
        kept = delayed(m, read.data, 1, name="kept")
        m.d.comb += [
            read.addr.eq(read_address),
            write.addr.eq(delayed(m, read_address, TAP_LATENCY - 1, name="beat_read")),
            write.data.eq(Cat(current, kept)),
            write.en.eq(advances),
        ]
        return [kept[index * width : (index + 1) * width] for index in range(count)]

    def _padding(self, width: int) -> Const:
        """Padding words, side by side."""
        config = self.config
        lanes = width // config.element.bits
        return Const(to_integers(pack(np.full((1, lanes), config.pad_value), config.element))[0], width)
