"""Scaling of integers to a narrower format, by a multiplier and an offset a channel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module, Mux, Shape, Signal, Value

from karui.hw.activations.channel_parameters import check_channels, current_parameters, lane_slice
from karui.hw.arithmetic.round_saturate import nearest_word
from karui.hw.arithmetic.wide_multiply import WideMultiply
from karui.hw.streams.elementwise import Elementwise, ElementwiseConfig, ElementwisePipeline, signed_range
from karui.hw.streams.stream import delayed, integer_of
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import Overflow, Rounding, signed

_WIDEST = 62
"""Bits of the largest scaled value: what the golden model computes without overflow."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RequantizeConfig(ElementwiseConfig):
    """Parameters of a `RequantizePipeline` and of a `Requantize`, beside those of every `ElementwiseConfig`.

    Parameters
    ----------
    multipliers, offsets : ndarray of int64, shape (channels,) or (1,)
        Integers for each channel, or one for all.
    shift : int
        Binary places that are dropped, 0 or more.
    rounding : Rounding
        Of the places dropped.
    overflow : Overflow
        Saturate at the output format's limits, or wrap.
    output_format : NumberFormat
        Unsigned or signed.

    Raises
    ------
    ValueError
        If shapes or formats do not fit each other, or a scaled value takes more than 62 bits.
    """

    multipliers: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    shift: int
    rounding: Rounding
    overflow: Overflow

    def __post_init__(self) -> None:
        require_divisor("lanes of a requantization", self.lanes, self.channels, "channels")
        check_channels(self.channels, multipliers=self.multipliers, offsets=self.offsets)
        if self.shift < 0:
            raise ValueError(f"a requantization shifts right by 0 or more, not {self.shift}")
        if self.output_format.is_bipolar:
            raise ValueError("a requantization yields unsigned or signed words, not bipolar ones; use a threshold")
        low, high = self.total_range
        if max(-low, high + 1) > 1 << (_WIDEST - 1):
            raise ValueError(f"scaled values reach from {low} to {high}, more than {_WIDEST} bits hold")

    @property
    def half(self) -> int:
        """What is added so that dropping places rounds to the nearest."""
        return 0 if self.shift == 0 or self.rounding is Rounding.FLOOR else 1 << (self.shift - 1)

    @property
    def total_range(self) -> tuple[int, int]:
        """Smallest and largest value before the shift, the rounding's half included."""
        ends = (self.input_format.minimum, self.input_format.maximum)
        pairs = set(zip(*np.broadcast_arrays(self.multipliers, self.offsets), strict=True))
        totals = [int(multiplier) * end + int(offset) + self.half for multiplier, offset in pairs for end in ends]
        return min(totals), max(totals)

    @property
    def multiply(self) -> WideMultiply:
        """The multiplication of a lane."""
        low, high = self.input_format.minimum, self.input_format.maximum
        return WideMultiply(
            left=signed_range(low, high).width,
            right=signed_range(int(self.multipliers.min()), int(self.multipliers.max())).width,
        )

    @property
    def changes_signs_only(self) -> bool:
        """Whether every multiplier is +1 or -1: such products take an adder and no device multiplier."""
        return bool((abs(self.multipliers) == 1).all())

    @property
    def product_latency(self) -> int:
        """Cycles from the operands to the product."""
        return 1 if self.changes_signs_only else self.multiply.latency

    @property
    def latency(self) -> int:
        """Cycles of the pipeline: operands, product, offset, rounding and overflow."""
        return 1 + self.product_latency + 1 + 1

    def lane_slice(self, first: int, lanes: int) -> RequantizeConfig:
        """The same scaling for `lanes` lanes from lane `first` of each beat on."""
        return replace(
            self,
            channels=self.folds * lanes,
            lanes=lanes,
            multipliers=lane_slice(self.multipliers, self.lanes, first, lanes),
            offsets=lane_slice(self.offsets, self.lanes, first, lanes),
        )


