from dataclasses import dataclass

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.streams.axi_stream import AxiStreamEndConfig, AxiStreamInput, AxiStreamInputConfig, AxiStreamOutput
from karui.hw.streams.stream import FIFO_LATENCY, Fifo, FifoConfig, lanes_of
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import NumberFormat, signed, unpack

ELEMENT = signed(3)


@dataclass(frozen=True, kw_only=True)
class Ends:
    elements: int
    lanes: int
    frames_in_flight: int = 4
    queued: bool = True
    element: NumberFormat = ELEMENT


class EndToEnd(wiring.Component):
    """Input, a queue of many frames or none, output; TDATA, TLAST and TUSER packed into one element."""

    def __init__(self, ends: Ends) -> None:
        self.source = AxiStreamInput(
            AxiStreamInputConfig(
                element=ends.element, elements=ends.elements, lanes=ends.lanes, frames_in_flight=ends.frames_in_flight
            )
        )
        self.sink = AxiStreamOutput(AxiStreamEndConfig(element=ends.element, elements=ends.elements, lanes=ends.lanes))
        self.queue = Fifo(FifoConfig(payload=lanes_of(ends.element, ends.lanes), depth=40))
        self.queued = ends.queued
        self.width = self.source.config.data_width
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(unsigned(self.width + 1), 1))),
                "o": Out(stream.Signature(data.ArrayLayout(unsigned(self.width + 2), 1))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        source, queue, sink = self.source, self.queue, self.sink
        m.submodules += [source, queue, sink]
        if self.queued:
            wiring.connect(m, source.o, queue.i)
            wiring.connect(m, queue.o, sink.i)
        else:
            wiring.connect(m, source.o, sink.i)
        wiring.connect(m, source.error, sink.error)
        m.d.comb += [
            Cat(source.s_axis_tdata, source.s_axis_tlast).eq(self.i.payload.as_value()),
            source.s_axis_tvalid.eq(self.i.valid),
            self.i.ready.eq(source.s_axis_tready),
            self.o.payload.as_value().eq(Cat(sink.m_axis_tdata, sink.m_axis_tlast, sink.m_axis_tuser)),
            self.o.valid.eq(sink.m_axis_tvalid),
            sink.m_axis_tready.eq(self.o.ready),
        ]
        return m


def _expected(frames: list[np.ndarray], beats: int, bits: int, width: int) -> list[int]:
    """What must leave, worked out from the frames' lengths alone."""
    words = []
    for frame in frames:
        held = [int(word) % (1 << bits) for word in frame[:beats]]
        held += [0] * (beats - len(held))
        held[-1] |= 1 << width
        held[-1] |= int(len(frame) != beats) << (width + 1)
        words += held
    return words


@pytest.mark.parametrize(("elements", "lanes"), [(6, 3), (6, 6), (20, 2), (8, 8)])
@pytest.mark.parametrize("queued", [True, False])
@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_frames_of_any_length_leave_whole_with_their_error_flags(elements, lanes, queued, source, sink):
    random = np.random.default_rng(elements)
    dut = EndToEnd(Ends(elements=elements, lanes=lanes, queued=queued))
    beats = elements // lanes
    lengths = [max(1, beats + int(random.choice([0, 0, -1, 1, -beats, beats * 3]))) for _ in range(40)]
    frames = [random.integers(0, 1 << dut.width, size=length) for length in lengths]
    sent = np.concatenate([word + (np.arange(len(word)) == len(word) - 1) * (1 << dut.width) for word in frames])
    run = run_stream(dut, sent[:, None], beats_out=len(frames) * beats, source=source, sink=sink, seed=lanes)
    assert run.words[:, 0].tolist() == _expected(frames, beats, lanes * ELEMENT.bits, dut.width)
    assert len(set(run.words[:, 0] >> (dut.width + 1))) == 2


def test_input_stalls_rather_than_lose_a_flag():
    """One-beat frames fill the flag memory long before the queue of beats is full."""
    dut = EndToEnd(Ends(elements=2, lanes=2, frames_in_flight=3))
    sent = np.full((200, 1), 1 << dut.width)
    arrivals = np.arange(200)
    run = run_stream(dut, sent, beats_out=200, arrivals=arrivals, sink=BackPressure.BURSTY, seed=2)
    held = np.searchsorted(run.taken, run.accepted, side="left")
    in_flight = np.arange(200) - held
    assert in_flight.max() < 10
    assert run.words[:, 0].tolist() == [1 << dut.width] * 200


def test_lanes_are_packed_from_the_lowest_bits():
    dut = EndToEnd(Ends(elements=3, lanes=3))
    values = np.array([-4, 1, 3])
    word = sum((int(value) % 8) << (3 * lane) for lane, value in enumerate(values))
    run = run_stream(dut, np.array([[word + (1 << dut.width)]]), beats_out=1)
    data_bytes = int(run.words[0, 0] % (1 << dut.width)).to_bytes(dut.width // 8, "little")
    assert unpack(np.frombuffer(data_bytes, dtype=np.uint8), ELEMENT, 3).tolist() == values.tolist()


@pytest.mark.parametrize("source", BackPressure)
def test_schedule_equals_simulation(source):
    dut = EndToEnd(Ends(elements=12, lanes=3, frames_in_flight=8))
    is_last = np.arange(40) % 4 == 3
    run = run_stream(dut, is_last[:, None] * (1 << dut.width), beats_out=40, source=source, seed=4)
    entered = dut.source.config.schedule(run.arrivals)
    queued = dut.queue.config.schedule(entered.departures)
    # A frame's flag takes a queue between two registers.
    flagged = np.where(is_last, np.maximum(queued.departures, entered.accepted + FIFO_LATENCY + 2), queued.departures)
    left = dut.sink.config.schedule(flagged)
    assert entered.accepted.tolist() == run.accepted.tolist()
    assert left.departures.tolist() == run.departures.tolist()


def test_ports_have_the_standard_names():
    dut = EndToEnd(Ends(elements=6, lanes=3))
    run_stream(dut, np.array([[0], [1 << 16]]), beats_out=2)
    assert dut.width == 16
    assert set(dut.source.signature.members) == {
        *("s_axis_tdata", "s_axis_tvalid", "s_axis_tready", "s_axis_tlast", "o", "error"),
    }
    assert set(dut.sink.signature.members) == {
        *("i", "error", "m_axis_tdata", "m_axis_tvalid", "m_axis_tready", "m_axis_tlast", "m_axis_tuser"),
    }


def test_refuses_what_cannot_work():
    with pytest.raises(ValueError, match="lanes of an AXI4-Stream port must divide the 10 elements"):
        AxiStreamInputConfig(element=ELEMENT, elements=10, lanes=3, frames_in_flight=2)
    with pytest.raises(ValueError, match="frames_in_flight must be 1 or more, not 0"):
        AxiStreamInputConfig(element=ELEMENT, elements=10, lanes=5, frames_in_flight=0)
    with pytest.raises(ValueError, match="lanes of an AXI4-Stream port must divide the 10 elements"):
        AxiStreamEndConfig(element=ELEMENT, elements=10, lanes=4)
