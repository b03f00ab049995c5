"""Logits of routing: what predictions and capsules agree, added up over the iterations."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.hdl import signed as signed_shape
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.integer_dot_product import IntegerDotProductConfig, Multiplier
from karui.hw.arithmetic.products_of import products_latency, products_of
from karui.hw.arithmetic.round_saturate import saturated
from karui.hw.arithmetic.wide_multiply import WideMultiply
from karui.hw.memory.banked_ram import BankedRam, BankedRamConfig
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import Tagged, delayed, element_shape, lanes_of
from karui.sw.ir import Routing, agreement_range
from karui.sw.numerics import NumberFormat, format_for_range


@dataclass(frozen=True, kw_only=True)
class LogitsConfig:
    """Parameters of `Logits`.

    Parameters
    ----------
    op : Routing
    element : NumberFormat
        Format of the predictions.
    capsules : int
        Capsules I that predict.
    lanes : int
        Elements of a prediction a cycle; divides its length.
    multiplier : {"dsp", "lut"}
        What the dot products are made of.
    """

    op: Routing
    element: NumberFormat
    capsules: int
    lanes: int
    multiplier: Multiplier

    @property
    def folds(self) -> int:
        """Beats of a prediction."""
        return self.op.length // self.lanes

    @property
    def products(self) -> IntegerDotProductConfig:
        """The dot product of a beat."""
        return IntegerDotProductConfig(
            rows=1,
            simd=self.lanes,
            input_format=self.op.output,
            weight_format=self.element,
            multiplier=self.multiplier,
        )

    @property
    def agreement(self) -> NumberFormat:
        """Format of the dot product of a prediction and a capsule."""
        low, high = agreement_range(self.op, self.element)
        return format_for_range(min(low, -1), high)

    @property
    def multiply(self) -> WideMultiply:
        """What takes agreements to the scale of logits."""
        return WideMultiply(left=self.agreement.bits, right=self.op.agreement_multiplier.bit_length() + 1)

    @property
    def memory(self) -> BankedRamConfig:
        """The logits."""
        return BankedRamConfig(words=self.capsules * self.op.outputs, width=self.op.logits.bits)

    @property
    def step_latency(self) -> int:
        """Cycles from a prediction's last beat to what is added to its logit."""
        return products_latency(self.products) + (self.folds > 1) + self.multiply.latency + 1

    @property
    def latency(self) -> int:
        """Cycles from a prediction's last beat to its logit."""
        return self.step_latency + 2


class Logits(wiring.Component):
    """Adds the agreement of each prediction with the capsule that it predicts to its logit.

    A beat of a prediction and the capsule's like elements are multiplied and summed, the sums accumulated over the
    prediction's beats, scaled and rounded; the logit is read, increased, limited and written back. Latency
    ``config.latency`` cycles from the last beat, throughput a beat a cycle.

    Parameters
    ----------
    config : LogitsConfig

    Members
    -------
    i : In(Tagged)
        `word`, a beat of a prediction; `capsule`, the same elements of the capsule; `is_real`, whether it is one of the
        I * J predictions, or fills the time behind them; `is_fresh`, whether logits are still 0.
    o : Out(Tagged)
        A logit a prediction, in order.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: LogitsConfig) -> None:
        self.config = config
        beat = data.StructLayout(
            {
                "word": lanes_of(config.element, config.lanes),
                "capsule": lanes_of(config.op.output, config.lanes),
                "is_real": 1,
                "is_fresh": 1,
            }
        )
        super().__init__({"i": In(Tagged(beat)), "o": Out(Tagged(element_shape(config.op.logits)))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, op = self.config, self.config.op
        ends = Signal()
        beat = cycle(m, "beat", config.folds, step=self.i.valid)
        m.d.comb += ends.eq(self.i.valid & beat.is_last)
        flags = Cat(self.i.payload.is_real, self.i.payload.is_fresh)

        m.submodules.logits = logits = BankedRam(config.memory)
        at_read = config.step_latency - config.memory.latency
        reads = delayed(m, ends, at_read, name="reads", control=True)
        is_real, is_fresh = delayed(m, flags, at_read, name="flags")
        m.d.comb += logits.read_address.eq(cycle(m, "read", config.memory.words, step=reads & is_real).number)
        is_real, is_fresh = delayed(m, Cat(is_real, is_fresh), config.memory.latency, name="later_flags")

        step = self._step(m, self._agreement(m, beat.is_first))
        low, high = op.logits.minimum, op.logits.maximum
        reach = 1 << (len(step) - 1)
        total = Signal(element_shape(format_for_range(low - reach, high + reach)), reset_less=True)
        before = logits.read_data.as_signed()
        m.d.sync += total.eq(Mux(is_fresh, 0, before) + step)
        result = saturated(m, total, op.logits, name="logit")

        valid = delayed(m, reads, config.latency - at_read, name="valid", control=True)
        writes = valid & delayed(m, is_real, 2, name="is_written")
        m.d.comb += [
            logits.write_enable.eq(writes),
            logits.write_address.eq(cycle(m, "write", config.memory.words, step=writes).number),
            logits.write_data.eq(result),
            self.o.payload.eq(result),
            self.o.valid.eq(valid),
        ]
        return m

    def _agreement(self, m: Module, is_first: Signal) -> Value:
        config = self.config
        capsule = [self.i.payload.capsule[lane] for lane in range(config.lanes)]
        (products,) = products_of(m, config.products, capsule, [self.i.payload.word.as_value()], name="products")
        if config.folds == 1:
            return products
        latency = products_latency(config.products)
        begins = delayed(m, is_first, latency, name="begins")
        total = Signal(signed_shape(config.agreement.bits), name="agreement", reset_less=True)
        with m.If(delayed(m, self.i.valid, latency, name="multiplied", control=True)):
            m.d.sync += total.eq(products + Mux(begins, 0, total))
        return total

    def _step(self, m: Module, agreement: Value) -> Signal:
        """The agreement in the scale of the logits, rounded."""
        op, multiply = self.config.op, self.config.multiply
        factor = Const(op.agreement_multiplier, signed_shape(multiply.right))
        scaled = multiply.build(m, agreement, factor, name="scaled")
        rounded = scaled + (1 << (op.agreement_shift - 1))
        # A shift of everything leaves the sign.
        places = min(op.agreement_shift, len(rounded) - 2)
        step = Signal(signed_shape(len(rounded) - places), name="step", reset_less=True)
        m.d.sync += step.eq(rounded >> op.agreement_shift)
        return step
