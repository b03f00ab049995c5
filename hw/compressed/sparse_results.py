"""The way out of the sparse engine: parts of sums become results, in the order of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.activations.threshold import ThresholdConfig
from karui.hw.compressed.sparse_segments import SparseSegments
from karui.hw.engines.lane_group import ScalingConfig, activation_pipeline
from karui.hw.memory.cyclic_rom import CyclicRom, CyclicRomConfig
from karui.hw.memory.weight_rom import WEIGHT_ROM_LATENCY, SequentialRom
from karui.hw.streams.counters import cycle, level
from karui.hw.streams.stream import ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.sw.numerics import NumberFormat, format_for_range, pack, to_integers

_SUM_READ_LATENCY = 2
_SELECTED = 4
"""Sums that one multiplexer chooses from in a cycle."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseResultsConfig:
    """Parameters of a `SparseResults`.

    Parameters
    ----------
    segments : SparseSegments
        Where the parts of each row's sum are.
    address_bits : int
        Bits of the address of a sum in a processing element.
    accumulator : NumberFormat
        Format of the sums.
    bias : ndarray of shape (M,), optional
        Integers that are added to the sums.
    activation : ThresholdConfig, RequantizeConfig or DoubleRoundingConfig, optional
        Applied to the sums.
    """

    segments: SparseSegments
    address_bits: int
    accumulator: NumberFormat
    bias: npt.NDArray[Any] | None
    activation: ThresholdConfig | ScalingConfig | None

    @property
    def output_format(self) -> NumberFormat:
        """Format of a result."""
        return self.accumulator if self.activation is None else self.activation.output_format

    @property
    def lanes(self) -> int:
        """Results of a beat."""
        return self.segments.lanes

    @property
    def activation_latency(self) -> int:
        """Cycles of the activation."""
        return 0 if self.activation is None else self.activation.latency

    @property
    def select_latency(self) -> int:
        """Cycles of the choice among the sums of a lane's processing elements."""
        count, levels = self.segments.pe // self.lanes, 0
        while count > 1:
            count, levels = -(-count // _SELECTED), levels + 1
        return levels

    @property
    def latency(self) -> int:
        """Cycles from the last step of a beat to the valid tag of its results."""
        return WEIGHT_ROM_LATENCY + _SUM_READ_LATENCY + self.select_latency + 2 + self.activation_latency

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Steps in which each beat of a result is put together: as many as there are parts of one of its sums."""
        parts = np.array([max(1, len(parts)) for parts in self.segments.parts])
        return tuple(parts.reshape(-1, self.lanes).max(axis=1).tolist())

    @property
    def bias_format(self) -> NumberFormat:
        """Format of a bias, signed."""
        bias = self.bias
        return format_for_range(-1, 0) if bias is None else format_for_range(min(-1, int(bias.min())), int(bias.max()))

    @property
    def field_bits(self) -> tuple[int, int, int, int]:
        """Widths of an entry of the table: address, number among the lane's processing elements, use, bias."""
        chosen_bits = (self.segments.pe // self.lanes - 1).bit_length()
        return self.address_bits, chosen_bits, 1, self.bias_format.bits

    def ends(self) -> tuple[int, ...]:
        """For each step whether it begins a beat, and whether it ends it."""
        return tuple((number == 0) | (number == steps - 1) << 1 for steps in self.steps for number in range(steps))

    def table(self) -> list[int]:
        """For each step, lane by lane, where a part of a sum is, and what is added to it."""
        lanes, parts = self.lanes, self.segments.parts
        address_bits, chosen_bits, _, bias_bits = self.field_bits
        biases = [0] * len(parts)
        if self.bias is not None:
            biases = to_integers(pack(self.bias.astype(np.int64)[:, None], self.bias_format))
        width = sum(self.field_bits)
        words = []
        for beat, steps in enumerate(self.steps):
            for number in range(steps):
                word = 0
                for lane in range(lanes):
                    row = beat * lanes + lane
                    entry = biases[row] << width - bias_bits if number == 0 else 0
                    if number < len(parts[row]):
                        part = parts[row][number]
                        entry |= part.address | (part.pe // lanes | 1 << chosen_bits) << address_bits
                    word |= entry << lane * width
                words.append(word)
        return words


class SparseResults(wiring.Component):
    """Reads the parts of each row's sum, adds them up, adds the bias and applies the activation.

    A table says step by step where the next part is. Latency ``config.latency + 2`` cycles from a beat's last step,
    throughput a step a cycle.

    Parameters
    ----------
    config : SparseResultsConfig

    Members
    -------
    start : In(1)
        A pass begins, whose sums go to the half of the memories that the pass before does not use. Only while `room`.
    room : Out(1)
        Whether there is such a half.
    done : In(1)
        All sums of the next pass are there.
    addresses : Out(ArrayLayout)
        Of each lane half and address of a sum to be read, for all of its processing elements.
    sums : In(ArrayLayout)
        What they answer, 2 cycles later.
    o : Out(stream)
        Results, ``config.lanes`` a beat.
    """

    start: Signal
    room: Signal
    done: Signal
    addresses: data.View[data.ArrayLayout]
    sums: data.View[data.ArrayLayout]
    o: stream.Interface

    def __init__(self, config: SparseResultsConfig) -> None:
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "room": Out(1),
                "done": In(1),
                "addresses": Out(data.ArrayLayout(config.address_bits + 1, config.lanes)),
                "sums": In(lanes_of(config.accumulator, config.segments.pe)),
                "o": Out(stream.Signature(lanes_of(config.output_format, config.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        lanes = config.lanes
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(
                payload=lanes_of(config.output_format, lanes), period=1, latency=config.latency + max(config.steps) - 1
            )
        )
        wiring.connect(m, output.o, wiring.flipped(self.o))
        step = Signal()
        row = cycle(m, "row", sum(config.steps), step=step)
        half = cycle(m, "half", 2, step=step & row.is_last)
        ready = level(m, "ready", 2, up=self.done, down=step & row.is_first)
        room = level(m, "room", 2, up=step & row.is_last, down=self.start, init=2)
        m.submodules.ends = ends = CyclicRom(CyclicRomConfig(words=config.ends(), width=2))
        begins_beat, ends_beat = ends.word[0], ends.word[1]
        m.d.comb += [
            self.room.eq(~room.empty),
            step.eq((output.credit | ~begins_beat) & (~ready.empty | ~row.is_first)),
            output.reserve.eq(step & begins_beat),
            ends.advance.eq(step),
        ]
        width = lanes * sum(config.field_bits)
        m.submodules.table = table = SequentialRom(config.table(), width, "auto")
        m.d.comb += table.take.eq(step)
        read_half = delayed(m, half.number, WEIGHT_ROM_LATENCY, name="read_half")
        added = config.latency - config.activation_latency - 1
        begins = delayed(m, begins_beat, added, name="begins")
        valid = delayed(m, step & ends_beat, added + 1, name="valid", control=True)
        totals = Signal(lanes_of(config.accumulator, lanes), reset_less=True)
        for lane, fields in enumerate(self._fields(table.data)):
            m.d.comb += self.addresses[lane].eq(fields.address | read_half << config.address_bits)
            number = delayed(m, fields.chosen, _SUM_READ_LATENCY, name=f"chosen_{lane}")
            found = [self.sums[pe] for pe in range(lane, config.segments.pe, lanes)]
            selected = _select(m, found, number, name=f"lane_{lane}")
            wait = _SUM_READ_LATENCY + config.select_latency
            bias = delayed(m, fields.bias, wait, name=f"bias_{lane}").as_signed()
            part = Signal.like(totals[lane], name=f"part_{lane}", reset_less=True)
            m.d.sync += [
                part.eq(Mux(delayed(m, fields.used, wait, name=f"used_{lane}"), selected, 0) + bias),
                totals[lane].eq(Mux(begins, 0, totals[lane]) + part),
            ]
        if config.activation is None:
            m.d.comb += [output.i.payload.eq(totals), output.i.valid.eq(valid)]
        else:
            m.submodules.activation = activation = activation_pipeline(config.activation)
            m.d.comb += [activation.i.payload.eq(totals), activation.i.valid.eq(valid)]
            wiring.connect(m, activation.o, output.i)
        return m

    def _fields(self, word: Signal) -> Iterator[_TableEntry]:
        """The entry of each lane."""
        places = np.cumsum([0, *self.config.field_bits]).tolist()
        for lane in range(self.config.lanes):
            entry = word[lane * places[-1] : (lane + 1) * places[-1]]
            yield _TableEntry(*(entry[first:end] for first, end in pairwise(places)))


class _TableEntry(NamedTuple):
    """What one lane reads in a step."""

    address: Value
    chosen: Value
    used: Value
    bias: Value


def _select(m: Module, values: list[Value], number: Value, *, name: str) -> Value:
    """One of several values, through multiplexers of a register each."""
    bits = (_SELECTED - 1).bit_length()
    stage = 0
    while len(values) > 1:
        chosen = []
        for index, first in enumerate(range(0, len(values), _SELECTED)):
            register = Signal.like(values[0], name=f"{name}_{stage}_{index}", reset_less=True)
            m.d.sync += register.eq(Array(values[first : first + _SELECTED])[number[:bits]])
            chosen.append(register)
        values, number, stage = chosen, delayed(m, number[bits:], 1, name=f"{name}_number_{stage}"), stage + 1
    return values[0]
