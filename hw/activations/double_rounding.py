"""TensorFlow Lite's requantization: a 31-bit multiplier and a shift a channel, rounded one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value

from karui.hw.activations.channel_parameters import check_channels, current_parameters, lane_slice
from karui.hw.arithmetic.wide_multiply import WideMultiply
from karui.hw.streams.elementwise import Elementwise, ElementwiseConfig, ElementwisePipeline, signed_range
from karui.hw.streams.stream import delayed, integer_of
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import signed, unsigned

_MULTIPLIER_PLACES = 31
_WIDEST = 62
"""Bits of the largest multiplier that a memory holds here."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DoubleRoundingConfig(ElementwiseConfig):
    """Parameters of a `DoubleRoundingPipeline` and of a `DoubleRounding`, beside those of every `ElementwiseConfig`.

    Parameters
    ----------
    multipliers, exponents : ndarray of int64, shape (channels,) or (1,)
        For each channel, or one for all: 0 to ``2**31 - 1``; to the left where positive.
    zero_point : int
        Added to the result.
    minimum, maximum : int
        Limits of the result, in the output format.
    output_format : NumberFormat
        Unsigned or signed.

    Raises
    ------
    ValueError
        If shapes or formats do not fit each other, or the exponents lie more than 31 apart.
    """

    multipliers: npt.NDArray[np.int64]
    exponents: npt.NDArray[np.int64]
    zero_point: int
    minimum: int
    maximum: int

    def __post_init__(self) -> None:
        require_divisor("lanes of a double rounding", self.lanes, self.channels, "channels")
        check_channels(self.channels, multipliers=self.multipliers, exponents=self.exponents)
        if self.output_format.is_bipolar or not self.output_format.holds_range(self.minimum, self.maximum):
            raise ValueError(
                f"limits {self.minimum} to {self.maximum} of a double rounding must be words of its output format, "
                f"unsigned or signed, not {self.output_format}"
            )
        if int(self.places.max()) > _WIDEST - _MULTIPLIER_PLACES:
            raise ValueError(
                f"exponents of a double rounding from {self.exponents.min()} to {self.exponents.max()} lie too far "
                f"apart: at most {_WIDEST - _MULTIPLIER_PLACES} between the largest and zero or the least; give "
                "channels that are always zero the exponent of the others"
            )

    @property
    def divided_places(self) -> int:
        """Binary places that the second rounding drops, alike for all channels."""
        return max(0, -int(self.exponents.min()))

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """Binary places by which each multiplier is shifted left; see `DoubleRoundingPipeline`."""
        places: npt.NDArray[np.int64] = self.exponents + self.divided_places
        return places

    @property
    def cleared_places(self) -> npt.NDArray[np.int64]:
        """Binary places behind the first rounding's integer, of each channel."""
        cleared: npt.NDArray[np.int64] = self.places - self.exponents.clip(min=0)
        return cleared

    @property
    def shifted_multipliers(self) -> npt.NDArray[np.int64]:
        """The multiplier of each channel, exponent included."""
        shifted: npt.NDArray[np.int64] = self.multipliers << self.places
        return shifted

    @property
    def once_rounded_range(self) -> tuple[int, int]:
        """Smallest and largest value behind the first rounding."""
        largest = max(int(value) for value in np.atleast_1d(self.shifted_multipliers))
        half = 1 << (_MULTIPLIER_PLACES - 1 + int(self.cleared_places.max()))
        low, high = (
            end * largest + half >> _MULTIPLIER_PLACES for end in (self.input_format.minimum, self.input_format.maximum)
        )
        # Cleared places only lower a value; a channel of multiplier 0 yields 0.
        return min(low, 0) - (1 << int(self.cleared_places.max())), max(high, 0)

    @property
    def twice_rounded_range(self) -> tuple[int, int]:
        """Smallest and largest value before the limits."""
        half = 1 << self.divided_places >> 1
        low, high = self.once_rounded_range
        dropped = self.divided_places
        return (low - 1 + half >> dropped) + self.zero_point, (high + half >> dropped) + self.zero_point

    @property
    def multiply(self) -> WideMultiply:
        """The multiplication of a lane."""
        low, high = self.input_format.minimum, self.input_format.maximum
        return WideMultiply(
            left=signed_range(low, high).width,
            right=signed_range(0, int(self.shifted_multipliers.max())).width,
        )

    @property
    def latency(self) -> int:
        """Cycles of the pipeline: operands, product, both roundings, comparison with the limits and choice."""
        return 1 + self.multiply.latency + 4

    def lane_slice(self, first: int, lanes: int) -> DoubleRoundingConfig:
        """The same for `lanes` lanes from lane `first` of each beat on."""
        return replace(
            self,
            channels=self.folds * lanes,
            lanes=lanes,
            multipliers=lane_slice(self.multipliers, self.lanes, first, lanes),
            exponents=lane_slice(self.exponents, self.lanes, first, lanes),
        )


