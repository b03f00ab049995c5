"""A fixed-latency pipeline as a stage of its own, between streams."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from amaranth.hdl import Module, Shape, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.streams.stream import FIFO_LATENCY, ElasticOutput, ElasticOutputConfig, Tagged, lanes_of
from karui.hw.streams.timing import Cycles, Schedule, consecutive
from karui.sw.numerics import NumberFormat, format_for_range


@dataclass(frozen=True, kw_only=True, eq=False)
class ElementwiseConfig(ABC):
    """What the parameters of all pipelines have that keep the shape of their beats.

    Parameters
    ----------
    channels : int
        Length of the last axis; beats go through the channels in order, again and again.
    lanes : int
        Channels a beat.
    input_format, output_format : NumberFormat
        Formats of an element that goes in and of one that comes out.
    positions : int
        Vectors of channels a frame.
    period : int
        Least number of cycles between two beats; from 4 on, many channels' parameters go to block RAM.
    """

    channels: int
    lanes: int
    input_format: NumberFormat
    output_format: NumberFormat
    positions: int = 1
    period: int = 1

    @property
    @abstractmethod
    def latency(self) -> int:
        """Cycles of the pipeline."""

    @property
    def folds(self) -> int:
        """Beats a vector."""
        return self.channels // self.lanes

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.positions * self.folds * self.period

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat of the pipeline between streams."""
        accepted = consecutive(arrivals)
        return Schedule(accepted=accepted, departures=accepted + self.latency + FIFO_LATENCY)


def signed_range(low: int, high: int) -> Shape:
    """The narrowest signed shape that holds a range."""
    return Shape(format_for_range(min(low, -1), high).bits, signed=True)


class ElementwisePipeline(wiring.Component):
    """Base of the pipelines that keep the shape of their beats.

    Parameters
    ----------
    config : ElementwiseConfig

    Members
    -------
    i : In(Tagged)
        Values, `lanes` channels a beat.
    o : Out(Tagged)
        Results, likewise, `config.latency` cycles later.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: ElementwiseConfig) -> None:
        super().__init__(
            {
                "i": In(Tagged(lanes_of(config.input_format, config.lanes))),
                "o": Out(Tagged(lanes_of(config.output_format, config.lanes))),
            }
        )


class Elementwise(wiring.Component):
    """Streams around a pipeline: a beat goes in when its result has a place to go to.

    Latency ``config.latency + 2`` cycles, throughput a beat a cycle.

    Parameters
    ----------
    config : ElementwiseConfig
        With a period of 1.
    pipeline : Component
        With members ``i`` and ``o``, both `Tagged`.

    Members
    -------
    i : In(stream)
        Values, `lanes` channels a beat.
    o : Out(stream)
        Results, likewise.

    Raises
    ------
    ValueError
        If the period is not 1.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: ElementwiseConfig, pipeline: wiring.Component) -> None:
        if config.period != 1:
            raise ValueError(f"a stream's beats may follow one another: period must be 1, not {config.period}")
        self.pipeline = pipeline
        self._latency = config.latency
        self._results = lanes_of(config.output_format, config.lanes)
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.input_format, config.lanes))),
                "o": Out(stream.Signature(self._results)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.pipeline = pipeline = self.pipeline
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(payload=self._results, period=1, latency=self._latency)
        )
        accept = Signal()
        m.d.comb += [
            accept.eq(self.i.valid & output.credit),
            self.i.ready.eq(output.credit),
            output.reserve.eq(accept),
            pipeline.i.payload.eq(self.i.payload),
            pipeline.i.valid.eq(accept),
        ]
        wiring.connect(m, pipeline.o, output.i)
        wiring.connect(m, output.o, wiring.flipped(self.o))
        return m
