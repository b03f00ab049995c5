"""Canonical Huffman decoder: streams take turns in a pipelined loop, so that a symbol comes out in every cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy.typing as npt
from amaranth.hdl import Array, Cat, Const, Module, Mux, Shape, Signal, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from karui.hw.compressed.huffman_images import HuffmanImages
from karui.hw.memory.memory_style import DISTRIBUTED_ROM_WORDS, Storage, resolve, rom_attributes
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import delayed
from karui.hw.streams.timing import require_divisor
from karui.sw.coding.canonical_code import CanonicalCode

LOOP_STAGES = 6
"""Least number of streams that take turns: block RAM, its output register, shift, comparison, length, sum."""

_WINDOW_STAGE = 3
_SYMBOL_STAGES = 7


@dataclass(frozen=True, kw_only=True, eq=False)
class HuffmanDecoderConfig:
    """Parameters of a `HuffmanDecoder`.

    Parameters
    ----------
    code : CanonicalCode
        The code of all streams.
    streams : tuple of ndarray of int
        Symbols of each stream in one pass; stream ``slot * lanes + lane`` is decoded in that slot and lane. The streams
        of a slot are of one length. A stream may be empty if its slot is never enabled.
    lanes : int
        Streams decoded side by side, each from a ROM of its own; divides their number. There are 6 slots or more.
    storage : {"block", "distributed", "auto"}
        Memory of the streams and of the symbol table; `auto` keeps up to 16 words in look-up tables.

    Raises
    ------
    ValueError
        If there are too few streams, those of a slot differ in length, or a symbol has no word in the code.
    """

    code: CanonicalCode
    streams: tuple[npt.NDArray[Any], ...]
    lanes: int = 1
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        require_divisor("lanes", self.lanes, len(self.streams), "streams")
        if self.slots < LOOP_STAGES:
            raise ValueError(
                f"the loop of a Huffman decoder has {LOOP_STAGES} stages: {self.lanes} lanes need {LOOP_STAGES} slots "
                f"or more, not {self.slots}; deal the symbols out to {LOOP_STAGES * self.lanes} streams"
            )
        for slot in range(self.slots):
            counts = {len(symbols) for symbols in self.streams[slot * self.lanes : (slot + 1) * self.lanes]}
            if len(counts) > 1:
                raise ValueError(
                    f"the streams of a slot must be of one length, not {sorted(counts)} symbols in slot {slot}"
                )
        # The one thing that the images can refuse.
        _ = [image.bits for image in self.images]

    @property
    def slots(self) -> int:
        """Turns of a round: streams of a lane."""
        return len(self.streams) // self.lanes

    @property
    def counts(self) -> tuple[int, ...]:
        """Symbols of a pass over the streams of each slot, in each lane."""
        return tuple(len(symbols) for symbols in self.streams[:: self.lanes])

    @cached_property
    def images(self) -> tuple[HuffmanImages, ...]:
        """Memory contents and constants, for each lane."""
        return tuple(HuffmanImages(code=self.code, streams=self.streams[lane :: self.lanes])
                     for lane in range(self.lanes))  # fmt: skip

    @property
    def symbol_bits(self) -> int:
        """Bits of a symbol."""
        return self.images[0].symbol_bits

    @property
    def latency(self) -> int:
        """Cycles from an enabled slot to its symbols; the same for all codes."""
        return self._window_stage + _SYMBOL_STAGES

    @property
    def _window_stage(self) -> int:
        """Cycles from an address to the window; a turn more than the loop needs splits the shift."""
        return _WINDOW_STAGE + (self.slots > LOOP_STAGES)


class HuffmanDecoder(wiring.Component):
    """Decode canonical Huffman streams from ROM, one symbol of each lane in every enabled cycle.

    Where the next word of a stream begins is known only when the length of this one is, which takes six short cycles:
    so six or more streams take turns (C-slow), and each is at home in the loop once a round. The state of a stream is
    but the bit at which its next word begins. Two ports of the ROM read the two words that the window lies in; there is
    nothing to refill.

    Symbols leave `config.latency` cycles after their slot; throughput `lanes` symbols a cycle. Memory for each lane:
    the bits of its streams; for every two lanes a symbol table.

    Parameters
    ----------
    config : HuffmanDecoderConfig

    Members
    -------
    turn : Out(range(slots))
        The slot of this cycle: 0 in the first one after reset, and on in every cycle.
    enable : In(1)
        Decode the next symbol of this cycle's slot. Otherwise its streams stay as they are.
    last : In(1)
        With `enable`: this symbol is the last of the slot's streams, which start again behind it. See `PassCounter`.
    valid : Out(1)
        `enable`, `config.latency` cycles later.
    slot : Out(range(slots))
        The slot that the symbols belong to.
    symbols : Out(ArrayLayout)
        A symbol of each lane; undefined unless `valid`.
    """

    turn: Signal
    enable: Signal
    last: Signal
    valid: Signal
    slot: Signal
    symbols: data.View[data.ArrayLayout]

    def __init__(self, config: HuffmanDecoderConfig) -> None:
        self.config = config
        super().__init__(
            {
                "turn": Out(range(config.slots)),
                "enable": In(1),
                "last": In(1),
                "valid": Out(1),
                "slot": Out(range(config.slots)),
                "symbols": Out(data.ArrayLayout(unsigned(config.symbol_bits), config.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        turn = cycle(m, "turn", config.slots, step=1)
        slot_latency = config.latency % config.slots
        m.d.comb += [
            self.turn.eq(turn.number),
            self.valid.eq(delayed(m, self.enable, config.latency, name="valid", control=True)),
            # Turns come round again: as many cycles later as a number of whole rounds leaves.
            self.slot.eq(delayed(m, turn.number, slot_latency, name="slot")),
        ]
        restart, advance = Signal(), Signal()
        m.d.comb += [restart.eq(self.enable & self.last), advance.eq(self.enable & ~self.last)]
        indices = []
        for lane, images in enumerate(config.images):
            m.submodules[f"lane_{lane}"] = found = _Lane(images, config)
            m.d.comb += [found.turn.eq(turn.number), found.restart.eq(restart), found.advance.eq(advance)]
            indices.append(found.index)
        for first in range(0, config.lanes, 2):
            pair = indices[first : first + 2]
            symbols = _rom(m, f"symbols_{first}", config.images[0].symbols, config.symbol_bits, pair, config.storage)
            for lane, symbol in enumerate(symbols, start=first):
                m.d.comb += self.symbols[lane].eq(symbol)
        return m


class PassCounter(wiring.Component):
    """Count the symbols of each slot's streams, for one `HuffmanDecoder` or several that are enabled together.

    Parameters
    ----------
    counts : sequence of int
        Symbols of a pass in each slot; a slot without symbols must not be enabled.

    Members
    -------
    enable : In(1)
        That of the decoders.
    last : Out(1)
        Whether the next symbol of this cycle's slot is the last of the pass; from a register.
    """

    enable: Signal
    last: Signal

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = tuple(counts)
        super().__init__({"enable": In(1), "last": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # What is left in each slot behind its next symbol; the slots go round, the present one is at the end.
        left = [max(0, count - 1) for count in self.counts]
        slots, width = len(left), max(left).bit_length() or 1
        turn = cycle(m, "turn", slots, step=1)
        full = Array(left)[turn.number]
        restarted, counted = Signal(width, init=left[-1]), Signal(width, init=left[-2])
        step = Signal()
        is_last = Signal(init=left[-3] == 0)
        ring = [Signal(width, name=f"left_{place}", init=left[-place]) for place in range(3, slots + 1)]
        flags = [Signal(name=f"last_{place}", init=left[-place] == 0) for place in range(4, slots + 1)]
        present = ring[-1]
        m.d.comb += self.last.eq(flags[-1])
        m.d.sync += [
            step.eq(self.enable & ~self.last),
            restarted.eq(Mux(self.enable & self.last, full, present)),
            counted.eq(restarted - step),
            Cat(ring).eq(Cat(counted, ring)),
            is_last.eq(counted == 0),
            Cat(flags).eq(Cat(is_last, flags)),
        ]
        return m


class _Lane(wiring.Component):
    """The loop of one lane, and what leads from a window and a length to the address of the symbol."""

    turn: Signal
    restart: Signal
    advance: Signal
    index: Signal

    def __init__(self, images: HuffmanImages, config: HuffmanDecoderConfig) -> None:
        self.images = images
        self.config = config
        self.window_stage = config.latency - _SYMBOL_STAGES
        super().__init__(
            {
                "turn": In(range(config.slots)),
                "restart": In(1),
                "advance": In(1),
                "index": Out(images.index_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        images, slots, lag = self.images, self.config.slots, self.window_stage
        offset_bits = exact_log2(images.word_bits)
        depth = len(images.words)
        next_bit = Signal(range(depth * images.word_bits), init=images.starts[0])
        following = Signal(range(depth), init=self._word_behind(0))
        addresses = [next_bit[offset_bits:], following]
        words = _rom(m, "stream", images.words, images.word_bits, addresses, self.config.storage)
        window = self._window(m, words, delayed(m, next_bit[:offset_bits], 2, name="offset"))
        # Whether the word has more bits than 0, 1, 2, ...
        exceeds = Signal(images.window_bits, reset_less=True)
        m.d.sync += exceeds.eq(Cat(1, *(_at_least(window, limit) for limit in images.limits[1:-1])))
        found = Signal(range(images.window_bits + 1))
        length, step = Signal.like(found, name="length", reset_less=True), Signal.like(found, name="step")
        m.d.comb += found.eq(_ones(exceeds))
        m.d.sync += length.eq(found)
        with m.If(delayed(m, self.advance, lag + 1, name="advance", control=True)):
            m.d.sync += step.eq(found)
        with m.Else():
            m.d.sync += step.eq(0)
        self._look_up(m, delayed(m, window, 2, name="window"), length)

        # Beside this goes the bit at which the word begins, or at which the stream does, and the ROM word behind it.
        last_step = delayed(m, step, slots - 3 - lag, name="step", control=True)
        begin = [Signal.like(next_bit, name=f"begin_{n}", init=images.starts[-n]) for n in range(1, slots)]
        behind = [Signal.like(following, name=f"behind_{n}", init=self._word_behind(-n)) for n in range(2, slots)]
        m.d.sync += [
            begin[0].eq(Mux(self.restart, Array(images.starts)[self.turn], next_bit)),
            behind[0].eq(begin[0][offset_bits:] + 1),
            *(later.eq(sooner) for sooner, later in (*pairwise(begin), *pairwise(behind))),
            next_bit.eq(begin[-1] + last_step),
            following.eq((Cat(begin[-1][:offset_bits], behind[-1]) + last_step) >> offset_bits),
        ]
        return m

    def _word_behind(self, stream: int) -> int:
        """Address of the word behind the one in which a stream begins."""
        return self.images.starts[stream] // self.images.word_bits + 1

    def _window(self, m: Module, words: list[Value], offset: Value) -> Value:
        """The bits of two words from the offset on, the first of them the most significant."""
        width, splits = self.images.window_bits, self.window_stage > _WINDOW_STAGE
        half = len(offset) // 2 if splits else 1
        bits: Value = Cat(*(word[::-1] for word in words))
        bits = _behind(m, bits, offset[half:], unit=1 << half, width=width + (1 << half) - 1, name="coarse")
        bits, fine = delayed(m, bits, 1, name="coarse"), delayed(m, offset[:half], 1, name="fine_offset")
        bits = _behind(m, bits, fine, unit=1, width=width, name="fine")
        return delayed(m, bits[::-1], int(splits), name="window")

    def _look_up(self, m: Module, window: Value, length: Signal) -> None:
        """The address of the symbol: the word, which is the window's upper bits, and what its length adds."""
        images = self.images
        # With zero bits behind it the window is all ones wide: what it exceeds the word by is the length's complement.
        padded = Cat(Const(0, (1 << len(length)) - 1 - images.window_bits), window)
        excess, half = ~length, len(length) // 2
        word = _behind(
            m, padded, excess[half:], unit=1 << half, width=images.index_bits + (1 << half) - 1, name="coarse_word"
        )
        word = delayed(m, word, 1, name="coarse_word")
        excess = delayed(m, excess[:half], 1, name="excess")
        word = delayed(m, _behind(m, word, excess, unit=1, width=images.index_bits, name="word"), 1, name="word")
        delta = Array(Const(delta, images.index_bits) for delta in images.deltas)[length]
        m.d.sync += self.index.eq(word + delayed(m, delta, 2, name="delta"))


