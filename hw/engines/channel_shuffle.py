"""Interleaving of groups of channels, by addressing alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Shape, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.cyclic_rom import CyclicRom, CyclicRomConfig
from karui.hw.memory.memory_style import Storage, ram_attributes, resolve
from karui.hw.memory.ping_pong import ping_pong, ping_pong_schedule
from karui.hw.streams.skid_buffer import SkidBuffer
from karui.hw.streams.stream import ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.streams.timing import Cycles, Schedule, consecutive, require_divisor
from karui.sw.numerics import NumberFormat

WRITE_LATENCY = 2
"""Cycles from a beat's transfer to its write: a register before the crossbar and one behind it."""
READ_LATENCY = 5
"""Cycles from a take to its beat: two registers for the addresses, the memory and its register, the crossbar's."""
DISTRIBUTED_BANK_WORDS = 128
"""Deepest bank that `auto` keeps in look-up tables: a bank is only one element wide."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ChannelShuffleConfig:
    """Parameters of a `ChannelShuffle`.

    Parameters
    ----------
    element : NumberFormat
        Format of the elements.
    channels : int
        Channels of the map.
    groups : int
        Groups that are interleaved; divides the channels.
    positions : int
        Pixels a frame.
    lanes : int
        Channels a beat; divides the channels.
    storage : {"block", "distributed", "auto"}
        Memory of the pixels.

    Raises
    ------
    ValueError
        If groups or lanes do not divide the channels.
    """

    element: NumberFormat
    channels: int
    groups: int
    positions: int = 1
    lanes: int
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        require_divisor("groups of a channel shuffle", self.groups, self.channels, "channels")
        require_divisor("lanes of a channel shuffle", self.lanes, self.channels, "channels")
        if self.positions < 1:
            raise ValueError(f"positions must be 1 or more, not {self.positions}")

    @property
    def words(self) -> int:
        """Beats a pixel."""
        return self.channels // self.lanes

    @property
    def order(self) -> Indices:
        """For each output channel the input channel that it is."""
        return np.arange(self.channels).reshape(self.groups, -1).T.reshape(-1)

    @cached_property
    def banks(self) -> Indices:
        """The memory bank of each input channel: all different within a beat that comes and within one that goes.

        Beats that come and beats that go are the nodes of a bipartite graph whose edges are the channels. All of its
        degrees are `lanes`, so its edges have a proper colouring in that many colours (König 1916), found here by
        exchanging two colours along alternating paths.
        """
        ends = np.stack((np.argsort(self.order), np.arange(self.channels))) // self.lanes
        banks = np.full(self.channels, -1)
        # For each side, beat and bank the channel that is there, or -1.
        held = np.full((2, self.words, self.lanes), -1)
        for channel, (going, coming) in enumerate(ends.T):
            other, bank = (int(np.argmin(held[side, beat])) for side, beat in ((0, going), (1, coming)))
            # `bank` is free in the beat that comes; on the path from the beat that goes it changes places with `other`.
            path: list[int] = []
            side, beat, wanted = 0, going, bank
            while (met := int(held[side, beat, wanted])) >= 0:
                path.append(met)
                side = 1 - side
                beat, wanted = ends[side, met], bank + other - wanted
            for met in path:
                held[[0, 1], ends[:, met], banks[met]] = -1
            banks[path] = bank + other - banks[path]
            banks[channel] = bank
            for met in (*path, channel):
                held[[0, 1], ends[:, met], banks[met]] = met
        return banks

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.positions * self.words

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; see `Schedule`."""
        if self.words == 1:
            accepted = consecutive(arrivals)
            return Schedule(accepted=accepted, departures=accepted + 1)
        return ping_pong_schedule(arrivals, words_in=self.words, words_out=self.words, latency=READ_LATENCY)


