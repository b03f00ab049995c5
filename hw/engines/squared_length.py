"""Squared lengths of vectors."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.integer_dot_product import IntegerDotProductConfig, Multiplier
from karui.hw.arithmetic.products_of import products_latency, products_of
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import FIFO_LATENCY, ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.streams.timing import Cycles, Schedule, consecutive, require_divisor
from karui.sw.numerics import NumberFormat


@dataclass(frozen=True, kw_only=True)
class SquaredLengthConfig:
    """Parameters of a `SquaredLength`.

    Parameters
    ----------
    element, output_format : NumberFormat
        Formats of the vectors' elements, unsigned or signed, and of the sums of squares.
    length : int
        Elements of a vector.
    lanes : int
        Elements a beat; divides the length.
    vectors : int
        Vectors a frame.
    multiplier : {"dsp", "lut"}
        What squares are made of.
    """

    element: NumberFormat
    output_format: NumberFormat
    length: int
    lanes: int
    vectors: int
    multiplier: Multiplier = "dsp"

    def __post_init__(self) -> None:
        require_divisor("lanes of a squared length", self.lanes, self.length, "elements of a vector")

    @property
    def beats(self) -> int:
        """Beats a vector."""
        return self.length // self.lanes

    @property
    def squares(self) -> IntegerDotProductConfig:
        """The squares of a beat and their sum."""
        return IntegerDotProductConfig(
            rows=1,
            simd=self.lanes,
            input_format=self.element,
            weight_format=self.element,
            multiplier=self.multiplier,
        )

    @property
    def latency(self) -> int:
        """Cycles from a vector's last beat to its squared length at the end of the pipeline."""
        return products_latency(self.squares) + (self.beats > 1)

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.vectors * self.beats

    @property
    def output(self) -> ElasticOutputConfig:
        """The queue at the output."""
        return ElasticOutputConfig(payload=lanes_of(self.output_format, 1), period=self.beats, latency=self.latency)

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; see `Schedule`."""
        accepted = consecutive(arrivals)
        ends = accepted[self.beats - 1 :: self.beats]
        return Schedule(accepted=accepted, departures=ends + self.latency + FIFO_LATENCY)


class SquaredLength(wiring.Component):
    """Sums the squares of each vector's elements.

    Latency ``config.latency + 2`` cycles from a vector's last beat, throughput a beat a cycle.

    Parameters
    ----------
    config : SquaredLengthConfig

    Members
    -------
    i : In(stream)
        Vectors, `lanes` elements a beat.
    o : Out(stream)
        One sum a vector.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: SquaredLengthConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.element, config.lanes))),
                "o": Out(stream.Signature(lanes_of(config.output_format, 1))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.output = output = ElasticOutput(config.output)
        wiring.connect(m, output.o, wiring.flipped(self.o))

        transfer, ends = Signal(), Signal()
        beat = cycle(m, "beat", config.beats, step=transfer)
        m.d.comb += [
            self.i.ready.eq(~beat.is_last | output.credit),
            transfer.eq(self.i.valid & self.i.ready),
            ends.eq(transfer & beat.is_last),
            output.reserve.eq(ends),
        ]
        words = [self.i.payload[lane] for lane in range(config.lanes)]
        (total,) = products_of(m, config.squares, words, [self.i.payload.as_value()], name="squares")
        if config.beats > 1:
            total = self._accumulated(m, total, transfer, beat.is_first)
        m.d.comb += [
            output.i.payload[0].eq(total),
            output.i.valid.eq(delayed(m, ends, config.latency, name="valid", control=True)),
        ]
        return m

    def _accumulated(self, m: Module, squares: Value, transfer: Signal, is_first: Signal) -> Signal:
        latency = products_latency(self.config.squares)
        begins = delayed(m, is_first, latency, name="begins")
        total = Signal(self.config.output_format.bits, name="total", reset_less=True)
        with m.If(delayed(m, transfer, latency, name="squared", control=True)):
            m.d.sync += total.eq(squares + Mux(begins, 0, total))
        return total
