"""Element-wise sum of two streams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.streams.stream import ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import NumberFormat

LATENCY = 2
"""Cycles of the pipeline: a register for the operands, which may come straight from block RAM, and one for the sum."""


@dataclass(frozen=True, kw_only=True)
class AddConfig:
    """Parameters of an `Add`.

    Parameters
    ----------
    input_formats : (NumberFormat, NumberFormat)
        Formats of the operands, unsigned or signed.
    shifts : (int, int)
        Places by which each operand is shifted to the left first.
    output_format : NumberFormat
        Format of the sums, wide enough for all of them.
    elements : int
        Elements a frame.
    lanes : int
        Elements a beat, of both operands and of the sum; divides the elements.

    Raises
    ------
    ValueError
        If the lanes do not divide the elements, an operand is bipolar, or the sums do not fit.
    """

    input_formats: tuple[NumberFormat, NumberFormat]
    shifts: tuple[int, int] = (0, 0)
    output_format: NumberFormat
    elements: int
    lanes: int

    def __post_init__(self) -> None:
        require_divisor("lanes of an add", self.lanes, self.elements, "elements of a frame")
        if any(number_format.is_bipolar for number_format in self.input_formats):
            raise ValueError("the operands of an add must be unsigned or signed, not bipolar")
        operands = list(zip(self.input_formats, self.shifts, strict=True))
        low = sum(number_format.minimum << shift for number_format, shift in operands)
        high = sum(number_format.maximum << shift for number_format, shift in operands)
        if not self.output_format.admits(np.array([low, high])):
            raise ValueError(f"sums from {low} to {high} do not fit the output format {self.output_format}")

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.elements // self.lanes


class Add(wiring.Component):
    """Adds two streams beat by beat: ``(i_0 << shifts[0]) + (i_1 << shifts[1])``.

    A beat is taken from both streams at once. Latency 4 cycles, throughput 1 beat a cycle.

    Parameters
    ----------
    config : AddConfig

    Members
    -------
    i_0, i_1 : In(stream)
        Operands, `lanes` elements a beat.
    o : Out(stream)
        Sums, likewise.
    """

    i_0: stream.Interface
    i_1: stream.Interface
    o: stream.Interface

    def __init__(self, config: AddConfig) -> None:
        self.config = config
        first, second = config.input_formats
        super().__init__(
            {
                "i_0": In(stream.Signature(lanes_of(first, config.lanes))),
                "i_1": In(stream.Signature(lanes_of(second, config.lanes))),
                "o": Out(stream.Signature(lanes_of(config.output_format, config.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        payload = lanes_of(config.output_format, config.lanes)
        m.submodules.output = output = ElasticOutput(ElasticOutputConfig(payload=payload, period=1, latency=LATENCY))
        wiring.connect(m, output.o, wiring.flipped(self.o))
        takes = Signal()
        m.d.comb += [
            takes.eq(self.i_0.valid & self.i_1.valid & output.credit),
            self.i_0.ready.eq(self.i_1.valid & output.credit),
            self.i_1.ready.eq(self.i_0.valid & output.credit),
            output.reserve.eq(takes),
            output.i.valid.eq(delayed(m, takes, LATENCY, name="valid", control=True)),
        ]
        first, second = Signal.like(self.i_0.payload, reset_less=True), Signal.like(self.i_1.payload, reset_less=True)
        sums = Signal(payload, reset_less=True)
        m.d.sync += [first.eq(self.i_0.payload), second.eq(self.i_1.payload)]
        for lane in range(config.lanes):
            m.d.sync += sums[lane].eq((first[lane] << config.shifts[0]) + (second[lane] << config.shifts[1]))
        m.d.comb += output.i.payload.eq(sums)
        return m