class ChannelShuffle(wiring.Component):
    """Output channel ``i * groups + g`` of each pixel is input channel ``g * (channels / groups) + i``.

    A pixel is written in the order in which it comes and read in the order in which it goes, while the next one is
    written. Each lane has a bank of the memory; which channel lies in which bank is chosen so that every beat, coming
    or going, finds its channels in different banks. A pixel of a single beat is only wired anew.

    Latency 8 cycles from the last beat of a pixel to its first, or 1 where a pixel is one beat; throughput 1 beat a
    cycle.

    Parameters
    ----------
    config : ChannelShuffleConfig

    Members
    -------
    i : In(stream)
        Pixels, `lanes` channels a beat.
    o : Out(stream)
        Likewise.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: ChannelShuffleConfig) -> None:
        self.config = config
        self._payload = lanes_of(config.element, config.lanes)
        lanes = stream.Signature(self._payload)
        super().__init__({"i": In(lanes), "o": Out(lanes)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.config.words == 1:
            self._rewire(m)
        else:
            self._reorder(m)
        return m

    def _rewire(self, m: Module) -> None:
        m.submodules.output = output = SkidBuffer(self._payload)
        m.d.comb += [output.i.valid.eq(self.i.valid), self.i.ready.eq(output.i.ready)]
        for lane, channel in enumerate(self.config.order.tolist()):
            m.d.comb += output.i.payload[lane].eq(self.i.payload[channel])
        wiring.connect(m, output.o, wiring.flipped(self.o))

    def _reorder(self, m: Module) -> None:
        config = self.config
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(payload=self._payload, period=1, latency=READ_LATENCY)
        )
        wiring.connect(m, output.o, wiring.flipped(self.o))
        turns = ping_pong(m, self.i, output, words_in=config.words, words_out=config.words, latency=READ_LATENCY)

        channels = np.arange(config.channels)
        comes = channels.reshape(config.words, -1)
        goes = config.order.reshape(config.words, -1)
        # Where each bank's channel of a beat is: its lane on the way in; its beat and its lane on the way out.
        lane_in = np.argsort(config.banks[comes], axis=1)
        lane_out = np.argsort(config.banks[goes], axis=1)
        address = np.take_along_axis(goes, lane_out, axis=1) // config.lanes

        written = delayed(m, turns.accepts, WRITE_LATENCY, name="written", control=True)
        write_address = delayed(m, Cat(turns.coming.number, turns.write_half), WRITE_LATENCY, name="write_address")
        lanes = self._crossbar(m, "in", self.i.payload.as_value(), lane_in, turns.accepts, 0)
        addresses = self._control(m, "address", address, config.words, turns.takes)
        depth = 2 << len(turns.coming.number)
        storage = resolve(config.storage, depth=depth, limit=DISTRIBUTED_BANK_WORDS)
        found = []
        for bank in range(config.lanes):
            m.submodules[f"bank_{bank}"] = words = memory.Memory(
                shape=Shape(config.element.bits),
                depth=2 << len(turns.coming.number),
                init=[],
                attrs=ram_attributes(storage),
            )
            write, read = words.write_port(), words.read_port()
            m.d.comb += [
                write.en.eq(written),
                write.addr.eq(write_address),
                write.data.eq(lanes[bank]),
                read.addr.eq(delayed(m, Cat(addresses[bank], turns.read_half), 2, name=f"read_address_{bank}")),
            ]
            found.append(delayed(m, read.data, 1, name=f"found_{bank}"))
        # The bank of each lane that goes is the inverse of the lane of each bank.
        results = self._crossbar(m, "out", Cat(found), config.banks[goes], turns.takes, READ_LATENCY - 1)
        m.d.comb += output.i.payload.as_value().eq(Cat(results))

    def _crossbar(
        self, m: Module, name: str, elements: Value, choices: Indices, step: Signal, delay: int
    ) -> list[Value]:
        """Pick an element for each place, chosen by a table that `step` leads through; a register on either side.

        The choice of a step is used `delay` cycles after it; then the elements are registered first if it is 0.
        """
        config = self.config
        bits = config.element.bits
        chosen = self._control(m, f"{name}_choice", choices, config.lanes, step)
        if delay == 0:
            elements, delay = delayed(m, elements, 1, name=f"{name}_elements"), 1
        picked = []
        for place, choice in enumerate(chosen):
            held = delayed(m, choice, delay, name=f"{name}_choice_{place}")
            picked.append(delayed(m, elements.word_select(held, bits), 1, name=f"{name}_place_{place}"))
        return picked

    def _control(self, m: Module, name: str, table: Indices, limit: int, step: Signal) -> list[Value]:
        """The row of a table of numbers below `limit` that belongs to this step."""
        bits = (limit - 1).bit_length()
        columns = table.shape[1]
        rows = tuple(sum(int(number) << (bits * place) for place, number in enumerate(row)) for row in table)
        if bits == 0:
            return [Signal(0) for _ in range(columns)]
        m.submodules[f"{name}_table"] = rom = CyclicRom(CyclicRomConfig(words=rows, width=bits * columns))
        m.d.comb += rom.advance.eq(step)
        return [rom.word[bits * place : bits * (place + 1)] for place in range(columns)]