class RequantizePipeline(ElementwisePipeline):
    """Computes ``overflow(round((x * multiplier + offset) / 2**shift))`` for each lane.

    It counts the beats itself to know the channels. Latency `config.latency` cycles (6, and more where a product takes
    several multipliers, 4 where all are +1 or -1), throughput a beat a cycle. Each lane has its multipliers, 18 x 18
    bits each with registers before and after, or none for +1 and -1; parameters that differ between channels lie in a
    ROM.

    Rounding to the nearest adds half before the shift, for which the offsets pay. That lifts ties; ties to even then
    clear the lowest bit, since a tie is where the dropped places, half included, are all zero.

    Parameters
    ----------
    config : RequantizeConfig

    Members
    -------
    i : In(Tagged)
        Values.
    o : Out(Tagged)
        Results, in the output format.
    """

    def __init__(self, config: RequantizeConfig) -> None:
        self.config = config
        super().__init__(config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        multiply = config.multiply
        total_shape = signed_range(*config.total_range)
        operands_valid = delayed(m, self.i.valid, 1, name="operands_valid", control=True)
        product_valid = delayed(m, operands_valid, config.product_latency, name="product_valid", control=True)
        multipliers = self._parameters(m, "multipliers", config.multipliers, operands_valid)
        offsets = self._parameters(m, "offsets", config.offsets + config.half, product_valid)
        m.d.comb += self.o.valid.eq(delayed(m, product_valid, 2, name="valid", control=True))
        for lane in range(config.lanes):
            value = Signal(Shape(multiply.left, signed=True), name=f"value_{lane}", reset_less=True)
            m.d.sync += value.eq(integer_of(self.i.payload[lane], config.input_format))
            product: Value
            if config.changes_signs_only:
                product = Signal(signed_range(-(1 << multiply.left - 1), 1 << multiply.left - 1), reset_less=True)
                m.d.sync += product.eq(Mux(multipliers[lane][-1], -value, value))
            else:
                product = multiply.build(m, value, multipliers[lane], name=f"product_{lane}")
            total = Signal(total_shape, name=f"total_{lane}", reset_less=True)
            m.d.sync += total.eq(product + offsets[lane])
            result = Signal(self.o.payload[lane].shape(), name=f"result_{lane}", reset_less=True)
            m.d.sync += result.eq(self._fitted(m, self._rounded(m, total, lane), lane))
            m.d.comb += self.o.payload[lane].eq(result)
        return m

    def _parameters(self, m: Module, name: str, values: npt.NDArray[np.int64], used: Value) -> list[Value]:
        """The values of the channels of the current beat; `used` steps to the next beat's."""
        stored = signed(signed_range(int(values.min()), int(values.max())).width)
        return current_parameters(m, name, values, stored, self.config, used=used)

    def _rounded(self, m: Module, total: Signal, lane: int) -> Signal:
        config = self.config
        low, high = config.total_range
        rounded = Signal(signed_range(low >> config.shift, high >> config.shift), name=f"rounded_{lane}")
        m.d.comb += rounded.eq(total >> config.shift)
        if config.rounding is Rounding.HALF_EVEN and config.shift:
            with m.If(total[: config.shift] == 0):
                m.d.comb += rounded[0].eq(0)
        return rounded

    def _fitted(self, m: Module, rounded: Signal, lane: int) -> Value:
        output = self.config.output_format
        low, high = self.config.total_range
        if self.config.overflow is Overflow.WRAP or output.holds_range(
            low >> self.config.shift, high >> self.config.shift
        ):
            return rounded
        return nearest_word(m, rounded, output, name=f"fits_{lane}")


class Requantize(Elementwise):
    """A stage of its own: a `RequantizePipeline` between streams; see `Elementwise`.

    Parameters
    ----------
    config : RequantizeConfig
        With a period of 1.
    """

    def __init__(self, config: RequantizeConfig) -> None:
        super().__init__(config, RequantizePipeline(config))
