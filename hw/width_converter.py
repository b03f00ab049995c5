"""Change of the number of lanes of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import Any

import numpy as np
from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.skid_buffer import SkidBuffer
from karui.hw.stream import lanes_of
from karui.hw.timing import Cycles, Schedule, consecutive, require_divisor
from karui.sw.numerics import NumberFormat


@dataclass(frozen=True, kw_only=True)
class WidthConverterConfig:
    """Parameters of a `WidthConverter`.

    Parameters
    ----------
    element : NumberFormat
        Format of the elements.
    elements : int
        Elements a frame.
    lanes_in, lanes_out : int
        Elements an input beat and an output beat; both divide the elements.
    """

    element: NumberFormat
    elements: int
    lanes_in: int
    lanes_out: int

    def __post_init__(self) -> None:
        require_divisor("lanes_in of a width converter", self.lanes_in, self.elements, "elements of a frame")
        require_divisor("lanes_out of a width converter", self.lanes_out, self.elements, "elements of a frame")

    @property
    def interval(self) -> int:
        """Cycles a frame: one beat a cycle on the narrower side."""
        return self.elements // min(self.lanes_in, self.lanes_out)

    def steps(self) -> tuple[WidthConverterConfig, ...]:
        """The conversion as conversions between a number of lanes and a multiple of it.

        Lanes that are no multiples of one another meet in their least common multiple, which divides the frame too.
        """
        middle = lcm(self.lanes_in, self.lanes_out)
        if middle in (self.lanes_in, self.lanes_out):
            return (self,)
        return (self._between(self.lanes_in, middle), self._between(middle, self.lanes_out))

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; see `Schedule`."""
        if len(self.steps()) == 2:
            return self._schedule_through_multiple(arrivals)
        if self.lanes_out >= self.lanes_in:
            accepted = consecutive(arrivals)
            pieces = self.lanes_out // self.lanes_in
            return Schedule(accepted=accepted, departures=accepted[pieces - 1 :: pieces] + 1)
        # A beat waits in the holding register for the one before it to be sent piece by piece.
        pieces = self.lanes_in // self.lanes_out
        pace = np.arange(len(arrivals), dtype=np.int64) * pieces
        sending = np.maximum.accumulate(arrivals + 1 - pace) + pace
        accepted = np.maximum(arrivals, np.concatenate(([0], sending[:-1] + 1)))
        return Schedule(accepted=accepted, departures=_pieces_after(sending, pieces))

    def _between(self, lanes_in: int, lanes_out: int) -> WidthConverterConfig:
        return WidthConverterConfig(
            element=self.element, elements=self.elements, lanes_in=lanes_in, lanes_out=lanes_out
        )

    def _schedule_through_multiple(self, arrivals: Cycles) -> Schedule:
        middle = lcm(self.lanes_in, self.lanes_out)
        collected, sent = middle // self.lanes_in, middle // self.lanes_out
        accepted = np.empty(len(arrivals), dtype=np.int64)
        sending = np.empty(len(arrivals) // collected, dtype=np.int64)
        now = passed = sends = -1
        for group in range(len(sending)):
            # All pieces but the last go into the shift register, whatever the output register holds.
            for beat in range(group * collected, (group + 1) * collected):
                now = max(now + 1, int(arrivals[beat]))
                accepted[beat] = now
            now = accepted[beat] = max(now, passed + 1)
            # From the output register to the holding register, which frees itself as sending starts.
            passed = max(now + 1, sends + 1)
            sends = max(passed + 1, sends + sent) if group else passed + 1
            sending[group] = sends
        return Schedule(accepted=accepted, departures=_pieces_after(sending, sent))


def _pieces_after(sending: Cycles, pieces: int) -> Cycles:
    return (sending[:, None] + 1 + np.arange(pieces)).reshape(-1)


class WidthConverter(wiring.Component):
    """Regroup the elements of a stream, in order, from one number of lanes to another.

    Widening collects pieces in a shift register and passes them on through an output register; narrowing sends a
    shift register piece by piece while a holding register takes the next beat. Lanes that are no multiples of one
    another are converted through their least common multiple L, at the price of about ``4 * L`` elements of registers.

    Members
    -------
    i, o : stream of `lanes_in` and `lanes_out` elements
        Latency from the last element of an output beat: 1 cycle where the stream widens, 2 where it narrows, 3 for
        both. Throughput: one beat a cycle on the narrower side.
    """

    def __init__(self, config: WidthConverterConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.element, config.lanes_in))),
                "o": Out(stream.Signature(lanes_of(config.element, config.lanes_out))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        steps = config.steps()
        if len(steps) == 2:
            m.submodules.widen = widen = WidthConverter(steps[0])
            m.submodules.narrow = narrow = WidthConverter(steps[1])
            wiring.connect(m, wiring.flipped(self.i), widen.i)
            wiring.connect(m, widen.o, narrow.i)
            wiring.connect(m, narrow.o, wiring.flipped(self.o))
        elif config.lanes_in == config.lanes_out:
            m.submodules.skid = skid = SkidBuffer(lanes_of(config.element, config.lanes_in))
            wiring.connect(m, wiring.flipped(self.i), skid.i)
            wiring.connect(m, skid.o, wiring.flipped(self.o))
        elif config.lanes_in < config.lanes_out:
            self._widen(m)
        else:
            self._narrow(m)
        return m

    def _widen(self, m: Module) -> None:
        pieces = self.config.lanes_out // self.config.lanes_in
        incoming = self.i.payload.as_value()
        piece = Signal(range(pieces))
        is_last = piece == pieces - 1
        # The earlier pieces shift on their own, so that collecting goes on while the output waits.
        earlier = Signal(len(incoming) * (pieces - 1), reset_less=True)
        whole = Signal(len(incoming) * pieces, reset_less=True)
        full = Signal()

        m.d.comb += [
            self.i.ready.eq(~(is_last & full)),
            self.o.valid.eq(full),
            self.o.payload.as_value().eq(whole),
        ]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(~full):
            m.d.sync += whole.eq(Cat(earlier, incoming))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                earlier.eq(Cat(earlier, incoming)[len(incoming) :]),
                piece.eq(piece + 1),
            ]
            with m.If(is_last):
                m.d.sync += [piece.eq(0), full.eq(1)]

    def _narrow(self, m: Module) -> None:
        pieces = self.config.lanes_in // self.config.lanes_out
        incoming = self.i.payload.as_value()
        outgoing = self.o.payload.as_value()
        piece = Signal(range(pieces))
        held = Signal(len(incoming), reset_less=True)
        held_valid = Signal()
        sending = Signal(len(incoming), reset_less=True)
        sending_valid = Signal()
        sends_last = Signal()

        m.d.comb += [
            self.i.ready.eq(~held_valid),
            self.o.valid.eq(sending_valid),
            outgoing.eq(sending),
            sends_last.eq(self.o.ready & (piece == pieces - 1)),
        ]
        with m.If(sending_valid & self.o.ready):
            m.d.sync += [
                sending.eq(sending >> len(outgoing)),
                piece.eq(piece + 1),
            ]
            with m.If(sends_last):
                m.d.sync += [piece.eq(0), sending_valid.eq(0)]
        with m.If(~held_valid):
            m.d.sync += [
                held.eq(incoming),
                held_valid.eq(self.i.valid),
            ]
        with m.Elif(~sending_valid | sends_last):
            m.d.sync += [
                sending.eq(held),
                sending_valid.eq(1),
                held_valid.eq(0),
            ]
