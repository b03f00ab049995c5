"""How deep the FIFOs in front of joins have to be.

Where a stream forks and its branches join again, the join reads from all at once, and so each branch must hold what it
has until the slowest has it too. What the engines of a branch do not hold, a FIFO at the join's input does.

1. Let frames follow one another at the initiation interval T of the slowest component. If all transfers can keep to
   cycles in which every frame's are those of the frame before it, plus T, then the hardware, whose transfers wait for a
   maximum of earlier ones and for nothing else, has none later than that: it takes a frame every T cycles. And it
   cannot deadlock, whatever the pauses of its source and sink: which transfer waits for which does not depend on time.
2. With FIFOs that never fill, such cycles exist: the earliest ones. Let the joins read in these, and all other
   transfers be as late as they then can be. The most words that a FIFO then holds are a depth that is enough.
3. It need not be the least. So each FIFO, the largest first, is made as shallow as leaves such cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from karui.hw.memory.deep_fifo import LEAST_DEPTH, least_depth
from karui.hw.plan.event_graph import EventGraph, Wait
from karui.hw.streams.timing import Cycles

_MOST_ROUNDS, _LEAST_ROUNDS, _ROUNDS_TIMES_EVENTS = 500, 64, 100_000_000
"""Rounds within which cycles must be found for a depth to count as enough. Mostly 20 are plenty; the more a graph has
of them, the longer each takes."""
_SEARCHED_EVENTS = 10_000_000
"""Events a frame up to which the least depths are searched for, which takes a minute for two millions."""


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The transfers of a FIFO, as events of a graph.

    Parameters
    ----------
    writes, reads : int
        Words in and out.
    moves : int
        Words from the memory to the output register.
    bits : int
        Of a word.
    """

    writes: int
    moves: int
    reads: int
    bits: int

    @classmethod
    def connect(cls, graph: EventGraph, writes: int, reads: int, bits: int) -> Queue:
        """A FIFO of any depth between two streams."""
        moves = graph.events(graph.size(writes))
        graph.wait(moves, writes, 1)
        graph.wait(moves, reads, 0, lag=1)
        graph.wait(reads, moves, 1)
        return cls(writes=writes, moves=moves, reads=reads, bits=bits)

    def room(self, graph: EventGraph, depth: int) -> list[Wait]:
        """The waits of a FIFO that is so deep: for a word of the memory to move on."""
        return graph.lagged(self.writes, self.moves, 1, depth - 1)


def rooms(graph: EventGraph, queues: Sequence[Queue], depths: Sequence[int]) -> list[Wait]:
    """The waits of FIFOs of such depths."""
    return [wait for queue, depth in zip(queues, depths, strict=True) for wait in queue.room(graph, depth)]


@dataclass(frozen=True, kw_only=True, eq=False)
class FifoDepths:
    """Finds the depths of all FIFOs.

    Parameters
    ----------
    graph : EventGraph
        Of the whole accelerator.
    queues : sequence of Queue
        Its FIFOs.
    output : int
        The transfers at its output.
    period : int
        Initiation interval.
    steady : list of ndarray of int64
        The earliest cycles of all events at that interval, with FIFOs that never fill.
    """

    graph: EventGraph
    queues: Sequence[Queue]
    output: int
    period: int
    steady: list[Cycles]

    def enough(self) -> list[int]:
        """Depths that are enough, found without a search."""
        reads = [queue.reads for queue in self.queues]
        late = self.graph.latest(self.steady, [*reads, self.output], period=self.period)
        return [self._held(late[queue.writes], late[queue.reads]) for queue in self.queues]

    def least(self) -> list[int]:
        """Depths none of which can be less by a word; of a larger graph those that are enough."""
        depths = self.enough()
        if sum(map(len, self.steady)) > _SEARCHED_EVENTS:
            return depths
        # Shallower FIFOs only make transfers later, so each search starts from the cycles of the one before.
        cycles = self.steady
        sizes = [depth * queue.bits for depth, queue in zip(depths, self.queues, strict=True)]
        for number in sorted(range(len(depths)), key=lambda number: -sizes[number]):
            deep, shallow, step = depths[number], LEAST_DEPTH - 1, 1
            while deep - shallow > 1:
                # From the depth known to be enough in growing steps, then by halves.
                depth = max(deep - step, (deep + shallow) // 2)
                tried = [*depths[:number], depth, *depths[number + 1 :]]
                found = self._found(cycles, tried)
                if found is None:
                    shallow, step = depth, deep
                else:
                    deep, cycles, step = depth, found, 2 * step
            depths[number] = deep
        return depths

    def _found(self, start: Sequence[Cycles], depths: Sequence[int]) -> list[Cycles] | None:
        """The earliest cycles with FIFOs so deep, unless they are later than at the start by a whole frame."""
        waits = rooms(self.graph, self.queues, depths)
        rounds = min(_MOST_ROUNDS, max(_LEAST_ROUNDS, _ROUNDS_TIMES_EVENTS // sum(map(len, start))))
        return self.graph.earliest(start, period=self.period, also=waits, rounds=rounds, within=self.period)

    def _held(self, writes: Cycles, reads: Cycles) -> int:
        frames = 3 + int((reads - writes).max()) // self.period
        starts = np.arange(frames)[:, None] * self.period
        return least_depth((writes + starts).reshape(-1), (reads + starts).reshape(-1))
