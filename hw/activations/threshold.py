"""Activations as ladders of thresholds: the output is the number of thresholds that the input reaches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data

from karui.hw.arithmetic.ladder_search import LadderSearch, LadderSearchConfig
from karui.hw.memory.cyclic_rom import CyclicRom, CyclicRomConfig
from karui.hw.streams.elementwise import Elementwise, ElementwiseConfig, ElementwisePipeline
from karui.hw.streams.stream import delayed, integer_of, lanes_of
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import NumberFormat, format_for_range, pack, signed, to_integers

PARALLEL_THRESHOLDS = 3
"""Longest ladder that has a comparator for each threshold."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ThresholdConfig(ElementwiseConfig):
    """Parameters of a `ThresholdPipeline` and of a `Threshold`, beside those of every `ElementwiseConfig`.

    Parameters
    ----------
    thresholds : ndarray, shape (channels or 1, levels - 1)
        Ascending in each row; any integers.
    output_format : NumberFormat
        It has one level more than there are thresholds at the least.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, a row does not ascend, or the output has too few levels.
    """

    thresholds: npt.NDArray[Any]

    def __post_init__(self) -> None:
        require_divisor("lanes of a threshold", self.lanes, self.channels, "channels")
        shape = self.thresholds.shape
        if len(shape) != 2 or shape[0] not in (1, self.channels) or shape[1] < 1:
            raise ValueError(f"thresholds must be of shape (1 or {self.channels}, levels - 1), not {shape}")
        if np.any(np.diff(self.thresholds, axis=1) < 0):
            row = int(np.argmax(np.any(np.diff(self.thresholds, axis=1) < 0, axis=1)))
            raise ValueError(f"thresholds must ascend in each row; row {row} is {self.thresholds[row].tolist()}")
        if self.output_format.levels <= shape[1]:
            raise ValueError(
                f"{shape[1]} thresholds have {shape[1] + 1} outcomes, more than the {self.output_format.levels} levels "
                f"of the output format {self.output_format}"
            )

    @property
    def latency(self) -> int:
        """Cycles of the pipeline."""
        count = self.thresholds.shape[1]
        if count > PARALLEL_THRESHOLDS:
            return self.search(0).latency
        return 1 if count == 1 else 2

    @property
    def stored(self) -> npt.NDArray[np.int64]:
        """The thresholds, shape (folds or 1, lanes, levels - 1), of one for all channels only one fold.

        A threshold out of the input's range is as good as one at its edge: always or never reached.
        """
        clipped = self.thresholds.clip(self.input_format.minimum, self.input_format.maximum + 1).astype(np.int64)
        if len(clipped) == 1:
            return np.broadcast_to(clipped[None], (1, self.lanes, clipped.shape[1]))
        return clipped.reshape(self.folds, self.lanes, -1)

    @property
    def stored_format(self) -> NumberFormat:
        """Format of `stored`, which holds also one more than every input."""
        return format_for_range(int(self.stored.min()), self.input_format.maximum + 1)

    def search(self, lane: int) -> LadderSearchConfig:
        """The search of one lane's levels."""
        return LadderSearchConfig(
            thresholds=self.stored[:, lane],
            value_format=_as_integer(self.input_format),
            threshold_format=self.stored_format,
        )

    def lane_slice(self, first: int, lanes: int) -> ThresholdConfig:
        """The same ladder for `lanes` lanes from lane `first` of each beat on."""
        thresholds = self.thresholds
        if len(thresholds) > 1:
            beats = thresholds.reshape(self.folds, self.lanes, -1)
            thresholds = beats[:, first : first + lanes].reshape(self.folds * lanes, -1)
        return replace(self, channels=self.folds * lanes, lanes=lanes, thresholds=thresholds)


class ThresholdPipeline(ElementwisePipeline):
    """Finds the level of each lane among its channel's thresholds.

    It counts the beats itself to know the channels. Latency `config.latency` cycles, throughput a beat a cycle. Up to
    `PARALLEL_THRESHOLDS` thresholds have a comparator each, longer ladders are searched with one comparator for each
    bit of the level. Thresholds that differ between channels lie in ROMs.

    Parameters
    ----------
    config : ThresholdConfig

    Members
    -------
    i : In(Tagged)
        Values.
    o : Out(Tagged)
        Levels, in the output format.
    """

    def __init__(self, config: ThresholdConfig) -> None:
        self.config = config
        super().__init__(config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.d.comb += self.o.valid.eq(delayed(m, self.i.valid, config.latency, name="valid", control=True))
        is_long = config.thresholds.shape[1] > PARALLEL_THRESHOLDS
        levels = self._searched(m) if is_long else self._compared(m)
        for lane, level in enumerate(levels):
            m.d.comb += self.o.payload[lane].eq(level_word(level, config.output_format))
        return m

    def _compared(self, m: Module) -> list[Value]:
        config = self.config
        stored, stored_format = config.stored, config.stored_format
        count = stored.shape[2]
        m.submodules.thresholds = rom = CyclicRom(
            CyclicRomConfig(
                words=tuple(to_integers(pack(stored.reshape(len(stored), -1), stored_format))),
                width=config.lanes * count * stored_format.bits,
                period=config.period,
            )
        )
        thresholds = Signal(data.ArrayLayout(lanes_of(stored_format, count), config.lanes))
        m.d.comb += [rom.advance.eq(self.i.valid), thresholds.as_value().eq(rom.word)]
        levels: list[Value] = []
        for lane in range(config.lanes):
            reached = Signal(count, name=f"reached_{lane}", reset_less=True)
            value = integer_of(self.i.payload[lane], config.input_format)
            m.d.sync += reached.eq(Cat(value >= thresholds[lane][level] for level in range(count)))
            level = reached if count == 1 else Signal(range(count + 1), name=f"level_{lane}", reset_less=True)
            if count > 1:
                m.d.sync += level.eq(sum(reached[bit] for bit in range(count)))
            levels.append(level)
        return levels

    def _searched(self, m: Module) -> list[Value]:
        config = self.config
        fold = Signal(range(len(config.stored)))
        if len(config.stored) > 1:
            with m.If(self.i.valid):
                m.d.sync += fold.eq(Mux(fold == config.folds - 1, 0, fold + 1))
        levels: list[Value] = []
        for lane in range(config.lanes):
            m.submodules[f"lane_{lane}"] = search = LadderSearch(config.search(lane))
            m.d.comb += [
                search.i.payload.value.eq(integer_of(self.i.payload[lane], config.input_format)),
                search.i.payload.fold.eq(fold),
                search.i.valid.eq(self.i.valid),
            ]
            levels.append(search.o.payload)
        return levels


class Threshold(Elementwise):
    """A stage of its own: a `ThresholdPipeline` between streams; see `Elementwise`.

    Parameters
    ----------
    config : ThresholdConfig
        With a period of 1.
    """

    def __init__(self, config: ThresholdConfig) -> None:
        super().__init__(config, ThresholdPipeline(config))


def _as_integer(number_format: NumberFormat) -> NumberFormat:
    return signed(2) if number_format.is_bipolar else number_format


def level_word(level: Value, number_format: NumberFormat) -> Value:
    """The word `level` steps above the format's minimum (see `NumberFormat.at_level`)."""
    return level if number_format.is_bipolar else level + number_format.minimum
