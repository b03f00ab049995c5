"""Parameters of the engine that measures complexities: its memories, passes and arithmetic, and what they take."""

from __future__ import annotations

from dataclasses import dataclass

from karui.hw.arithmetic.round_saturate import ROUND_LATENCY
from karui.hw.arithmetic.wide_multiply import WideMultiply
from karui.hw.engines.fourier_sums import HALVES, TABLE_LATENCY, FourierSumsConfig
from karui.hw.engines.histogram_sum import BANKS, HistogramSumConfig
from karui.hw.engines.spectrum_bins import SpectrumBinsConfig
from karui.hw.memory.banked_ram import BankedRamConfig
from karui.hw.memory.resources import Resources
from karui.hw.streams.stream import ElasticOutputConfig, lanes_of
from karui.hw.streams.timing import require_divisor
from karui.sw.ir.complexity_op import BINS, TWIDDLE_FRACTION, ComplexityTables
from karui.sw.ir.complexity_op import Complexity as ComplexityOp
from karui.sw.numerics import NumberFormat, signed

_TWIDDLE = signed(TWIDDLE_FRACTION + 2, fraction=TWIDDLE_FRACTION)
STORE_LATENCY = 3
"""Cycles from an image's last beat to the first pass over it: its brightness, the word, and the word's place."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ComplexityConfig:
    """Parameters of a `Complexity`.

    Parameters
    ----------
    op : karui.sw.ir.Complexity
    shape : (int, int, int)
        Height, width and channels of the image.
    element : NumberFormat
        Format of its words.
    tables : ComplexityTables
        The operation's.
    lanes : int
        Elements of a transform that are multiplied at once; divides height and width, at least twice.
    """

    op: ComplexityOp
    shape: tuple[int, int, int]
    element: NumberFormat
    tables: ComplexityTables
    lanes: int

    def __post_init__(self) -> None:
        for side in self.shape[:2]:
            require_divisor("lanes of a complexity", self.lanes, side, "pixels of a row or column")
            if 2 * self.lanes > side:
                raise ValueError(f"lanes of a complexity are at most half of {side} pixels, not {self.lanes}")

    @property
    def beats(self) -> int:
        """Beats of an image, a word each."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def image(self) -> BankedRamConfig:
        """The memory of brightness."""
        return BankedRamConfig(
            words=HALVES * self.shape[0] * self.shape[1] // self.lanes, width=self.lanes * self.element.bits
        )

    @property
    def columns_memory(self) -> BankedRamConfig:
        """The memory of a lane of columns: of each frequency the real parts, then the imaginary ones."""
        frequencies = self.shape[1] // 2 + 1
        return BankedRamConfig(words=HALVES * 2 * frequencies * (self.shape[0] // self.lanes), width=self.op.sums.bits)

    @property
    def rows(self) -> FourierSumsConfig:
        """The transform of rows."""
        return FourierSumsConfig(
            lines=self.shape[0],
            parts=1,
            lanes=self.lanes,
            element=signed(self.element.bits),
            twiddles=self.tables.rows,
            twiddle=_TWIDDLE,
            word_latency=max(self.image.latency, TABLE_LATENCY),
        )

    @property
    def columns(self) -> FourierSumsConfig:
        """The transform of columns."""
        return FourierSumsConfig(
            lines=self.rows.frequencies,
            parts=2,
            lanes=self.lanes,
            element=self.op.sums,
            twiddles=self.tables.columns,
            twiddle=_TWIDDLE,
            word_latency=max(self.columns_memory.latency, TABLE_LATENCY),
        )

    @property
    def bins(self) -> SpectrumBinsConfig:
        """What makes bins of the columns' sums."""
        return SpectrumBinsConfig(
            op=self.op,
            height=self.shape[0],
            width=self.shape[1],
            sums=self.columns.sum_format,
            steps=self.tables.steps,
        )

    @property
    def pixels(self) -> HistogramSumConfig:
        """The histogram of words."""
        return HistogramSumConfig(bins=1 << self.element.bits, growth=self.tables.growth)

    @property
    def magnitudes(self) -> HistogramSumConfig:
        """The histogram of magnitudes."""
        return HistogramSumConfig(bins=BINS, growth=self.tables.growth[: self.shape[0] * self.shape[1]])

    @property
    def total_bits(self) -> int:
        """Bits of both sums together."""
        return max(self.pixels.total_bits, self.magnitudes.total_bits + self.shape[2].bit_length()) + 1

    @property
    def scale(self) -> WideMultiply:
        """What scales sums."""
        return WideMultiply(left=self.total_bits + 1, right=self.op.multiplier.bit_length() + 1)

    @property
    def row_latency(self) -> int:
        """Cycles from the start of a pass over rows until one over columns can start, but for those of its steps."""
        # Both sums are rounded, and written one after the other.
        return self.rows.latency + ROUND_LATENCY + 2

    @property
    def column_latency(self) -> int:
        """Cycles from the start of a pass over columns to its last element in the histogram, but for its steps."""
        return self.columns.latency + self.bins.end_latency

    @property
    def result_latency(self) -> int:
        """Cycles from the start of a pass over columns to the word."""
        sums = self.columns.cycles + self.column_latency + self.magnitudes.latency
        return sums + 1 + self.scale.latency + 2

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return max(self._longest, *(-(-length // frames) for frames, length in self._turns))

    @property
    def is_paced(self) -> bool:
        """Whether images wait for the interval, lest two follow one another at once and the third one wait for both.

        So it is with small ones, whose histograms take longer to clear than to fill.
        """
        return self.interval > self._longest

    @property
    def _longest(self) -> int:
        return max(self.beats, self.rows.cycles + 1, self.columns.cycles + 1)

    @property
    def _turns(self) -> tuple[tuple[int, int], ...]:
        """Cycles that a frame keeps one of several places for: their number, and how long."""
        rows, columns = self.rows.cycles, self.columns.cycles
        filled = self.beats - 1
        return (
            (HALVES, filled + STORE_LATENCY + rows + 1),
            (HALVES, rows + self.row_latency + columns + 1),
            (BANKS, filled + self.pixels.clear_cycles),
            (BANKS, columns + self.column_latency + self.magnitudes.clear_cycles),
        )

    @property
    def output(self) -> ElasticOutputConfig:
        """The queue at the output, whose places are taken by passes over columns."""
        return ElasticOutputConfig(
            payload=lanes_of(self.op.output, 1), period=self.columns.cycles + 1, latency=self.result_latency
        )

    @property
    def cost(self) -> Resources:
        """Cells, estimated."""
        parts = (self.rows, self.columns, self.bins, self.pixels, self.magnitudes, self.image)
        total = sum((part.cost for part in parts), start=Resources())
        total += sum((self.columns_memory.cost for _ in range(self.lanes)), start=Resources())
        rounding = 2 * 2 * self.rows.sum_format.bits
        luts = 140 + rounding + 5 * self.total_bits + 2 * self.op.offset.bit_length() + 2 * self.scale.gates
        return total + Resources(luts=luts, dsps=self.scale.multipliers)
