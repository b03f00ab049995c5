"""A Huffman decoder whose symbols leave in a stream, in order."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out

from karui.hw.compressed.huffman_decoder import HuffmanDecoder, HuffmanDecoderConfig, PassCounter
from karui.hw.memory.deep_fifo import DeepFifo, DeepFifoConfig
from karui.hw.streams.counters import cycle, level
from karui.hw.streams.stream import FIFO_LATENCY, lanes_of
from karui.sw.numerics import unsigned


@dataclass(frozen=True, kw_only=True, eq=False)
class HuffmanStreamConfig:
    """Parameters of a `HuffmanStream`.

    Parameters
    ----------
    decoder : HuffmanDecoderConfig
        Code and streams; none of them may be empty.

    Raises
    ------
    ValueError
        If a stream is empty.
    """

    decoder: HuffmanDecoderConfig

    def __post_init__(self) -> None:
        if 0 in self.decoder.counts:
            raise ValueError(f"slot {self.decoder.counts.index(0)} of a Huffman stream has no symbols to decode")

    @property
    def queue(self) -> DeepFifoConfig:
        """The queue of the words: lane by lane a symbol."""
        return DeepFifoConfig(
            element=unsigned(self.decoder.symbol_bits),
            lanes=self.decoder.lanes,
            depth=self.rounds * self.decoder.slots,
            storage="distributed",
        )

    @property
    def rounds(self) -> int:
        """Rounds that the queue has places for.

        Its last word leaving, a round's places are free in the next cycle, and a new round begins after one more, or as
        many more as it has slots. Until the first of its words is at the output, the other rounds have to last.
        """
        slots = self.decoder.slots
        return 2 - (-(self.decoder.latency + FIFO_LATENCY) // slots)

    @property
    def latency(self) -> int:
        """Cycle, counted from the first one after reset, in which the first word is valid; so is one ever after."""
        return self.decoder.slots + self.decoder.latency + FIFO_LATENCY


class HuffmanStream(wiring.Component):
    """Decoded symbols in a stream: a word in every cycle in which the consumer is ready, without end.

    The slots' symbols come in turn, slot 0 first, whatever pauses the consumer makes: the decoder works by whole
    rounds, and begins one when the queue has places for all of it. Each slot's streams start again behind their last
    symbol, in the very next round; so a sequence that `interleaved` dealt out comes in its own order, again and again.

    Parameters
    ----------
    config : HuffmanStreamConfig

    Members
    -------
    o : Out(stream)
        A symbol of each lane. The first is valid in cycle `config.latency`; throughput a word a cycle.
    """

    o: stream.Interface

    def __init__(self, config: HuffmanStreamConfig) -> None:
        self.config = config
        queue = config.queue
        super().__init__({"o": Out(stream.Signature(lanes_of(queue.element, queue.lanes)))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        slots = config.decoder.slots
        m.submodules.decoder = decoder = HuffmanDecoder(config.decoder)
        m.submodules.counter = counter = PassCounter(config.decoder.counts)
        m.submodules.queue = queue = DeepFifo(config.queue)
        wiring.connect(m, queue.o, wiring.flipped(self.o))

        begin, working = Signal(), Signal()
        taken = cycle(m, "taken", slots, step=self.o.valid & self.o.ready)
        returned = self.o.valid & self.o.ready & taken.is_last
        rounds = level(m, "rounds", config.rounds, up=returned, down=begin, init=config.rounds)
        round_ends = decoder.turn == slots - 1
        m.d.comb += begin.eq(round_ends & ~rounds.empty)
        with m.If(round_ends):
            m.d.sync += working.eq(begin)
        m.d.comb += [
            decoder.enable.eq(working),
            counter.enable.eq(working),
            decoder.last.eq(counter.last),
            queue.i.payload.eq(decoder.symbols),
            queue.i.valid.eq(decoder.valid),
        ]
        return m
