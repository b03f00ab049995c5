"""Accumulators: sums over the beats of a fold, each from an initial value of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.cyclic_rom import CyclicRom, CyclicRomConfig
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import Tagged, lanes_of
from karui.sw.numerics import NumberFormat, pack, to_integers


@dataclass(frozen=True, kw_only=True, eq=False)
class AccumulateConfig:
    """Parameters of an `Accumulate`.

    Parameters
    ----------
    lanes : int
        Sums side by side.
    terms : int
        Beats that one sum takes.
    term_format : NumberFormat
        Format of a term.
    sum_format : NumberFormat
        Format of a sum, signed; every finished sum must fit (in between it may wrap).
    initial : ndarray, shape (folds, lanes)
        What each sum starts from; sum `n` takes row ``n % folds``.

    Raises
    ------
    ValueError
        If `initial` has another number of lanes or does not fit the sums, or a number is less than 1.
    """

    lanes: int
    terms: int
    term_format: NumberFormat
    sum_format: NumberFormat
    initial: npt.NDArray[Any]

    def __post_init__(self) -> None:
        for name in ("lanes", "terms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of an accumulator must be 1 or more, not {getattr(self, name)}")
        if self.initial.ndim != 2 or self.initial.shape[1] != self.lanes:
            raise ValueError(f"initial must be of shape (folds, {self.lanes}), not {self.initial.shape}")
        if not self.sum_format.admits(self.initial):
            raise ValueError(
                f"initial values must fit the sums ({self.sum_format}), not go from {self.initial.min()} to "
                f"{self.initial.max()}"
            )

    @property
    def latency(self) -> int:
        """Cycles from the last term to the sum."""
        return 1


class Accumulate(wiring.Component):
    """Adds up runs of `terms` valid beats, lane by lane.

    It counts the beats itself: the runs of a stream of tagged words need no other marks. Latency 1 cycle from the last
    term of a run, throughput a beat a cycle.

    Parameters
    ----------
    config : AccumulateConfig

    Members
    -------
    i : In(Tagged)
        Terms.
    o : Out(Tagged)
        Sums, a beat for each run.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: AccumulateConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(Tagged(lanes_of(config.term_format, config.lanes))),
                "o": Out(Tagged(lanes_of(config.sum_format, config.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        term = cycle(m, "term", config.terms, step=self.i.valid)
        valid = Signal()
        m.d.sync += valid.eq(self.i.valid & term.is_last)
        m.d.comb += self.o.valid.eq(valid)
        m.submodules.initial = initial = CyclicRom(
            CyclicRomConfig(
                words=tuple(to_integers(pack(config.initial, config.sum_format))),
                width=config.lanes * config.sum_format.bits,
                period=config.terms,
            )
        )
        start = Signal(lanes_of(config.sum_format, config.lanes))
        m.d.comb += [initial.advance.eq(self.i.valid & term.is_first), start.as_value().eq(initial.word)]
        for lane in range(config.lanes):
            total = Signal.like(self.o.payload[lane], name=f"total_{lane}", reset_less=True)
            base = start[lane] if config.terms == 1 else Mux(term.is_first, start[lane], total)
            with m.If(self.i.valid):
                m.d.sync += total.eq(base + self.i.payload[lane])
            m.d.comb += self.o.payload[lane].eq(total)
        return m
