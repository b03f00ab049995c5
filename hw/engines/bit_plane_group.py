"""A group of lanes of the bit-plane engine: products, sums and activation of neighbouring outputs."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from karui.hw.activations.threshold import ThresholdConfig
from karui.hw.engines.coefficient_sums import CoefficientSums, CoefficientSumsConfig
from karui.hw.engines.lane_group import ScalingConfig, activation_pipeline
from karui.hw.engines.plane_products import PlaneProducts, PlaneProductsConfig
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import Tagged, delayed, lanes_of
from karui.sw.numerics import NumberFormat


@dataclass(frozen=True, kw_only=True, eq=False)
class BitPlaneGroupConfig:
    """Parameters of a `BitPlaneGroup`.

    Parameters
    ----------
    products : PlaneProductsConfig
        Of the lanes' bases, those of one lane beside one another.
    sums : CoefficientSumsConfig
        Of the lanes.
    activation : ThresholdConfig, RequantizeConfig or DoubleRoundingConfig, optional
        Of the group's channels, in a single lane; without it the sums leave.
    """

    products: PlaneProductsConfig
    sums: CoefficientSumsConfig
    activation: ThresholdConfig | ScalingConfig | None = None

    @property
    def lanes(self) -> int:
        """Results of a beat."""
        return self.sums.lanes

    @property
    def output_format(self) -> NumberFormat:
        """Format of a result."""
        return self.sums.sum_format if self.activation is None else self.activation.output_format

    @property
    def latency(self) -> int:
        """Cycles from the last operands of a fold to its results."""
        activation = 0 if self.activation is None else self.activation.latency
        return self.products.latency + self.sums.latency + activation + (self.lanes > 1)


class BitPlaneGroup(wiring.Component):
    """Neighbouring outputs of a bit-plane engine: a fixed-latency pipeline from operands to results.

    Sums come one lane after another, and so they pass one activation, of which all lanes have the multiplier in common.
    Latency `config.latency` cycles from the last operands of a fold, throughput a beat of operands a cycle.

    Parameters
    ----------
    config : BitPlaneGroupConfig

    Members
    -------
    i : In(Tagged)
        Operands, ``config.products.products.operands``.
    o : Out(Tagged)
        Results, a beat for each fold.
    """

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: BitPlaneGroupConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(Tagged(config.products.products.operands)),
                "o": Out(Tagged(lanes_of(config.output_format, config.lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.products = products = PlaneProducts(config.products)
        m.submodules.sums = sums = CoefficientSums(config.sums)
        wiring.connect(m, wiring.flipped(self.i), products.i)
        wiring.connect(m, products.o, sums.i)
        results = sums.o
        if config.activation is not None:
            m.submodules.activation = activation = activation_pipeline(config.activation)
            wiring.connect(m, sums.o, activation.i)
            results = activation.o
        if config.lanes == 1:
            wiring.connect(m, results, wiring.flipped(self.o))
            return m
        lane = cycle(m, "lane", config.lanes, step=results.valid)
        beat = Signal(config.lanes * config.output_format.bits, reset_less=True)
        with m.If(results.valid):
            m.d.sync += beat.eq(Cat(beat[config.output_format.bits :], results.payload.as_value()))
        m.d.comb += [
            self.o.payload.as_value().eq(beat),
            self.o.valid.eq(delayed(m, results.valid & lane.is_last, 1, name="whole", control=True)),
        ]
        return m
