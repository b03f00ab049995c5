"""Coupling coefficients of routing: softmax by powers of two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.hdl import unsigned as unsigned_shape
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.normalize import Normalize
from karui.hw.arithmetic.round_saturate import ROUND_LATENCY, round_saturate
from karui.hw.arithmetic.wide_multiply import WideMultiply
from karui.hw.memory.memory_style import rom_attributes
from karui.hw.memory.ring import ring
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import Tagged, delayed, element_shape
from karui.sw.ir import Routing, single_fraction
from karui.sw.numerics import TABLE_FRACTION, unsigned

_SHARE_LATENCY = 5
"""Cycles from a logit, behind its ring, to its share: difference, two for power and place, two for the shift."""
_TABLE_LATENCY = 1
_ALIGN_LATENCY = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class CouplingsConfig:
    """Parameters of `Couplings`.

    Parameters
    ----------
    op : Routing
    powers, reciprocals : ndarray of int64
        The operation's tables.
    """

    op: Routing
    powers: npt.NDArray[np.int64]
    reciprocals: npt.NDArray[np.int64]

    @property
    def normalize(self) -> Normalize:
        """What finds the leading bits of a sum of shares, the largest of which is the first power at least."""
        largest = self.op.outputs * int(self.powers.max())
        return Normalize(
            width=largest.bit_length(),
            index_bits=len(self.reciprocals).bit_length() - 1,
            least=int(self.powers[0]).bit_length() - 1,
        )

    @property
    def multiply(self) -> WideMultiply:
        """The product of a share and a reciprocal."""
        return WideMultiply(left=self.normalize.width + 1, right=int(self.reciprocals.max()).bit_length() + 1)

    @property
    def delay(self) -> int:
        """Cycles that a share waits for its sum's reciprocal, beside the turn of the ring."""
        return self.normalize.latency + _TABLE_LATENCY + 1

    @property
    def latency(self) -> int:
        """Cycles from a logit to the coefficient of the one that came 2 J logits before it."""
        return _SHARE_LATENCY + self.delay + _ALIGN_LATENCY + self.multiply.latency + ROUND_LATENCY


class Couplings(wiring.Component):
    """Softmax, base 2, of runs of J logits that follow one another without an end.

    A run's maximum is known when its logits have passed; then they come out of a ring again, each with its distance
    from the maximum, and become shares: powers of two. Their sum is known when they have passed; they come out of a
    second ring and are multiplied by the sum's reciprocal. So with each logit comes the coefficient of the logit two
    runs before, `config.latency` cycles later. Throughput a logit a cycle.

    Parameters
    ----------
    config : CouplingsConfig

    Members
    -------
    i : In(Tagged)
        Logits.
    o : Out(Tagged)
        Coefficients; the first two runs' mean nothing.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: CouplingsConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(Tagged(element_shape(config.op.logits))),
                "o": Out(Tagged(unsigned_shape(TABLE_FRACTION))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        run = cycle(m, "run", config.op.outputs, step=self.i.valid)
        share = self._shares(m, self._below(m, run.is_first))
        valid = delayed(m, self.i.valid, _SHARE_LATENCY, name="share_valid", control=True)
        is_first = delayed(m, run.is_first, _SHARE_LATENCY, name="share_first")
        ends = delayed(m, self.i.valid & run.is_last, _SHARE_LATENCY, name="share_ends", control=True)

        total = Signal(config.normalize.width, name="total", reset_less=True)
        with m.If(valid):
            m.d.sync += total.eq(share + Mux(is_first, 0, total))
        places, index = config.normalize.build(m, total, name="normalized")
        reciprocal = self._table(m, "reciprocals", config.reciprocals, index)
        places = delayed(m, places, _TABLE_LATENCY, name="places")
        # A sum's reciprocal is held from the cycle before the first of its shares comes, until its last one has come.
        held = Signal.like(Cat(reciprocal, places), name="held", reset_less=True)
        with m.If(delayed(m, ends, config.delay, name="held_is_there", control=True)):
            m.d.sync += held.eq(Cat(reciprocal, places))
        waiting = delayed(m, ring(m, "shares", share, config.op.outputs, step=valid), config.delay, name="waiting")
        self._finish(m, waiting, held[: len(reciprocal)], held[len(reciprocal) :])
        m.d.comb += self.o.valid.eq(delayed(m, self.i.valid, config.latency, name="valid", control=True))
        return m

    def _below(self, m: Module, is_first: Signal) -> Signal:
        """How far below its run's maximum the logit of a run ago is, a cycle later."""
        op = self.config.op
        logit = self.i.payload
        before = ring(m, "logits", logit, op.outputs, step=self.i.valid)
        best, peak = Signal.like(logit, name="best"), Signal.like(logit, name="peak")
        with m.If(self.i.valid & (is_first | (best < logit))):
            m.d.sync += best.eq(logit)
        # The first logit of a run finds the maximum of the run before.
        current = Mux(is_first, best, peak)
        below = Signal(op.logits.bits, name="below", reset_less=True)
        with m.If(self.i.valid & is_first):
            m.d.sync += peak.eq(best)
        m.d.sync += below.eq(current - before)
        return below

    def _shares(self, m: Module, below: Signal) -> Signal:
        """``2**-below``, `_SHARE_LATENCY` - 1 cycles later."""
        config = self.config
        fraction = single_fraction(config.op.logits)
        index_bits = len(config.powers).bit_length() - 1
        power = self._table(m, "powers", config.powers, below[fraction - index_bits : fraction])
        power = delayed(m, power, 1, name="power")
        whole = delayed(m, below[fraction:], 2, name="whole")
        # Beyond as many places as a power has bits nothing is left.
        place_bits = len(power).bit_length()
        far = delayed(m, below[fraction:][place_bits:] != 0, 2, name="far")
        by_quarters = Signal(len(power), name="by_quarters", reset_less=True)
        share = Signal(len(power), name="share", reset_less=True)
        low = delayed(m, whole[:2], 1, name="low_places")
        m.d.sync += [
            by_quarters.eq(Mux(far, 0, power >> Cat(Const(0, 2), whole[2:place_bits]))),
            share.eq(by_quarters >> low),
        ]
        return share

    def _table(self, m: Module, name: str, values: npt.NDArray[np.int64], index: Value) -> Value:
        """The table's entry, a cycle later: look-up tables and a register."""
        m.submodules[name] = table = memory.Memory(
            shape=Shape(int(values.max()).bit_length()),
            depth=len(values),
            init=values.tolist(),
            attrs=rom_attributes("distributed"),
        )
        read = table.read_port()
        m.d.comb += read.addr.eq(index)
        return Value.cast(read.data)

    def _finish(self, m: Module, share: Value, reciprocal: Value, places: Value) -> None:
        """Multiply by the reciprocal, with the sum's leading one in the highest place."""
        config = self.config
        width = config.normalize.width
        aligned = Signal(width, name="aligned", reset_less=True)
        m.d.sync += aligned.eq(share << places)
        factor = delayed(m, reciprocal, _ALIGN_LATENCY, name="factor")
        product = config.multiply.build(m, aligned, factor, name="product")
        highest = ((1 << width) - 1) * int(config.reciprocals.max())
        result = round_saturate(
            m, product, width - 1, unsigned(TABLE_FRACTION), low=0, high=highest, name="coefficient"
        )
        m.d.comb += self.o.payload.eq(result)
