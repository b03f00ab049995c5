"""The complexity of images: entropies of their pixels and of their spectrum, as they stream in."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.round_saturate import ROUND_LATENCY, nearest_word, round_saturate
from karui.hw.engines.complexity_config import ComplexityConfig
from karui.hw.engines.fourier_sums import HALVES, FourierSums
from karui.hw.engines.histogram_sum import HistogramSum
from karui.hw.engines.spectrum_bins import SpectrumBins
from karui.hw.memory.banked_ram import BankedRam
from karui.hw.streams.counters import cycle, level
from karui.hw.streams.stream import ElasticOutput, delayed, element_shape, lanes_of

_QUEUED_SUMS = 8
"""Images whose pixels are summed and whose spectrum is not: two halves of either memory, and what has left them."""


class Complexity(wiring.Component):
    """Measures the complexity of each image.

    Words are counted as they come, and their brightness is kept in one half of a memory while rows of the image before
    are transformed from the other half; likewise columns of the image before that one, from a memory of what rows
    yield. Their sums become bins, and these are counted too. Each pass reads a word a cycle, and only begins when its
    frame is there and what it yields has a place; nothing stalls it then.

    Latency and throughput: ``config.result_latency`` from the start of a pass over columns, ``config.interval``.

    Parameters
    ----------
    config : ComplexityConfig

    Members
    -------
    i : In(stream)
        An image's words in order (row, column, channel), one a beat.
    o : Out(stream)
        A complexity for each image.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: ComplexityConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.element, 1))),
                "o": Out(stream.Signature(lanes_of(config.op.output, 1))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.pixels = pixels = HistogramSum(config.pixels)
        m.submodules.image = image = BankedRam(config.image)
        m.submodules.rows = rows = FourierSums(config.rows)
        m.submodules.columns = columns = FourierSums(config.columns)
        m.submodules.bins = bins = SpectrumBins(config.bins)
        m.submodules.magnitudes = magnitudes = HistogramSum(config.magnitudes)
        m.submodules.output = output = ElasticOutput(config.output)
        wiring.connect(m, columns.o, bins.i)
        wiring.connect(m, bins.o, magnitudes.i)
        wiring.connect(m, output.o, wiring.flipped(self.o))

        # An image begins when a half of the memory and a histogram are free.
        transfer, begins = Signal(), Signal()
        word = cycle(m, "word", config.beats, step=transfer)
        images = level(m, "images", HALVES, up=begins, down=rows.ends)
        m.d.comb += [
            self.i.ready.eq(~word.is_first | (~images.full & pixels.room & self._rested(m, begins))),
            transfer.eq(self.i.valid & self.i.ready),
            begins.eq(transfer & word.is_first),
            pixels.begin.eq(begins),
            pixels.i.valid.eq(transfer),
            pixels.i.payload.bin.eq(self.i.payload[0]),
            pixels.i.payload.counts.eq(1),
            pixels.i.payload.ends.eq(word.is_last),
        ]
        stored = self._store(m, transfer, image)
        there = level(m, "images_there", HALVES, up=stored, down=rows.begins)
        transforms = level(m, "transforms", HALVES, up=rows.begins, down=columns.ends)
        m.d.comb += [
            rows.go.eq(~there.empty & ~transforms.full),
            image.read_address.eq(rows.address),
            rows.word.eq(delayed(m, image.read_data, config.rows.word_latency - config.image.latency, name="pixel")),
        ]
        transformed = self._transpose(m, rows, columns)
        ready = level(m, "transforms_there", HALVES, up=transformed, down=columns.begins)
        m.d.comb += [
            columns.go.eq(~ready.empty & magnitudes.room & output.credit),
            magnitudes.begin.eq(columns.begins),
            output.reserve.eq(columns.begins),
        ]
        self._scale(m, pixels.o, magnitudes.o, output)
        return m

    def _rested(self, m: Module, begins: Signal) -> Value:
        """Whether the interval is over since the last image began."""
        if not self.config.is_paced:
            return Const(1, 1)
        rests = Signal()
        rest = cycle(m, "rest", self.config.interval - 1, step=rests)
        with m.If(begins):
            m.d.sync += rests.eq(1)
        with m.Elif(rest.is_last):
            m.d.sync += rests.eq(0)
        return ~rests

    def _store(self, m: Module, transfer: Signal, image: BankedRam) -> Value:
        """Write the brightness, less the centre, a word for each `lanes` pixels; whether that is all of an image."""
        config = self.config
        channels = config.shape[2]
        channel = cycle(m, "channel", channels, step=transfer)
        grey, before = Signal(config.element.bits, reset_less=True), Signal(config.element.bits + 2, reset_less=True)
        value = self.i.payload[0]
        if channels == 1:
            m.d.sync += grey.eq(value)
        else:
            is_green = ~(channel.is_first | channel.is_last)
            total = Signal(config.element.bits + 2)
            m.d.comb += total.eq(Mux(channel.is_first, 0, before) + Mux(is_green, value << 1, value))
            m.d.sync += grey.eq(total >> 2)
            with m.If(transfer):
                m.d.sync += before.eq(total)
        is_pixel = delayed(m, transfer & channel.is_last, 1, name="is_pixel", control=True)
        lane = cycle(m, "lane", config.lanes, step=is_pixel)
        # Less the centre is the uppermost bit reversed. The first lane lies lowest.
        pixel = Cat(grey[:-1], ~grey[-1])
        held = Signal(config.image.width, reset_less=True)
        with m.If(is_pixel):
            m.d.sync += held.eq(Cat(held, pixel)[len(pixel) :])
        writes = delayed(m, is_pixel & lane.is_last, 1, name="writes", control=True)
        words = config.image.words
        place = cycle(m, "place", words, step=writes)
        of_frame = cycle(m, "of_frame", words // HALVES, step=writes)
        m.d.comb += [
            image.write_enable.eq(writes),
            image.write_address.eq(place.number),
            image.write_data.eq(held),
        ]
        return writes & of_frame.is_last

    def _transpose(self, m: Module, rows: FourierSums, columns: FourierSums) -> Value:
        """Round what rows yield, write it where columns read it, a memory a lane; whether a frame of it is there."""
        config = self.config
        op, low, high = config.op, *config.rows.sum_range
        cosine, sine = (
            round_saturate(m, rows.o.payload[wave], op.row_shift, op.sums, low=low, high=high, name=wave)
            for wave in ("cosine", "sine")
        )
        first = delayed(m, rows.o.valid, ROUND_LATENCY, name="rounded", control=True)
        second = delayed(m, first, 1, name="imaginary", control=True)
        frequency = cycle(m, "frequency", config.rows.frequencies, step=second)
        ends_row = Signal()
        m.d.comb += ends_row.eq(second & frequency.is_last)
        lane = cycle(m, "row_lane", config.lanes, step=ends_row)
        ends_word = Signal()
        m.d.comb += ends_word.eq(ends_row & lane.is_last)
        word = cycle(m, "row_word", config.columns.folds, step=ends_word)
        half = cycle(m, "row_half", HALVES, step=ends_word & word.is_last)

        # A step of `folds` words from the real part of a column to its imaginary part, and on to the next column.
        folds, words = config.columns.folds, config.columns_memory.words
        address, begin = Signal(range(words)), Signal(range(words))
        with m.If(first | second):
            m.d.sync += address.eq(address + folds)
        with m.If(ends_row):
            m.d.sync += address.eq(begin)
        with m.If(ends_word):
            following = Mux(word.is_last, Mux(half.is_last, 0, words // HALVES), begin + 1)
            m.d.sync += [address.eq(following), begin.eq(following)]

        data_in = Mux(second, delayed(m, sine, 1, name="sine_after"), cosine)
        outputs = []
        for number in range(config.lanes):
            m.submodules[f"column_{number}"] = held = BankedRam(config.columns_memory)
            m.d.comb += [
                held.write_enable.eq((first | second) & (lane.number == number)),
                held.write_address.eq(address),
                held.write_data.eq(data_in),
                held.read_address.eq(columns.address),
            ]
            extra = config.columns.word_latency - config.columns_memory.latency
            outputs.append(delayed(m, held.read_data, extra, name=f"part_{number}"))
        m.d.comb += columns.word.eq(Cat(outputs))
        return ends_word & word.is_last

    def _scale(
        self, m: Module, pixels: wiring.PureInterface, magnitudes: wiring.PureInterface, output: ElasticOutput
    ) -> None:
        """The word of both sums; that of pixels is there long before."""
        config, op = self.config, self.config.op
        m.submodules.sums = sums = SyncFIFOBuffered(width=config.pixels.total_bits, depth=_QUEUED_SUMS)
        total = Signal(config.total_bits, reset_less=True)
        m.d.comb += [
            sums.w_data.eq(pixels.payload),
            sums.w_en.eq(pixels.valid),
            sums.r_en.eq(magnitudes.valid),
        ]
        # Three times, where there are colours.
        more = magnitudes.payload << 1 if config.shape[2] == 3 else 0
        m.d.sync += total.eq(sums.r_data + magnitudes.payload + more)
        multiplier = Const(op.multiplier, config.scale.right)
        product = config.scale.build(m, Cat(total, 0).as_signed(), multiplier, name="scale")
        start = op.offset + (1 << (op.shift - 1))
        rest = Signal(signed(start.bit_length() + 2), reset_less=True)
        m.d.sync += rest.eq(start - product)
        value = Signal(signed(len(rest) - op.shift))
        m.d.comb += value.eq(rest >> op.shift)
        word = Signal(element_shape(op.output), reset_less=True)
        m.d.sync += word.eq(nearest_word(m, value, op.output, name="word_fits"))
        latency = 1 + config.scale.latency + 2
        m.d.comb += [
            output.i.payload[0].eq(word),
            output.i.valid.eq(delayed(m, magnitudes.valid, latency, name="result", control=True)),
        ]
