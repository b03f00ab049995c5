"""Fast Walsh-Hadamard transform of a stream: a pipeline of butterflies, at one beat a cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.engines.butterfly import Butterfly, ButterflyConfig, ScaledSum
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, Storage, resolve
from karui.hw.streams.stream import FIFO_LATENCY, ElasticOutput, ElasticOutputConfig, delayed, integer_of, lanes_of
from karui.hw.streams.timing import Cycles, Schedule, consecutive, require_divisor
from karui.sw.ir import Tensor
from karui.sw.ir import WalshHadamard as Transform
from karui.sw.numerics import NumberFormat, format_for_range

GROUP_LANES = 2
"""Lanes that share counters, memories and a queue: one address or enable of all lanes would be a long way to each."""


@dataclass(frozen=True, kw_only=True)
class WalshHadamardConfig:
    """Parameters of a `WalshHadamard`.

    Parameters
    ----------
    transform : karui.sw.ir.WalshHadamard
        Size, and what each stage drops with which rounding.
    element : NumberFormat
        Format of the elements that come: unsigned, signed or bipolar.
    elements : int
        Elements a frame, a multiple of the size.
    lanes : int
        Elements a beat; divides the size, or is a multiple of it and divides the elements.
    storage : {"block", "distributed", "auto"}
        Memory of the delays of 4 beats or more; `auto` keeps up to 32 beats in look-up tables.

    Raises
    ------
    ValueError
        If size, lanes and elements do not divide each other.
    """

    transform: Transform
    element: NumberFormat
    elements: int
    lanes: int
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        size, lanes = self.transform.size, self.lanes
        if self.elements < 1 or self.elements % size:
            raise ValueError(
                f"a Walsh-Hadamard transform of size {size} takes a multiple of {size} elements, not {self.elements}"
            )
        resolve(self.storage, depth=size, limit=DISTRIBUTED_RAM_WORDS)
        require_divisor("lanes of a Walsh-Hadamard transform", lanes, self.elements, "elements")
        if size % lanes and lanes % size:
            raise ValueError(
                f"lanes of a Walsh-Hadamard transform must divide its size of {size} or be a multiple, not {lanes}"
            )

    @classmethod
    def for_node(cls, op: Transform, source: Tensor, lanes: int) -> WalshHadamardConfig:
        """The configuration of a node of a graph."""
        return cls(transform=op, element=source.number_format, elements=source.elements, lanes=lanes)

    @property
    def beats(self) -> int:
        """Beats a transform; 1 also where a beat holds several transforms."""
        return max(1, self.transform.size // self.lanes)

    @cached_property
    def sums(self) -> tuple[ScaledSum, ...]:
        """The arithmetic of each stage."""
        low, high = self.element.minimum, self.element.maximum
        stages = []
        for shift in self.transform.stage_shifts:
            stages.append(ScaledSum(low=low, high=high, shift=shift, rounding=self.transform.rounding))
            low, high = stages[-1].range
        return tuple(stages)

    @property
    def output_format(self) -> NumberFormat:
        """Format of the elements that go: the narrowest signed one of their range."""
        low, high = self.sums[-1].range
        return format_for_range(min(low, -1), high)

    @property
    def butterflies(self) -> tuple[ButterflyConfig, ...]:
        """The stages whose pairs lie in different beats, of a group of lanes."""
        return tuple(
            ButterflyConfig(
                distance=distance // self.lanes,
                lanes=len(self.groups[0]),
                arithmetic=arithmetic,
                storage=self.storage,
            )
            for distance, arithmetic in zip(self.transform.distances, self.sums, strict=True)
            if distance >= self.lanes
        )

    @property
    def groups(self) -> tuple[range, ...]:
        """Lanes that share control, as many in each group: there are 1, 2, 4, ... or an even number of them."""
        size = min(GROUP_LANES, self.lanes)
        return tuple(range(first, first + size) for first in range(0, self.lanes, size))

    @property
    def latency(self) -> int:
        """Cycles from the last beat of a transform to the first result: a register, and all stages."""
        within = len(self.sums) - len(self.butterflies)
        return 1 + sum(stage.latency for stage in self.butterflies) + within

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.elements // self.lanes

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; see `Schedule`."""
        accepted = consecutive(arrivals)
        steps = np.add.outer(accepted[self.beats - 1 :: self.beats], np.arange(self.beats)).reshape(-1)
        return Schedule(accepted=accepted, departures=steps + self.latency + FIFO_LATENCY)


