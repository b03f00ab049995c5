"""Bins of the magnitudes of a spectrum, of its columns' sums."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.normalize import Normalize
from karui.hw.arithmetic.wide_multiply import WideMultiply
from karui.hw.memory.resources import Resources
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import Tagged, delayed, element_shape
from karui.sw.ir.complexity_bound import largest_part
from karui.sw.ir.complexity_op import BINS, BINS_PER_OCTAVE, MANTISSA_BITS, Complexity
from karui.sw.numerics import NumberFormat, format_for_range

SLOTS = 4
"""Cycles of a pair of frequencies: two parts of each of two magnitudes, each of which may count twice."""
_PART_LATENCY = 4
"""The sums of a pair, the operands of a part, its sum, and that rounded."""
_BIN_LATENCY = 3
"""Comparisons with the steps of an octave, the part of an octave, and the bin."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SpectrumBinsConfig:
    """Parameters of `SpectrumBins`.

    Parameters
    ----------
    op : Complexity
    height, width : int
        Of the image.
    sums : NumberFormat
        Of the columns' sums.
    steps : ndarray of int64
        Where the parts of an octave begin; see the operation.
    """

    op: Complexity
    height: int
    width: int
    sums: NumberFormat
    steps: npt.NDArray[np.int64]

    @property
    def part(self) -> NumberFormat:
        """Format of a part of the spectrum."""
        largest = largest_part(self.op, self.height, self.width)
        return format_for_range(-largest, largest)

    @property
    def square(self) -> WideMultiply:
        """What squares parts."""
        return WideMultiply(left=self.part.bits, right=self.part.bits)

    @property
    def power_bits(self) -> int:
        """Bits of a power."""
        return (2 * largest_part(self.op, self.height, self.width) ** 2).bit_length()

    @property
    def normalize(self) -> Normalize:
        """What finds the leading bits of a power."""
        return Normalize(width=self.power_bits, index_bits=MANTISSA_BITS)

    @property
    def latency(self) -> int:
        """Cycles from the second sums of a pair to the bin of its first magnitude."""
        # The first magnitude's parts are those of the first two slots.
        return _PART_LATENCY + 1 + self.square.latency + 1 + self.normalize.latency + _BIN_LATENCY

    @property
    def end_latency(self) -> int:
        """Cycles from a frame's last sums to its end."""
        return self.latency + SLOTS - 1

    @property
    def cost(self) -> Resources:
        """Cells, estimated."""
        total, norm, square = self.sums.bits, self.normalize, self.square
        luts = 4 * total + 2 * self.power_bits + norm.latency * norm.width + 7 * MANTISSA_BITS + square.gates * 2
        # Of two limbs' products in either order there is one.
        limbs = isqrt(square.multipliers)
        return Resources(luts=luts + 10 * len(square.partials) + 90, dsps=limbs * (limbs + 1) // 2)


class SpectrumBins(wiring.Component):
    """Makes powers of the sums of columns, and bins of powers.

    Sums come for each frequency (u, v), those of the columns' real parts, then those of their imaginary parts; each two
    are parts of the magnitudes at (u, v) and at (u, -v). Those parts go through one multiplier in four cycles. Both
    bins come in two cycles each, and count in as many of them as the whole spectrum has such magnitudes.

    Latency ``config.latency`` cycles, throughput a pair of sums in two cycles.

    Parameters
    ----------
    config : SpectrumBinsConfig

    Members
    -------
    i : In(Tagged)
        `cosine` and `sine`: sums of a column.
    o : Out(Tagged)
        The `bin`, whether it `counts`, and whether it `ends` the frame.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: SpectrumBinsConfig) -> None:
        self.config = config
        total = element_shape(config.sums)
        super().__init__(
            {
                "i": In(Tagged(data.StructLayout({"cosine": total, "sine": total}))),
                "o": Out(Tagged(data.StructLayout({"bin": range(BINS), "counts": 1, "ends": 1}))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        column = cycle(m, "column", 2, step=self.i.valid)
        real = self._held(m, self.i.valid & column.is_first, self.i.payload, name="real")
        pairs = Signal()
        m.d.comb += pairs.eq(self.i.valid & column.is_last)
        p, r = (self._copied(m, pairs, value, name) for name, value in zip("pr", real, strict=True))
        s, q = self._held(m, pairs, self.i.payload, name="imaginary")

        active = Signal()
        slot = cycle(m, "slot", SLOTS, step=active)
        with m.If(pairs):
            m.d.sync += active.eq(1)
        with m.Elif(slot.is_last):
            m.d.sync += active.eq(0)
        is_origin, counts, ends = self._places(m, slot.number, active & slot.is_last)
        part = self._part(m, slot.number, is_origin, (p, q, r, s))
        square = config.square.build(m, part, part, name="square")

        # Slots of a part, of its square, and of the power that holds from the second square on for two slots.
        squared = _PART_LATENCY - 1 + config.square.latency
        first, power = Signal.like(square, reset_less=True), Signal(config.power_bits, reset_less=True)
        is_first = delayed(m, ~slot.number[0], squared, name="is_first_part")
        with m.If(is_first):
            m.d.sync += first.eq(square)
        with m.Else():
            m.d.sync += power.eq(first + square)
        m.d.comb += self.o.payload.bin.eq(self._bin(m, power))
        latency = config.latency - 1
        for name, flag in (("counts", counts), ("ends", ends)):
            m.d.comb += self.o.payload[name].eq(delayed(m, flag, latency, name=name))
        m.d.comb += self.o.valid.eq(delayed(m, active, latency, name="valid", control=True))
        return m

    def _held(self, m: Module, step: Value, sums: data.View[data.StructLayout], *, name: str) -> list[Signal]:
        return [self._copied(m, step, sums[wave], f"{name}_{wave}") for wave in ("cosine", "sine")]

    def _copied(self, m: Module, step: Value, value: Value, name: str) -> Signal:
        held = Signal(element_shape(self.config.sums), name=name, reset_less=True)
        with m.If(step):
            m.d.sync += held.eq(value)
        return held

    def _places(self, m: Module, slot: Value, ends_pair: Value) -> tuple[Value, Value, Value]:
        """Of a slot whether it is of frequency 0, whether its bin counts, and whether the frame ends with it."""
        config = self.config
        v = cycle(m, "v", config.height // 2 + 1, step=ends_pair)
        u = cycle(m, "u", config.width // 2 + 1, step=ends_pair & v.is_last)

        def inner(place: Value, is_first: Value, is_last: Value, length: int) -> Value:
            return ~is_first & ~(is_last if length % 2 == 0 else Const(0, 1))

        has_mirror = inner(u.number, u.is_first, u.is_last, config.width)
        has_negative = inner(v.number, v.is_first, v.is_last, config.height)
        counts = (~slot[0] | has_mirror) & (~slot[1] | has_negative)
        return u.is_first & v.is_first, counts, ends_pair & v.is_last & u.is_last

    def _part(self, m: Module, slot: Value, is_origin: Value, sums: tuple[Signal, ...]) -> Value:
        """A part of the spectrum, `_PART_LATENCY` - 1 cycles behind its slot: P - Q, R + S, P + Q, S - R, rounded."""
        op = self.config.op
        p, q, r, s = sums
        total = signed(self.config.sums.bits + 1)
        left, right = Signal(total, reset_less=True), Signal(total, reset_less=True)
        subtracts = slot[0] == slot[1]
        operand = Mux(slot[0], Mux(slot[1], r, s), q)
        m.d.sync += [left.eq(Mux(slot[0], Mux(slot[1], s, r), p)), right.eq(Mux(subtracts, ~operand, operand))]
        added = Signal(signed(len(left) + 1), reset_less=True)
        m.d.sync += added.eq(left + right)
        # What is left of the subtraction, what rounds, and at frequency 0 the centre, which rows went without.
        half = 1 << (op.column_shift - 1)
        back = op.centre * self.config.height * self.config.width << (op.column_shift + op.fraction)
        is_real = ~slot[0]
        constant = Signal(range(back + half + 2), reset_less=True)
        m.d.sync += constant.eq(
            Mux(is_origin & is_real, Mux(subtracts, back + half + 1, back + half), Mux(subtracts, half + 1, half))
        )
        rounded = Signal(signed(len(added) + 1), reset_less=True)
        m.d.sync += rounded.eq(added + delayed(m, constant, 1, name="constant"))
        part = Signal(element_shape(self.config.part))
        m.d.comb += part.eq(rounded >> op.column_shift)
        return part

    def _bin(self, m: Module, power: Value) -> Value:
        config = self.config
        places, index = config.normalize.build(m, power, name="normalized")
        reached = Signal(len(config.steps), reset_less=True)
        m.d.sync += reached.eq(Cat(index >= int(step) for step in config.steps))
        octave = Signal(signed(len(places) + BINS_PER_OCTAVE.bit_length() + 2), reset_less=True)
        highest = (config.power_bits - 1) * BINS_PER_OCTAVE - config.op.first_bin
        m.d.sync += octave.eq(highest - places * BINS_PER_OCTAVE)
        part = Signal(range(len(config.steps) + 1), reset_less=True)
        m.d.sync += part.eq(sum(reached, Const(0, 1)))
        number = Signal.like(octave)
        m.d.comb += number.eq(delayed(m, octave, 1, name="octave") + part)
        found = Signal(range(BINS), reset_less=True)
        m.d.sync += found.eq(Mux(number < 0, 0, Mux(number > BINS - 1, BINS - 1, number)))
        return found
