"""Events that wait for one another, and the cycles in which they then happen.

An event of a frame happens some cycles after another one, of the same frame or of one before, at the earliest: a timed
event graph, whose earliest cycles are longest paths (Baccelli, Cohen, Olsder and Quadrat, Synchronization and
Linearity, 1992, chapter 2). They are found by letting each wait push what waits back until none does any more, a whole
array of events at a time. Frames that follow one another at a period differ by that period alone, so one of them
stands for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from karui.hw.streams.timing import Cycles

NEVER = 1 << 60
"""A cycle that never comes."""

Places = Cycles | slice


class Wait(Protocol):
    """Events that happen some cycles after others."""

    @property
    def later(self) -> int:
        """The events that wait."""

    @property
    def earlier(self) -> int:
        """The events that they wait for."""

    @property
    def frames(self) -> int:
        """How many frames before."""

    def push(self, cycles: list[Cycles], period: int | None) -> bool:
        """Make the events that wait as late as they have to be; returns whether that changes any."""

    def pull(self, cycles: list[Cycles], period: int) -> bool:
        """Make the events that are waited for as early as they have to be; returns whether that changes any."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Distance:
    """``later[at] >= earlier[of] + delay``, the earlier ones of `frames` frames before."""

    later: int
    earlier: int
    at: Places
    of: Places
    delay: int
    frames: int

    def push(self, cycles: list[Cycles], period: int | None) -> bool:
        bound = cycles[self.earlier][self.of] + (self.delay - self.frames * (period or 0))
        waiting = cycles[self.later]
        now = waiting[self.at]
        if np.all(now >= bound):
            return False
        waiting[self.at] = np.maximum(now, bound)
        return True

    def pull(self, cycles: list[Cycles], period: int) -> bool:
        bound = cycles[self.later][self.at] - (self.delay - self.frames * period)
        first = cycles[self.earlier]
        if np.all(first[self.of] <= bound):
            return False
        if isinstance(self.of, slice):
            first[self.of] = np.minimum(first[self.of], bound)
        else:
            np.minimum.at(first, self.of, bound)
        return True


@dataclass(frozen=True, kw_only=True, eq=False)
class _Order:
    """Each event comes some cycles after the one before it, the first after the last of the frame before.

    `places` are the events' cycles if each followed at once, `length` the cycles that all of them then take.
    """

    later: int
    places: Cycles
    length: int
    frames: int = 0

    @property
    def earlier(self) -> int:
        return self.later

    def push(self, cycles: list[Cycles], period: int | None) -> bool:
        before = cycles[self.later] - self.places
        pushed = np.maximum.accumulate(before)
        if period is not None:
            np.maximum(pushed, pushed[-1] + self.length - period, out=pushed)
        if np.array_equal(pushed, before):
            return False
        cycles[self.later] = pushed + self.places
        return True

    def pull(self, cycles: list[Cycles], period: int) -> bool:
        before = cycles[self.later] - self.places
        pulled = np.minimum.accumulate(before[::-1])[::-1]
        pulled = np.minimum(pulled, pulled[0] - self.length + period)
        if np.array_equal(pulled, before):
            return False
        cycles[self.later] = pulled + self.places
        return True


