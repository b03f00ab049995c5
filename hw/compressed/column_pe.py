"""A processing element of the engine that goes column by column: the rows it owns, in the columns that it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Array, Const, Module, Mux, Shape, Signal, Value, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.integer_dot_product import IntegerDotProduct, IntegerDotProductConfig, Multiplier
from karui.hw.memory.memory_style import DISTRIBUTED_ROM_WORDS, ram_attributes, resolve, rom_attributes
from karui.hw.streams.stream import Fifo, FifoConfig, delayed, element_shape, lanes_of
from karui.sw.numerics import NumberFormat, pack, to_integers

_RECORDS = 8
"""Columns that wait with their pointers."""
_MEMORY_LATENCY = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnPeConfig:
    """Parameters of a `ColumnPe`.

    Parameters
    ----------
    weights : ndarray, shape (rows, K)
        The rows that it owns, mostly zeros.
    initial : ndarray, shape (rows,)
        What each row's sum starts from.
    input_format, weight_format, sum_format : NumberFormat
        Of an element, a weight and a sum.
    queue : int
        Columns that may wait for it, 3 or more.
    multiplier : {"dsp", "lut"}
        What products are made of.
    """

    weights: npt.NDArray[Any]
    initial: npt.NDArray[Any]
    input_format: NumberFormat
    weight_format: NumberFormat
    sum_format: NumberFormat
    queue: int = 16
    multiplier: Multiplier = "dsp"

    @property
    def rows(self) -> int:
        """Rows that it owns."""
        return int(self.weights.shape[0])

    @property
    def columns(self) -> int:
        """Length K of a vector."""
        return int(self.weights.shape[1])

    @property
    def product(self) -> IntegerDotProductConfig:
        """The multiplication."""
        return IntegerDotProductConfig(
            rows=1, simd=1, input_format=self.input_format, weight_format=self.weight_format, multiplier=self.multiplier
        )

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Non-zero weights of each column."""
        return np.asarray(np.count_nonzero(self.weights, axis=0), dtype=np.int64)

    @property
    def count_bits(self) -> int:
        """Bits of a column's number of entries."""
        return max(1, int(self.counts.max()).bit_length())

    @property
    def address_bits(self) -> int:
        """Bits of an entry's address."""
        return max(1, int(self.counts.sum()).bit_length())

    @property
    def row_bits(self) -> int:
        """Bits of a row's number."""
        return max(1, (self.rows - 1).bit_length())

    @property
    def entries(self) -> list[int]:
        """The non-zero weights column by column: the weight's word above the row's number."""
        columns, rows = np.nonzero(self.weights.T)
        words = to_integers(pack(self.weights[rows, columns][:, None], self.weight_format))
        return [int(row) | word << self.row_bits for row, word in zip(rows, words, strict=True)] or [0]

    @property
    def pointers(self) -> list[int]:
        """For each column its number of entries, above the address of the first."""
        starts = np.cumsum(self.counts) - self.counts
        return [int(start) | int(count) << self.address_bits for start, count in zip(starts, self.counts, strict=True)]

    @property
    def stored_bits(self) -> int:
        """Bits of entries and pointers."""
        entry = self.row_bits + self.weight_format.bits
        return int(self.counts.sum()) * entry + self.columns * (self.address_bits + self.count_bits)

    @property
    def token(self) -> data.StructLayout:
        """What comes for each activation that is not zero, and at a vector's end."""
        return data.StructLayout(
            {"column": unsigned(max(1, (self.columns - 1).bit_length())), "element": self.input_format.bits, "end": 1}
        )


