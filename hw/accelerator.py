"""The generator: a graph and its folding become a pipeline between two AXI4-Stream ports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring

from karui.hw.axi_stream import AxiStreamInput, AxiStreamInputConfig, AxiStreamOutput, AxiStreamOutputConfig
from karui.hw.engines import Engine, StreamConfig, component, engine
from karui.hw.folding import Folding, check
from karui.hw.manifest import CycleRange, Predicted, StreamPort
from karui.hw.stages import Stage, stages
from karui.hw.timing import Cycles
from karui.hw.width_converter import WidthConverter, WidthConverterConfig
from karui.sw.ir import Graph, Tensor

# Frames of a single beat that the two ends and the queue of the flags itself hold up.
_FRAMES_AT_THE_ENDS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Accelerator:
    """A graph folded into hardware: its engines, its timing, its ports.

    Parameters
    ----------
    graph : Graph
        A single stream of supported nodes.
    folding : Folding
        Parallelism of each stage.

    Raises
    ------
    GraphError, FoldingError, UnsupportedNode
        If the graph branches, the folding does not fit, or a node has no engine.
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
        """One engine a stage, in the order of the stream."""
        return tuple(engine(stage.op, stage, self.folding.folds[stage.name]) for stage in self.stages)

    @cached_property
    def converters(self) -> tuple[WidthConverterConfig | None, ...]:
        """What stands between each engine and the one behind it: a width converter, or nothing."""
        return tuple(
            WidthConverterConfig(
                element=stage.result.number_format,
                elements=stage.result.elements,
                lanes_in=before.lanes_out,
                lanes_out=after.lanes_in,
            )
            if before.lanes_out != after.lanes_in
            else None
            for stage, before, after in zip(self.stages[:-1], self.engines[:-1], self.engines[1:], strict=True)
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
        lanes = self.engines[0].lanes_in
        interval = max(config.interval for config in self.inner)
        crossing = int(schedule_through(self.inner, np.arange(self.input.elements // lanes))[-1][-1])
        return AxiStreamInputConfig(
            element=self.input.number_format,
            elements=self.input.elements,
            lanes=lanes,
            # Every engine holds a frame in work and one in wait at the most, unless frames are shorter than pipelines.
            frames_in_flight=max(2 * len(self.engines) + 2, -(-crossing // interval) + _FRAMES_AT_THE_ENDS),
        )

    @cached_property
    def axi_output(self) -> AxiStreamOutputConfig:
        """The output end."""
        return AxiStreamOutputConfig(
            element=self.output.number_format, elements=self.output.elements, lanes=self.engines[-1].lanes_out
        )

    @property
    def inner(self) -> tuple[StreamConfig, ...]:
        """Every component between the two ends."""
        pairs = zip(self.engines, (*self.converters, None), strict=True)
        return tuple(config for one, behind in pairs for config in (one.config, behind) if config is not None)

    @property
    def chain(self) -> tuple[StreamConfig, ...]:
        """Every component that the stream passes."""
        return (self.axi_input, *self.inner, self.axi_output)

    @property
    def interval(self) -> int:
        """Predicted initiation interval: cycles a frame of the slowest component."""
        return max(config.interval for config in self.chain)

    @cached_property
    def latency(self) -> int:
        """Predicted cycles from a frame's first input beat to its last output beat, the pipeline empty before."""
        beats = np.zeros(self.axi_input.beats, dtype=np.int64)
        return int(schedule_through(self.chain, beats)[-1][-1])

    @property
    def predicted(self) -> Predicted:
        """Both figures, for the manifest."""
        return Predicted(initiation_interval=CycleRange.fixed(self.interval), latency=CycleRange.fixed(self.latency))

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


def schedule_through(chain: Sequence[StreamConfig], arrivals: Cycles) -> list[Cycles]:
    """Departures from each component in turn, of beats offered to the first at the given cycles."""
    departures = []
    for config in chain:
        arrivals = config.schedule(arrivals).departures
        departures.append(arrivals)
    return departures


class AcceleratorTop(wiring.Component):
    """The accelerator in Amaranth.

    Parameters
    ----------
    accelerator : Accelerator

    Members
    -------
    s_axis_tdata, s_axis_tvalid, s_axis_tready, s_axis_tlast
        AXI4-Stream sink, see `karui.hw.axi_stream.AxiStreamInput`.
    m_axis_tdata, m_axis_tvalid, m_axis_tready, m_axis_tlast, m_axis_tuser
        AXI4-Stream source, see `karui.hw.axi_stream.AxiStreamOutput`.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self._input = AxiStreamInput(accelerator.axi_input)
        self._output = AxiStreamOutput(accelerator.axi_output)
        super().__init__(
            {
                name: member
                for end, prefix in ((self._input, "s_axis_"), (self._output, "m_axis_"))
                for name, member in end.signature.members.items()
                if name.startswith(prefix)
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.axi_input = source = self._input
        m.submodules.axi_output = sink = self._output
        for name, member in self.signature.members.items():
            inner = getattr(source if name.startswith("s_axis_") else sink, name)
            outer = getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow == wiring.In else outer.eq(inner)
        edge = source.o
        for one, converter in zip(self.accelerator.engines, (*self.accelerator.converters, None), strict=True):
            name = module_name(one.name)
            m.submodules[name] = built = component(one.config)
            wiring.connect(m, edge, built.i)
            edge = built.o
            if converter is not None:
                m.submodules[f"{name}_width"] = widths = WidthConverter(converter)
                wiring.connect(m, edge, widths.i)
                edge = widths.o
        wiring.connect(m, edge, sink.i)
        wiring.connect(m, source.error, sink.error)
        return m


def module_name(node: str) -> str:
    """Name of a node's module in the hierarchy: the node's name in the letters that HDL allows."""
    return re.sub(r"\W", "_", node)
