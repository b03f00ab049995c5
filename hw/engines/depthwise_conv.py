"""The depthwise convolution engine: each channel of a map with a kernel of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.integer_dot_product import Multiplier
from karui.hw.engines.lane_group import LaneGroup, LaneGroupConfig
from karui.hw.engines.tap_window import TAP_LATENCY, TapWindow, TapWindowConfig
from karui.hw.memory.memory_style import Storage
from karui.hw.memory.weight_rom import WeightRom, WeightRomConfig
from karui.hw.memory.word_source import WeightSource
from karui.hw.streams.stream import FIFO_LATENCY, ElasticOutput, ElasticOutputConfig, Tagged, delayed, lanes_of
from karui.hw.streams.timing import Cycles, Schedule
from karui.sw.numerics import NumberFormat


@dataclass(frozen=True, kw_only=True, eq=False)
class DepthwiseConvConfig:
    """Parameters of a `DepthwiseConv`.

    Parameters
    ----------
    windows : TapWindowConfig
        The map, its windows, and as lanes the channels that are computed together (PE). With whole windows a sum takes
        one cycle (SIMD = KH * KW), with columns KW of them (SIMD = KH).
    weight_format : NumberFormat
        Format of a weight: bipolar, unsigned or signed.
    accumulator : NumberFormat
        Format of the sums, wide enough for every sum.
    bias : ndarray of shape (channels,), optional
        Integers that are added to the sums.
    multiplier : {"dsp", "lut"}
        What products with integer weights are made of.

    Raises
    ------
    ValueError
        If the accumulator is not signed or the bias has another shape.
    """

    windows: TapWindowConfig
    weight_format: NumberFormat
    accumulator: NumberFormat
    bias: npt.NDArray[Any] | None = None
    multiplier: Multiplier = "dsp"

    def __post_init__(self) -> None:
        if self.accumulator.kind != "signed":
            raise ValueError(f"accumulator must be signed, not {self.accumulator}")
        if self.bias is not None and self.bias.shape != (self.windows.channels,):
            raise ValueError(f"bias must be of shape ({self.windows.channels},), not {self.bias.shape}")

    @property
    def pe(self) -> int:
        """Channels computed together."""
        return self.windows.lanes

    @property
    def simd(self) -> int:
        """Taps of a channel multiplied in a cycle."""
        return self.windows.word_taps

    @property
    def weight_source(self) -> WeightSource:
        """Signature of the weights."""
        return WeightSource(groups=1, width=self.pe * self.simd * self.weight_format.bits)

    @property
    def pipeline_latency(self) -> int:
        """Cycles from the step that completes a window to the valid tag of its sum."""
        return TAP_LATENCY + self.lane(0).products.prepare_latency + self.lane(0).latency

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.windows.interval

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat, with weights that are always available; see `Schedule`."""
        accepted, steps = self.windows.word_steps(arrivals)
        complete = steps[self.windows.words_per_window - 1 :: self.windows.words_per_window]
        return Schedule(accepted=accepted, departures=complete + self.pipeline_latency + FIFO_LATENCY)

    def lane(self, lane: int) -> LaneGroupConfig:
        """The processing element of every `pe`-th channel from `lane` on."""
        channels = self.windows.channels
        initial = np.zeros(channels, dtype=np.int64) if self.bias is None else self.bias.astype(np.int64)
        counts_equal_bits = self.weight_format.is_bipolar and self.windows.element.is_bipolar
        if counts_equal_bits:
            initial = initial - self.windows.kernel[0] * self.windows.kernel[1]
        return LaneGroupConfig(
            lanes=1,
            simd=self.simd,
            terms=self.windows.words_per_window,
            input_format=self.windows.element,
            weight_format=self.weight_format,
            output_format=self.accumulator,
            scale=2 if counts_equal_bits else 1,
            sum_format=self.accumulator,
            initial=initial[lane :: self.pe, None],
            activation=None,
            multiplier=self.multiplier,
        )


