"""Index of the largest element of a vector."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import FIFO_LATENCY, ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.streams.timing import Cycles, Schedule, consecutive, require_divisor
from karui.sw.numerics import NumberFormat, unsigned


@dataclass(frozen=True, kw_only=True)
class ArgMaxConfig:
    """Parameters of an `ArgMax`.

    Parameters
    ----------
    element : NumberFormat
        Format of the vector's elements.
    elements : int
        Elements of the vector.
    lanes : int
        Elements a beat; divides the elements.
    """

    element: NumberFormat
    elements: int
    lanes: int

    def __post_init__(self) -> None:
        require_divisor("lanes of the arg max", self.lanes, self.elements, "elements of the vector")

    @property
    def index(self) -> NumberFormat:
        """Format of the result."""
        return unsigned(max(1, (self.elements - 1).bit_length()))

    @property
    def beats(self) -> int:
        """Beats a vector."""
        return self.elements // self.lanes

    @property
    def levels(self) -> int:
        """Levels of the comparator tree."""
        return (self.lanes - 1).bit_length()

    @property
    def latency(self) -> int:
        """Cycles from a vector's last beat to its index at the end of the pipeline."""
        return 2 * self.levels + 3

    @property
    def interval(self) -> int:
        """Cycles a vector."""
        return self.beats

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; see `Schedule`."""
        accepted = consecutive(arrivals)
        return Schedule(
            accepted=accepted,
            departures=accepted[self.beats - 1 :: self.beats] + self.latency + FIFO_LATENCY,
        )


class ArgMax(wiring.Component):
    """Find the largest element of each vector; of equal ones the first.

    A tree reduces a beat, each level in two cycles: compare, then select. The running maximum of the beats follows it.

    Parameters
    ----------
    config : ArgMaxConfig

    Members
    -------
    i : In(stream)
        Vectors, `lanes` elements a beat, 1 beat a cycle.
    o : Out(stream)
        One index a vector (1 lane, unsigned), ``2 * log2(lanes) + 5`` cycles after the last beat.
    """

    def __init__(self, config: ArgMaxConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.element, config.lanes))),
                "o": Out(stream.Signature(lanes_of(config.index, 1))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(payload=lanes_of(config.index, 1), period=config.beats, latency=config.latency)
        )
        wiring.connect(m, output.o, wiring.flipped(self.o))

        transfer = Signal()
        beat = cycle(m, "beat", config.beats, step=transfer)
        base = Signal(config.index.bits)
        m.d.comb += [
            self.i.ready.eq(~beat.is_last | output.credit),
            transfer.eq(self.i.valid & self.i.ready),
            output.reserve.eq(transfer & beat.is_last),
        ]
        with m.If(transfer):
            m.d.sync += base.eq(Mux(beat.is_last, 0, base + config.lanes))

        lanes = [delayed(m, self.i.payload[lane], 1, name=f"lane_{lane}") for lane in range(config.lanes)]
        value, offset = self._largest(m, lanes)
        candidate = Signal.like(value, reset_less=True)
        index = Signal(config.index.bits, reset_less=True)
        to_tree_end = 1 + 2 * config.levels
        m.d.sync += [
            candidate.eq(value),
            index.eq(delayed(m, base, to_tree_end, name="base") + offset),
        ]

        ends = delayed(m, transfer & beat.is_last, to_tree_end + 1, name="ends", control=True)
        best = Signal.like(candidate, reset_less=True)
        best_index = Signal.like(index, reset_less=True)
        done = Signal()
        is_better = Signal()
        if config.beats == 1:
            m.d.comb += is_better.eq(1)
        else:
            is_first = delayed(m, beat.is_first, to_tree_end + 1, name="is_first")
            valid = delayed(m, transfer, to_tree_end + 1, name="valid", control=True)
            m.d.comb += is_better.eq(valid & (is_first | _is_less(best, candidate)))
        with m.If(is_better):
            m.d.sync += [best.eq(candidate), best_index.eq(index)]
        m.d.sync += done.eq(ends)
        m.d.comb += [
            output.i.payload.as_value().eq(best_index),
            output.i.valid.eq(done),
        ]
        return m

    def _largest(self, m: Module, lanes: list[Value]) -> tuple[Value, Value]:
        """The largest lane and its number, two register levels a comparison."""
        values = lanes
        offsets: list[Value] = [Signal(0) for _ in lanes]
        for level in range(self.config.levels):
            next_values: list[Value] = []
            next_offsets: list[Value] = []
            for left in range(0, len(values), 2):
                value = Signal.like(values[left], name=f"value_{level}_{left // 2}", reset_less=True)
                offset = Signal(level + 1, name=f"offset_{level}_{left // 2}", reset_less=True)
                pair = [
                    (
                        delayed(m, values[lane], 1, name=f"compared_{level}_{lane}"),
                        delayed(m, offsets[lane], 1, name=f"compared_offset_{level}_{lane}"),
                    )
                    for lane in range(left, min(left + 2, len(values)))
                ]
                if len(pair) == 1:
                    m.d.sync += [value.eq(pair[0][0]), offset.eq(pair[0][1])]
                else:
                    (left_value, left_offset), (right_value, right_offset) = pair
                    takes_right = Signal(name=f"takes_right_{level}_{left // 2}", reset_less=True)
                    m.d.sync += [
                        takes_right.eq(_is_less(values[left], values[left + 1])),
                        value.eq(Mux(takes_right, right_value, left_value)),
                        offset.eq(Cat(Mux(takes_right, right_offset, left_offset), takes_right)),
                    ]
                next_values.append(value)
                next_offsets.append(offset)
            values, offsets = next_values, next_offsets
        return values[0], offsets[0]


def _is_less(left: Value, right: Value) -> Value:
    """Whether one value is less than another: the sign of their difference, a single carry chain."""
    return (left - right)[-1]