def _behind(m: Module, bits: Value, distance: Value, *, unit: int, width: int, name: str) -> Value:
    """The `width` bits of `bits` that lie behind the lowest ``unit * distance``."""
    for level in reversed(range(len(distance))):
        shift = unit << level
        shifted = Signal(min(len(bits), width + shift - unit), name=f"{name}_behind_{shift}")
        m.d.comb += shifted.eq(Mux(distance[level], bits[shift:], bits))
        bits = shifted
    return bits[:width]


def _at_least(window: Value, limit: int) -> Value:
    """Whether an integer reaches a constant: logic, for carry chains would not share the constants' equal parts."""
    reached: Value = Const(1)
    for place, bit in enumerate(window):
        reached = bit & reached if limit >> place & 1 else bit | reached
    return reached


def _ones(thermometer: Signal) -> Value:
    """How many bits are set, of which the set ones are the lowest."""
    bits = []
    for place in range(len(thermometer).bit_length()):
        unit = 1 << place
        # An odd multiple of the unit is reached and the even one behind it is not.
        odd = [
            thermometer[end - 1] & ~(thermometer[end + unit - 1] if end + unit <= len(thermometer) else Const(0))
            for end in range(unit, len(thermometer) + 1, 2 * unit)
        ]
        bits.append(Cat(odd).any())
    return Cat(*bits)


def _rom(
    m: Module, name: str, words: Sequence[int], width: int, addresses: Sequence[Value], storage: Storage
) -> list[Value]:
    """Words of a ROM with a port an address, each two cycles after it."""
    style = resolve(storage, depth=len(words), limit=DISTRIBUTED_ROM_WORDS)
    m.submodules[name] = rom = memory.Memory(
        shape=Shape(width), depth=len(words), init=words, attrs=rom_attributes(style)
    )
    outputs = []
    for port, address in enumerate(addresses):
        read = rom.read_port() if style == "block" else rom.read_port(domain="comb")
        m.d.comb += read.addr.eq(address)
        # The register behind a block RAM fits into it.
        cycles = 1 if style == "block" else 2
        outputs.append(delayed(m, read.data, cycles, name=f"{name}_output_{port}"))
    return outputs