class DoubleRoundingPipeline(ElementwisePipeline):
    """Computes ``clamp(round(round(x 2**max(e, 0) m / 2**31) / 2**max(-e, 0)) + zero_point)`` for each lane.

    The first rounding takes ties up, the second away from zero; both are those of `karui.sw.numerics`. Let R be the
    most places that the second drops in any channel, and ``s = R - max(-e, 0)``. A channel's multiplier is stored as
    ``m 2**(max(e, 0) + s)``: the product then has s more places, a half is added s places higher, and clearing the s
    places below the integer leaves the first rounding's result times ``2**s``. So the second rounding drops R places in
    every channel, which takes no shifter, and rounds alike: a tie keeps its distance, and what is beyond one is so by
    ``2**-R`` at the least. It adds a half, and one less to a negative.

    It counts the beats itself to know the channels. Latency `config.latency` cycles, throughput a beat a cycle. Each
    lane has its multipliers, 18 x 18 bits each; parameters that differ between channels lie in a ROM.

    Parameters
    ----------
    config : DoubleRoundingConfig

    Members
    -------
    i : In(Tagged)
        Values.
    o : Out(Tagged)
        Results, in the output format.
    """

    def __init__(self, config: DoubleRoundingConfig) -> None:
        self.config = config
        super().__init__(config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        multiply = config.multiply
        operands_valid = delayed(m, self.i.valid, 1, name="operands_valid", control=True)
        product_valid = delayed(m, operands_valid, multiply.latency, name="product_valid", control=True)
        m.d.comb += self.o.valid.eq(delayed(m, product_valid, 4, name="valid", control=True))
        multipliers = current_parameters(
            m, "multipliers", config.shifted_multipliers, signed(multiply.right), config, used=operands_valid
        )
        # One bit for each place that is cleared, from the lowest.
        widest = int(config.cleared_places.max())
        cleared = current_parameters(
            m, "cleared", (1 << config.cleared_places) - 1, unsigned(max(1, widest)), config, used=product_valid
        )
        for lane in range(config.lanes):
            value = Signal(Shape(multiply.left, signed=True), name=f"value_{lane}", reset_less=True)
            m.d.sync += value.eq(integer_of(self.i.payload[lane], config.input_format))
            product = multiply.build(m, value, multipliers[lane], name=f"product_{lane}")
            m.d.comb += self.o.payload[lane].eq(self._rounded(m, product, cleared[lane], lane))
        return m

    def _rounded(self, m: Module, product: Value, cleared: Value, lane: int) -> Value:
        """The result of a lane, 4 cycles after the product."""
        config = self.config
        # Below the half's place nothing is added.
        kept = Signal(Shape(max(1, len(product) - _MULTIPLIER_PLACES + 1), signed=True), name=f"kept_{lane}")
        half = Signal(len(cleared) + 1, name=f"half_{lane}")
        # Small multipliers make products narrower than the half.
        wider = max(len(kept), len(half) + 1) + 1
        total = Signal(Shape(wider, signed=True), name=f"total_{lane}", reset_less=True)
        m.d.comb += [
            kept.eq(product >> (_MULTIPLIER_PLACES - 1)),
            half.eq(Cat(Const(1, 1), cleared) & ~Cat(cleared, Const(0, 1))),
        ]
        mask = delayed(m, cleared, 1, name=f"mask_{lane}")
        m.d.sync += total.eq(kept + half)
        once = Signal(signed_range(*config.once_rounded_range), name=f"once_{lane}")
        m.d.comb += once.eq((total >> 1) & ~Cat(mask, Const(0, 1)).as_signed())
        constant = (1 << config.divided_places >> 1) + (config.zero_point << config.divided_places)
        twice = Signal(signed_range(*config.twice_rounded_range), name=f"twice_{lane}", reset_less=True)
        # A half less one for a negative; where nothing is dropped there is no half.
        sum_ = once + (constant if config.divided_places == 0 else constant - 1 + Cat(~once[-1], Const(0, 1)))
        m.d.sync += twice.eq(sum_ >> config.divided_places)
        low = Signal(name=f"low_{lane}", reset_less=True)
        high = Signal(name=f"high_{lane}", reset_less=True)
        m.d.sync += [low.eq(twice < config.minimum), high.eq(twice > config.maximum)]
        within = delayed(m, twice, 1, name=f"within_{lane}")
        result = Signal(self.o.payload[lane].shape(), name=f"result_{lane}", reset_less=True)
        m.d.sync += result.eq(Mux(low, config.minimum, Mux(high, config.maximum, within)))
        return result


class DoubleRounding(Elementwise):
    """A stage of its own: a `DoubleRoundingPipeline` between streams; see `Elementwise`.

    Parameters
    ----------
    config : DoubleRoundingConfig
        With a period of 1.
    """

    def __init__(self, config: DoubleRoundingConfig) -> None:
        super().__init__(config, DoubleRoundingPipeline(config))
