"""One stream to several readers."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.streams.skid_buffer import SkidBuffer
from karui.hw.streams.stream import lanes_of
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import NumberFormat


@dataclass(frozen=True, kw_only=True)
class ForkConfig:
    """Parameters of a `Fork`.

    Parameters
    ----------
    element : NumberFormat
        Format of the elements.
    elements : int
        Elements a frame.
    lanes : int
        Elements a beat; divides the elements.
    readers : int
        Streams that go out, 2 or more.

    Raises
    ------
    ValueError
        If there are fewer readers, or the lanes do not divide the elements.
    """

    element: NumberFormat
    elements: int
    lanes: int
    readers: int

    def __post_init__(self) -> None:
        require_divisor("lanes of a fork", self.lanes, self.elements, "elements of a frame")
        if self.readers < 2:
            raise ValueError(f"a fork needs 2 readers or more, not {self.readers}")

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.elements // self.lanes


class Fork(wiring.Component):
    """Offers every beat to all readers; each takes it when it can, and the next one follows when all have.

    Latency 1 cycle, throughput 1 beat a cycle. The ways back from the readers meet at a `SkidBuffer`, so that none of
    them leads to `i.ready`; nor to the other readers' `valid`, which hangs on registers alone.

    Parameters
    ----------
    config : ForkConfig

    Members
    -------
    i : In(stream)
        Beats of `lanes` elements.
    o_0, o_1, ... : Out(stream)
        The same beats, for each reader.
    """

    i: stream.Interface

    def __init__(self, config: ForkConfig) -> None:
        self.config = config
        lanes = stream.Signature(lanes_of(config.element, config.lanes))
        super().__init__({"i": In(lanes)} | {f"o_{reader}": Out(lanes) for reader in range(config.readers)})

    @property
    def outputs(self) -> list[stream.Interface]:
        """The streams that go out, in order."""
        return [getattr(self, f"o_{reader}") for reader in range(self.config.readers)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.beat = beat = SkidBuffer(lanes_of(self.config.element, self.config.lanes))
        wiring.connect(m, wiring.flipped(self.i), beat.i)
        has_taken = Signal(self.config.readers)
        takes = Signal(self.config.readers)
        for reader, output in enumerate(self.outputs):
            m.d.comb += [
                output.payload.eq(beat.o.payload),
                output.valid.eq(beat.o.valid & ~has_taken[reader]),
            ]
        m.d.comb += [
            takes.eq(Cat(output.ready for output in self.outputs)),
            beat.o.ready.eq((has_taken | takes).all()),
        ]
        with m.If(beat.o.valid):
            m.d.sync += has_taken.eq(has_taken | takes)
            with m.If(beat.o.ready):
                m.d.sync += has_taken.eq(0)
        return m
