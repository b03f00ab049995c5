"""Sums of lines of a memory with cosines and sines: a transform along one axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module, Mux, Shape, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.integer_dot_product import IntegerDotProductConfig
from karui.hw.arithmetic.products_of import products_latency, products_of
from karui.hw.memory.memory_style import DISTRIBUTED_ROM_WORDS, resolve, rom_attributes
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import Tagged, delayed, element_shape
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import NumberFormat, format_for_range, pack, to_integers

HALVES = 2
"""Frames that the memory in front holds."""
TABLE_LATENCY = 2
"""Cycles from an address to its twiddles: their memory and the register behind it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FourierSumsConfig:
    """Parameters of `FourierSums`.

    Parameters
    ----------
    lines : int
        Lines of a frame.
    parts : int
        Parts of a line, each as long as the line: 1, or 2 where its elements are complex.
    lanes : int
        Elements a word of the memory; divides the length, at least twice.
    element : NumberFormat
        Signed.
    twiddles : ndarray of int64, shape (2, length)
        Cosines and sines.
    twiddle : NumberFormat
        Their format.
    word_latency : int
        Cycles from an address to its word, `TABLE_LATENCY` or more.
    """

    lines: int
    parts: int
    lanes: int
    element: NumberFormat
    twiddles: npt.NDArray[np.int64]
    twiddle: NumberFormat
    word_latency: int

    def __post_init__(self) -> None:
        require_divisor("lanes of a transform", self.lanes, self.length, "elements of a line")
        if self.folds < 2:
            raise ValueError(f"lanes of a transform are at most half of the {self.length} elements, not {self.lanes}")

    @property
    def length(self) -> int:
        """Elements of a part of a line."""
        return int(self.twiddles.shape[1])

    @property
    def frequencies(self) -> int:
        """Frequencies from 0 to half the length."""
        return self.length // 2 + 1

    @property
    def folds(self) -> int:
        """Words of a part of a line."""
        return self.length // self.lanes

    @property
    def words(self) -> int:
        """Words of a frame."""
        return self.lines * self.parts * self.folds

    @property
    def cycles(self) -> int:
        """Cycles of a pass over a frame, a word each; another cycle is between two passes."""
        return self.words * self.frequencies

    @property
    def products(self) -> IntegerDotProductConfig:
        """The products of a word with cosines and with sines."""
        return IntegerDotProductConfig(
            rows=2, simd=self.lanes, input_format=self.element, weight_format=self.twiddle, multiplier="dsp"
        )

    @property
    def sum_range(self) -> tuple[int, int]:
        """The smallest and the largest sum of any line."""
        reach = self.length * max(-self.element.minimum, self.element.maximum) * int(np.abs(self.twiddles).max())
        return -reach, reach

    @property
    def sum_format(self) -> NumberFormat:
        """Format of the sums."""
        return format_for_range(*self.sum_range)

    @property
    def latency(self) -> int:
        """Cycles from a pass's step to the sums that it completes; the first step comes a cycle behind `begins`."""
        return self.word_latency + products_latency(self.products) + 1

    @property
    def images(self) -> list[int]:
        """Words of the table of twiddles: cosines and sines for each frequency's words in turn."""
        angles = np.outer(np.arange(self.frequencies), np.arange(self.length)) % self.length
        # (2, frequency, fold, lane) becomes (frequency, fold, 2, lane): the cosines lie lowest.
        waves = self.twiddles[:, angles].reshape(2, self.frequencies * self.folds, self.lanes).swapaxes(0, 1)
        rows = waves.reshape(self.frequencies * self.folds, -1)
        return to_integers(pack(rows, self.twiddle))

    @property
    def cost(self) -> Resources:
        """Cells, estimated."""
        table = memory_cost(
            self.frequencies * self.folds,
            2 * self.lanes * self.twiddle.bits,
            distributed=DISTRIBUTED_ROM_WORDS,
        )
        luts = 110 + 2 * 2 * self.sum_format.bits + round(self.products.luts)
        return table + Resources(luts=luts, dsps=self.products.dsps)


