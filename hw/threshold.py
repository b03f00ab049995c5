"""Activations as ladders of thresholds: the output is the number of thresholds that the input reaches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.cyclic_rom import CyclicRom, CyclicRomConfig
from karui.hw.stream import FIFO_LATENCY, ElasticOutput, ElasticOutputConfig, Tagged, delayed, lanes_of
from karui.hw.timing import Cycles, Schedule, consecutive, require_divisor
from karui.sw.numerics import NumberFormat, format_for_range, pack, to_integers


@dataclass(frozen=True, kw_only=True, eq=False)
class ThresholdConfig:
    """Parameters of a `ThresholdPipeline` and of a `Threshold`.

    Parameters
    ----------
    channels : int
        Length of the last axis; beats go through the channels in order, again and again.
    lanes : int
        Channels a beat.
    thresholds : ndarray, shape (channels or 1, levels - 1)
        Ascending in each row; any integers.
    input_format, output_format : NumberFormat
        The output has one level more than there are thresholds at the least.
    positions : int
        Vectors of channels a frame.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, a row does not ascend, or the output has too few levels.
    """

    channels: int
    lanes: int
    thresholds: npt.NDArray[Any]
    input_format: NumberFormat
    output_format: NumberFormat
    positions: int = 1

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
    def folds(self) -> int:
        """Beats a vector."""
        return self.channels // self.lanes

    @property
    def latency(self) -> int:
        """Cycles of the pipeline."""
        return 1 if self.thresholds.shape[1] == 1 else 2

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.positions * self.folds

    def lane_slice(self, first: int, lanes: int) -> ThresholdConfig:
        """The same ladder for `lanes` lanes from lane `first` of each beat on."""
        thresholds = self.thresholds
        if len(thresholds) > 1:
            beats = thresholds.reshape(self.folds, self.lanes, -1)
            thresholds = beats[:, first : first + lanes].reshape(self.folds * lanes, -1)
        return replace(self, channels=self.folds * lanes, lanes=lanes, thresholds=thresholds)

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat of the stream component `Threshold`."""
        accepted = consecutive(arrivals)
        return Schedule(accepted=accepted, departures=accepted + self.latency + FIFO_LATENCY)


class ThresholdPipeline(wiring.Component):
    """Compares each lane with its channel's thresholds, all at once.

    It counts the beats itself to know the channels. Latency `config.latency` cycles, throughput a beat a cycle. A
    comparator for each lane and threshold; thresholds that differ between channels lie in a ROM.

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

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: ThresholdConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(Tagged(lanes_of(config.input_format, config.lanes))),
                "o": Out(Tagged(lanes_of(config.output_format, config.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        count = config.thresholds.shape[1]
        # A threshold out of the input's range is as good as one at its edge: always or never reached.
        clipped = config.thresholds.clip(config.input_format.minimum, config.input_format.maximum + 1)
        clipped = np.broadcast_to(clipped, (config.channels, count))
        stored = format_for_range(int(clipped.min()), int(clipped.max()))
        m.submodules.thresholds = rom = CyclicRom(
            CyclicRomConfig(
                words=tuple(to_integers(pack(clipped.reshape(config.folds, -1), stored))),
                width=config.lanes * count * stored.bits,
            )
        )
        m.d.comb += rom.advance.eq(self.i.valid)
        thresholds = Signal(lanes_of(stored, config.lanes * count))
        m.d.comb += [
            thresholds.as_value().eq(rom.word),
            self.o.valid.eq(delayed(m, self.i.valid, config.latency, name="valid", control=True)),
        ]
        for lane in range(config.lanes):
            reached = Signal(count, name=f"reached_{lane}", reset_less=True)
            value = _integer(self.i.payload[lane], config.input_format)
            m.d.sync += reached.eq(Cat(value >= thresholds[lane * count + level] for level in range(count)))
            level = reached if count == 1 else Signal(range(count + 1), name=f"level_{lane}", reset_less=True)
            if count > 1:
                m.d.sync += level.eq(sum(reached[bit] for bit in range(count)))
            m.d.comb += self.o.payload[lane].eq(level_word(level, config.output_format))
        return m


class Threshold(wiring.Component):
    """A stage of its own: a `ThresholdPipeline` between streams.

    Latency ``config.latency + 2`` cycles, throughput a beat a cycle.

    Parameters
    ----------
    config : ThresholdConfig

    Members
    -------
    i : In(stream)
        Values, `lanes` channels a beat.
    o : Out(stream)
        Levels, likewise.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: ThresholdConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.input_format, config.lanes))),
                "o": Out(stream.Signature(lanes_of(config.output_format, config.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.pipeline = pipeline = ThresholdPipeline(config)
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(payload=lanes_of(config.output_format, config.lanes), period=1, latency=config.latency)
        )
        accept = Signal()
        m.d.comb += [
            accept.eq(self.i.valid & output.credit),
            self.i.ready.eq(output.credit),
            output.reserve.eq(accept),
            pipeline.i.payload.eq(self.i.payload),
            pipeline.i.valid.eq(accept),
        ]
        wiring.connect(m, pipeline.o, output.i)
        wiring.connect(m, output.o, wiring.flipped(self.o))
        return m


def _integer(word: Value, number_format: NumberFormat) -> Value:
    """The integer that a word stands for; a bipolar bit becomes -1 or +1."""
    return Cat(1, ~word).as_signed() if number_format.is_bipolar else word


def level_word(level: Value, number_format: NumberFormat) -> Value:
    """The word `level` steps above the format's minimum (see `NumberFormat.at_level`)."""
    return level if number_format.is_bipolar else level + number_format.minimum
