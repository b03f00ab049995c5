"""Binary search in a ladder of thresholds, pipelined: long ladders for one comparator a bit of the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.memory_style import resolve, rom_attributes
from karui.hw.streams.stream import Tagged, delayed, element_shape
from karui.sw.numerics import NumberFormat, pack, to_integers

DISTRIBUTED_WORDS = 64
"""Deepest table of a step that is kept in look-up tables."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LadderSearchConfig:
    """Parameters of a `LadderSearch`.

    Parameters
    ----------
    thresholds : ndarray, shape (folds, count)
        Ascending in each row; a row for each channel that the lane serves.
    value_format : NumberFormat
        Format of the values, not bipolar.
    threshold_format : NumberFormat
        Format that holds every threshold and one more than every value.
    """

    thresholds: npt.NDArray[Any]
    value_format: NumberFormat
    threshold_format: NumberFormat

    @property
    def steps(self) -> int:
        """Steps of the search: bits of the largest level."""
        return int(self.thresholds.shape[1]).bit_length()

    def in_block_ram(self, step: int) -> bool:
        """Whether the table of a step lies in block RAM."""
        depth = len(self.thresholds) << step
        return resolve("auto", depth=depth, limit=DISTRIBUTED_WORDS) == "block"

    def step_latency(self, step: int) -> int:
        """Cycles of a step: its table, the register that a block RAM takes in, and the comparison."""
        return 3 if self.in_block_ram(step) else 2

    @property
    def latency(self) -> int:
        """Cycles from a value to its level."""
        return sum(self.step_latency(step) for step in range(self.steps))

    @property
    def request(self) -> data.StructLayout:
        """Payload in: `value`, and `fold`, which says whose thresholds count."""
        return data.StructLayout(
            {"value": element_shape(self.value_format), "fold": Shape((len(self.thresholds) - 1).bit_length())}
        )

    def table(self, step: int) -> list[int]:
        """The thresholds that a step may need, those of fold 0 first, each fold in the order of the bits found so far.

        With the upper bits ``found`` of the level known, the next bit (of weight ``w``) is 1 where the value reaches
        threshold number ``found * 2 w + w`` (counted from 1). Missing thresholds are never reached.
        """
        weight = 1 << (self.steps - 1 - step)
        full = np.full((len(self.thresholds), 1 << self.steps), self.value_format.maximum + 1, dtype=np.int64)
        full[:, 1 : 1 + self.thresholds.shape[1]] = self.thresholds
        return to_integers(pack(full[:, weight :: 2 * weight].reshape(-1, 1), self.threshold_format))


class LadderSearch(wiring.Component):
    """Counts the thresholds that a value reaches, a bit of the count in each step, the highest first.

    Latency `config.latency` cycles, throughput a value a cycle. Memory: every threshold once.

    Parameters
    ----------
    config : LadderSearchConfig

    Members
    -------
    i : In(Tagged)
        Values and their folds.
    o : Out(Tagged)
        Levels.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: LadderSearchConfig) -> None:
        self.config = config
        super().__init__({"i": In(Tagged(config.request)), "o": Out(Tagged(config.steps))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        request, found = self.i.payload.as_value(), Const(0, 0)
        for step in range(config.steps):
            table = self._table(m, step, Cat(found, data.View(config.request, request).fold))
            reading = config.step_latency(step) - 1
            request = delayed(m, request, reading, name=f"request_{step}")
            found = delayed(m, found, reading, name=f"found_{step}")
            reached = Signal(name=f"reached_{step}", reset_less=True)
            m.d.sync += reached.eq(data.View(config.request, request).value >= table)
            request = delayed(m, request, 1, name=f"compared_{step}")
            found = Cat(reached, delayed(m, found, 1, name=f"known_{step}"))
        m.d.comb += [
            self.o.payload.eq(found),
            self.o.valid.eq(delayed(m, self.i.valid, config.latency, name="valid", control=True)),
        ]
        return m

    def _table(self, m: Module, step: int, address: Value) -> Value:
        words = self.config.table(step)
        shape = element_shape(self.config.threshold_format)
        in_block_ram = self.config.in_block_ram(step)
        attributes = rom_attributes("block" if in_block_ram else "distributed")
        if len(set(words)) == 1:
            return Const(words[0], shape.width).as_signed() if shape.signed else Const(words[0], shape)
        rom = memory.Memory(shape=Shape(shape.width), depth=len(words), init=words, attrs=attributes)
        m.submodules[f"step_{step}"] = rom
        read = rom.read_port()
        m.d.comb += read.addr.eq(address)
        output = delayed(m, read.data, self.config.step_latency(step) - 2, name=f"block_ram_output_{step}")
        return output.as_signed() if shape.signed else output
