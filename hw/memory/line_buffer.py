"""Bookkeeping of a line buffer: where the map's rows are written, and when a row of windows can be read."""

from __future__ import annotations

from collections import Counter

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.window_rows import WindowRow, WindowsConfig, bits_for
from karui.hw.streams.counters import cycle


class LineBufferControl(wiring.Component):
    """Takes the rows of a map into a ring of row slots and releases them as the rows of windows end.

    The memory itself belongs to the user, who writes and reads it in a layout of its own.

    Parameters
    ----------
    config : WindowsConfig

    Members
    -------
    valid : In(1)
        Of the stream that brings the map.
    ready : Out(1)
        Of that stream: there is a free row, or the row is dropped. Depends on registers alone.
    write : Out(1)
        The beat is to be written, at `write_column` (in beats) of the row slot `write_slot`.
    row_is_ready : Out(1)
        The rows that the current windows need are there; a register.
    row : Out(WindowRow)
        What the current row of windows needs; registers.
    slot, following_slot : Out
        Slots of the oldest row of the current windows, a register, and of the following row of windows.
    row_ends : In(1)
        The last step of the current row of windows. Only while `row_is_ready`.
    """

    valid: Signal
    ready: Signal
    write: Signal
    write_slot: Signal
    write_column: Signal
    row_is_ready: Signal
    row: data.View[data.StructLayout]
    slot: Signal
    following_slot: Signal
    row_ends: Signal

    def __init__(self, config: WindowsConfig) -> None:
        self.config = config
        self._row_layout = data.StructLayout(
            {field: range(max(getattr(row, field) for row in config.window_rows) + 1) for field in WindowRow._fields}
        )
        super().__init__(
            {
                "valid": In(1),
                "ready": Out(1),
                "write": Out(1),
                "write_slot": Out(bits_for(config.buffer_rows)),
                "write_column": Out(bits_for(config.row_beats_in)),
                "row_is_ready": Out(1),
                "row": Out(self._row_layout),
                "slot": Out(range(config.buffer_rows)),
                "following_slot": Out(range(config.buffer_rows)),
                "row_ends": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        self._current_row(m)
        rows_held = Signal(range(config.buffer_rows + 1))
        full = Signal()
        row_stored = self._store(m, full)
        held_on = Signal.like(rows_held)
        m.d.comb += held_on.eq(Mux(self.row_ends, rows_held - self.row.released, rows_held) + row_stored)
        m.d.sync += [rows_held.eq(held_on), full.eq(held_on == config.buffer_rows)]
        # Whether the rows that the windows cover are there, for the next cycle: compared in the cycle itself, the row
        # counter would stand before every register that a beat moves.
        with m.If(self.row_ends):
            m.d.sync += self.row_is_ready.eq(Mux(row_stored, rows_held + 1, rows_held) >= self.row.needed_on)
        with m.Else():
            m.d.sync += self.row_is_ready.eq(Mux(row_stored, rows_held + 1, rows_held) >= self.row.needed)

        following = Signal(range(2 * config.buffer_rows))
        m.d.comb += [
            following.eq(self.slot + self.row.released),
            self.following_slot.eq(Mux(following >= config.buffer_rows, following - config.buffer_rows, following)),
        ]
        with m.If(self.row_ends):
            m.d.sync += self.slot.eq(self.following_slot)
        return m

    def _store(self, m: Module, full: Signal) -> Signal:
        """Fill the free slots in turn; returns whether a row becomes complete."""
        config = self.config
        transfer, ends_row, row_stored = Signal(), Signal(), Signal()
        # A register, as `full` is: what the stream is answered has a long way to go.
        is_dropped = Signal()
        column = cycle(m, "store_column", config.row_beats_in, step=transfer)
        row = cycle(m, "store_row", config.height, step=ends_row)
        slot = cycle(m, "store_slot", config.buffer_rows, step=row_stored)
        m.d.comb += [
            self.ready.eq(is_dropped | ~full),
            transfer.eq(self.valid & self.ready),
            ends_row.eq(transfer & column.is_last),
            row_stored.eq(ends_row & ~is_dropped),
            self.write.eq(transfer & ~is_dropped),
            self.write_slot.eq(slot.number),
            self.write_column.eq(column.number),
        ]
        if config.stored_rows < config.height:
            with m.If(ends_row):
                m.d.sync += is_dropped.eq((row.number == config.stored_rows - 1) | (is_dropped & ~row.is_last))
        return row_stored

    def _current_row(self, m: Module) -> None:
        """Step through the rows of windows; only rows at the padding differ from the others."""
        rows = self.config.window_rows
        usual = Counter(rows).most_common(1)[0][0]
        layout = self._row_layout
        current = Signal(layout, init=rows[0]._asdict())
        number = cycle(m, "window_row", len(rows), step=self.row_ends).number
        with m.If(self.row_ends):
            m.d.sync += current.eq(layout.const(usual._asdict()))
            with m.Switch(number):
                for before, row in enumerate((*rows[1:], rows[0])):
                    if row != usual:
                        with m.Case(before):
                            m.d.sync += current.eq(layout.const(row._asdict()))
        m.d.comb += self.row.eq(current)
