"""How streams run through a graph's stages: forks, changes of width, FIFOs where they join, and all of their cycles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from karui.hw.memory.deep_fifo import DeepFifoConfig
from karui.hw.memory.resources import Resources
from karui.hw.plan.components import Engine, StreamConfig
from karui.hw.plan.event_graph import EventGraph
from karui.hw.plan.fifo_depths import FifoDepths, Queue, rooms
from karui.hw.plan.stages import Stage, readers
from karui.hw.plan.transfers import connect, connect_reverse_slice, connect_skid_buffer
from karui.hw.streams.fork import ForkConfig
from karui.hw.streams.stream import FIFO_LATENCY
from karui.hw.streams.timing import Cycles
from karui.hw.streams.width_converter import WidthConverterConfig
from karui.sw.ir import Graph, Tensor

_ROUNDS = 10_000
"""Rounds within which the transfers settle of a design that does not stop; a hundred or two are usual."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """The way of a stream to one of its readers: a width converter, a slice, and a FIFO if the reader joins streams.

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
    far : bool
        Whether the reader may lie far away.
    """

    stream: str
    reader: str | None
    port: int
    tensor: Tensor
    lanes_in: int
    lanes_out: int
    joins: bool
    far: bool

    @property
    def sliced(self) -> bool:
        """Whether the reader's ready passes a register; a converter to more lanes is one."""
        return self.far and self.lanes_in >= self.lanes_out

    @property
    def words(self) -> int:
        """Beats a frame, as read."""
        return self.tensor.elements // self.lanes_out

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
class Transfers:
    """All transfers of a frame, as events, from the accelerator's input to its output end.

    Parameters
    ----------
    graph : EventGraph
        What they wait for; FIFOs never fill.
    output : int
        The transfers into the output end.
    queues : mapping of Link to Queue
        For each way to a join, its FIFO's.
    """

    graph: EventGraph
    output: int
    queues: Mapping[Link, Queue]


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
    far : frozenset of str
        Stages that may lie far from those before them.
    """

    graph: Graph
    stages: tuple[Stage, ...]
    engines: tuple[Engine, ...]
    far: frozenset[str] = frozenset()

    @cached_property
    def input_lanes(self) -> int:
        """Elements a beat of the graph's input: as many as its widest reader takes."""
        of_stage = dict(zip(self.stages, self.engines, strict=True))
        ends = readers(self.graph, self.stages)[self.graph.input_name]
        return max(of_stage[stage].lanes_at(port) for stage, port in ends if stage is not None)

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
                    lanes_out=lanes[stream] if stage is None else names[stage].lanes_at(port),
                    joins=stage is not None and len(stage.reads) > 1,
                    far=stage is not None and stage.name in self.far,
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
    def depths(self) -> tuple[int, ...]:
        """Depths of frames, where cycles depend on it; otherwise none.

        Raises
        ------
        ValueError
            If stages disagree.
        """
        found = {engine.depths for engine in self.engines if engine.depths}
        if len(found) > 1:
            raise ValueError(f"graph {self.graph.name} has stages of different depths: {', '.join(map(str, found))}")
        return tuple(*found)

    def at_depth(self, depth: int) -> Dataflow:
        """The same hardware, its cycles predicted for frames of a depth."""
        return replace(self, engines=tuple(engine.at_depth(depth) for engine in self.engines))

    @cached_property
    def interval(self) -> int:
        """Cycles a frame of the slowest component."""
        configs: list[StreamConfig] = [engine.config for engine in self.engines]
        configs += self.forks.values()
        configs += [link.converter for links in self.links.values() for link in links if link.converter is not None]
        return max(config.interval for config in configs)

    @cached_property
    def transfers(self) -> Transfers:
        """The transfers between the components."""
        graph = EventGraph()
        queues: dict[Link, Queue] = {}
        ends: dict[Link, int] = {}

        def send(stream: str, output: int) -> None:
            links = self.links[stream]
            outputs = [output]
            if stream in self.forks:
                outputs = [graph.events(graph.size(output)) for _ in links]
                connect(self.forks[stream], graph, [output], outputs)
            for link, edge in zip(links, outputs, strict=True):
                if link.converter is not None:
                    before, edge = edge, graph.events(link.words)
                    connect(link.converter, graph, [before], [edge])
                if link.sliced:
                    before, edge = edge, graph.events(link.words)
                    connect_reverse_slice(graph, before, edge)
                if link.joins:
                    before, edge = edge, graph.events(link.words)
                    bits = link.lanes_out * link.tensor.number_format.bits
                    queues[link] = Queue.connect(graph, before, edge, bits)
                ends[link] = edge

        beats = self.graph.inputs[self.graph.input_name].elements // self.input_lanes
        arrivals, source = graph.events(beats), graph.events(beats)
        connect_skid_buffer(graph, arrivals, source)
        send(self.graph.input_name, source)
        for stage, engine in zip(self.stages, self.engines, strict=True):
            results = graph.events(stage.result.elements // engine.lanes_out)
            connect(engine.config, graph, [ends[link] for link in self.inputs[stage.name]], [results])
            send(stage.writes, results)
        (sink,) = (edge for link, edge in ends.items() if link.reader is None)
        # A frame's last result waits for its error flag, which comes of the last input through a queue between two
        # registers.
        last = np.array([graph.size(sink) - 1])
        graph.wait_at(sink, last, arrivals, np.array([beats - 1]), FIFO_LATENCY + 2)
        return Transfers(graph=graph, output=sink, queues=queues)

    def crossing(self) -> int:
        """Cycles from a frame's first input beat to its last result at the output end, where no other is under way."""
        transfers = self.transfers
        graph = transfers.graph
        depths = [self.fifos[link].depth for link in transfers.queues]
        waits = rooms(graph, tuple(transfers.queues.values()), depths)
        cycles = self._settled(graph.earliest(graph.every(0), also=waits, rounds=_ROUNDS))
        return int(cycles[transfers.output][-1])

    def _settled(self, cycles: list[Cycles] | None) -> list[Cycles]:
        if cycles is None:
            raise ArithmeticError(
                f"graph {self.graph.name}: its transfers do not settle at an interval of {self.interval} cycles"
            )
        return cycles

    @cached_property
    def _fifo_depths(self) -> FifoDepths:
        transfers = self.transfers
        graph = transfers.graph
        alone = self._settled(graph.earliest(graph.every(0), rounds=_ROUNDS))
        return FifoDepths(
            graph=graph,
            queues=tuple(transfers.queues.values()),
            output=transfers.output,
            period=self.interval,
            steady=self._settled(graph.earliest(alone, period=self.interval, rounds=_ROUNDS)),
        )

    @cached_property
    def fifos(self) -> dict[Link, DeepFifoConfig]:
        """The FIFO at each input of each join: enough for frames of any depth to keep their interval."""
        if not self.joins:
            return {}
        flows = [self.at_depth(depth) for depth in self.depths] or [self]
        found = [flow._fifo_depths.least() for flow in flows]
        return self._fifos([max(each) for each in zip(*found, strict=True)])

    @property
    def joins(self) -> bool:
        """Whether any stage joins streams."""
        return any(link.joins for links in self.links.values() for link in links)

    def _fifos(self, depths: Sequence[int]) -> dict[Link, DeepFifoConfig]:
        return {
            link: DeepFifoConfig(element=link.tensor.number_format, lanes=link.lanes_out, depth=depth)
            for link, depth in zip(self.transfers.queues, depths, strict=True)
        }

    @property
    def cost(self) -> Resources:
        """Estimated cells of forks and FIFOs."""
        forks = (Resources(luts=9 + fork.lanes * fork.element.bits) for fork in self.forks.values())
        # Depths that are enough are found in a tenth of the time that the least ones take.
        fifos = self._fifos(self._fifo_depths.enough()) if self.joins else {}
        return sum((*forks, *(fifo.cost for fifo in fifos.values())), start=Resources())
