"""Concatenation of feature maps along their channels."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import NumberFormat

LATENCY = 2
"""Cycles of the pipeline: a register for each part, which may come straight from block RAM, and one behind the choice
between them."""


@dataclass(frozen=True, kw_only=True)
class ConcatConfig:
    """Parameters of a `Concat`.

    Parameters
    ----------
    element : NumberFormat
        Format of the elements of all parts.
    channels : tuple of int
        Channels of each part, 2 parts or more.
    positions : int
        Pixels a frame.
    lanes : int
        Channels a beat, of all parts and of the whole; divides the channels of each part.

    Raises
    ------
    ValueError
        If there are fewer parts or the lanes do not divide.
    """

    element: NumberFormat
    channels: tuple[int, ...]
    positions: int = 1
    lanes: int

    def __post_init__(self) -> None:
        if len(self.channels) < 2:
            raise ValueError(f"a concat needs 2 parts or more, not {len(self.channels)}")
        if self.positions < 1:
            raise ValueError(f"positions must be 1 or more, not {self.positions}")
        for part, channels in enumerate(self.channels):
            require_divisor("lanes of a concat", self.lanes, channels, f"channels of part {part}")

    @property
    def pixel_beats(self) -> tuple[int, ...]:
        """Beats of a pixel of each part."""
        return tuple(channels // self.lanes for channels in self.channels)

    @property
    def interval(self) -> int:
        """Cycles a frame: the beats of the whole."""
        return self.positions * sum(self.pixel_beats)


class Concat(wiring.Component):
    """For each pixel the channels of part 0, then those of part 1, and so on.

    Latency 4 cycles, throughput 1 beat a cycle.

    Parameters
    ----------
    config : ConcatConfig

    Members
    -------
    i_0, i_1, ... : In(stream)
        Parts, `lanes` channels a beat.
    o : Out(stream)
        The whole, likewise.
    """

    o: stream.Interface

    def __init__(self, config: ConcatConfig) -> None:
        self.config = config
        lanes = stream.Signature(lanes_of(config.element, config.lanes))
        super().__init__({f"i_{part}": In(lanes) for part in range(len(config.channels))} | {"o": Out(lanes)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        payload = lanes_of(config.element, config.lanes)
        m.submodules.output = output = ElasticOutput(ElasticOutputConfig(payload=payload, period=1, latency=LATENCY))
        wiring.connect(m, output.o, wiring.flipped(self.o))
        takes = Signal()
        chosen = Signal(len(config.channels), init=1)
        whole = Signal(payload, reset_less=True)
        for part, beats in enumerate(config.pixel_beats):
            source: stream.Interface = getattr(self, f"i_{part}")
            transfer = Signal(name=f"transfer_{part}")
            m.d.comb += [
                source.ready.eq(chosen[part] & output.credit),
                transfer.eq(source.valid & source.ready),
            ]
            beat = cycle(m, f"beat_{part}", beats, step=transfer)
            with m.If(transfer):
                m.d.comb += takes.eq(1)
                with m.If(beat.is_last):
                    m.d.sync += chosen.eq(chosen.rotate_left(1))
            registered = delayed(m, source.payload.as_value(), 1, name=f"payload_{part}")
            with m.If(delayed(m, chosen[part], 1, name=f"was_chosen_{part}")):
                m.d.sync += whole.as_value().eq(registered)
        m.d.comb += [
            output.reserve.eq(takes),
            output.i.valid.eq(delayed(m, takes, LATENCY, name="valid", control=True)),
            output.i.payload.eq(whole),
        ]
        return m
