"""Rigs for components that are no accelerators, so that one can be played, or placed and timed, alone."""

from __future__ import annotations

from pathlib import Path

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.emit.manifest import CycleRange, Manifest, Predicted, StreamPort
from karui.hw.emit.verilog import emit
from karui.hw.streams.axi_stream import (
    AxiStreamEndConfig,
    AxiStreamInput,
    AxiStreamInputConfig,
    AxiStreamOutput,
    axi_ports,
    connect_axi_ports,
)
from karui.hw.streams.counters import cycle
from karui.hw.streams.skid_buffer import SkidBuffer
from karui.sw.numerics import NumberFormat, unsigned


class RegisteredSource(wiring.Component):
    """A source between registers, as its neighbours in a design give them: both directions of its stream end there.

    Parameters
    ----------
    source : wiring.Component
        Has a member `o`, a stream.

    Members
    -------
    o : Out(stream)
        The same words, in a structure of one field `word`; latency 1 cycle, throughput a word a cycle.
    """

    o: stream.Interface

    def __init__(self, source: wiring.Component) -> None:
        self._source = source
        self._words: stream.Interface = getattr(source, "o")  # noqa: B009 - members are made at run time
        self._layout = data.StructLayout({"word": self._words.payload.shape()})
        super().__init__({"o": Out(stream.Signature(self._layout))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.source = self._source
        m.submodules.end = end = SkidBuffer(self._layout)
        m.d.comb += [
            end.i.valid.eq(self._words.valid),
            end.i.payload.as_value().eq(self._words.payload),
            self._words.ready.eq(end.i.ready),
        ]
        wiring.connect(m, end.o, wiring.flipped(self.o))
        return m


class RegisteredStage(wiring.Component):
    """A stage between registers, as its neighbours in a design give them: both its streams end there.

    Parameters
    ----------
    stage : wiring.Component
        Has members `i` and `o`, streams.

    Members
    -------
    i : In(stream)
    o : Out(stream)
        As those of the stage, their payloads in structures of one field `word`; a cycle earlier, and later.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, stage: wiring.Component) -> None:
        self._stage = stage
        self._arriving: stream.Interface = getattr(stage, "i")  # noqa: B009 - members are made at run time
        self._leaving: stream.Interface = getattr(stage, "o")  # noqa: B009
        self._before, self._behind = (
            data.StructLayout({"word": words.payload.shape()}) for words in (self._arriving, self._leaving)
        )
        super().__init__({"i": In(stream.Signature(self._before)), "o": Out(stream.Signature(self._behind))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.stage = self._stage
        m.submodules.begin = begin = SkidBuffer(self._before)
        m.submodules.end = end = SkidBuffer(self._behind)
        wiring.connect(m, wiring.flipped(self.i), begin.i)
        wiring.connect(m, end.o, wiring.flipped(self.o))
        for source, sink in ((begin.o, self._arriving), (self._leaving, end.i)):
            m.d.comb += [
                sink.valid.eq(source.valid),
                Value.cast(sink.payload).eq(Value.cast(source.payload)),
                source.ready.eq(sink.ready),
            ]
        return m


class FramesOnDemand(wiring.Component):
    """Answer each frame of one element with a frame of words from an endless source.

    Parameters
    ----------
    source : wiring.Component
        Has a member `o`, a stream of `lanes` elements a word.
    element : NumberFormat
        Format of the elements.
    lanes : int
        Elements a word.
    words : int
        Words a frame.

    Members
    -------
    s_axis_*, m_axis_*
        AXI4-Stream, as an accelerator has it; what the frame that is taken says does not matter.
    """

    def __init__(self, source: wiring.Component, *, element: NumberFormat, lanes: int, words: int) -> None:
        self._source = source
        self.words = words
        # A request waits while the frame of the one before it leaves, so that no cycle is lost between them.
        self._input = AxiStreamInput(AxiStreamInputConfig(element=unsigned(1), elements=1, lanes=1, frames_in_flight=4))
        self._output = AxiStreamOutput(AxiStreamEndConfig(element=element, elements=words * lanes, lanes=lanes))
        super().__init__(axi_ports(self._input, self._output))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.source = self._source
        m.submodules.axi_input = request = self._input
        m.submodules.axi_output = frames = self._output
        connect_axi_ports(m, self, request, frames)
        wiring.connect(m, request.error, frames.error)
        words: stream.Interface = getattr(self._source, "o")  # noqa: B009 - members are made at run time
        transfer = Signal()
        word = cycle(m, "word", self.words, step=transfer)
        m.d.comb += [
            frames.i.payload.eq(words.payload),
            frames.i.valid.eq(words.valid & request.o.valid),
            words.ready.eq(frames.i.ready & request.o.valid),
            transfer.eq(frames.i.valid & frames.i.ready),
            request.o.ready.eq(transfer & word.is_last),
        ]
        return m


def write_frames_on_demand(
    source: wiring.Component, folder: Path, *, element: NumberFormat, lanes: int, words: int
) -> Manifest:
    """Generate the rig's RTL and its manifest: a frame of one bit in, ``words * lanes`` elements out.

    The initiation interval that the manifest predicts is that of a source that yields a word a cycle. The latency holds
    for a source whose words wait at its output.
    """
    verilog, *images = emit(
        FramesOnDemand(source, element=element, lanes=lanes, words=words), folder, name="frames_on_demand"
    )
    manifest = Manifest(
        name="frames-on-demand",
        top="frames_on_demand",
        sources=(verilog.name,),
        memories=tuple(image.name for image in images),
        input=StreamPort.for_frames(shape=(1,), number_format=unsigned(1), lanes=1),
        output=StreamPort.for_frames(shape=(words * lanes,), number_format=element, lanes=lanes),
        predicted=Predicted(initiation_interval=CycleRange.fixed(words), latency=CycleRange.fixed(words + 1)),
    )
    manifest.save(folder)
    return manifest
