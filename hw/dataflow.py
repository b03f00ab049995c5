"""How streams run through a graph's stages: forks, changes of width, FIFOs where they join, and all of their cycles.

Where a stream forks and its branches join again, the join reads from all at once, and so each branch must hold what it
has until the slowest has it too. What the engines of a branch do not hold, a FIFO at the join's input does. Its depth
follows from the cycles of its words:

1. Let the frames' beats come in evenly, at the initiation interval T of the slowest component, and let no FIFO ever be
   full: in which cycle each word is written and read is then known. Every frame's cycles are those of the frame
   before it, plus T.
2. With the most words that a FIFO then holds as its depth, nothing changes: that run is a legal one of the hardware.
   So is the one in which the engines between a fork and a FIFO do their work as late as their own buffers and the join
   allow, and the FIFO holds less: that one is taken.
3. Streams with finite FIFOs are an event graph (every transfer waits for a maximum of earlier ones), in which no
   transfer comes later because another comes earlier. So with input as fast as it is taken, no frame is later than in
   that run: the interval is T. And since there is a run that never stops, the hardware cannot deadlock, whatever the
   pauses of its source and sink: which transfer waits for which does not depend on time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TypeVar, cast

import numpy as np

from karui.hw.deadlines import NEVER, deadlines
from karui.hw.deep_fifo import DeepFifoConfig, least_depth, leaves_memory
from karui.hw.engines import Engine, JoinConfig, StreamConfig
from karui.hw.estimate import Resources, memory_cost
from karui.hw.fork import ForkConfig
from karui.hw.memory_style import DISTRIBUTED_RAM_WORDS
from karui.hw.stages import Stage, readers
from karui.hw.stream import FIFO_LATENCY
from karui.hw.timing import Cycles, JoinSchedule, Schedule, consecutive
from karui.hw.width_converter import WIDTH_LATENCY, WidthConverterConfig
from karui.sw.ir import Graph, Tensor

Result = TypeVar("Result", Schedule, JoinSchedule)

_FRAMES = 4
"""Frames of the evenly paced run, beside those that a FIFO holds: after the first two, they repeat one another."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """The way of a stream to one of its readers: a width converter, and a FIFO if the reader joins streams.

    Parameters
    ----------
    stream : str
        Name of the stream.
    reader : str or None
        Name of the stage that reads it; None for the graph's output.
    port : int
        Which of the reader's inputs it goes to.
    tensor : Tensor
        What travels.
    lanes_in, lanes_out : int
        Elements a beat as sent and as read.
    joins : bool
        Whether the reader has several inputs.
    """

    stream: str
    reader: str | None
    port: int
    tensor: Tensor
    lanes_in: int
    lanes_out: int
    joins: bool

    @cached_property
    def converter(self) -> WidthConverterConfig | None:
        """What changes the lanes, if they change."""
        if self.lanes_in == self.lanes_out:
            return None
        return WidthConverterConfig(
            element=self.tensor.number_format,
            elements=self.tensor.elements,
            lanes_in=self.lanes_in,
            lanes_out=self.lanes_out,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """Cycles of all transfers of a few frames.

    Parameters
    ----------
    departures : mapping of str to ndarray of int64
        For each stream the cycles in which its sender offers it.
    accepted : mapping of str to ndarray of int64
        For each stage with one input the cycles in which it takes its beats.
    writes, reads : mapping of Link to ndarray of int64
        For each way to a join, the transfers into its FIFO and out of it.
    """

    departures: Mapping[str, Cycles]
    accepted: Mapping[str, Cycles]
    writes: Mapping[Link, Cycles]
    reads: Mapping[Link, Cycles]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataflow:
    """The streams between the engines of a graph.

    Parameters
    ----------
    graph : Graph
        One input and one output.
    stages : tuple of Stage
        Of the graph.
    engines : tuple of Engine
        One a stage.
    """

    graph: Graph
    stages: tuple[Stage, ...]
    engines: tuple[Engine, ...]

    @cached_property
    def input_lanes(self) -> int:
        """Elements a beat of the graph's input: as many as its widest reader takes."""
        of_stage = dict(zip(self.stages, self.engines, strict=True))
        ends = readers(self.graph, self.stages)[self.graph.input_name]
        return max(of_stage[stage].lanes_in for stage, _ in ends if stage is not None)

    @cached_property
    def links(self) -> dict[str, tuple[Link, ...]]:
        """For each stream the ways to its readers."""
        names = dict(zip(self.stages, self.engines, strict=True))
        lanes = {self.graph.input_name: self.input_lanes}
        lanes |= {stage.writes: engine.lanes_out for stage, engine in names.items()}
        return {
            stream: tuple(
                Link(
                    stream=stream,
                    reader=None if stage is None else stage.name,
                    port=port,
                    tensor=self.graph.tensors[stream],
                    lanes_in=lanes[stream],
                    lanes_out=lanes[stream] if stage is None else names[stage].lanes_in,
                    joins=stage is not None and len(stage.reads) > 1,
                )
                for stage, port in ends
            )
            for stream, ends in readers(self.graph, self.stages).items()
        }

    @cached_property
    def inputs(self) -> dict[str, tuple[Link, ...]]:
        """For each stage the ways of the streams that it reads, in order."""
        found: dict[str, list[Link]] = {stage.name: [] for stage in self.stages}
        for links in self.links.values():
            for link in links:
                if link.reader is not None:
                    found[link.reader].append(link)
        return {name: tuple(sorted(links, key=lambda link: link.port)) for name, links in found.items()}

    @cached_property
    def forks(self) -> dict[str, ForkConfig]:
        """For each stream that is read more than once, its fork."""
        return {
            stream: ForkConfig(
                element=links[0].tensor.number_format,
                elements=links[0].tensor.elements,
                lanes=links[0].lanes_in,
                readers=len(links),
            )
            for stream, links in self.links.items()
            if len(links) > 1
        }

    @cached_property
    def output(self) -> str:
        """The stream that leaves the graph."""
        (stream,) = (link.stream for links in self.links.values() for link in links if link.reader is None)
        return stream

    @cached_property
    def interval(self) -> int:
        """Cycles a frame of the slowest component."""
        configs: list[StreamConfig | JoinConfig | ForkConfig] = [engine.config for engine in self.engines]
        configs += self.forks.values()
        configs += [link.converter for links in self.links.values() for link in links if link.converter is not None]
        return max(config.interval for config in configs)

    @cached_property
    def paced(self) -> Run:
        """A few frames whose beats come in evenly at the initiation interval, with FIFOs that never fill."""
        beats = self.graph.inputs[self.graph.input_name].elements // self.input_lanes
        frames = _FRAMES
        while True:
            run = self.run(np.arange(frames * beats, dtype=np.int64) * self.interval // beats)
            waits = [int((run.reads[link] - writes).max()) for link, writes in run.writes.items()]
            # Frames that wait for others in a FIFO are all there.
            if (needed := _FRAMES + max(waits, default=0) // self.interval) <= frames:
                return run
            frames = needed

    @cached_property
    def fifos(self) -> dict[Link, DeepFifoConfig]:
        """The FIFO at each input of each join."""
        if not any(link.joins for links in self.links.values() for link in links):
            return {}
        return {
            link: DeepFifoConfig(
                element=link.tensor.number_format,
                lanes=link.lanes_out,
                depth=least_depth(self._latest_writes(link), self.paced.reads[link]),
            )
            for link in self.paced.writes
        }

    def _latest_writes(self, link: Link) -> Cycles:
        """The latest cycles in which a FIFO may get its words, with all that the engines in front of it hold.

        From the last fork or join on, where beats are taken as in the evenly paced run; the join gets every word as in
        that run too.
        """
        senders = {stage.writes: (stage, engine) for stage, engine in zip(self.stages, self.engines, strict=True)}
        way: list[tuple[Stage, Engine, Link]] = []
        behind = link
        while behind.stream in senders and behind.stream not in self.forks:
            stage, engine = senders[behind.stream]
            if len(stage.reads) > 1:
                break
            way.insert(0, (stage, engine, behind))
            (behind,) = self.inputs[stage.name]
        if not way:
            return self.paced.writes[link]
        latest = self.paced.accepted[way[0][0].name]
        for stage, engine, behind in way:
            leaves = self.paced.departures[stage.writes]
            limit = self.paced.reads[link] - FIFO_LATENCY if behind is link else None
            converter = behind.converter
            if converter is None:
                latest = deadlines(engine.config, latest, leaves, _never(leaves) if limit is None else limit)
                continue
            crossed = converter.schedule(leaves).departures
            if limit is None:
                limit = _never(crossed)
            # Beats come to the converter in time for the first word that they are part of.
            words = np.arange(len(leaves)) * behind.lanes_in // behind.lanes_out
            latest = deadlines(engine.config, latest, leaves, limit[words] - WIDTH_LATENCY)
            latest = deadlines(converter, latest, crossed, limit)
        return np.maximum(latest, self.paced.writes[link])

    def late_streams(self) -> list[str]:
        """Streams whose beats are taken, in the evenly paced run, later than their senders can hold them.

        The run takes engines to work at their own pace, whatever is behind them. It is one of the hardware where, as
        they should, their buffers make up for that everywhere: then there is no such stream.
        """
        late: list[str] = []
        latest: dict[str, Cycles] = {}
        for stage, engine in zip(self.stages, self.engines, strict=True):
            if len(stage.reads) > 1 or stage.writes in self.forks:
                continue
            (before,), (behind,) = self.inputs[stage.name], self.links[stage.writes]
            taken = latest.get(before.stream, self.paced.accepted[stage.name])
            leaves = self.paced.departures[stage.writes]
            latest[stage.writes] = deadlines(engine.config, taken, leaves, _never(leaves))
            if behind.converter is not None:
                crossed = behind.converter.schedule(leaves).departures
                latest[stage.writes] = deadlines(behind.converter, latest[stage.writes], crossed, _never(crossed))
            is_read = behind.reader is not None and not behind.joins
            if is_read and np.any(self.paced.accepted[behind.reader or ""] > latest[stage.writes]):
                late.append(stage.writes)
        return late

    @property
    def cost(self) -> Resources:
        """Estimated cells of forks and FIFOs."""
        forks = (Resources(luts=9 + fork.lanes * fork.element.bits) for fork in self.forks.values())
        return sum((*forks, *map(fifo_cost, self.fifos.values())), start=Resources())

    def run(self, arrivals: Cycles, fifos: Mapping[Link, DeepFifoConfig] | None = None) -> Run:
        """Cycles of all transfers.

        Parameters
        ----------
        arrivals : ndarray of int64
            Cycles in which the graph's input is offered; whole frames.
        fifos : mapping of Link to DeepFifoConfig, optional
            The FIFOs; they never fill unless given.
        """
        return _Walk(self, fifos or {}).run(arrivals)


def _never(cycles: Cycles) -> Cycles:
    return np.full_like(cycles, NEVER)


def fifo_cost(fifo: DeepFifoConfig) -> Resources:
    """Estimated cells of a FIFO: its memory and its counters."""
    words = memory_cost(fifo.stored_words, fifo.lanes * fifo.element.bits, distributed=DISTRIBUTED_RAM_WORDS)
    return words + Resources(luts=10 + 8 * fifo.stored_words.bit_length())


class _Walk:
    """A walk through the stages, each from the cycles of those before it.

    Where a FIFO would overflow, the walk starts again with the cycles from which on it has room; what they do not
    change is not computed again. They hold up the fork in front of the FIFO; an engine between the two is taken to go
    on, as if it had room for its results.
    """

    def __init__(self, dataflow: Dataflow, fifos: Mapping[Link, DeepFifoConfig]) -> None:
        self._flow = dataflow
        self._fifos = fifos
        # Earliest cycle in which each word may be written.
        self._room: dict[Link, Cycles] = {}
        self._kept: dict[int, tuple[list[Cycles], Schedule | JoinSchedule]] = {}
        self._engines = {stage.name: engine for stage, engine in zip(dataflow.stages, dataflow.engines, strict=True)}

    def run(self, arrivals: Cycles) -> Run:
        """Walk until no FIFO overflows."""
        while (found := self._walk(arrivals)) is None:
            pass
        return found

    def _walk(self, arrivals: Cycles) -> Run | None:
        flow = self._flow
        departures: dict[str, Cycles] = {}
        accepted: dict[str, Cycles] = {}
        ends: dict[Link, Cycles] = {}
        reads: dict[Link, Cycles] = {}

        def send(stream: str, offers: Cycles) -> None:
            links = flow.links[stream]
            if stream in flow.forks:
                taken = [partial(self._taken, link) for link in links]
                offers = flow.forks[stream].schedule(offers, taken).departures
            departures[stream] = offers
            ends.update({link: self._crossing(link, offers).departures for link in links})

        send(flow.graph.input_name, arrivals)
        for stage in flow.stages:
            links = flow.inputs[stage.name]
            config = self._engines[stage.name].config
            if len(links) == 1:
                schedule = self._schedule(config, ends[links[0]])
                accepted[stage.name] = schedule.accepted
                send(stage.writes, schedule.departures)
                continue
            joined = self._join(config, [ends[link] + FIFO_LATENCY for link in links])
            reads.update(zip(links, joined.accepted, strict=True))
            overflows = [self._overflows(link, ends[link], reads[link]) for link in links]
            if any(overflows):
                return None
            send(stage.writes, joined.departures)
        writes = {link: ends[link] for link in reads}
        return Run(departures=departures, accepted=accepted, writes=writes, reads=reads)

    def _overflows(self, link: Link, writes: Cycles, reads: Cycles) -> bool:
        """Whether words come before there is room for them; keeps the cycles from which on there is."""
        if link not in self._fifos:
            return False
        stored = self._fifos[link].stored_words
        room = np.zeros_like(writes)
        room[stored:] = leaves_memory(writes, reads)[:-stored] + 1
        self._room[link] = room
        return bool(np.any(writes < room))

    def _crossing(self, link: Link, offers: Cycles) -> Schedule:
        """From a stream to what reads it, or into the FIFO in front of that."""
        crossed = Schedule(accepted=offers, departures=offers)
        if link.converter is not None:
            crossed = self._schedule(link, offers)
        if not link.joins:
            return crossed
        room = self._room.get(link, np.zeros_like(crossed.departures))
        return replace(crossed, departures=consecutive(np.maximum(crossed.departures, room)))

    def _taken(self, link: Link, offers: Cycles) -> Cycles:
        """Cycles in which a stream's beats are taken on one of its ways."""
        crossed = self._crossing(link, offers)
        read = crossed.departures
        if link.reader is not None and not link.joins:
            read = self._schedule(self._engines[link.reader].config, crossed.departures).accepted
        if link.converter is None:
            return read
        behind = link.converter.behind(len(offers))
        waits = np.where(behind < 0, 0, read[behind] + 1)
        return consecutive(np.maximum(crossed.accepted, waits))

    def _schedule(self, what: StreamConfig | JoinConfig | Link, arrivals: Cycles) -> Schedule:
        config = what.converter if isinstance(what, Link) else what
        return self._keep(what, [arrivals], lambda: cast(StreamConfig, config).schedule(arrivals))

    def _join(self, config: StreamConfig | JoinConfig, arrivals: list[Cycles]) -> JoinSchedule:
        return self._keep(config, arrivals, lambda: cast(JoinConfig, config).schedule(arrivals))

    def _keep(self, what: object, arrivals: list[Cycles], compute: Callable[[], Result]) -> Result:
        """What was computed last, if it was computed from the same arrivals."""
        before, result = self._kept.get(id(what), ([], None))
        if result is None or not all(map(np.array_equal, before, arrivals)):
            result = compute()
            self._kept[id(what)] = (arrivals, result)
        return cast(Result, result)
