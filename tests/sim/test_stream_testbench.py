from typing import Any

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.streams.skid_buffer import SkidBuffer
from karui.hw.streams.stream import lanes_of
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import StreamError, run_stream
from karui.sw.numerics import signed

BEATS = np.random.default_rng(0).integers(-8, 8, size=(60, 3))
LANES = stream.Signature(lanes_of(signed(4), 3))


class Faulty(wiring.Component):
    """A register stage with one fault."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        super().__init__({"i": In(LANES), "o": Out(LANES)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        held = Signal.like(self.i.payload.as_value())
        full = Signal()
        count = Signal(8)
        load = Signal()
        m.d.comb += [
            self.o.payload.as_value().eq(held),
            self.o.valid.eq(full),
            self.i.ready.eq(~full),
            load.eq(self.i.valid & self.i.ready),
        ]
        with m.If(full & self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(load):
            m.d.sync += [held.eq(self.i.payload.as_value()), full.eq(1), count.eq(count + 1)]
        match self.fault:
            case "ready follows ready":
                m.d.comb += self.i.ready.eq(~full | self.o.ready)
            case "valid follows ready":
                m.d.comb += self.o.valid.eq(full & self.o.ready)
            case "withdraws":
                with m.If(full):
                    m.d.sync += full.eq(0)
            case "changes":
                with m.If(full & ~self.o.ready):
                    m.d.sync += held.eq(held + 1)
            case "stalls input":
                with m.If(count == 20):
                    m.d.comb += self.i.ready.eq(0)
            case "stalls output":
                with m.If(count >= 20):
                    m.d.comb += [self.i.ready.eq(1), self.o.valid.eq(0)]
            case "repeats":
                with m.If((count == 60) & ~full):
                    m.d.sync += [full.eq(1), count.eq(61)]
        return m


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("ready follows ready", r"i\.ready follows o\.ready"),
        ("valid follows ready", r"o\.valid follows o\.ready"),
        ("withdraws", r"stream o withdrew beat \d+"),
        ("changes", r"stream o changed beat \d+"),
        ("stalls input", r"stream i stalled: no transfer for 300 cycles after 20 of 60 input beats"),
        ("stalls output", r"stream o stalled: .* 19 of 60 output beats"),
        ("repeats", r"offers a beat after the last of 60"),
    ],
)
def test_faults_are_caught_and_named(fault, message):
    with pytest.raises(StreamError, match=message):
        run_stream(Faulty(fault), BEATS, beats_out=60, sink=BackPressure.RANDOM, watchdog=300)


@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_skid_buffer_delivers_at_full_rate(source, sink):
    run = run_stream(SkidBuffer(lanes_of(signed(4), 3)), BEATS, beats_out=60, source=source, sink=sink, seed=3)
    assert run.words.tolist() == BEATS.tolist()
    if sink is BackPressure.NONE:
        assert run.departures.tolist() == (run.accepted + 1).tolist()
        in_order = np.maximum(run.arrivals, np.arange(60)).tolist()
        assert run.accepted.tolist() == in_order or source is not BackPressure.NONE


def test_given_arrivals_are_kept():
    arrivals = np.array([3, 3, 10])
    run = run_stream(SkidBuffer(lanes_of(signed(4), 3)), BEATS[:3], beats_out=3, arrivals=arrivals)
    assert run.accepted.tolist() == [3, 4, 10]


def test_refuses_beats_of_another_width():
    buffer = SkidBuffer(lanes_of(signed(4), 3))
    with pytest.raises(ValueError, match="stream i has 3 lanes"):
        run_stream(buffer, BEATS[:, :2], beats_out=60)
    assert run_stream(buffer, BEATS, beats_out=60).words.tolist() == BEATS.tolist()
