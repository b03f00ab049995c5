"""Driver for stream components in Amaranth's simulator: plays beats, applies back-pressure, records cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import ShapeLike
from amaranth.lib import data, wiring
from amaranth.sim import Simulator

from karui.sim.results import BackPressure
from karui.sw.numerics import NumberFormat, pack, to_integers, unpack, word_bytes

Integers = npt.NDArray[np.int64]


class StreamError(AssertionError):
    """A component broke the stream protocol, stalled, or yielded too many beats."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamRun:
    """What one run recorded.

    Parameters
    ----------
    words : ndarray of int64, shape (beats, lanes)
        Output beats in order.
    arrivals, accepted : ndarray of int64
        Cycle from which each input beat was offered at the earliest; cycle of its transfer.
    departures, taken : ndarray of int64
        Cycle in which each output beat was first valid; cycle of its transfer.
    """

    words: Integers
    arrivals: Integers
    accepted: Integers
    departures: Integers
    taken: Integers


def run_stream(
    component: wiring.Component,
    beats_in: npt.NDArray[Any],
    *,
    beats_out: int,
    source: BackPressure = BackPressure.NONE,
    sink: BackPressure = BackPressure.NONE,
    arrivals: npt.NDArray[Any] | None = None,
    seed: int = 0,
    watchdog: int = 20_000,
    settle: int = 50,
) -> StreamRun:
    """Play beats into member `i` of a component and record what leaves its member `o`.

    Both members are streams of an `ArrayLayout`. Cycle 0 is the first one; the component starts in its reset state.
    Besides delivery the protocol is checked: an offered output beat stays, unchanged, until it is taken; with
    back-pressure, neither `o.valid` nor `i.ready` may depend on `o.ready` within a cycle.

    Parameters
    ----------
    component : wiring.Component
        Not yet elaborated.
    beats_in : ndarray, shape (..., lanes)
        Input beats in order, as words of the element's shape (bipolar: 0 and 1).
    beats_out : int
        Output beats to wait for. After them, nothing may arrive for `settle` cycles.
    source, sink : BackPressure
        Pauses of the source and of the sink.
    arrivals : ndarray, optional
        Cycle from which each input beat is offered, instead of `source`'s pattern.
    seed : int
        Of both patterns.
    watchdog : int
        Cycles without a transfer after which the run fails.

    Raises
    ------
    StreamError
        Naming the stream: stalled, protocol broken, or a beat too many.
    """
    random = np.random.default_rng(seed)
    source_stream: Any = getattr(component, "i")  # noqa: B009 - members are made at run time
    sink_stream: Any = getattr(component, "o")  # noqa: B009
    words = _to_words(beats_in, source_stream.payload.shape())
    offered_at = _arrivals(len(words), source, random) if arrivals is None else np.asarray(arrivals, dtype=np.int64)
    if len(offered_at) != len(words):
        raise ValueError(
            f"arrivals must name a cycle for each of the {len(words)} input beats, not for {len(offered_at)}"
        )
    ready = _willing(sink, random)
    accepted: list[int] = []
    departures: list[int] = []
    taken: list[int] = []
    received: list[int] = []
    check_paths = sink is not BackPressure.NONE

    async def bench(context: Any) -> None:
        i_payload, o_payload = source_stream.payload.as_value(), sink_stream.payload.as_value()
        quiet = cycle = 0
        offering = False
        pending: int | None = None
        remaining_settle = settle
        while remaining_settle:
            if not offering and len(accepted) < len(words) and cycle >= offered_at[len(accepted)]:
                offering = True
                context.set(i_payload, words[len(accepted)])
            context.set(source_stream.valid, offering)
            is_ready = next(ready)
            context.set(sink_stream.ready, is_ready)
            i_ready, o_valid = context.get(source_stream.ready), context.get(sink_stream.valid)
            if check_paths:
                context.set(sink_stream.ready, not is_ready)
                if context.get(source_stream.ready) != i_ready:
                    raise StreamError(f"cycle {cycle}: i.ready follows o.ready within the cycle")
                if context.get(sink_stream.valid) != o_valid:
                    raise StreamError(f"cycle {cycle}: o.valid follows o.ready within the cycle")
                context.set(sink_stream.ready, is_ready)
            quiet = quiet + 1 if offering or len(accepted) == len(words) else 0
            if offering and i_ready:
                accepted.append(cycle)
                offering, quiet = False, 0
            if o_valid:
                payload = context.get(o_payload)
                if pending is None:
                    if len(received) == beats_out:
                        raise StreamError(f"cycle {cycle}: stream o offers a beat after the last of {beats_out}")
                    departures.append(cycle)
                elif payload != pending:
                    raise StreamError(f"cycle {cycle}: stream o changed beat {len(received)} before it was taken")
                pending = payload
                if is_ready:
                    received.append(payload)
                    taken.append(cycle)
                    pending, quiet = None, 0
            elif pending is not None:
                raise StreamError(f"cycle {cycle}: stream o withdrew beat {len(received)} before it was taken")
            if len(received) == beats_out and len(accepted) == len(words):
                remaining_settle -= 1
            elif quiet > watchdog:
                stalled = "i" if offering else "o"
                raise StreamError(
                    f"stream {stalled} stalled: no transfer for {watchdog} cycles after {len(accepted)} of {len(words)}"
                    f" input beats and {len(received)} of {beats_out} output beats"
                )
            cycle += 1
            await context.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return StreamRun(
        words=_from_words(received, sink_stream.payload.shape()),
        arrivals=offered_at,
        accepted=np.array(accepted, dtype=np.int64),
        departures=np.array(departures, dtype=np.int64),
        taken=np.array(taken, dtype=np.int64),
    )


def _arrivals(count: int, pattern: BackPressure, random: np.random.Generator) -> Integers:
    if pattern is BackPressure.NONE:
        return np.zeros(count, dtype=np.int64)
    willing = _willing(pattern, random)
    cycles = (cycle for cycle, offers in enumerate(willing) if offers)
    return np.array([next(cycles) for _ in range(count)], dtype=np.int64)


def _willing(pattern: BackPressure, random: np.random.Generator) -> Iterator[bool]:
    if pattern is BackPressure.NONE:
        while True:
            yield True
    if pattern is BackPressure.RANDOM:
        while True:
            yield bool(random.integers(2))
    while True:
        for state in (True, False):
            for _ in range(int(random.integers(1, 40))):
                yield state


def _element_format(shape: ShapeLike) -> tuple[NumberFormat, int]:
    if not isinstance(shape, data.ArrayLayout):
        raise TypeError(f"a stream's payload is an ArrayLayout of its lanes, not {shape!r}")
    element = shape.elem_shape
    return NumberFormat(kind="signed" if element.signed else "unsigned", bits=element.width), shape.length


def _to_words(beats: npt.NDArray[Any], shape: ShapeLike) -> list[int]:
    element, lanes = _element_format(shape)
    if beats.shape[-1] != lanes:
        raise ValueError(
            f"stream i has {lanes} lanes: the beats' last axis must have that length, not {beats.shape[-1]}"
        )
    return to_integers(pack(beats.reshape(-1, lanes), element))


def _from_words(words: list[int], shape: ShapeLike) -> Integers:
    element, lanes = _element_format(shape)
    size = word_bytes(element.bits * lanes)
    raw = np.frombuffer(b"".join(word.to_bytes(size, "little") for word in words), dtype=np.uint8)
    return unpack(raw.reshape(len(words), size), element, lanes)