class FourierSums(wiring.Component):
    """Sums, for each line of a frame and each frequency, its elements times cosines and times sines.

    Steps follow one another from line to line, frequency to frequency, part to part, word to word: a line's words are
    read once for each frequency. Frames lie in the halves of the memory by turns.

    Latency and throughput: ``config.latency`` and ``config.cycles``, of which each `config.folds` make a pair of sums.

    Parameters
    ----------
    config : FourierSumsConfig

    Members
    -------
    go : In(1)
        Whether a frame is there and a pass may begin.
    begins : Out(1)
        A pass begins: `go` in this cycle is used up. Its first step is in the next one.
    ends : Out(1)
        The last step of a pass.
    address : Out
        Word of the memory.
    word : In
        What the memory has there, ``config.word_latency`` cycles later.
    o : Out(Tagged)
        `cosine` and `sine`, exact sums of each part of a line.
    """

    go: Signal
    begins: Signal
    ends: Signal
    address: Signal
    word: Signal
    o: wiring.PureInterface

    def __init__(self, config: FourierSumsConfig) -> None:
        self.config = config
        total = element_shape(config.sum_format)
        super().__init__(
            {
                "go": In(1),
                "begins": Out(1),
                "ends": Out(1),
                "address": Out(range(HALVES * config.words)),
                "word": In(config.lanes * config.element.bits),
                "o": Out(Tagged(data.StructLayout({"cosine": total, "sine": total}))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        running = Signal()
        m.d.comb += self.begins.eq(self.go & ~running)
        with m.If(self.begins):
            m.d.sync += running.eq(1)
        with m.Elif(self.ends):
            m.d.sync += running.eq(0)

        ends_part, ends_wave, ends_line = Signal(), Signal(), Signal()
        fold = cycle(m, "fold", config.folds, step=running)
        part = cycle(m, "part", config.parts, step=ends_part)
        frequency = cycle(m, "frequency", config.frequencies, step=ends_wave)
        line = cycle(m, "line", config.lines, step=ends_line)
        m.d.comb += [
            ends_part.eq(running & fold.is_last),
            ends_wave.eq(ends_part & part.is_last),
            ends_line.eq(ends_wave & frequency.is_last),
            self.ends.eq(ends_line & line.is_last),
        ]
        begin = Signal.like(self.address, name="begin")
        with m.If(running):
            m.d.sync += self.address.eq(self.address + 1)
            with m.If(ends_line):
                # The other half follows the first one's lines.
                following = Mux(self.address == HALVES * config.words - 1, 0, self.address + 1)
                m.d.sync += [self.address.eq(following), begin.eq(following)]
            with m.Elif(ends_wave):
                m.d.sync += self.address.eq(begin)

        bits = config.element.bits
        elements = [self.word[lane * bits : (lane + 1) * bits] for lane in range(config.lanes)]
        twiddles = self._twiddles(m, running, ends_part, ends_wave, ends_line)
        sums = products_of(m, config.products, elements, twiddles, name="products")
        latency = config.latency - 1
        begins_sum = delayed(m, fold.is_first, latency, name="begins_sum")
        valid = delayed(m, running, latency, name="valid", control=True)
        for name, term in zip(("cosine", "sine"), sums, strict=True):
            total = Signal(element_shape(config.sum_format), name=name, reset_less=True)
            with m.If(valid):
                m.d.sync += total.eq(Mux(begins_sum, 0, total) + term)
            m.d.comb += self.o.payload[name].eq(total)
        m.d.comb += self.o.valid.eq(delayed(m, ends_part, config.latency, name="ends_sum", control=True))
        return m

    def _twiddles(self, m: Module, steps: Value, ends_part: Value, ends_wave: Value, ends_line: Value) -> list[Value]:
        """Cosines and sines of the word that comes from the memory."""
        config = self.config
        words = config.images
        storage = resolve("auto", depth=len(words), limit=DISTRIBUTED_ROM_WORDS)
        width = config.lanes * config.twiddle.bits
        m.submodules.twiddles = table = memory.Memory(
            shape=Shape(2 * width), depth=len(words), init=words, attrs=rom_attributes(storage)
        )
        read = table.read_port()
        place, begin = Signal(range(len(words))), Signal(range(len(words)))
        with m.If(steps):
            m.d.sync += place.eq(place + 1)
            with m.If(ends_line):
                m.d.sync += [place.eq(0), begin.eq(0)]
            with m.Elif(ends_wave):
                m.d.sync += begin.eq(place + 1)
            with m.Elif(ends_part):
                m.d.sync += place.eq(begin)
        m.d.comb += read.addr.eq(place)
        word = delayed(m, read.data, config.word_latency - TABLE_LATENCY + 1, name="twiddles")
        return [word[:width], word[width:]]
