"""The generator: a graph and its folding become a pipeline between two AXI4-Stream ports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from amaranth.hdl import Module
from amaranth.lib import stream, wiring

from karui.hw.emit.manifest import CycleRange, Predicted, StreamPort
from karui.hw.memory.deep_fifo import DeepFifo
from karui.hw.plan.components import Engine, component, engine
from karui.hw.plan.dataflow import Dataflow
from karui.hw.plan.folding import Folding, check
from karui.hw.plan.stages import Stage, stages
from karui.hw.streams.axi_stream import (
    AxiStreamEndConfig,
    AxiStreamInput,
    AxiStreamInputConfig,
    AxiStreamOutput,
    axi_ports,
    connect_axi_ports,
)
from karui.hw.streams.fork import Fork
from karui.hw.streams.reverse_slice import ReverseSlice
from karui.hw.streams.stream import lanes_of
from karui.hw.streams.width_converter import WidthConverter
from karui.sw.ir import Graph, Tensor

# Frames of a single beat that the two ends and the queue of the flags itself hold up.
_FRAMES_AT_THE_ENDS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Accelerator:
    """A graph folded into hardware: its engines, its timing, its ports.

    Parameters
    ----------
    graph : Graph
        Supported nodes between one input and one output; streams may fork and join again.
    folding : Folding
        Parallelism of each stage.

    Raises
    ------
    GraphError, FoldingError, UnsupportedNode
        If the graph has several inputs or outputs, the folding does not fit, or a node has no engine.
    """

    graph: Graph
    folding: Folding

    def __post_init__(self) -> None:
        check(self.stages, self.folding)
        _ = self.engines

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The graph's nodes, grouped into engines."""
        return stages(self.graph)

    @cached_property
    def engines(self) -> tuple[Engine, ...]:
        """One engine a stage, each after those that it reads from."""
        return tuple(engine(stage.op, stage, self.folding.folds[stage.name]) for stage in self.stages)

    @cached_property
    def dataflow(self) -> Dataflow:
        """The streams between the engines."""
        return Dataflow(
            graph=self.graph,
            stages=self.stages,
            engines=self.engines,
            far=self.folding.far,
        )

    @property
    def input(self) -> Tensor:
        """The edge that streams in."""
        return self.graph.inputs[self.graph.input_name]

    @property
    def output(self) -> Tensor:
        """The edge that streams out."""
        return self.graph.tensors[self.graph.output_name]

    @cached_property
    def axi_input(self) -> AxiStreamInputConfig:
        """The input end, with room for the error flags of all frames that are under way at full rate."""
        lanes = self.dataflow.input_lanes
        return AxiStreamInputConfig(
            element=self.input.number_format,
            elements=self.input.elements,
            lanes=lanes,
            # Every engine holds a frame in work and one in wait at the most, unless frames are shorter than pipelines;
            # a slice in front of it holds one of a beat.
            frames_in_flight=max(
                2 * len(self.engines) + len(self.folding.far) + 2,
                -(-(self.latency - 2) // self.dataflow.interval) + _FRAMES_AT_THE_ENDS,
            ),
        )

    @cached_property
    def axi_output(self) -> AxiStreamEndConfig:
        """The output end."""
        (lanes,) = (link.lanes_out for links in self.dataflow.links.values() for link in links if link.reader is None)
        return AxiStreamEndConfig(element=self.output.number_format, elements=self.output.elements, lanes=lanes)

    @property
    def interval(self) -> int:
        """Predicted initiation interval: cycles a frame of the slowest component, of frames as deep as any."""
        return self._interval(self.dataflow)

    @cached_property
    def latency(self) -> int:
        """Predicted cycles from a frame's first input beat to its last output beat, the pipeline empty before.

        Of frames as deep as any.
        """
        return self.dataflow.crossing() + 1

    @cached_property
    def by_depth(self) -> dict[int, tuple[int, int]]:
        """Predicted initiation interval and latency of frames of each depth; none where they do not depend on it."""
        flows = {depth: self.dataflow.at_depth(depth) for depth in self.dataflow.depths}
        return {depth: (self._interval(flow), flow.crossing() + 1) for depth, flow in flows.items()}

    def _interval(self, flow: Dataflow) -> int:
        return max(self.axi_input.interval, flow.interval, self.axi_output.interval)

    @property
    def predicted(self) -> Predicted:
        """Both figures, for the manifest; as their mean that of all depths, each as often as any other."""
        intervals, latencies = zip(*(self.by_depth.values() or [(self.interval, self.latency)]), strict=True)
        return Predicted(initiation_interval=CycleRange.of(intervals), latency=CycleRange.of(latencies))

    @property
    def ports(self) -> tuple[StreamPort, StreamPort]:
        """Input and output, for the manifest."""
        source, sink = (
            StreamPort.for_frames(shape=tensor.shape, number_format=tensor.number_format, lanes=lanes)
            for tensor, lanes in (
                (self.input, self.axi_input.lanes),
                (self.output, self.axi_output.lanes),
            )
        )
        return source, sink


class AcceleratorTop(wiring.Component):
    """The accelerator in Amaranth.

    Parameters
    ----------
    accelerator : Accelerator

    Members
    -------
    s_axis_tdata, s_axis_tvalid, s_axis_tready, s_axis_tlast
        AXI4-Stream sink, see `karui.hw.streams.axi_stream.AxiStreamInput`.
    m_axis_tdata, m_axis_tvalid, m_axis_tready, m_axis_tlast, m_axis_tuser
        AXI4-Stream source, see `karui.hw.streams.axi_stream.AxiStreamOutput`.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self._input = AxiStreamInput(accelerator.axi_input)
        self._output = AxiStreamOutput(accelerator.axi_output)
        super().__init__(axi_ports(self._input, self._output))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.axi_input = source = self._input
        m.submodules.axi_output = sink = self._output
        connect_axi_ports(m, self, source, sink)
        self._connect(m, source.o, sink.i)
        wiring.connect(m, source.error, sink.error)
        return m

    def _connect(self, m: Module, source: stream.Interface, sink: stream.Interface) -> None:
        flow = self.accelerator.dataflow
        built = {stage.name: component(engine.config) for stage, engine in zip(flow.stages, flow.engines, strict=True)}
        senders = {flow.graph.input_name: ("axi_input", source)}
        for stage in flow.stages:
            name = module_name(stage.name)
            m.submodules[name] = built[stage.name]
            senders[stage.writes] = name, getattr(built[stage.name], "o")  # noqa: B009 - members are made at run time
        for sent, links in flow.links.items():
            name, output = senders[sent]
            outputs = [output]
            if sent in flow.forks:
                m.submodules[f"{name}_fork"] = fork = Fork(flow.forks[sent])
                wiring.connect(m, output, fork.i)
                outputs = fork.outputs
            for link, edge in zip(links, outputs, strict=True):
                place = name if len(links) == 1 else f"{module_name(link.reader or 'output')}_in_{link.port}"
                if link.converter is not None:
                    m.submodules[f"{place}_width"] = widths = WidthConverter(link.converter)
                    wiring.connect(m, edge, widths.i)
                    edge = widths.o
                if link.sliced:
                    m.submodules[f"{place}_slice"] = piece = ReverseSlice(
                        lanes_of(link.tensor.number_format, link.lanes_out)
                    )
                    wiring.connect(m, edge, piece.i)
                    edge = piece.o
                if link in flow.fifos:
                    m.submodules[f"{place}_fifo"] = fifo = DeepFifo(flow.fifos[link])
                    wiring.connect(m, edge, fifo.i)
                    edge = fifo.o
                if link.reader is None:
                    wiring.connect(m, edge, sink)
                else:
                    end = f"i_{link.port}" if link.joins else "i"
                    wiring.connect(m, edge, getattr(built[link.reader], end))


def module_name(node: str) -> str:
    """Name of a node's module in the hierarchy: the node's name in the letters that HDL allows."""
    return re.sub(r"\W", "_", node)
