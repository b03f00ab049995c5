"""A processing element of the sparse engine: six rows in work, one non-zero weight a cycle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Array, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.integer_dot_product import IntegerDotProduct, IntegerDotProductConfig, Multiplier
from karui.hw.compressed.sparse_segments import SLOTS
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, ram_attributes, resolve, rom_attributes
from karui.hw.memory.shared_weights import BOOK_WORDS
from karui.hw.streams.stream import delayed, element_shape, lanes_of
from karui.sw.numerics import NumberFormat, pack, to_integers

COLUMN_LATENCY = 3
"""Cycles from an entry to its column."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SparsePeConfig:
    """Parameters of a `SparsePe`.

    Parameters
    ----------
    columns : int
        Length K of a vector.
    simd : int
        Elements of a vector that are written together, a power of two that divides K.
    buffers : int
        Vectors that the processing element holds, a power of two.
    rows_per_slot : int
        Sums of a slot for each vector.
    first_columns : tuple of int
        Column at which each slot starts.
    input_format, weight_format : NumberFormat
        Of an element and a weight.
    sum_format : NumberFormat
        Format of the sums, signed; finished sums fit (in between they may wrap).
    gap_bits, code_bits : int
        Widths of an entry.
    book : ndarray, optional
        Weight of each code; without it the code is the weight's word.
    multiplier : {"dsp", "lut"}
        What products are made of.
    """

    columns: int
    simd: int
    buffers: int
    rows_per_slot: int
    first_columns: tuple[int, ...]
    input_format: NumberFormat
    weight_format: NumberFormat
    sum_format: NumberFormat
    gap_bits: int
    code_bits: int
    book: npt.NDArray[Any] | None
    multiplier: Multiplier

    @property
    def product(self) -> IntegerDotProductConfig:
        """The multiplication."""
        return IntegerDotProductConfig(
            rows=1,
            simd=1,
            input_format=self.input_format,
            weight_format=self.weight_format,
            multiplier=self.multiplier,
        )

    @property
    def word_bits(self) -> int:
        """Bits of the number of a word of a vector."""
        return (self.columns // self.simd - 1).bit_length()

    @property
    def vector_words(self) -> int:
        """Words of the memory of vectors."""
        return self.buffers << self.word_bits

    @property
    def address_bits(self) -> int:
        """Bits of the address of a sum."""
        return (SLOTS * self.rows_per_slot - 1).bit_length()

    @property
    def sum_words(self) -> int:
        """Words of the memory of sums: those of two vectors."""
        return 2 << self.address_bits

    @property
    def operand_latency(self) -> int:
        """Cycles from an entry to the operands of its product: column, memory and its register, lane."""
        return COLUMN_LATENCY + 2 + (self.simd > 1)

    @property
    def product_latency(self) -> int:
        """Cycles from an entry to its product."""
        return self.operand_latency + self.product.prepare_latency + self.product.latency

    @property
    def latency(self) -> int:
        """Cycles from an entry to the sum that it is part of, on its way into the memory."""
        return self.product_latency + 1

    @property
    def book_in_block_ram(self) -> bool:
        """Whether the code book is in block RAM."""
        return self.book is not None and len(self.book) > BOOK_WORDS


class SparsePe(wiring.Component):
    """Adds up the products of entries, slot after slot in turn, and keeps the sums.

    Position (row and column) and sum of a slot are in rings of six registers, and at home when its turn comes again:
    there are six cycles to add the gap to the column and to go on to the next row at the row's end, and for the sum's
    way. A sum is written with each entry of its row, the last time complete; entries of the code 0 write nothing.

    Latency `config.latency` cycles from an entry to its sum, throughput an entry a cycle.

    Parameters
    ----------
    config : SparsePeConfig

    Members
    -------
    word : In(ArrayLayout)
        Elements to be written.
    written : In(1)
        Writes them.
    word_address : In
        Where: vector and word.
    gap, code : In
        An entry.
    first : In(1)
        Whether it is its slot's first in a pass.
    slot : In(range(6))
        Its slot.
    vector : In
        Which vector the pass reads, `COLUMN_LATENCY` cycles after the entry.
    first_product : In(1)
        `first`, ``config.product_latency`` cycles after the entry.
    valid : In(1)
        Whether there was an entry, `config.latency` cycles ago.
    half : In(1)
        Where the sums of the pass go, as late.
    sum_address : In
        Half and address of a sum to be read.
    sum : Out
        The sum, 2 cycles later.
    """

    word: Signal
    written: Signal
    word_address: Signal
    gap: Signal
    code: Signal
    first: Signal
    slot: Signal
    vector: Signal
    first_product: Signal
    valid: Signal
    half: Signal
    sum_address: Signal
    sum: Signal

    def __init__(self, config: SparsePeConfig) -> None:
        self.config = config
        super().__init__(
            {
                "word": In(lanes_of(config.input_format, config.simd)),
                "written": In(1),
                "word_address": In(range(config.vector_words)),
                "gap": In(config.gap_bits),
                "code": In(config.code_bits),
                "first": In(1),
                "slot": In(range(SLOTS)),
                "vector": In(range(config.buffers)),
                "first_product": In(1),
                "valid": In(1),
                "half": In(1),
                "sum_address": In(range(config.sum_words)),
                "sum": Out(element_shape(config.sum_format)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        column, row, starts = self._position(m)
        element = self._element(m, column)
        m.submodules.product = product = IntegerDotProduct(config.product)
        operands = product.i.payload
        m.d.comb += [
            operands.activations.as_value().eq(element),
            operands.weights[0].eq(self._weight(m)),
        ]
        wait = config.product_latency - COLUMN_LATENCY
        base = Signal(element_shape(config.sum_format))
        total = Signal(element_shape(config.sum_format), reset_less=True)
        starts = delayed(m, starts, wait, name="starts") | self.first_product
        ring = delayed(m, total, SLOTS - 1, name="total").as_signed()
        m.d.comb += base.eq(Mux(starts, 0, ring))
        m.d.sync += total.eq(base + product.o.payload[0])
        filler = Signal(reset_less=True)
        m.d.sync += filler.eq(self.code == 0)
        self._keep(
            m, delayed(m, row, wait + 1, name="row"), total, delayed(m, filler, config.latency - 1, name="filler")
        )
        return m

    def _position(self, m: Module) -> tuple[Signal, Signal, Signal]:
        """Column and address of the sum, `COLUMN_LATENCY` cycles after an entry, and whether its row starts there."""
        config = self.config
        columns = config.columns
        bases = [slot * config.rows_per_slot for slot in range(SLOTS)]
        after = Signal(range(columns + 1), reset_less=True)
        column, row = (
            Signal(range(columns), reset_less=True),
            Signal(config.address_bits, name="row", reset_less=True),
        )
        following = delayed(m, after, SLOTS - COLUMN_LATENCY - 1, name="after")
        earlier_row = delayed(m, row, SLOTS - COLUMN_LATENCY, name="earlier_row")
        reached = Signal(range(2 * columns), reset_less=True)
        row_1 = Signal(config.address_bits, reset_less=True)
        beyond = Signal(signed(columns.bit_length() + 1), reset_less=True)
        starts = Signal(reset_less=True)
        m.d.sync += [
            reached.eq(Mux(self.first, Array(config.first_columns)[self.slot], following) + self.gap),
            row_1.eq(Mux(self.first, Array(bases)[self.slot], earlier_row)),
            beyond.eq(reached - columns),
            column.eq(Mux(beyond < 0, delayed(m, reached, 1, name="reached"), beyond)),
            row.eq(delayed(m, row_1, 1, name="row") + (beyond >= 0)),
            starts.eq(beyond >= 0),
            after.eq(column + 1),
        ]
        return column, row, starts

    def _element(self, m: Module, column: Signal) -> Value:
        """The vector's element of a column, ready for the multiplication."""
        config = self.config
        storage = resolve("auto", depth=config.vector_words, limit=DISTRIBUTED_RAM_WORDS)
        bits = config.input_format.bits
        m.submodules.vectors = vectors = memory.Memory(
            shape=Shape(config.simd * bits), depth=config.vector_words, init=[], attrs=ram_attributes(storage)
        )
        write, read = vectors.write_port(), vectors.read_port()
        lane_bits = config.simd.bit_length() - 1
        m.d.comb += [
            write.en.eq(self.written),
            write.addr.eq(self.word_address),
            write.data.eq(self.word.as_value()),
            read.addr.eq(column[lane_bits:] | self.vector << config.word_bits),
        ]
        word = delayed(m, read.data, 1, name="word")
        element = Signal(lanes_of(config.input_format, 1))
        chosen = word
        if config.simd > 1:
            lane = delayed(m, column[:lane_bits], 2, name="lane")
            chosen = Signal(bits, reset_less=True)
            m.d.sync += chosen.eq(word.word_select(lane, bits))
        m.d.comb += element.as_value().eq(chosen)
        return config.product.prepare(m, element)

    def _weight(self, m: Module) -> Value:
        """The entry's weight, when its element is ready."""
        config = self.config
        wait = config.operand_latency + config.product.prepare_latency
        if config.book is None:
            return delayed(m, self.code, wait, name="weight")
        block = config.book_in_block_ram
        m.submodules.book = book = memory.Memory(
            shape=Shape(config.weight_format.bits),
            depth=len(config.book),
            init=to_integers(pack(config.book[:, None], config.weight_format)),
            attrs=rom_attributes("block" if block else "distributed"),
        )
        read = book.read_port() if block else book.read_port(domain="comb")
        m.d.comb += read.addr.eq(self.code)
        return delayed(m, read.data, wait - block, name="weight")

    def _keep(self, m: Module, row: Value, total: Signal, filler: Value) -> None:
        """The memory of sums."""
        config = self.config
        storage = resolve("auto", depth=config.sum_words, limit=DISTRIBUTED_RAM_WORDS)
        m.submodules.sums = sums = memory.Memory(
            shape=Shape(len(total)), depth=config.sum_words, init=[], attrs=ram_attributes(storage)
        )
        write, read = sums.write_port(), sums.read_port()
        m.d.comb += [
            write.en.eq(self.valid & ~filler),
            write.addr.eq(row | self.half << config.address_bits),
            write.data.eq(total),
            read.addr.eq(self.sum_address),
            self.sum.eq(delayed(m, read.data, 1, name="sum")),
        ]


def code_book(book: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Weight of each code: zero, then the book."""
    return np.concatenate(([0], book)).astype(np.int64)
