"""The two ends of an accelerator: AXI4-Stream frames to and from its internal streams."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.streams.counters import cycle
from karui.hw.streams.skid_buffer import SkidBuffer
from karui.hw.streams.stream import Fifo, FifoConfig, lanes_of
from karui.hw.streams.timing import Cycles, Schedule, consecutive, require_divisor
from karui.sw.numerics import NumberFormat, word_bytes


@dataclass(frozen=True, kw_only=True)
class AxiStreamEndConfig:
    """Parameters of either end.

    Parameters
    ----------
    element : NumberFormat
        Format of the elements.
    elements : int
        Elements a frame.
    lanes : int
        Elements a beat; divides the elements.
    """

    element: NumberFormat
    elements: int
    lanes: int

    def __post_init__(self) -> None:
        require_divisor("lanes of an AXI4-Stream port", self.lanes, self.elements, "elements of a frame")

    @property
    def beats(self) -> int:
        """Beats a frame."""
        return self.elements // self.lanes

    @property
    def data_width(self) -> int:
        """Width of TDATA: the packed lanes, padded to whole bytes."""
        return 8 * word_bytes(self.lanes * self.element.bits)

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.beats

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat of frames that have the right length and whose flags are not late; see `Schedule`."""
        accepted = consecutive(arrivals)
        return Schedule(accepted=accepted, departures=accepted + 1)


@dataclass(frozen=True, kw_only=True)
class AxiStreamInputConfig(AxiStreamEndConfig):
    """Parameters of an `AxiStreamInput`, beside those of either end.

    Parameters
    ----------
    frames_in_flight : int
        Frames that may have entered while none of them has left: room for their error flags. With all of it taken the
        input stalls, so it has to be at least what the accelerator holds at full rate.
    """

    frames_in_flight: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames_in_flight < 1:
            raise ValueError(f"frames_in_flight must be 1 or more, not {self.frames_in_flight}")


class _State(enum.Enum):
    FRAME = 0
    COMPLETE = 1
    DROP = 2