class EventGraph:
    """Arrays of events, all of one frame, and their waits."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._waits: list[Wait] = []

    def events(self, count: int, gap: int = 1) -> int:
        """An array of events, each of which comes some cycles after the one before; returns its number.

        Parameters
        ----------
        count : int
            Events a frame.
        gap : int
            Cycles from each event to the next at least, also from the last one to the first of the next frame.
        """
        number = len(self._sizes)
        self._sizes.append(count)
        places = np.arange(count, dtype=np.int64) * gap
        self._waits.append(_Order(later=number, places=places, length=count * gap))
        return number

    def size(self, events: int) -> int:
        """Events a frame."""
        return self._sizes[events]

    def every(self, cycle: int) -> list[Cycles]:
        """The same cycle for all events."""
        return [np.full(size, cycle, dtype=np.int64) for size in self._sizes]

    def wait(self, later: int, earlier: int, delay: int, *, lag: int = 0) -> None:
        """``later[k] >= earlier[k - lag] + delay`` for every `k`; see `lagged`."""
        self._waits += self.lagged(later, earlier, delay, lag)

    def lagged(self, later: int, earlier: int, delay: int, lag: int) -> list[Wait]:
        """``later[k] >= earlier[k - lag] + delay`` as waits that are not part of the graph.

        Of as many events a frame: the last ones of a frame come before the first ones of the next.
        """
        count = self._sizes[later]
        frames, shift = divmod(lag, count)
        waits: list[Wait] = []
        for at, of, before in (
            (slice(shift, count), slice(0, count - shift), frames),
            (slice(0, shift), slice(count - shift, count), frames + 1),
        ):
            if at.start < at.stop:
                waits.append(_Distance(later=later, earlier=earlier, at=at, of=of, delay=delay, frames=before))
        return waits

    def wait_at(self, later: int, at: Cycles, earlier: int, of: Cycles, delay: int) -> None:
        """``later[at[i]] >= earlier[of[i]] + delay`` for every `i`, no two of which have one place in `at`.

        A negative place in `of` is one of a frame before, counted from the first of this one.
        """
        frames = -(of // self._sizes[earlier])
        for before in np.unique(frames):
            pairs = frames == before
            places = of[pairs] % self._sizes[earlier]
            self._waits.append(
                _Distance(later=later, earlier=earlier, at=at[pairs], of=places, delay=delay, frames=int(before))
            )

    def earliest(
        self,
        start: Sequence[Cycles],
        *,
        period: int | None = None,
        also: Sequence[Wait] = (),
        rounds: int,
        within: int | None = None,
    ) -> list[Cycles] | None:
        """The earliest cycles, or None if so many rounds do not find them: waits that go round in a circle have none.

        Parameters
        ----------
        start : sequence of ndarray of int64
            Cycles before which the events do not happen.
        period : int, optional
            Cycles from each frame to the next; without it a frame is alone.
        also : sequence of Wait
            Waits beside those of the graph.
        rounds : int
            How often each wait is looked at, at most.
        within : int, optional
            Cycles by which an event may be later than at the start, for the search to go on.
        """
        cycles = [one.copy() for one in start]
        waits = [one for one in (*self._waits, *also) if period is not None or one.frames == 0]
        changed, seen, tick = [0] * len(cycles), [-1] * len(waits), 0
        for turn in range(rounds):
            settled = True
            # Forwards and backwards in turn, as data and room for them travel.
            for number in range(len(waits)) if turn % 2 == 0 else reversed(range(len(waits))):
                wait = waits[number]
                if changed[wait.earlier] > seen[number]:
                    seen[number] = tick
                    if wait.push(cycles, period):
                        tick += 1
                        changed[wait.later] = tick
                        settled = False
            if settled:
                return cycles
            delays = (int(now[-1] - first[-1]) for now, first in zip(cycles, start, strict=True))
            if within is not None and max(delays) > within:
                return None
        return None

    def latest(self, start: Sequence[Cycles], fixed: Sequence[int], *, period: int) -> list[Cycles]:
        """The latest cycles by which some events come as they do at the start.

        Parameters
        ----------
        start : sequence of ndarray of int64
            Cycles that keep to all waits.
        fixed : sequence of int
            Arrays of events that keep their cycles.
        period : int
            Cycles from each frame to the next.
        """
        cycles = self.every(NEVER)
        for events in fixed:
            cycles[events] = start[events].copy()
        changed, seen, tick = [0] * len(cycles), [-1] * len(self._waits), 0
        settled = False
        while not settled:
            settled = True
            for number in reversed(range(len(self._waits))):
                wait = self._waits[number]
                if changed[wait.later] > seen[number]:
                    seen[number] = tick
                    if wait.pull(cycles, period):
                        tick += 1
                        changed[wait.earlier] = tick
                        settled = False
        return cycles