class ColumnPe(wiring.Component):
    """Multiplies an activation by the non-zero weights of its column, one a cycle, and adds to the sums of their rows.

    Columns wait in a queue, so that one with many entries here does not hold up other processing elements. A column
    without entries takes a cycle of the pointers' pipeline, none of the multiplier. Sums lie in two memories in turn;
    what is read out of one gives way to the row's initial value.

    Parameters
    ----------
    config : ColumnPeConfig

    Members
    -------
    i : In(stream)
        Activations with their columns.
    done : Out(1)
        The sums of a vector are complete; in the next cycle those of the next one begin in the other memory.
    drain : In(1)
        Reads a sum out.
    half : In(1)
        Out of which memory.
    row : In
        Whose.
    sum : Out
        The sum, a cycle later.
    """

    i: stream.Interface
    done: Signal
    drain: Signal
    half: Signal
    row: Signal
    sum: Signal

    def __init__(self, config: ColumnPeConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(config.token)),
                "done": Out(1),
                "drain": In(1),
                "half": In(1),
                "row": In(config.row_bits),
                "sum": Out(element_shape(config.sum_format)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        records, record = self._look_up(m)
        left = Signal(config.count_bits)
        address = Signal(config.address_bits, reset_less=True)
        element = Signal(config.input_format.bits, reset_less=True)
        ends = Signal()
        load = Signal()
        m.d.comb += [load.eq(records.r_rdy & (left <= 1)), records.r_en.eq(load)]
        m.d.sync += [address.eq(address + 1), ends.eq(load & record.end)]
        with m.If(load):
            m.d.sync += [left.eq(record.count), address.eq(record.start), element.eq(record.element)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)

        entry = self._rom(m, "entries", config.entries, config.row_bits + config.weight_format.bits, address)
        m.submodules.product = product = IntegerDotProduct(config.product)
        operand = Signal(lanes_of(config.input_format, 1))
        wait = config.product.prepare_latency
        m.d.comb += [
            operand.as_value().eq(delayed(m, element, _MEMORY_LATENCY, name="element")),
            product.i.payload.activations.as_value().eq(config.product.prepare(m, operand)),
            product.i.payload.weights[0].eq(delayed(m, entry[config.row_bits :], wait, name="weight")),
        ]
        latency = wait + config.product.latency
        row = delayed(m, entry[: config.row_bits], latency, name="row")
        valid = delayed(m, left != 0, _MEMORY_LATENCY + latency, name="valid", control=True)
        ended = delayed(m, ends, _MEMORY_LATENCY + latency, name="ended", control=True)
        m.d.comb += self.done.eq(ended)
        self._accumulate(m, row, product.o.payload[0], valid, ended)
        return m

    def _look_up(self, m: Module) -> tuple[SyncFIFOBuffered, data.View[data.StructLayout]]:
        """Find where each column's entries are; leave out columns without any."""
        config = self.config
        layout = data.StructLayout(
            {
                "start": config.address_bits,
                "count": config.count_bits,
                "element": config.input_format.bits,
                "end": 1,
            }
        )
        m.submodules.tokens = tokens = Fifo(FifoConfig(payload=config.token, depth=config.queue))
        m.submodules.records = records = SyncFIFOBuffered(width=layout.size, depth=_RECORDS)
        wiring.connect(m, wiring.flipped(self.i), tokens.i)
        take, room = Signal(), Signal()
        # Those that are under way when it is decided have their places too.
        m.d.sync += room.eq(records.w_level <= _RECORDS - _MEMORY_LATENCY - 3)
        m.d.comb += [take.eq(tokens.o.valid & room), tokens.o.ready.eq(take)]
        token = tokens.o.payload
        width = config.address_bits + config.count_bits
        pointer = self._rom(m, "pointers", config.pointers, width, token.column)
        taken = delayed(m, take, _MEMORY_LATENCY, name="taken", control=True)
        end = delayed(m, token.end, _MEMORY_LATENCY, name="end")
        written = Signal(layout)
        count = pointer[config.address_bits :]
        m.d.comb += [
            written.start.eq(pointer),
            written.count.eq(Mux(end, 0, count)),
            written.element.eq(delayed(m, token.element, _MEMORY_LATENCY, name="waiting")),
            written.end.eq(end),
            records.w_data.eq(written),
            records.w_en.eq(taken & (end | (count != 0))),
        ]
        return records, data.View(layout, records.r_data)

    def _accumulate(self, m: Module, row: Value, product: Value, valid: Value, ended: Value) -> None:
        """Add to the sums of one memory while those of the other are read out."""
        config = self.config
        bits = config.sum_format.bits
        initial = to_integers(pack(config.initial.astype(np.int64)[:, None], config.sum_format))
        half = Signal()
        m.d.sync += half.eq(half ^ ended)
        found = []
        fresh = Array(Const(word, bits) for word in initial)[self.row]
        for index in range(2):
            m.submodules[f"sums_{index}"] = sums = memory.Memory(
                shape=Shape(bits), depth=config.rows, init=initial, attrs=ram_attributes("distributed")
            )
            write, read = sums.write_port(), sums.read_port(domain="comb")
            adds, drains = valid & (half == index), self.drain & (self.half == index)
            address = Mux(adds, row, self.row)
            m.d.comb += [
                read.addr.eq(address),
                write.addr.eq(address),
                write.en.eq(adds | drains),
                write.data.eq(Mux(adds, (read.data.as_signed() + product)[:bits], fresh)),
            ]
            found.append(read.data)
        drained = Signal(bits, reset_less=True)
        m.d.sync += drained.eq(Mux(self.half, found[1], found[0]))
        m.d.comb += self.sum.eq(drained)

    def _rom(self, m: Module, name: str, words: list[int], width: int, address: Value) -> Value:
        """A word, `_MEMORY_LATENCY` cycles after its address."""
        storage = resolve("auto", depth=len(words), limit=DISTRIBUTED_ROM_WORDS)
        m.submodules[name] = rom = memory.Memory(
            shape=Shape(width), depth=len(words), init=words, attrs=rom_attributes(storage)
        )
        read = rom.read_port()
        m.d.comb += read.addr.eq(address)
        return delayed(m, read.data, _MEMORY_LATENCY - 1, name=name)
