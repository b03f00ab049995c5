"""The sparse matrix-vector engine: takes as many cycles as there are non-zero weights for each processing element."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.activations.threshold import ThresholdConfig
from karui.hw.arithmetic.integer_dot_product import Multiplier
from karui.hw.compressed.sparse_entries import EntriesConfig, entry_source
from karui.hw.compressed.sparse_pe import COLUMN_LATENCY, SparsePe, SparsePeConfig, code_book
from karui.hw.compressed.sparse_results import SparseResults, SparseResultsConfig
from karui.hw.compressed.sparse_segments import SLOTS, SparseSegments
from karui.hw.engines.lane_group import ScalingConfig
from karui.hw.streams.counters import cycle, level
from karui.hw.streams.stream import FIFO_LATENCY, delayed, lanes_of
from karui.hw.streams.timing import Cycles, Schedule, consecutive, require_divisor
from karui.sw.numerics import NumberFormat

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
        return self.results.output_format

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

    @cached_property
    def results(self) -> SparseResultsConfig:
        """The way out."""
        return SparseResultsConfig(
            segments=self.segments,
            address_bits=self.pe.address_bits,
            accumulator=self.accumulator,
            bias=self.bias,
            activation=self.activation,
        )

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps in which each beat of a result is put together."""
        return self.results.steps

    @property
    def result_latency(self) -> int:
        """Cycles from the last step of a beat to the valid tag of its results."""
        return self.results.latency

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
        m.submodules.results = results = SparseResults(config.results)
        wiring.connect(m, results.o, wiring.flipped(self.o))
        may_start = self._pass(m, elements, entries.o, ended, start)
        m.d.comb += [
            start.eq(may_start & vector_ready & results.room),
            results.start.eq(start),
            results.done.eq(delayed(m, ended, config.completion_cycles, name="done", control=True)),
        ]
        for index, element in enumerate(elements):
            m.d.comb += [
                element.sum_address.eq(results.addresses[index % config.segments.lanes]),
                results.sums[index].eq(element.sum),
            ]
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
