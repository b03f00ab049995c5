"""Picking of elements by a table: permutation, repetition, padding and truncation of vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.cyclic_rom import CyclicRom, CyclicRomConfig
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, Storage, ram_attributes, resolve
from karui.hw.memory.ping_pong import ping_pong, ping_pong_schedule
from karui.hw.streams.stream import ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.streams.timing import Cycles, Schedule, require_divisor
from karui.sw.numerics import NumberFormat

READ_LATENCY = 4
"""Cycles from a take to its beat: a register for the addresses, the memory and its register, the selection's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GatherConfig:
    """Parameters of a `Gather`.

    Parameters
    ----------
    element : NumberFormat
        Format of the elements.
    channels : int
        Elements of a vector that comes.
    indices : ndarray of int64
        For each element of a vector that goes the one that it is, or -1 for zero.
    positions : int
        Vectors a frame.
    lanes : int
        Elements a beat; divides the elements of a vector that comes and of one that goes.
    storage : {"block", "distributed", "auto"}
        Memory of the vectors.

    Raises
    ------
    ValueError
        If the lanes do not divide, an index is none, or a bipolar element shall be zero.
    """

    element: NumberFormat
    channels: int
    indices: npt.NDArray[np.int64]
    positions: int = 1
    lanes: int
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        require_divisor("lanes of a gather", self.lanes, self.channels, "channels")
        require_divisor("lanes of a gather", self.lanes, len(self.indices), "indices")
        low, high = int(self.indices.min()), int(self.indices.max())
        if low < -1 or high >= self.channels:
            raise ValueError(f"indices of a gather are -1 to {self.channels - 1}, not {low} to {high}")
        if self.element.is_bipolar and low < 0:
            raise ValueError("a gather of bipolar elements has no zero to stand at an index of -1")
        if self.positions < 1:
            raise ValueError(f"positions must be 1 or more, not {self.positions}")

    @property
    def words_in(self) -> int:
        """Beats of a vector that comes."""
        return self.channels // self.lanes

    @property
    def words_out(self) -> int:
        """Beats of a vector that goes."""
        return len(self.indices) // self.lanes

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.positions * max(self.words_in, self.words_out)

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; see `Schedule`."""
        return ping_pong_schedule(arrivals, words_in=self.words_in, words_out=self.words_out, latency=READ_LATENCY)


class Gather(wiring.Component):
    """Element m of each vector that goes is element ``indices[m]`` of the one that came, or zero where that is -1.

    A vector is read in the order in which it goes while the next one is written. Any lane may want any element, so each
    has a copy of the memory, and reads the beat that its element came in.

    Latency 7 cycles from the last beat of a vector to its first; throughput 1 beat a cycle, in or out, whichever has
    more.

    Parameters
    ----------
    config : GatherConfig

    Members
    -------
    i : In(stream)
        Vectors of `channels` elements, `lanes` a beat.
    o : Out(stream)
        Vectors of as many elements as there are indices, likewise.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: GatherConfig) -> None:
        self.config = config
        self._payload = lanes_of(config.element, config.lanes)
        lanes = stream.Signature(self._payload)
        super().__init__({"i": In(lanes), "o": Out(lanes)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(payload=self._payload, period=1, latency=READ_LATENCY)
        )
        wiring.connect(m, output.o, wiring.flipped(self.o))
        turns = ping_pong(m, self.i, output, words_in=config.words_in, words_out=config.words_out, latency=READ_LATENCY)
        address_bits, lane_bits = (config.words_in - 1).bit_length(), (config.lanes - 1).bit_length()
        written = delayed(m, turns.accepts, 1, name="written", control=True)
        write_address = delayed(m, Cat(turns.coming.number, turns.write_half), 1, name="write_address")
        beat = delayed(m, self.i.payload, 1, name="beat")
        depth = 2 << address_bits
        storage = resolve(config.storage, depth=depth, limit=DISTRIBUTED_RAM_WORDS)
        for lane, choice in enumerate(self._choices(m, turns.takes, lane_bits, address_bits)):
            m.submodules[f"copy_{lane}"] = words = memory.Memory(
                shape=Shape(len(beat)), depth=depth, init=[], attrs=ram_attributes(storage)
            )
            write, read = words.write_port(), words.read_port()
            place = Cat(choice[lane_bits : lane_bits + address_bits], turns.read_half)
            m.d.comb += [
                write.en.eq(written),
                write.addr.eq(write_address),
                write.data.eq(beat),
                read.addr.eq(delayed(m, place, 1, name=f"read_address_{lane}")),
            ]
            found = delayed(m, read.data, 1, name=f"found_{lane}")
            which = delayed(m, choice[:lane_bits], 3, name=f"which_{lane}")
            is_zero = delayed(m, choice[-1], 3, name=f"is_zero_{lane}")
            element = found.word_select(which, config.element.bits)
            result = delayed(m, Mux(is_zero, 0, element), 1, name=f"result_{lane}")
            m.d.comb += output.i.payload[lane].eq(result)
        return m

    def _choices(self, m: Module, step: Signal, lane_bits: int, address_bits: int) -> list[Value]:
        """For each lane where its element is: place in the beat, beat, and whether it is none."""
        config = self.config
        width = lane_bits + address_bits + 1
        words = []
        for beat in config.indices.reshape(-1, config.lanes).tolist():
            word = 0
            for lane, index in enumerate(beat):
                address, place = divmod(max(index, 0), config.lanes)
                chosen = place | address << lane_bits | (index < 0) << (width - 1)
                word |= chosen << (lane * width)
            words.append(word)
        m.submodules.table = table = CyclicRom(CyclicRomConfig(words=tuple(words), width=width * config.lanes))
        m.d.comb += table.advance.eq(step)
        return [table.word[lane * width : (lane + 1) * width] for lane in range(config.lanes)]