class DepthwiseConv(wiring.Component):
    """Convolve each channel of a feature map with its own kernel, bit-exactly.

    The taps of a window, or of one of its columns, are read side by side (`TapWindow`) and multiplied at once, for PE
    channels at a time. With whole windows and a stride of 1 there is a sum for each lane in every cycle but those of
    the right border: OH * (W + right padding) * C / PE cycles a frame. With columns a sum takes KW cycles: at a stride
    of 2 that keeps up with the map, and multipliers of a 3 x 3 kernel work 3 cycles of 4. Sums leave only into places
    that are free for them.

    Parameters
    ----------
    config : DepthwiseConvConfig

    Members
    -------
    i : In(stream)
        Map [height, width, channels] in raster order, `pe` channels a beat, up to 1 beat a cycle.
    weights : In(WeightSource)
        Weights in the order of the loop (C / PE words, or KW for each of them): rows are channels, and a row's taps in
        the order (kx, ky). Latency `TAP_LATENCY`: the weights of a step come with its taps.
    o : Out(stream)
        Sums [output height, output width, channels] in raster order, `pe` channels a beat.
    """

    i: stream.Interface
    weights: wiring.PureInterface
    o: stream.Interface

    def __init__(self, config: DepthwiseConvConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.windows.element, config.pe))),
                "weights": In(config.weight_source),
                "o": Out(stream.Signature(lanes_of(config.accumulator, config.pe))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.windows = windows = TapWindow(config.windows)
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(
                payload=lanes_of(config.accumulator, config.pe), period=1, latency=config.pipeline_latency
            )
        )
        wiring.connect(m, wiring.flipped(self.i), windows.i)
        wiring.connect(m, output.o, wiring.flipped(self.o))
        m.d.comb += [
            windows.credit.eq(output.credit & self.weights.available),
            self.weights.take.eq(windows.steps),
            output.reserve.eq(windows.completes),
        ]
        width = config.simd * config.weight_format.bits
        for index in range(config.pe):
            m.submodules[f"lane_{index}"] = lane = _Lane(config.lane(index))
            m.d.comb += [
                lane.i.valid.eq(windows.o.valid),
                lane.i.payload.taps.as_value().eq(Cat(windows.o.payload[tap][index] for tap in range(config.simd))),
                lane.i.payload.weights.eq(self.weights.data[0][index * width : (index + 1) * width]),
                output.i.payload[index].eq(lane.o.payload[0]),
            ]
        m.d.comb += output.i.valid.eq(lane.o.valid)
        return m


class _Lane(wiring.Component):
    """One processing element; a module of its own, so that equal ones are emitted once."""

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, config: LaneGroupConfig) -> None:
        self.config = config
        operands = data.StructLayout(
            {
                "taps": lanes_of(config.input_format, config.simd),
                "weights": unsigned(config.simd * config.weight_format.bits),
            }
        )
        super().__init__({"i": In(Tagged(operands)), "o": Out(Tagged(lanes_of(config.output_format, 1)))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        products = self.config.products
        m.submodules.sums = sums = LaneGroup(self.config)
        delay = products.prepare_latency
        m.d.comb += [
            sums.i.valid.eq(delayed(m, self.i.valid, delay, name="valid", control=True)),
            sums.i.payload.activations.as_value().eq(products.prepare(m, self.i.payload.taps)),
            sums.i.payload.weights.as_value().eq(delayed(m, self.i.payload.weights, delay, name="weights")),
        ]
        wiring.connect(m, sums.o, wiring.flipped(self.o))
        return m


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstantDepthwiseConvConfig:
    """Parameters of a `ConstantDepthwiseConv`.

    Parameters
    ----------
    engine : DepthwiseConvConfig
        The engine.
    weights : ndarray of shape (KH, KW, channels)
        Its weights, in the engine's format.
    storage : {"block", "distributed", "auto"}
        Memory that holds them.

    Raises
    ------
    ValueError
        If the weights are of another shape or do not fit the format.
    """

    engine: DepthwiseConvConfig
    weights: npt.NDArray[Any]
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        shape = (*self.engine.windows.kernel, self.engine.windows.channels)
        if self.weights.shape != shape:
            raise ValueError(f"weights of a depthwise convolution must be of shape {shape}, not {self.weights.shape}")
        assert self.rom.latency == TAP_LATENCY

    @property
    def rom(self) -> WeightRomConfig:
        """The weights' memory: a row a channel, its taps in the order (kx, ky)."""
        return WeightRomConfig(
            weights=self.weights.transpose(2, 1, 0).reshape(self.engine.windows.channels, -1),
            pe=self.engine.pe,
            simd=self.engine.simd,
            weight_format=self.engine.weight_format,
            storage=self.storage,
        )

    @property
    def interval(self) -> int:
        """Cycles a frame."""
        return self.engine.interval

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; the ROM is always available."""
        return self.engine.schedule(arrivals)


class ConstantDepthwiseConv(wiring.Component):
    """A depthwise convolution engine with its weights in ROM.

    Parameters
    ----------
    config : ConstantDepthwiseConvConfig

    Members
    -------
    i : In(stream)
        Map, PE channels a beat.
    o : Out(stream)
        Sums, PE channels a beat.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: ConstantDepthwiseConvConfig) -> None:
        self.config = config
        engine = config.engine
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(engine.windows.element, engine.pe))),
                "o": Out(stream.Signature(lanes_of(engine.accumulator, engine.pe))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.engine = engine = DepthwiseConv(self.config.engine)
        m.submodules.weights = weights = WeightRom(self.config.rom)
        wiring.connect(m, weights.o, engine.weights)
        wiring.connect(m, wiring.flipped(self.i), engine.i)
        wiring.connect(m, engine.o, wiring.flipped(self.o))
        return m
