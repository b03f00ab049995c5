"""The sparse matrix-vector engine: takes as many cycles as there are non-zero weights for each processing element."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.counters import cycle, level
from karui.hw.cyclic_rom import CyclicRom, CyclicRomConfig
from karui.hw.integer_dot_product import Multiplier
from karui.hw.lane_group import ScalingConfig, activation_pipeline
from karui.hw.sparse_entries import EntriesConfig, entry_source
from karui.hw.sparse_pe import COLUMN_LATENCY, SparsePe, SparsePeConfig, code_book
from karui.hw.sparse_segments import SLOTS, SparseSegments
from karui.hw.stream import FIFO_LATENCY, ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.threshold import ThresholdConfig
from karui.hw.timing import Cycles, Schedule, consecutive, require_divisor
from karui.hw.weight_rom import WEIGHT_ROM_LATENCY, SequentialRom
from karui.sw.numerics import NumberFormat, format_for_range, pack, to_integers

_SUM_READ_LATENCY = 2
_SELECTED = 4
"""Sums that one multiplexer chooses from in a cycle."""
_BLOCK_RAM_WORDS = 512
"""Words of up to 36 bits that a block RAM has."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseMatrixVectorConfig:
    """Parameters of a `SparseMatrixVector`.

    Parameters
    ----------
    entries : EntryRomConfig or HuffmanEntriesConfig
        The weights, dealt out to processing elements.
    simd : int
        Inputs taken a cycle, a power of two that divides K.
    input_format : NumberFormat
        Format of an input element.
    accumulator : NumberFormat
        Format of the sums, wide enough for every one of the matrix, bias included.
    bias : ndarray of shape (M,), optional
        Integers that are added to the sums.
    activation : ThresholdConfig, RequantizeConfig or DoubleRoundingConfig, optional
        Applied to the sums before they leave; for M channels, in as many lanes as leave together.
    positions : int
        Vectors a frame.
    multiplier : {"dsp", "lut"}
        What products are made of.

    Raises
    ------
    ValueError
        If numbers and formats do not fit each other.
    """

    entries: EntriesConfig
    simd: int
    input_format: NumberFormat
    accumulator: NumberFormat
    bias: npt.NDArray[Any] | None = None
    activation: ThresholdConfig | ScalingConfig | None = None
    positions: int = 1
    multiplier: Multiplier = "dsp"

    def __post_init__(self) -> None:
        require_divisor("simd", self.simd, self.inputs, "inputs")
        if self.simd & (self.simd - 1):
            raise ValueError(f"simd of a sparse engine must be a power of two, not {self.simd}")
        if self.accumulator.kind != "signed":
            raise ValueError(f"accumulator must be signed, not {self.accumulator}")
        if self.bias is not None and self.bias.shape != (self.outputs,):
            raise ValueError(f"bias must be of shape ({self.outputs},), not {self.bias.shape}")
        lanes = self.segments.lanes
        if self.activation is not None and (self.activation.channels, self.activation.lanes) != (self.outputs, lanes):
            raise ValueError(
                f"the activation must have {self.outputs} channels in {lanes} lanes, not {self.activation.channels} in "
                f"{self.activation.lanes}"
            )

    @property
    def segments(self) -> SparseSegments:
        """The matrix, cut up."""
        return self.entries.segments

    @property
    def outputs(self) -> int:
        """Rows M of the matrix."""
        return int(self.segments.weights.shape[0])

    @property
    def inputs(self) -> int:
        """Columns K of the matrix."""
        return int(self.segments.weights.shape[1])

    @property
    def output_format(self) -> NumberFormat:
        """Format of a result."""
        return self.accumulator if self.activation is None else self.activation.output_format

    @property
    def input_fold(self) -> int:
        """Beats of a vector."""
        return self.inputs // self.simd

    @property
    def output_fold(self) -> int:
        """Beats of a result."""
        return self.outputs // self.segments.lanes

    @property
    def pass_cycles(self) -> int:
        """Cycles in which entries come, of a pass over the matrix."""
        return self.segments.pass_cycles

    @property
    def buffers(self) -> int:
        """Vectors that are held: four where that takes no block RAM more than two."""
        return 4 if 4 << (self.input_fold - 1).bit_length() <= _BLOCK_RAM_WORDS else 2

    @cached_property
    def elements(self) -> tuple[SparsePeConfig, ...]:
        """The processing elements; they differ only in where their slots start."""
        return tuple(self._element(columns) for columns in self.segments.first_columns.tolist())

    @property
    def pe(self) -> SparsePeConfig:
        """The first processing element."""
        return self.elements[0]

    def _element(self, first_columns: list[int]) -> SparsePeConfig:
        return SparsePeConfig(
            columns=self.inputs,
            simd=self.simd,
            buffers=self.buffers,
            rows_per_slot=self.segments.rows_per_slot,
            first_columns=tuple(first_columns),
            input_format=self.input_format,
            weight_format=self.segments.weight_format,
            sum_format=self.accumulator,
            gap_bits=self.segments.gap_bits,
            code_bits=self.entries.code_format.bits,
            book=code_book(self.segments.book) if self.entries.has_book else None,
            multiplier=self.multiplier,
        )

    @property
    def release_cycles(self) -> int:
        """Cycles from a pass' last entry asked for to the release of its vector.

        A word that is taken in because of it is written 2 cycles later at the earliest, 1 after the last one is read.
        """
        return self.entries.latency + COLUMN_LATENCY - 1

    @property
    def completion_cycles(self) -> int:
        """Cycles from a pass' last entry asked for to its sums, all of them in the memory."""
        return self.entries.latency + self.pe.latency + 1

    @property
    def select_latency(self) -> int:
        """Cycles of the choice among the sums of a lane's processing elements."""
        count, levels = self.segments.pe // self.segments.lanes, 0
        while count > 1:
            count, levels = -(-count // _SELECTED), levels + 1
        return levels

    @property
    def result_latency(self) -> int:
        """Cycles from the last step of a beat of sums to the valid tag of its results."""
        activation = 0 if self.activation is None else self.activation.latency
        return WEIGHT_ROM_LATENCY + _SUM_READ_LATENCY + self.select_latency + 2 + activation

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Steps in which each beat of a result is put together: as many as there are parts of one of its sums."""
        parts = np.array([max(1, len(parts)) for parts in self.segments.parts])
        return tuple(parts.reshape(self.output_fold, -1).max(axis=1).tolist())

    @cached_property
    def period(self) -> int:
        """Cycles from a pass to the next at full rate.

        As long as its entries take, the vector to come in, or the result to leave; and no shorter than what it takes a
        vector's place to be free again, by the number of places, and a result's.
        """
        vector_held = self.input_fold + self.pass_cycles + self.release_cycles + 2
        result_held = self.pass_cycles + self.completion_cycles + 1 + sum(self.steps)
        return max(
            self.pass_cycles,
            self.input_fold,
            sum(self.steps),
            -(-vector_held // self.buffers),
            -(-result_held // 2),
        )

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.positions * self.period

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; see `Schedule`."""
        words, places = self.input_fold, self.buffers
        accepted = np.empty(len(arrivals), dtype=np.int64)
        departures: list[Cycles] = []
        starts: list[int] = []
        last_accept = last_row = -1
        results: list[int] = []
        for vector in range(len(arrivals) // words):
            beats = slice(vector * words, (vector + 1) * words)
            earliest = last_accept + 1
            if vector >= places:
                earliest = max(earliest, starts[vector - places] + self.pass_cycles + self.release_cycles + 1)
            accepted[beats] = consecutive(np.maximum(arrivals[beats], earliest))
            last_accept = int(accepted[beats.stop - 1])
            start = last_accept + 2
            if vector:
                start = max(start, starts[-1] + self.period)
            if vector > 1:
                start = max(start, results[vector - 2] + 1)
            starts.append(start)
            first_row = max(start + self.pass_cycles + self.completion_cycles + 1, last_row + 1)
            departures.append(first_row + np.cumsum(self.steps, dtype=np.int64) - 1)
            last_row = first_row + sum(self.steps) - 1
            results.append(last_row)
        leaves = np.concatenate(departures) + self.result_latency + FIFO_LATENCY
        return Schedule(accepted=accepted, departures=leaves)


class SparseMatrixVector(wiring.Component):
    """Multiplies vectors by a sparse matrix, bit-exactly, without the zeros.

    Each processing element has six segments in work and takes an entry (a gap and a code) of each in turn, one a cycle:
    a multiplier and cycle for each non-zero weight. It has the vector in a memory of its own, which it reads at the
    entry's column. The entries are dealt out evenly (see `SparseSegments`): a pass takes as many cycles for each
    vector, whatever its values. Meanwhile the next vector is taken in, and the result of the one before leaves, row by
    row: the parts of a row's sum are added up, and then the bias and the activation are applied. The positions of a
    convolution are vectors like others: the weights are read, and decoded, anew for each.

    Parameters
    ----------
    config : SparseMatrixVectorConfig

    Members
    -------
    i : In(stream)
        Vectors, `simd` elements a beat.
    o : Out(stream)
        Results, ``config.segments.lanes`` a beat.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: SparseMatrixVectorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.input_format, config.simd))),
                "o": Out(stream.Signature(lanes_of(config.output_format, config.segments.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.entries = entries = entry_source(config.entries)
        elements = [SparsePe(element) for element in config.elements]
        for index, element in enumerate(elements):
            m.submodules[f"pe_{index}"] = element
            m.d.comb += [element.gap.eq(entries.o.gaps[index]), element.code.eq(entries.o.codes[index])]

        start, ended = Signal(), Signal()
        vector_ready = self._take_in(
            m, elements, start, delayed(m, ended, config.release_cycles, name="release", control=True)
        )
        result_room = self._give_out(
            m, elements, start, delayed(m, ended, config.completion_cycles, name="done", control=True)
        )
        m.d.comb += start.eq(self._pass(m, elements, entries.o, ended, start) & vector_ready & result_room)
        return m

    def _pass(
        self, m: Module, elements: list[SparsePe], entries: wiring.PureInterface, ended: Signal, start: Signal
    ) -> Value:
        """Ask for the entries of a pass, and say which they are; returns whether another one may start."""
        config = self.config
        running, issuing, first, last = Signal(), Signal(), Signal(), Signal()
        step = cycle(m, "step", config.period, step=running)
        ends = Signal()
        m.d.sync += [
            running.eq(start | (running & ~step.is_last)),
            issuing.eq(start | (issuing & ~ends)),
            ends.eq(running & (step.number == config.pass_cycles - 2)),
            first.eq(start | (first & (step.number != SLOTS - 1))),
        ]
        before_last = config.pass_cycles - SLOTS - 1
        m.d.sync += last.eq((start if before_last < 0 else running & (step.number == before_last)) | (last & ~ends))
        m.d.comb += [ended.eq(ends), entries.enable.eq(issuing), entries.last.eq(last)]

        vector = cycle(m, "vector", config.buffers, step=ends)
        half = cycle(m, "half", 2, step=ends)
        latency = config.entries.latency
        first_entry = delayed(m, first, latency, name="first")
        read_vector = delayed(m, vector.number, latency + COLUMN_LATENCY, name="vector")
        first_product = delayed(m, first_entry, config.pe.product_latency, name="first_product")
        valid = delayed(m, issuing, latency + config.pe.latency, name="valid", control=True)
        written_half = delayed(m, half.number, latency + config.pe.latency, name="half")
        for element in elements:
            m.d.comb += [
                element.first.eq(first_entry),
                element.slot.eq(entries.slot),
                element.vector.eq(read_vector),
                element.first_product.eq(first_product),
                element.valid.eq(valid),
                element.half.eq(written_half),
            ]
        return ~running | step.is_last

    def _take_in(self, m: Module, elements: list[SparsePe], start: Signal, released: Value) -> Value:
        """Write vectors into the memories of all processing elements; returns whether there is one for a pass."""
        config = self.config
        accept, written = Signal(), Signal()
        word = Signal.like(self.i.payload, reset_less=True)
        beat = cycle(m, "beat", config.input_fold, step=accept)
        place = cycle(m, "place", config.input_fold, step=written)
        buffer = cycle(m, "buffer", config.buffers, step=written & place.is_last)
        room = level(m, "room", config.buffers, up=released, down=accept & beat.is_first, init=config.buffers)
        ready = level(m, "ready", config.buffers, up=written & place.is_last, down=start)
        m.d.comb += [
            self.i.ready.eq(~room.empty | ~beat.is_first),
            accept.eq(self.i.valid & self.i.ready),
        ]
        m.d.sync += [written.eq(accept), word.eq(self.i.payload)]
        for element in elements:
            m.d.comb += [
                element.word.eq(word),
                element.written.eq(written),
                element.word_address.eq(place.number | buffer.number << config.pe.word_bits),
            ]
        return ~ready.empty

    def _give_out(self, m: Module, elements: list[SparsePe], start: Signal, done: Value) -> Value:
        """Bring the sums into the order of the rows and out; returns whether there is room for those of a pass."""
        config = self.config
        lanes, address_bits = config.segments.lanes, config.pe.address_bits
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(
                payload=lanes_of(config.output_format, lanes),
                period=1,
                latency=config.result_latency + max(config.steps) - 1,
            )
        )
        wiring.connect(m, output.o, wiring.flipped(self.o))
        step = Signal()
        row = cycle(m, "row", sum(config.steps), step=step)
        half = cycle(m, "result_half", 2, step=step & row.is_last)
        results = level(m, "results", 2, up=done, down=step & row.is_first)
        room = level(m, "result_room", 2, up=step & row.is_last, down=start, init=2)
        m.submodules.ends = ends = CyclicRom(CyclicRomConfig(words=self._ends(), width=2))
        begins_beat, ends_beat = ends.word[0], ends.word[1]
        m.d.comb += [
            step.eq((output.credit | ~begins_beat) & (~results.empty | ~row.is_first)),
            output.reserve.eq(step & begins_beat),
            ends.advance.eq(step),
        ]
        m.submodules.table = table = SequentialRom(*self._table(), "auto")
        m.d.comb += table.take.eq(step)
        read_half = delayed(m, half.number, WEIGHT_ROM_LATENCY, name="read_half")
        added = config.result_latency - self._activation_latency - 1
        begins = delayed(m, begins_beat, added, name="begins")
        valid = delayed(m, step & ends_beat, added + 1, name="result_valid", control=True)
        sums = Signal(lanes_of(config.accumulator, lanes), reset_less=True)
        for lane, fields in enumerate(self._table_fields(table.data)):
            of_lane = elements[lane::lanes]
            for element in of_lane:
                m.d.comb += element.sum_address.eq(fields.address | read_half << address_bits)
            number = delayed(m, fields.chosen, _SUM_READ_LATENCY, name=f"chosen_{lane}")
            found = _select(m, [element.sum for element in of_lane], number, name=f"lane_{lane}")
            wait = _SUM_READ_LATENCY + config.select_latency
            bias = delayed(m, fields.bias, wait, name=f"bias_{lane}").as_signed()
            part = Signal.like(sums[lane], name=f"part_{lane}", reset_less=True)
            m.d.sync += [
                part.eq(Mux(delayed(m, fields.used, wait, name=f"used_{lane}"), found, 0) + bias),
                sums[lane].eq(Mux(begins, 0, sums[lane]) + part),
            ]
        if config.activation is None:
            m.d.comb += [output.i.payload.eq(sums), output.i.valid.eq(valid)]
        else:
            m.submodules.activation = activation = activation_pipeline(config.activation)
            m.d.comb += [activation.i.payload.eq(sums), activation.i.valid.eq(valid)]
            wiring.connect(m, activation.o, output.i)
        return ~room.empty

    @property
    def _activation_latency(self) -> int:
        return 0 if self.config.activation is None else self.config.activation.latency

    @property
    def _bias_format(self) -> NumberFormat:
        """Format of a bias, signed."""
        bias = self.config.bias
        return format_for_range(-1, 0) if bias is None else format_for_range(min(-1, int(bias.min())), int(bias.max()))

    @property
    def _field_bits(self) -> tuple[int, int, int, int]:
        """Widths of an entry of the table: address, number among the lane's processing elements, use, bias."""
        segments = self.config.segments
        return (
            self.config.pe.address_bits,
            (segments.pe // segments.lanes - 1).bit_length(),
            1,
            self._bias_format.bits,
        )

    def _ends(self) -> tuple[int, ...]:
        """For each step whether it begins a beat, and whether it ends it."""
        return tuple(
            (number == 0) | (number == steps - 1) << 1 for steps in self.config.steps for number in range(steps)
        )

    def _table(self) -> tuple[list[int], int]:
        """For each step and lane where a part of a sum is, and what is added to it; words and their width."""
        config = self.config
        lanes, parts = config.segments.lanes, config.segments.parts
        address_bits, chosen_bits, _, bias_bits = self._field_bits
        biases = [0] * config.outputs
        if config.bias is not None:
            biases = to_integers(pack(config.bias.astype(np.int64)[:, None], self._bias_format))
        width = sum(self._field_bits)
        words = []
        for beat, steps in enumerate(config.steps):
            for number in range(steps):
                word = 0
                for lane in range(lanes):
                    row = beat * lanes + lane
                    entry = biases[row] << width - bias_bits if number == 0 else 0
                    if number < len(parts[row]):
                        part = parts[row][number]
                        entry |= part.address | (part.pe // lanes | 1 << chosen_bits) << address_bits
                    word |= entry << lane * width
                words.append(word)
        return words, lanes * width

    def _table_fields(self, word: Signal) -> Iterator[_TableEntry]:
        """The entry of each lane."""
        places = np.cumsum([0, *self._field_bits]).tolist()
        for lane in range(self.config.segments.lanes):
            entry = word[lane * places[-1] : (lane + 1) * places[-1]]
            yield _TableEntry(*(entry[first:end] for first, end in pairwise(places)))


class _TableEntry(NamedTuple):
    """What one lane reads in a step."""

    address: Value
    chosen: Value
    used: Value
    bias: Value


def _select(m: Module, values: list[Value], number: Value, *, name: str) -> Value:
    """One of several values, through multiplexers of a register each."""
    bits = (_SELECTED - 1).bit_length()
    stage = 0
    while len(values) > 1:
        chosen = []
        for index, first in enumerate(range(0, len(values), _SELECTED)):
            register = Signal.like(values[0], name=f"{name}_{stage}_{index}", reset_less=True)
            m.d.sync += register.eq(Array(values[first : first + _SELECTED])[number[:bits]])
            chosen.append(register)
        values, number, stage = chosen, delayed(m, number[bits:], 1, name=f"{name}_number_{stage}"), stage + 1
    return values[0]
