"""Where routing has its predictions from: a memory of them, or the stream, in which they come again for each pass."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.banked_ram import BankedRam, BankedRamConfig
from karui.hw.memory.deep_fifo import DeepFifo, DeepFifoConfig
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.streams.counters import cycle, level
from karui.hw.streams.stream import delayed, lanes_of
from karui.sw.numerics import NumberFormat

BUFFERS = 2
"""Frames of predictions that are kept: one is routed while the next one comes."""


class PredictionSource(wiring.Signature):
    """What passes over predictions need, from the side of the source.

    Members
    -------
    i : In(stream)
        Predictions.
    frame_is_there : Out(1)
        Whether the first pass over a frame may begin.
    is_there : Out(1)
        Whether the next beat may be taken. Once a prediction's first beat was, its others may.
    take : In(1)
        Takes it, while there is one.
    ends_frame : In(1)
        Ends the last pass over a frame.
    word : Out
        The beat, the source's latency later.
    """

    def __init__(self, element: NumberFormat, lanes: int) -> None:
        beat = lanes_of(element, lanes)
        super().__init__(
            {
                "i": In(stream.Signature(beat)),
                "frame_is_there": Out(1),
                "is_there": Out(1),
                "take": In(1),
                "ends_frame": In(1),
                "word": Out(lanes * element.bits),
            }
        )


@dataclass(frozen=True, kw_only=True)
class KeptPredictionsConfig:
    """Parameters of `KeptPredictions`.

    Parameters
    ----------
    element : NumberFormat
        Format of the predictions.
    lanes : int
        Elements a beat.
    beats : int
        Beats of a frame.
    """

    element: NumberFormat
    lanes: int
    beats: int

    @property
    def memory(self) -> BankedRamConfig:
        """The memory of predictions."""
        return BankedRamConfig(words=BUFFERS * self.beats, width=self.lanes * self.element.bits)

    @property
    def cost(self) -> Resources:
        """Cells, estimated."""
        return self.memory.cost

    @property
    def latency(self) -> int:
        """Cycles from a take to its beat."""
        return self.memory.latency


class KeptPredictions(wiring.Component):
    """Writes predictions to one half of a memory while those of the frame before are read from the other, pass by pass.

    Latency ``config.latency`` cycles, throughput a beat a cycle on both sides.

    Parameters
    ----------
    config : KeptPredictionsConfig

    Members
    -------
    See `PredictionSource`.
    """

    i: stream.Interface
    frame_is_there: Signal
    is_there: Signal
    take: Signal
    ends_frame: Signal
    word: Signal

    def __init__(self, config: KeptPredictionsConfig) -> None:
        self.config = config
        super().__init__(PredictionSource(config.element, config.lanes))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beats = self.config.beats
        m.submodules.memory = memory = BankedRam(self.config.memory)
        transfer = self.i.valid & self.i.ready
        half_is_full = transfer & cycle(m, "stored", beats, step=transfer).is_last
        frames = level(m, "frames", BUFFERS, up=half_is_full, down=self.ends_frame)
        # A half is read from its beginning in each pass, the other half in the next frame's.
        place = cycle(m, "read", beats, step=self.take)
        half = Signal(range(BUFFERS))
        address = Signal(range(BUFFERS * beats))
        with m.If(self.ends_frame):
            m.d.sync += [half.eq(~half), address.eq(Mux(half, 0, beats))]
        with m.Elif(self.take):
            m.d.sync += address.eq(Mux(place.is_last, Mux(half, beats, 0), address + 1))
        m.d.comb += [
            self.i.ready.eq(~frames.full),
            self.frame_is_there.eq(~frames.empty),
            self.is_there.eq(1),
            memory.write_enable.eq(transfer),
            memory.write_address.eq(cycle(m, "store", BUFFERS * beats, step=transfer).number),
            memory.write_data.eq(self.i.payload),
            memory.read_address.eq(address),
            self.word.eq(memory.read_data),
        ]
        return m


@dataclass(frozen=True, kw_only=True)
class PassingPredictionsConfig:
    """Parameters of `PassingPredictions`.

    Parameters
    ----------
    element : NumberFormat
        Format of the predictions.
    lanes : int
        Elements a beat.
    folds : int
        Beats of a prediction.
    depth : int
        Beats that wait at most, a prediction's or more.
    """

    element: NumberFormat
    lanes: int
    folds: int
    depth: int

    @property
    def queue(self) -> DeepFifoConfig:
        """The queue of predictions."""
        return DeepFifoConfig(element=self.element, lanes=self.lanes, depth=self.depth)

    @property
    def cost(self) -> Resources:
        """Cells, estimated."""
        words = memory_cost(self.queue.stored_words, self.lanes * self.element.bits, distributed=DISTRIBUTED_RAM_WORDS)
        return words + Resources(luts=4 * self.depth.bit_length())

    @property
    def latency(self) -> int:
        """Cycles from a take to its beat."""
        return 0


class PassingPredictions(wiring.Component):
    """Hands predictions to the passes as they come, each once, when all of its beats have come.

    Between passes they wait in a queue. Latency none, throughput a beat a cycle.

    Parameters
    ----------
    config : PassingPredictionsConfig

    Members
    -------
    See `PredictionSource`.
    """

    i: stream.Interface
    frame_is_there: Signal
    is_there: Signal
    take: Signal
    ends_frame: Signal
    word: Signal

    def __init__(self, config: PassingPredictionsConfig) -> None:
        self.config = config
        super().__init__(PredictionSource(config.element, config.lanes))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.queue = queue = DeepFifo(config.queue)
        wiring.connect(m, wiring.flipped(self.i), queue.i)
        transfer = self.i.valid & self.i.ready
        completes = transfer & cycle(m, "coming", config.folds, step=transfer).is_last
        beat = cycle(m, "going", config.folds, step=self.take)
        # Behind the last beat's way through the queue.
        whole = level(
            m,
            "whole",
            config.depth // config.folds,
            up=delayed(m, completes, 1, name="completed", control=True),
            down=self.take & beat.is_first,
        )
        m.d.comb += [
            self.frame_is_there.eq(1),
            self.is_there.eq(~whole.empty | ~beat.is_first),
            queue.o.ready.eq(self.take),
            self.word.eq(queue.o.payload),
        ]
        return m