class WalshHadamard(wiring.Component):
    """Multiplies runs of `size` elements by Sylvester's Hadamard matrix, unnormalised, in natural order.

    Stage by stage it combines elements at a distance of size / 2, size / 4, ... 1. Where these come in different beats
    a `Butterfly` delays one of them, `size` - `lanes` elements in all; where they share one they are combined at once.

    A transform's first result leaves with its last beat, the others in as many steps after it, each of which pushes one
    on through all stages. A step needs a place at the output and no beat: so the last transform leaves without a next
    one, and beats may pause anywhere. A beat that comes waits until what is held in its place has left.

    Latency ``config.latency + 2`` cycles from the last beat of a transform to its first result, throughput a beat a
    cycle.

    Parameters
    ----------
    config : WalshHadamardConfig

    Members
    -------
    i : In(stream)
        Elements, `lanes` a beat.
    o : Out(stream)
        Likewise, in the output format.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: WalshHadamardConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.element, config.lanes))),
                "o": Out(stream.Signature(lanes_of(config.output_format, config.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        payload = lanes_of(config.output_format, len(config.groups[0]))
        queue = ElasticOutputConfig(payload=payload, period=1, latency=config.latency)
        outputs = [ElasticOutput(queue) for _ in config.groups]
        for number, output in enumerate(outputs):
            m.submodules[f"output_{number}"] = output
        # All groups are in step: what the first one says holds for each.
        m.d.comb += self.o.valid.eq(outputs[0].o.valid)
        accepts, drains = self._steps(m, outputs[0])
        words: list[Value] = []
        valid: list[Value] = []
        for number, group in enumerate(config.groups):
            results, complete = self._between_beats(m, number, group, accepts, drains)
            words += results
            valid.append(complete)
        within = list(zip(config.transform.distances, config.sums, strict=True))[len(config.butterflies) :]
        for distance, arithmetic in within:
            words = _within_beat(m, words, distance, arithmetic)
        for number, (group, output) in enumerate(zip(config.groups, outputs, strict=True)):
            complete = delayed(m, valid[number], len(within), name=f"valid_{number}", control=True)
            m.d.comb += [output.i.valid.eq(complete), output.o.ready.eq(self.o.ready)]
            if number:
                m.d.comb += output.reserve.eq(outputs[0].reserve)
            for place, lane in enumerate(group):
                m.d.comb += [output.i.payload[place].eq(words[lane]), self.o.payload[lane].eq(output.o.payload[place])]
        return m

    def _between_beats(
        self, m: Module, number: int, group: range, accepts: Value, drains: Value
    ) -> tuple[list[Value], Value]:
        """The butterflies of a group of lanes; returns their results, and whether they are."""
        config = self.config
        valid = delayed(m, accepts, 1, name=f"accepted_{number}", control=True)
        drains = delayed(m, drains, 1, name=f"draining_{number}", control=True)
        words = [delayed(m, integer_of(self.i.payload[lane], config.element), 1, name=f"word_{lane}") for lane in group]
        for stage, butterfly_config in enumerate(config.butterflies):
            m.submodules[f"butterfly_{stage}_{number}"] = butterfly = Butterfly(butterfly_config)
            m.d.comb += [butterfly.i.valid.eq(valid), butterfly.drains.eq(drains)]
            m.d.comb += [lane.eq(word) for lane, word in zip(butterfly.i.payload, words, strict=True)]
            valid, drains = butterfly.o.valid, butterfly.drains_on
            words = [butterfly.o.payload[place] for place in range(len(group))]
        return words, valid

    def _steps(self, m: Module, output: ElasticOutput) -> tuple[Value, Value]:
        """Take beats, and let results go; returns whether a beat comes, and whether results go without a last one."""
        beats = self.config.beats
        accepts, drains = Signal(), Signal()
        m.d.comb += accepts.eq(self.i.valid & self.i.ready)
        if beats == 1:
            m.d.comb += [self.i.ready.eq(output.credit), output.reserve.eq(accepts)]
            return accepts, drains
        came, last_comes = Signal(range(beats)), Signal()
        left, holds = Signal(range(beats)), Signal()
        # Places of the transform before, whose results have left, that no beat has come into.
        places, none_free = Signal(range(beats), init=beats - 1), Signal()
        frees, fills = Signal(), Signal()
        # Every decision is a look-up table or two behind registers, and so are these behind the decisions.
        m.d.comb += [
            drains.eq(holds & output.credit),
            output.reserve.eq(output.credit & (holds | (self.i.valid & last_comes))),
            # With no place free a result goes in the same cycle; with the last beat the first one of its own.
            self.i.ready.eq(output.credit | ~(none_free | last_comes)),
            frees.eq(drains & ~self.i.valid),
            fills.eq(self.i.valid & ~(none_free | last_comes | drains)),
        ]
        with m.If(accepts):
            m.d.sync += [came.eq(came + 1), last_comes.eq(came == beats - 2)]
        with m.If(output.reserve):
            m.d.sync += [left.eq(left + 1), holds.eq(left != beats - 1)]
        with m.If(frees | fills):
            m.d.sync += places.eq(places + Mux(frees, 1, -1))
        m.d.sync += none_free.eq((none_free & ~frees) | (fills & (places == 1)))
        return accepts, drains


def _within_beat(m: Module, words: Sequence[Value], distance: int, arithmetic: ScaledSum) -> list[Value]:
    """Combine elements of a beat; a cycle later."""
    results = []
    for lane in range(len(words)):
        first = lane & ~distance
        name = f"within_{distance}_{lane}"
        pair = words[first], words[first | distance]
        results.append(arithmetic.build(m, *pair, name=name, subtract=lane != first))
    return results
