"""Driver for stream components in Amaranth's simulator: plays beats, applies back-pressure, records cycles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True, kw_only=True, eq=False)
class InputRun:
    """What one run recorded at an input: see `StreamRun`."""

    arrivals: Integers
    accepted: Integers


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputRun:
    """What one run recorded at an output: see `StreamRun`."""

    words: Integers
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
    """Play beats into member `i` of a component and record what leaves its member `o`; see `run_streams`.

    Parameters
    ----------
    component : wiring.Component
        Not yet elaborated.
    beats_in : ndarray, shape (..., lanes)
        Input beats in order, as words of the element's shape (bipolar: 0 and 1).
    beats_out : int
        Output beats to wait for.
    arrivals : ndarray, optional
        Cycle from which each input beat is offered, instead of `source`'s pattern.
    source, sink, seed, watchdog, settle
        As for `run_streams`.

    Raises
    ------
    StreamError
        Naming the stream: stalled, protocol broken, or a beat too many.
    """
    inputs, outputs = run_streams(
        component,
        {"i": beats_in},
        {"o": beats_out},
        source=source,
        sink=sink,
        arrivals={} if arrivals is None else {"i": arrivals},
        seed=seed,
        watchdog=watchdog,
        settle=settle,
    )
    at_input, at_output = inputs["i"], outputs["o"]
    return StreamRun(
        words=at_output.words,
        arrivals=at_input.arrivals,
        accepted=at_input.accepted,
        departures=at_output.departures,
        taken=at_output.taken,
    )


def run_streams(
    component: wiring.Component,
    beats_in: Mapping[str, npt.NDArray[Any]],
    beats_out: Mapping[str, int],
    *,
    source: BackPressure = BackPressure.NONE,
    sink: BackPressure = BackPressure.NONE,
    arrivals: Mapping[str, npt.NDArray[Any]] | None = None,
    takes: Mapping[str, npt.NDArray[Any]] | None = None,
    seed: int = 0,
    watchdog: int = 20_000,
    settle: int = 50,
) -> tuple[dict[str, InputRun], dict[str, OutputRun]]:
    """Play beats into streams of a component and record what leaves others.

    All members named are streams of an `ArrayLayout`. Cycle 0 is the first one; the component starts in its reset
    state. Besides delivery the protocol is checked: an offered output beat stays, unchanged, until it is taken; with
    back-pressure, neither the valid nor the ready of any other stream may depend on an output's ready within a cycle.

    Parameters
    ----------
    component : wiring.Component
        Not yet elaborated.
    beats_in : mapping of str to ndarray, shape (..., lanes)
        For each input its beats in order, as words of the element's shape (bipolar: 0 and 1).
    beats_out : mapping of str to int
        For each output the beats to wait for. After them, nothing may arrive for `settle` cycles.
    source, sink : BackPressure
        Pauses of the sources and of the sinks, each with a pattern of its own.
    arrivals : mapping of str to ndarray, optional
        For an input the cycle from which each beat is offered, instead of `source`'s pattern.
    takes : mapping of str to ndarray, optional
        For an output the cycle from which each beat is taken, instead of `sink`'s pattern.
    seed : int
        Of all patterns.
    watchdog : int
        Cycles without a transfer after which the run fails.

    Raises
    ------
    StreamError
        Naming the stream: stalled, protocol broken, or a beat too many.
    """
    random = np.random.default_rng(seed)
    given = arrivals or {}
    sources = {
        name: _Source.create(component, name, beats, given.get(name), source, random)
        for name, beats in beats_in.items()
    }
    sinks = {
        name: _Sink(
            name=name,
            member=getattr(component, name),
            beats=beats,
            willing=_willing(sink, random),
            takes=None if takes is None or name not in takes else np.asarray(takes[name], dtype=np.int64),
        )
        for name, beats in beats_out.items()
    }
    check_paths = sink is not BackPressure.NONE

    async def bench(context: Any) -> None:
        quiet = cycle = 0
        remaining_settle = settle
        while remaining_settle:
            for one in sources.values():
                one.offer(context, cycle)
            for other in sinks.values():
                other.decide(context, cycle)
            if check_paths:
                _check_paths(context, cycle, sources, sinks)
            waiting = any(one.offering for one in sources.values())
            complete = all(one.is_done for one in sources.values())
            quiet = quiet + 1 if waiting or complete else 0
            moved = [one.transfer(context, cycle) for one in sources.values()]
            moved += [other.transfer(context, cycle) for other in sinks.values()]
            if any(moved):
                quiet = 0
            if complete and all(one.is_done for one in sources.values()) and all(one.is_done for one in sinks.values()):
                remaining_settle -= 1
            elif quiet > watchdog:
                raise StreamError(_stall(sources, sinks, watchdog))
            cycle += 1
            await context.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return (
        {
            name: InputRun(arrivals=one.arrivals, accepted=np.array(one.accepted, dtype=np.int64))
            for name, one in sources.items()
        },
        {
            name: OutputRun(
                words=_from_words(other.received, other.member.payload.shape()),
                departures=np.array(other.departures, dtype=np.int64),
                taken=np.array(other.taken, dtype=np.int64),
            )
            for name, other in sinks.items()
        },
    )


@dataclass(kw_only=True)
class _Source:
    """Offers the beats of an input."""

    name: str
    member: Any
    words: list[int]
    arrivals: Integers
    accepted: list[int] = field(default_factory=list)
    offering: bool = False

    @classmethod
    def create(
        cls,
        component: wiring.Component,
        name: str,
        beats: npt.NDArray[Any],
        arrivals: npt.NDArray[Any] | None,
        pattern: BackPressure,
        random: np.random.Generator,
    ) -> _Source:
        member: Any = getattr(component, name)
        words = _to_words(beats, member.payload.shape(), name)
        offered_at = (
            _arrivals(len(words), pattern, random) if arrivals is None else np.asarray(arrivals, dtype=np.int64)
        )
        if len(offered_at) != len(words):
            raise ValueError(
                f"arrivals must name a cycle for each of the {len(words)} input beats, not for {len(offered_at)}"
            )
        return cls(name=name, member=member, words=words, arrivals=offered_at)

    @property
    def is_done(self) -> bool:
        """Whether all beats have been taken."""
        return len(self.accepted) == len(self.words)

    def offer(self, context: Any, cycle: int) -> None:
        """Offer the next beat from its cycle on."""
        if not self.offering and not self.is_done and cycle >= self.arrivals[len(self.accepted)]:
            self.offering = True
            context.set(self.member.payload.as_value(), self.words[len(self.accepted)])
        context.set(self.member.valid, self.offering)

    def transfer(self, context: Any, cycle: int) -> bool:
        """Whether the offered beat is taken in this cycle."""
        if not (self.offering and context.get(self.member.ready)):
            return False
        self.accepted.append(cycle)
        self.offering = False
        return True


@dataclass(kw_only=True)
class _Sink:
    """Takes the beats of an output."""

    name: str
    member: Any
    beats: int
    willing: Iterator[bool]
    takes: Integers | None = None
    is_ready: bool = False
    departures: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    pending: int | None = None

    @property
    def is_done(self) -> bool:
        """Whether all beats have come."""
        return len(self.received) == self.beats

    def decide(self, context: Any, cycle: int) -> None:
        """Be ready or not."""
        if self.takes is None:
            self.is_ready = next(self.willing)
        else:
            self.is_ready = self.is_done or cycle >= int(self.takes[len(self.received)])
        context.set(self.member.ready, self.is_ready)

    def transfer(self, context: Any, cycle: int) -> bool:
        """Whether a beat is taken in this cycle; the protocol is kept."""
        name = self.name
        if not context.get(self.member.valid):
            if self.pending is not None:
                raise StreamError(
                    f"cycle {cycle}: stream {name} withdrew beat {len(self.received)} before it was taken"
                )
            return False
        payload = context.get(self.member.payload.as_value())
        if self.pending is None:
            if self.is_done:
                raise StreamError(f"cycle {cycle}: stream {name} offers a beat after the last of {self.beats}")
            self.departures.append(cycle)
        elif payload != self.pending:
            raise StreamError(f"cycle {cycle}: stream {name} changed beat {len(self.received)} before it was taken")
        self.pending = payload
        if not self.is_ready:
            return False
        self.received.append(payload)
        self.taken.append(cycle)
        self.pending = None
        return True


def _check_paths(context: Any, cycle: int, sources: Mapping[str, _Source], sinks: Mapping[str, _Sink]) -> None:
    """Turn each output's ready over: nothing else may follow within the cycle."""
    followers = [(f"{name}.ready", one.member.ready) for name, one in sources.items()]
    followers += [(f"{name}.valid", other.member.valid) for name, other in sinks.items()]
    before = [context.get(signal) for _, signal in followers]
    for name, other in sinks.items():
        context.set(other.member.ready, not other.is_ready)
        for (follower, signal), value in zip(followers, before, strict=True):
            if context.get(signal) != value:
                raise StreamError(f"cycle {cycle}: {follower} follows {name}.ready within the cycle")
        context.set(other.member.ready, other.is_ready)


