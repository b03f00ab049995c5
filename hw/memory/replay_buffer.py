"""A buffer that takes a vector once and hands it out several times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from amaranth.hdl import Cat, Module, Shape, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, Storage, ram_attributes, resolve
from karui.hw.memory.word_source import WordSource
from karui.hw.streams.counters import cycle, level
from karui.hw.streams.stream import delayed, lanes_of
from karui.hw.streams.timing import Cycles
from karui.sw.numerics import NumberFormat

REPLAY_DELAY = 2
"""Cycles from the transfer of a word to the first cycle in which it is available: one register before the memory."""

_PART_BITS = 64
"""Bits of a memory in look-up tables that one address register drives."""


@dataclass(frozen=True, kw_only=True)
class ReplayBufferConfig:
    """Parameters of a `ReplayBuffer`.

    Parameters
    ----------
    number_format : NumberFormat
        Format of an element.
    lanes : int
        Elements a word.
    words : int
        Words a vector.
    passes : int
        How often each vector is handed out.
    latency : int
        Cycles from a take to its word, 2 or more: the memory, the register that a block RAM takes in, and further ones.
    storage : {"block", "distributed", "auto"}
        Memory that holds the words.

    Raises
    ------
    ValueError
        If a number is too small.
    """

    number_format: NumberFormat
    lanes: int
    words: int
    passes: int
    latency: int = 3
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        for name in ("lanes", "words", "passes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a replay buffer must be 1 or more, not {getattr(self, name)}")
        if self.latency < 2:
            raise ValueError(f"latency of a replay buffer must be 2 or more, not {self.latency}")
        resolve(self.storage, depth=self.capacity, limit=DISTRIBUTED_RAM_WORDS)

    @property
    def capacity(self) -> int:
        """Words that it holds: two vectors, so that one arrives while the other is replayed; without replay, a few.

        A power of two, so that its pointers wrap by themselves.
        """
        return 4 if self.passes == 1 else max(4, 1 << (2 * self.words - 1).bit_length())

    @property
    def interval(self) -> int:
        """Cycles a vector when words are taken as soon as they are available."""
        return self.words * self.passes

    def parts(self, storage: Literal["block", "distributed"]) -> list[tuple[int, int]]:
        """Bits of a word that lie in one memory: a wide one in look-up tables is cut, as far as the latency allows."""
        bits = self.lanes * self.number_format.bits
        count = 1 if storage == "block" else min(self.latency, -(-bits // _PART_BITS))
        size = -(-bits // count)
        return [(start, min(start + size, bits)) for start in range(0, bits, size)]

    def takes(self, arrivals: Cycles) -> tuple[Cycles, Cycles]:
        """Cycles of the transfers when every word is taken as soon as it is available.

        Parameters
        ----------
        arrivals : ndarray of int64
            Cycle in which each word is first valid at `i`; whole vectors.

        Returns
        -------
        accepted : ndarray of int64
            Cycle in which each word is transferred.
        last_takes : ndarray of int64, shape (vectors, passes)
            Cycle in which the last word of each pass is taken.
        """
        words, passes, capacity = self.words, self.passes, self.capacity
        if len(arrivals) % words:
            raise ValueError(f"arrivals must be whole vectors of {words} words, not {len(arrivals)} words")
        accepted: list[int] = []
        freed: list[int] = []
        ends: list[int] = []
        last_accept, take = -1, -1
        for index, arrival in enumerate(arrivals.tolist()):
            last_accept = max(arrival, last_accept + 1)
            if index >= capacity:
                last_accept = max(last_accept, freed[index - capacity] + 1)
            accepted.append(last_accept)
            take = max(take + 1, last_accept + REPLAY_DELAY)
            if passes == 1:
                freed.append(take)
            if index % words == words - 1:
                ends.append(take)
                if passes > 1:
                    take += (passes - 1) * words
                    freed.extend(range(take - words + 1, take + 1))
        last_takes = np.asarray(ends, dtype=np.int64)[:, None] + np.arange(passes, dtype=np.int64) * words
        return np.asarray(accepted, dtype=np.int64), last_takes


class ReplayBuffer(wiring.Component):
    """Takes vectors from a stream and hands each out `passes` times, word by word.

    The first pass follows the words as they arrive, `REPLAY_DELAY` cycles behind; the next vector is taken in
    meanwhile. A word can be taken in every cycle. Memory: `capacity` words of ``lanes * bits`` bits.

    Parameters
    ----------
    config : ReplayBufferConfig

    Members
    -------
    i : In(stream)
        Vectors, `words` words each.
    o : Out(WordSource)
        Each vector `passes` times; latency `config.latency`.
    """

    i: stream.Interface
    o: wiring.PureInterface

    def __init__(self, config: ReplayBufferConfig) -> None:
        self.config = config
        payload = lanes_of(config.number_format, config.lanes)
        super().__init__({"i": In(stream.Signature(payload)), "o": Out(WordSource(payload))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        accept, written = Signal(), Signal()
        word_in = Signal.like(self.i.payload, reset_less=True)
        produce = Signal(range(config.capacity))
        consume = Signal(range(config.capacity))
        m.d.sync += [word_in.eq(self.i.payload), written.eq(accept)]
        m.d.comb += accept.eq(self.i.valid & self.i.ready)
        with m.If(written):
            m.d.sync += produce.eq(produce + 1)

        freed, first_take = Signal(), Signal()
        first_pass = Signal(init=1)
        occupied = level(m, "occupied", config.capacity, up=accept, down=freed)
        unread = level(m, "unread", config.capacity, up=written, down=first_take)
        m.d.comb += [
            self.i.ready.eq(~occupied.full),
            self.o.available.eq(~unread.empty | ~first_pass),
            first_take.eq(self.o.take & first_pass),
        ]
        self._walk(m, consume, first_pass=first_pass, freed=freed)

        # A word is readable from the cycle after it was written, and its place is free from the cycle after its last
        # read: the two ports never meet at one address that matters. Parts of a word live that cycle by cycle behind
        # one another, so that no address drives all of a wide memory, and meet again at the output.
        storage = resolve(config.storage, depth=config.capacity, limit=DISTRIBUTED_RAM_WORDS)
        parts = []
        for index, (start, stop) in enumerate(config.parts(storage)):
            m.submodules[f"words_{index}"] = words = memory.Memory(
                shape=Shape(stop - start), depth=config.capacity, init=[], attrs=ram_attributes(storage)
            )
            write, read = words.write_port(), words.read_port()
            part_in = word_in.as_value()[start:stop]
            m.d.comb += [
                write.en.eq(delayed(m, written, index, name=f"written_{index}", control=True)),
                write.addr.eq(delayed(m, produce, index, name=f"produce_{index}")),
                write.data.eq(delayed(m, part_in, index, name=f"word_in_{index}")),
                read.addr.eq(delayed(m, consume, index, name=f"consume_{index}")),
            ]
            parts.append(delayed(m, read.data, config.latency - 1 - index, name=f"output_{index}"))
        m.d.comb += self.o.data.as_value().eq(Cat(parts))
        return m

    def _walk(self, m: Module, consume: Signal, *, first_pass: Signal, freed: Signal) -> None:
        """Step the read address through the vector, and back to its start at the end of all but the last pass."""
        config, take = self.config, self.o.take
        start = Signal(range(config.capacity))
        word = cycle(m, "word", config.words, step=take)
        replay = cycle(m, "replay", config.passes, step=take & word.is_last)
        m.d.comb += freed.eq(take & replay.is_last)
        with m.If(take):
            m.d.sync += consume.eq(consume + 1)
            with m.If(word.is_last & ~replay.is_last):
                m.d.sync += consume.eq(consume if config.words == 1 else start)
            with m.If(word.is_last):
                m.d.sync += first_pass.eq(replay.is_last)
        # Whether or not the word is taken in this cycle: the start is needed in a later one.
        with m.If(first_pass & word.is_first):
            m.d.sync += start.eq(consume)
