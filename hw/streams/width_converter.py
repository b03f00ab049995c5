"""Change of the number of lanes of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.streams.counters import cycle
from karui.hw.streams.skid_buffer import SkidBuffer
from karui.hw.streams.stream import delayed, lanes_of
from karui.hw.streams.timing import Cycles, Schedule, consecutive, require_divisor
from karui.sw.numerics import NumberFormat

_GROUP_BITS = 128
"""Registers that one enable drives, about: an enable of 512 takes 7.8 ns across an ECP5-85F that is two thirds full."""


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

    @property
    def is_multiple(self) -> bool:
        """Whether the lanes of one side are a multiple of the other side's."""
        return max(self.lanes_in, self.lanes_out) % min(self.lanes_in, self.lanes_out) == 0

    @property
    def groups(self) -> int:
        """Runs of pieces, of a word being widened, that have enables of their own.

        So few that the word is complete, a cycle a run after its last piece, before the next one is.
        """
        pieces = self.lanes_out // self.lanes_in
        wanted = -(-self.lanes_out * self.element.bits // _GROUP_BITS)
        run = -(-pieces // max(1, min(wanted, pieces - 2)))
        return max(1, -(-pieces // run))

    @property
    def widening_latency(self) -> int:
        """Cycles from the last piece of a word that is widened to the word."""
        return min(self.lanes_out // self.lanes_in, 3) + self.groups - 1

    def behind(self, beats: int) -> Cycles:
        """For each input beat the output beat that has to be transferred before, or -1: two wider beats are held."""
        last_element = np.arange(1, beats + 1) * self.lanes_in - 1 - 2 * max(self.lanes_in, self.lanes_out)
        return np.maximum(last_element // self.lanes_out, -1)

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; see `Schedule`."""
        if not self.is_multiple:
            return self._schedule_shifting(arrivals)
        if self.lanes_out >= self.lanes_in:
            accepted = consecutive(arrivals)
            pieces = self.lanes_out // self.lanes_in
            return Schedule(accepted=accepted, departures=accepted[pieces - 1 :: pieces] + self.widening_latency)
        # A beat waits in the holding register for the one before it to be sent piece by piece.
        pieces = self.lanes_in // self.lanes_out
        pace = np.arange(len(arrivals), dtype=np.int64) * pieces
        sending = np.maximum.accumulate(arrivals + 1 - pace) + pace
        accepted = np.maximum(arrivals, np.concatenate(([0], sending[:-1] + 1)))
        return Schedule(accepted=accepted, departures=_pieces_after(sending, pieces))

    def _schedule_shifting(self, arrivals: Cycles) -> Schedule:
        accepted = np.empty(len(arrivals), dtype=np.int64)
        departures: list[int] = []
        held, taken, entered = 0, -1, -1
        for beat, arrival in enumerate(arrivals.tolist()):
            words, held = divmod(held, self.lanes_out)
            departures.extend(range(entered + 2, entered + 2 + words))
            # A beat waits, aligned, to enter with the last word that leaves, or in the next cycle where none does.
            taken = max(arrival, taken + 1, entered)
            entered = max(taken + 1, entered + max(words, 1))
            accepted[beat] = taken
            held += self.lanes_in
        departures.extend(range(entered + 2, entered + 2 + held // self.lanes_out))
        return Schedule(accepted=accepted, departures=np.array(departures, dtype=np.int64))


def _pieces_after(sending: Cycles, pieces: int) -> Cycles:
    return (sending[:, None] + 1 + np.arange(pieces)).reshape(-1)


class WidthConverter(wiring.Component):
    """Regroup the elements of a stream, in order, from one number of lanes to another.

    Widening collects pieces in a shift register and passes them on through an output register, both cut into groups
    where they are wide; narrowing sends a shift register piece by piece while a holding register takes the next beat.
    Lanes that are no multiples of one another are shifted to their place in the output beats and meet in a buffer; that
    takes a shifter, two registers of ``lanes_in + lanes_out`` elements and two output beats.

    Members
    -------
    i, o : stream of `lanes_in` and `lanes_out` elements
        Latency from the last element of an output beat: 2 cycles where the stream narrows or doubles, 3 where it widens
        more or is shifted, and one more for each group of a wide word but the first. Throughput: one beat a cycle on
        the narrower side.
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
        if not config.is_multiple:
            self._shift(m)
        elif config.lanes_in == config.lanes_out:
            m.submodules.skid = skid = SkidBuffer(lanes_of(config.element, config.lanes_in))
            wiring.connect(m, wiring.flipped(self.i), skid.i)
            wiring.connect(m, skid.o, wiring.flipped(self.o))
        elif config.lanes_in < config.lanes_out and config.groups == 1:
            self._widen(m)
        elif config.lanes_in < config.lanes_out:
            self._widen_in_groups(m)
        else:
            self._narrow(m)
        return m

    def _widen(self, m: Module) -> None:
        pieces = self.config.lanes_out // self.config.lanes_in
        incoming = self.i.payload.as_value()
        # The newest piece has a register of its own, and the wide registers move on one bit straight from a register:
        # neither the stream before nor any logic is on the long way to all of their enables. For two pieces there is
        # no cycle left for that.
        piece = Signal(len(incoming), reset_less=True)
        piece_valid = Signal()
        shift = Signal()
        is_last = cycle(m, "piece", pieces, step=shift).is_last
        shift_delay = 1 if pieces > 2 else 0
        moves = delayed(m, shift, shift_delay, name="moves", control=True)
        completes = delayed(m, shift & is_last, shift_delay, name="completes", control=True)
        newest = delayed(m, piece, shift_delay, name="newest")
        # The earlier pieces shift on their own, so that collecting goes on while the output waits.
        earlier = Signal(len(incoming) * (pieces - 1), reset_less=True)
        whole = Signal(len(incoming) * pieces, reset_less=True)
        full = Signal()

        m.d.comb += [
            shift.eq(piece_valid & ~(is_last & full)),
            self.i.ready.eq(~(piece_valid & is_last & full)),
            self.o.valid.eq(full),
            self.o.payload.as_value().eq(whole),
        ]
        with m.If(self.i.ready):
            m.d.sync += [piece.eq(incoming), piece_valid.eq(self.i.valid)]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(~full):
            m.d.sync += whole.eq(Cat(earlier, newest))
        with m.If(moves):
            m.d.sync += earlier.eq(Cat(earlier, newest)[len(incoming) :])
        with m.If(completes):
            m.d.sync += full.eq(1)

    def _widen_in_groups(self, m: Module) -> None:
        pieces = self.config.lanes_out // self.config.lanes_in
        run = -(-pieces // self.config.groups)
        incoming = self.i.payload.as_value()
        piece = Signal(len(incoming), reset_less=True)
        piece_valid = Signal()
        shift = Signal()
        place = cycle(m, "piece", pieces, step=shift)
        newest = delayed(m, piece, 1, name="newest")
        full = Signal()

        # A group takes its pieces in turn, and passes them on a cycle after the group before it: all enables differ, so
        # none can be merged into one that reaches every register. The first piece of the next word comes to a group
        # after the group has passed on the last word's.
        completes = shift & place.is_last
        words = []
        for group, first in enumerate(range(0, pieces, run)):
            last = min(first + run, pieces) - 1
            completes = delayed(m, completes, 1, name=f"completes_{group}", control=True)
            mine = shift & (place.number >= first) & (place.number <= last)
            moves = delayed(m, mine, 1, name=f"moves_{group}", control=True)
            collected = Signal(len(incoming) * (last - first + 1), name=f"collected_{group}", reset_less=True)
            word = Signal.like(collected, name=f"word_{group}")
            with m.If(moves):
                m.d.sync += collected.eq(Cat(collected, newest)[len(incoming) :])
            with m.If(completes):
                m.d.sync += word.eq(collected)
            words.append(word)

        m.d.comb += [
            shift.eq(piece_valid & ~(place.is_last & full)),
            self.i.ready.eq(~(piece_valid & place.is_last & full)),
            self.o.valid.eq(full),
            self.o.payload.as_value().eq(Cat(words)),
        ]
        with m.If(self.i.ready):
            m.d.sync += [piece.eq(incoming), piece_valid.eq(self.i.valid)]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(completes):
            m.d.sync += full.eq(1)

    def _narrow(self, m: Module) -> None:
        pieces = self.config.lanes_in // self.config.lanes_out
        incoming = self.i.payload.as_value()
        outgoing = self.o.payload.as_value()
        sent = Signal()
        piece = cycle(m, "piece", pieces, step=sent)
        held = Signal(len(incoming), reset_less=True)
        held_valid = Signal()
        sending = Signal(len(incoming), reset_less=True)
        sending_valid = Signal()

        m.d.comb += [
            self.i.ready.eq(~held_valid),
            self.o.valid.eq(sending_valid),
            outgoing.eq(sending),
            sent.eq(sending_valid & self.o.ready),
        ]
        with m.If(sent):
            m.d.sync += sending.eq(sending >> len(outgoing))
        with m.If(sent & piece.is_last):
            m.d.sync += sending_valid.eq(0)
        with m.If(~held_valid):
            m.d.sync += [
                held.eq(incoming),
                held_valid.eq(self.i.valid),
            ]
        with m.Elif(~sending_valid | (sent & piece.is_last)):
            m.d.sync += [
                sending.eq(held),
                sending_valid.eq(1),
                held_valid.eq(0),
            ]

    def _shift(self, m: Module) -> None:
        config = self.config
        unit = gcd(config.lanes_in, config.lanes_out)
        units_in, units_out = config.lanes_in // unit, config.lanes_out // unit
        bits = unit * config.element.bits
        m.submodules.output = output = SkidBuffer(lanes_of(config.element, config.lanes_out))
        wiring.connect(m, output.o, wiring.flipped(self.o))

        # A beat's first element always lands at the same place of an output beat, whatever has left meanwhile: so
        # aligning it needs to know the beats before it, but no word that waits.
        place = Signal(range(units_out))
        width = (units_in + units_out - 1) * bits
        shifted = Signal(width, name="shifted_0")
        m.d.comb += shifted.eq(self.i.payload.as_value())
        for level in range(len(place)):
            following = Signal(width, name=f"shifted_{level + 1}")
            m.d.comb += following.eq(Mux(place[level], shifted << (bits << level), shifted))
            shifted = following
        aligned = Signal(width, reset_less=True)
        aligned_valid = Signal()
        # Above `held` units the buffer is zero, and so are the places of an aligned beat below them.
        buffer = Signal(width)
        held = Signal(range(units_in + units_out))
        leaves, enters = Signal(), Signal()
        step = units_in % units_out
        m.d.comb += [
            output.i.valid.eq(held >= units_out),
            output.i.payload.as_value().eq(buffer),
            leaves.eq(output.i.valid & output.i.ready),
            # At most a part of a word stays below an entering beat; the word that leaves with its entry does not count.
            enters.eq(aligned_valid & ((held < units_out) | ((held < 2 * units_out) & output.i.ready))),
            self.i.ready.eq(~aligned_valid | enters),
        ]
        m.d.sync += [
            held.eq(held + Mux(enters, units_in, 0) - Mux(leaves, units_out, 0)),
            buffer.eq(Mux(leaves, buffer >> (units_out * bits), buffer) | Mux(enters, aligned, 0)),
        ]
        with m.If(self.i.ready):
            m.d.sync += [aligned.eq(shifted), aligned_valid.eq(self.i.valid)]
        with m.If(self.i.ready & self.i.valid):
            m.d.sync += place.eq(Mux(place >= units_out - step, place - (units_out - step), place + step))