def _stall(sources: Mapping[str, _Source], sinks: Mapping[str, _Sink], watchdog: int) -> str:
    offering = [name for name, one in sources.items() if one.offering]
    waiting = [name for name, other in sinks.items() if not other.is_done]
    accepted, words = (
        sum(len(one.accepted) for one in sources.values()),
        sum(len(one.words) for one in sources.values()),
    )
    received, beats = sum(len(one.received) for one in sinks.values()), sum(one.beats for one in sinks.values())
    return (
        f"stream {(offering or waiting)[0]} stalled: no transfer for {watchdog} cycles after {accepted} of {words}"
        f" input beats and {received} of {beats} output beats"
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


def _to_words(beats: npt.NDArray[Any], shape: ShapeLike, name: str) -> list[int]:
    element, lanes = _element_format(shape)
    if beats.shape[-1] != lanes:
        raise ValueError(
            f"stream {name} has {lanes} lanes: the beats' last axis must have that length, not {beats.shape[-1]}"
        )
    return to_integers(pack(beats.reshape(-1, lanes), element))


def _from_words(words: list[int], shape: ShapeLike) -> Integers:
    element, lanes = _element_format(shape)
    size = word_bytes(element.bits * lanes)
    raw = np.frombuffer(b"".join(word.to_bytes(size, "little") for word in words), dtype=np.uint8)
    return unpack(raw.reshape(len(words), size), element, lanes)
