"""The sparse engine that goes column by column and leaves out activations that are zero, too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.integer_dot_product import Multiplier
from karui.hw.compressed.column_pe import ColumnPe, ColumnPeConfig
from karui.hw.streams.counters import cycle, level
from karui.hw.streams.stream import ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import NumberFormat


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnMatrixVectorConfig:
    """Parameters of a `ColumnMatrixVector`.

    Parameters
    ----------
    weights : ndarray, shape (M, K)
        Integers of the format, mostly zeros.
    weight_format, input_format : NumberFormat
        Of a weight and of an input element; an element may be zero.
    accumulator : NumberFormat
        Format of the sums, wide enough for every one of the matrix, bias included.
    pe : int
        Processing elements; divides M. Row r belongs to number r modulo that, and so many results leave together.
    simd : int
        Elements of a vector that come together; divides K.
    bias : ndarray of shape (M,), optional
        Integers that are added to the sums.
    queue : int
        Activations that may wait in front of a processing element.
    multiplier : {"dsp", "lut"}
        What products are made of.

    Raises
    ------
    ValueError
        If numbers and formats do not fit each other.
    """

    weights: npt.NDArray[Any]
    weight_format: NumberFormat
    input_format: NumberFormat
    accumulator: NumberFormat
    pe: int
    simd: int
    bias: npt.NDArray[Any] | None = None
    queue: int = 16
    multiplier: Multiplier = "dsp"

    def __post_init__(self) -> None:
        outputs, inputs = self.weights.shape
        require_divisor("pe", self.pe, outputs, "outputs")
        require_divisor("simd", self.simd, inputs, "inputs")
        if self.input_format.is_bipolar:
            raise ValueError("bipolar activations are never zero: use a SparseMatrixVector")
        if self.accumulator.kind != "signed":
            raise ValueError(f"accumulator must be signed, not {self.accumulator}")

    @cached_property
    def elements(self) -> tuple[ColumnPeConfig, ...]:
        """The processing elements."""
        bias = np.zeros(len(self.weights), dtype=np.int64) if self.bias is None else self.bias
        return tuple(
            ColumnPeConfig(
                weights=self.weights[pe :: self.pe],
                initial=bias[pe :: self.pe],
                input_format=self.input_format,
                weight_format=self.weight_format,
                sum_format=self.accumulator,
                queue=self.queue,
                multiplier=self.multiplier,
            )
            for pe in range(self.pe)
        )

    @property
    def stored_bits(self) -> int:
        """Bits of all entries and pointers."""
        return sum(element.stored_bits for element in self.elements)

    def least_cycles(self, vectors: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Cycles that each vector takes at least, shape (vectors,).

        The longest of what its beats take (one for each activation that is not zero, one for a beat without any), of
        the entries of its columns in one processing element, and of the beats of its result. Vectors that follow one
        another take little more, as long as the queues make up for columns of unlike length.
        """
        used = vectors != 0
        beats = used.reshape(len(vectors), -1, self.simd).sum(axis=2)
        counts = np.stack([element.counts for element in self.elements])
        sent = np.maximum(beats, 1).sum(axis=1) + 1
        multiplied = (used.astype(np.int64) @ counts.T).max(axis=1) + 1
        return np.asarray(np.maximum(np.maximum(sent, multiplied), len(self.weights) // self.pe), dtype=np.int64)


class ColumnMatrixVector(wiring.Component):
    """Multiplies vectors by a sparse matrix without the zeros of either, bit-exactly.

    Each activation that is not zero goes, with its column, to the queues of all processing elements, which multiply it
    by the column's non-zero weights in their rows (the order of EIE: Han et al. 2016). How long a vector takes depends
    on it: see `ColumnMatrixVectorConfig.least_cycles`.

    Parameters
    ----------
    config : ColumnMatrixVectorConfig

    Members
    -------
    i : In(stream)
        Vectors, `simd` elements a beat.
    o : Out(stream)
        Sums, `pe` a beat.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: ColumnMatrixVectorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.input_format, config.simd))),
                "o": Out(stream.Signature(lanes_of(config.accumulator, config.pe))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        elements = [ColumnPe(element) for element in self.config.elements]
        for index, element in enumerate(elements):
            m.submodules[f"pe_{index}"] = element
        room = self._drain(m, elements)
        self._distribute(m, elements, room)
        return m

    def _distribute(self, m: Module, elements: list[ColumnPe], room: tuple[Value, Signal]) -> None:
        """Send each element that is not zero to all processing elements, then the vector's end."""
        config = self.config
        has_room, starts = room
        words = config.weights.shape[1] // config.simd
        beat = Signal.like(self.i.payload, reset_less=True)
        pending = Signal(config.simd)
        loaded, last, end = Signal(), Signal(), Signal()
        load, send, all_ready = Signal(), Signal(), Signal()
        word = cycle(m, "word", words, step=load)
        number = Signal(range(words), reset_less=True)
        # The lowest element that is still to be sent.
        lowest = pending & (~pending + 1)[: config.simd]
        place = Signal(range(config.simd))
        chosen = Signal(config.input_format.bits)
        for index in reversed(range(config.simd)):
            with m.If(pending[index]):
                m.d.comb += [place.eq(index), chosen.eq(beat[index])]
        is_done = Signal()
        m.d.comb += [
            all_ready.eq(Cat(element.i.ready for element in elements).all()),
            send.eq((end | (pending != 0)) & all_ready),
            # The beat is at its end with this element, or without any.
            is_done.eq(~end & ((pending == 0) | (all_ready & (pending == lowest)))),
            self.i.ready.eq(Mux(loaded, is_done & ~last, ~end | send) & (has_room | ~word.is_first)),
            load.eq(self.i.valid & self.i.ready),
            starts.eq(load & word.is_first),
        ]
        nonzero = Cat(self.i.payload[index] != 0 for index in range(config.simd))
        with m.If(load):
            m.d.sync += [beat.eq(self.i.payload), pending.eq(nonzero), number.eq(word.number)]
            m.d.sync += [loaded.eq(1), last.eq(word.is_last), end.eq(0)]
        with m.Else():
            with m.If(send & ~end):
                m.d.sync += pending.eq(pending & ~lowest)
            with m.If(loaded & is_done):
                m.d.sync += [loaded.eq(0), end.eq(last)]
            with m.If(end & send):
                m.d.sync += end.eq(0)
        for element in elements:
            token = element.i.payload
            m.d.comb += [
                element.i.valid.eq(send),
                token.column.eq(number * config.simd + place),
                token.element.eq(chosen),
                token.end.eq(end),
            ]

    def _drain(self, m: Module, elements: list[ColumnPe]) -> tuple[Value, Signal]:
        """Send sums out when all processing elements have theirs; returns whether another vector may start, and what
        says that one does."""
        config = self.config
        layout = lanes_of(config.accumulator, config.pe)
        m.submodules.output = output = ElasticOutput(ElasticOutputConfig(payload=layout, period=1, latency=1))
        wiring.connect(m, output.o, wiring.flipped(self.o))
        step, starts = Signal(), Signal()
        row = cycle(m, "row", len(config.weights) // config.pe, step=step)
        half = cycle(m, "half", 2, step=step & row.is_last)
        begin = step & row.is_first
        waiting = [level(m, f"done_{index}", 2, up=element.done, down=begin) for index, element in enumerate(elements)]
        room = level(m, "room", 2, up=step & row.is_last, down=starts, init=2)
        complete = ~Cat(one.empty for one in waiting).any()
        m.d.comb += [
            step.eq(output.credit & (complete | ~row.is_first)),
            output.reserve.eq(step),
            output.i.valid.eq(delayed(m, step, 1, name="drained", control=True)),
        ]
        for index, element in enumerate(elements):
            m.d.comb += [
                element.drain.eq(step),
                element.half.eq(half.number),
                element.row.eq(row.number),
                output.i.payload[index].eq(element.sum),
            ]
        return ~room.empty, starts
