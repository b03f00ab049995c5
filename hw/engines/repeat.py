"""A frame's elements, handed out several times."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.memory_style import Storage
from karui.hw.memory.replay_buffer import ReplayBuffer, ReplayBufferConfig
from karui.hw.streams.stream import ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import NumberFormat

READ_LATENCY = 2
"""Cycles from a take to its beat: the memory and the register behind it."""


@dataclass(frozen=True, kw_only=True)
class RepeatConfig:
    """Parameters of a `Repeat`.

    Parameters
    ----------
    element : NumberFormat
        Format of the elements.
    elements : int
        Elements of a frame.
    times : int
        How often they are handed out.
    lanes : int
        Elements a beat; divides the elements.
    storage : {"block", "distributed", "auto"}
        Memory of the frames.

    Raises
    ------
    ValueError
        If the lanes do not divide.
    """

    element: NumberFormat
    elements: int
    times: int
    lanes: int
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        require_divisor("lanes of a repeat", self.lanes, self.elements, "elements of a frame")

    @property
    def replay(self) -> ReplayBufferConfig:
        """The memory: two frames."""
        return ReplayBufferConfig(
            number_format=self.element,
            lanes=self.lanes,
            words=self.elements // self.lanes,
            passes=self.times,
            latency=READ_LATENCY,
            storage=self.storage,
        )

    @property
    def output(self) -> ElasticOutputConfig:
        """The queue of beats that were read."""
        return ElasticOutputConfig(payload=lanes_of(self.element, self.lanes), period=1, latency=READ_LATENCY)

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.replay.interval


class Repeat(wiring.Component):
    """Hands each frame out `times` times, while the next one is taken in.

    Latency `REPLAY_DELAY` + `READ_LATENCY` + `FIFO_LATENCY` cycles from a beat to its first copy, throughput a beat a
    cycle.

    Parameters
    ----------
    config : RepeatConfig

    Members
    -------
    i : In(stream)
        Frames, `lanes` elements a beat.
    o : Out(stream)
        Each `times` times.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: RepeatConfig) -> None:
        self.config = config
        lanes = stream.Signature(lanes_of(config.element, config.lanes))
        super().__init__({"i": In(lanes), "o": Out(lanes)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.replay = replay = ReplayBuffer(config.replay)
        m.submodules.output = output = ElasticOutput(config.output)
        wiring.connect(m, wiring.flipped(self.i), replay.i)
        wiring.connect(m, output.o, wiring.flipped(self.o))
        take = Signal()
        m.d.comb += [
            take.eq(replay.o.available & output.credit),
            replay.o.take.eq(take),
            output.reserve.eq(take),
            output.i.valid.eq(delayed(m, take, READ_LATENCY, name="valid", control=True)),
            output.i.payload.eq(replay.o.data),
        ]
        return m