class AxiStreamInput(wiring.Component):
    """Take frames from AXI4-Stream and make them exactly as long as they should be.

    TLAST ends a frame. A short frame is completed with zero beats; of a long one, the beats past the length are
    dropped until TLAST. In both cases the frame's error flag is 1. The flag is known with the last beat that counts, so
    that a result never waits for the end of an overlong frame.

    Parameters
    ----------
    config : AxiStreamInputConfig

    Members
    -------
    s_axis_tdata, s_axis_tvalid, s_axis_tready, s_axis_tlast
        AXI4-Stream sink; lane 0 in the lowest bits, bits above the lanes ignored.
    o : Out(stream)
        Whole frames of `lanes` elements a beat. Latency 1 cycle, throughput 1 beat a cycle.
    error : Out(stream of 1 bit)
        One flag a frame, in order, for `AxiStreamOutput`.
    """

    def __init__(self, config: AxiStreamInputConfig) -> None:
        self.config = config
        super().__init__(
            {
                "s_axis_tdata": In(config.data_width),
                "s_axis_tvalid": In(1),
                "s_axis_tready": Out(1),
                "s_axis_tlast": In(1),
                "o": Out(stream.Signature(lanes_of(config.element, config.lanes))),
                "error": Out(stream.Signature(unsigned(1))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.output = output = SkidBuffer(lanes_of(config.element, config.lanes))
        m.submodules.errors = errors = Fifo(FifoConfig(payload=unsigned(1), depth=max(3, config.frames_in_flight)))
        # The queue is as deep as many frames: its level is far from what the source is told.
        m.submodules.flags = flags = SkidBuffer(data.StructLayout({"error": 1}))
        wiring.connect(m, output.o, wiring.flipped(self.o))
        wiring.connect(m, errors.o, wiring.flipped(self.error))
        m.d.comb += [
            errors.i.valid.eq(flags.o.valid),
            errors.i.payload.eq(flags.o.payload.error),
            flags.o.ready.eq(errors.i.ready),
        ]

        state = Signal(_State)
        beat = cycle(m, "beat", config.beats, step=output.i.valid & output.i.ready)
        transfer = Signal()
        m.d.comb += [
            self.s_axis_tready.eq((state != _State.COMPLETE) & output.i.ready & flags.i.ready),
            transfer.eq(self.s_axis_tvalid & self.s_axis_tready),
        ]
        with m.Switch(state):
            with m.Case(_State.FRAME):
                m.d.comb += [
                    output.i.valid.eq(transfer),
                    output.i.payload.as_value().eq(self.s_axis_tdata),
                    flags.i.valid.eq(transfer & (self.s_axis_tlast | beat.is_last)),
                    flags.i.payload.error.eq(self.s_axis_tlast ^ beat.is_last),
                ]
                with m.If(transfer & self.s_axis_tlast & ~beat.is_last):
                    m.d.sync += state.eq(_State.COMPLETE)
                with m.If(transfer & beat.is_last & ~self.s_axis_tlast):
                    m.d.sync += state.eq(_State.DROP)
            with m.Case(_State.COMPLETE):
                m.d.comb += output.i.valid.eq(1)
                with m.If(output.i.ready & beat.is_last):
                    m.d.sync += state.eq(_State.FRAME)
            with m.Case(_State.DROP), m.If(transfer & self.s_axis_tlast):
                m.d.sync += state.eq(_State.FRAME)
        return m


class AxiStreamOutput(wiring.Component):
    """Send frames as AXI4-Stream, with TLAST and the error flag.

    Parameters
    ----------
    config : AxiStreamEndConfig

    Members
    -------
    i : In(stream)
        Frames of `lanes` elements a beat. Latency 1 cycle, throughput 1 beat a cycle.
    error : In(stream of 1 bit)
        One flag a frame; a frame's last beat waits for it.
    m_axis_tdata, m_axis_tvalid, m_axis_tready, m_axis_tlast, m_axis_tuser
        AXI4-Stream source. TUSER is the frame's error flag on its last beat (the one with TLAST) and 0 on the others:
        the first results of a frame may leave before its end has been seen.
    """

    def __init__(self, config: AxiStreamEndConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.element, config.lanes))),
                "error": In(stream.Signature(unsigned(1))),
                "m_axis_tdata": Out(config.data_width),
                "m_axis_tvalid": Out(1),
                "m_axis_tready": In(1),
                "m_axis_tlast": Out(1),
                "m_axis_tuser": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        layout = data.StructLayout({"data": lanes_of(config.element, config.lanes), "last": 1, "user": 1})
        m.submodules.output = output = SkidBuffer(layout)
        # The flags come from the other end of the design: the way is long, in both directions.
        m.submodules.flags = flags = SkidBuffer(data.StructLayout({"error": 1}))
        m.d.comb += [
            flags.i.valid.eq(self.error.valid),
            flags.i.payload.error.eq(self.error.payload),
            self.error.ready.eq(flags.i.ready),
        ]
        beat = cycle(m, "beat", config.beats, step=output.i.valid & output.i.ready)
        complete = Signal()
        m.d.comb += [
            complete.eq(~beat.is_last | flags.o.valid),
            self.i.ready.eq(output.i.ready & complete),
            output.i.valid.eq(self.i.valid & complete),
            output.i.payload.data.eq(self.i.payload),
            output.i.payload.last.eq(beat.is_last),
            output.i.payload.user.eq(beat.is_last & flags.o.payload.error),
            flags.o.ready.eq(beat.is_last & self.i.valid & output.i.ready),
            self.m_axis_tdata.eq(output.o.payload.data.as_value()),
            self.m_axis_tlast.eq(output.o.payload.last),
            self.m_axis_tuser.eq(output.o.payload.user),
            self.m_axis_tvalid.eq(output.o.valid),
            output.o.ready.eq(self.m_axis_tready),
        ]
        return m


def axi_ports(source: AxiStreamInput, sink: AxiStreamOutput) -> dict[str, wiring.Member]:
    """The members that a top level has of its two ends."""
    return {
        name: member
        for end, prefix in ((source, "s_axis_"), (sink, "m_axis_"))
        for name, member in end.signature.members.items()
        if name.startswith(prefix)
    }


def connect_axi_ports(m: Module, top: wiring.Component, source: AxiStreamInput, sink: AxiStreamOutput) -> None:
    """Lead a top level's members to its two ends."""
    for name, member in axi_ports(source, sink).items():
        inner, outer = getattr(source if name.startswith("s_axis_") else sink, name), getattr(top, name)
        m.d.comb += inner.eq(outer) if member.flow == wiring.In else outer.eq(inner)
