"""Vectors that are read, in any order, out of one half of a memory while the next ones are written into the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib import stream

from karui.hw.streams.counters import Cycle, cycle, level
from karui.hw.streams.stream import FIFO_LATENCY, ElasticOutput, delayed
from karui.hw.streams.timing import Cycles, Schedule, consecutive


@dataclass(frozen=True, kw_only=True)
class PingPong:
    """Control of the two halves.

    Parameters
    ----------
    accepts, takes : Signal
        A beat comes and is to be written, and one is to be read that goes, in this cycle.
    coming, going : Cycle
        Which of a vector's beats these are.
    write_half, read_half : Signal
        Halves of the memory.
    """

    accepts: Signal
    takes: Signal
    coming: Cycle
    going: Cycle
    write_half: Signal
    read_half: Signal


def ping_pong(
    m: Module, arriving: stream.Interface, output: ElasticOutput, *, words_in: int, words_out: int, latency: int
) -> PingPong:
    """Take vectors in and read them, each once it is whole and its beats have a place at the output.

    Parameters
    ----------
    m : Module
        Where the control goes.
    arriving : stream
        Beats of the vectors; its `ready` is driven.
    output : ElasticOutput
        Takes the beats that go, `latency` cycles after their takes; all but its payload is driven.
    words_in, words_out : int
        Beats of a vector on either side.
    latency : int
        Cycles from a take to its beat.
    """
    accepts, takes = Signal(), Signal()
    coming = cycle(m, "coming", words_in, step=accepts)
    going = cycle(m, "going", words_out, step=takes)
    vectors = level(m, "vectors", 2, up=accepts & coming.is_last, down=takes & going.is_last)
    write_half, read_half = Signal(), Signal()
    m.d.sync += [
        write_half.eq(write_half ^ (accepts & coming.is_last)),
        read_half.eq(read_half ^ (takes & going.is_last)),
    ]
    m.d.comb += [
        arriving.ready.eq(~vectors.full),
        accepts.eq(arriving.valid & arriving.ready),
        takes.eq(~vectors.empty & output.credit),
        output.reserve.eq(takes),
        output.i.valid.eq(delayed(m, takes, latency, name="valid", control=True)),
    ]
    return PingPong(
        accepts=accepts, takes=takes, coming=coming, going=going, write_half=write_half, read_half=read_half
    )


def ping_pong_schedule(arrivals: Cycles, *, words_in: int, words_out: int, latency: int) -> Schedule:
    """Cycles of each beat of vectors that go through the two halves; see `Schedule`."""
    vectors = arrivals.reshape(-1, words_in)
    accepted = np.empty_like(vectors)
    takes = np.empty((len(vectors), words_out), dtype=np.int64)
    room = end = taken = -1
    for vector, beats in enumerate(vectors):
        accepted[vector] = consecutive(np.maximum(beats, max(room, end) + 1))
        end = int(accepted[vector, -1])
        room = taken
        takes[vector] = np.arange(words_out) + max(end, taken) + 1
        taken = int(takes[vector, -1])
    return Schedule(accepted=accepted.reshape(-1), departures=takes.reshape(-1) + latency + FIFO_LATENCY)
