"""Scaling of a layer's sums by constants of the layer and the channel, and the way out of the loop."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module, Mux, Shape, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.round_saturate import nearest_word
from karui.hw.arithmetic.wide_multiply import WideMultiply
from karui.hw.generated.loop_entry import layer_count
from karui.hw.memory.memory_style import rom_attributes
from karui.hw.streams.counters import cycle
from karui.hw.streams.elementwise import signed_range
from karui.hw.streams.stream import ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.streams.timing import require_divisor
from karui.sw.ir import GeneratedLayers
from karui.sw.numerics import pack, signed, to_integers

_READ_LATENCY = 3
"""Cycles from a beat to its constants: the address, the memory, a register."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerScalingConfig:
    """Parameters of a `LayerScaling`.

    Parameters
    ----------
    op : karui.sw.ir.GeneratedLayers
    order : StructLayout
        With the frame's `depth`.
    positions, channels, lanes : int
        Of a map; the lanes of a beat divide the channels.
    multipliers, offsets : ndarray of int64, shape (last depth, channels)
    """

    op: GeneratedLayers
    order: data.StructLayout
    positions: int
    channels: int
    lanes: int
    multipliers: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        require_divisor("lanes of a layer's scaling", self.lanes, self.channels, "channels")

    @property
    def folds(self) -> int:
        """Beats of a position."""
        return self.channels // self.lanes

    @property
    def beats(self) -> int:
        """Beats of a map."""
        return self.positions * self.folds

    @property
    def half(self) -> int:
        """What is added so that dropping places rounds to the nearest."""
        return (1 << self.op.shift) >> 1

    @cached_property
    def total_range(self) -> tuple[int, int]:
        """Smallest and largest value before the shift, the rounding's half included."""
        ends = np.array([[[self.op.accumulator.minimum]], [[self.op.accumulator.maximum]]])
        totals = self.multipliers * ends + self.offsets + self.half
        return int(totals.min()), int(totals.max())

    @property
    def multiply(self) -> WideMultiply:
        """The multiplication of a lane."""
        return WideMultiply(left=self.op.accumulator.bits, right=self.constant_bits[0])

    @property
    def constant_bits(self) -> tuple[int, int]:
        """Bits of a multiplier and of an offset, signed."""
        low, high = (int(end(self.offsets)) + self.half for end in (np.min, np.max))
        factors = int(self.multipliers.min()), int(self.multipliers.max())
        return signed_range(*factors).width, signed_range(low, high).width

    @property
    def words(self) -> list[int]:
        """The constants, a word for each layer's each beat of channels: multipliers lowest, then offsets."""
        shape = (-1, self.lanes)
        factor, offset = (
            to_integers(pack(values.reshape(shape), signed(bits)))
            for values, bits in zip((self.multipliers, self.offsets + self.half), self.constant_bits, strict=True)
        )
        return [low | high << self.lanes * self.constant_bits[0] for low, high in zip(factor, offset, strict=True)]

    @property
    def latency(self) -> int:
        """Cycles from a beat to its result."""
        return _READ_LATENCY + self.multiply.latency + 1 + self.op.residual + 1


class LayerScaling(wiring.Component):
    """Computes the words that a layer passes on, and lets those of the frame's last layer leave the loop.

    Latency ``config.latency + 2`` cycles, throughput a beat a cycle.

    Parameters
    ----------
    config : LayerScalingConfig

    Members
    -------
    orders : In(stream)
        The frame's order, taken with its last beat.
    i : In(stream)
        Sums, `lanes` channels a beat.
    before : In(stream)
        What the layer had as its input, likewise; only of a residual operation.
    again, o : Out(stream)
        Words that go round, and words of the last layer.
    """

    orders: stream.Interface
    i: stream.Interface
    before: stream.Interface
    again: stream.Interface
    o: stream.Interface

    def __init__(self, config: LayerScalingConfig) -> None:
        self.config = config
        words = stream.Signature(lanes_of(config.op.output, config.lanes))
        super().__init__(
            {
                "orders": In(stream.Signature(config.order)),
                "i": In(stream.Signature(lanes_of(config.op.accumulator, config.lanes))),
                "again": Out(words),
                "o": Out(words),
            }
            | ({"before": In(words)} if config.op.residual else {})
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, op = self.config, self.config.op
        words = lanes_of(op.output, config.lanes)
        payload = data.StructLayout({"words": words, "leaves": 1})
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(payload=payload, period=1, latency=config.latency)
        )
        accept, takes = Signal(), Signal()
        layers = layer_count(m, self.orders, config.beats, step=accept)
        m.d.comb += takes.eq(layers.known & output.credit)
        if op.residual:
            m.d.comb += [
                accept.eq(self.i.valid & self.before.valid & takes),
                self.i.ready.eq(self.before.valid & takes),
                self.before.ready.eq(self.i.valid & takes),
            ]
        else:
            m.d.comb += [accept.eq(self.i.valid & takes), self.i.ready.eq(takes)]
        m.d.comb += [
            output.reserve.eq(accept),
            output.i.valid.eq(delayed(m, accept, config.latency, name="valid", control=True)),
            output.i.payload.leaves.eq(delayed(m, layers.is_last, config.latency, name="leaves")),
            self.o.valid.eq(output.o.valid & output.o.payload.leaves),
            self.again.valid.eq(output.o.valid & ~output.o.payload.leaves),
            self.o.payload.eq(output.o.payload.words),
            self.again.payload.eq(output.o.payload.words),
            output.o.ready.eq(Mux(output.o.payload.leaves, self.o.ready, self.again.ready)),
        ]
        fold = cycle(m, "fold", config.folds, step=accept)
        constants = self._constants(m, fold.number, layers.ends_map, layers.ends_frame)
        factor_bits, offset_bits = config.constant_bits
        offsets = constants[config.lanes * factor_bits :]
        low, high = config.total_range
        for lane in range(config.lanes):
            value = delayed(m, self.i.payload[lane], _READ_LATENCY, name=f"value_{lane}")
            factor = constants[lane * factor_bits : (lane + 1) * factor_bits].as_signed()
            product = config.multiply.build(m, value.as_signed(), factor, name=f"product_{lane}")
            offset = delayed(
                m,
                offsets[lane * offset_bits : (lane + 1) * offset_bits],
                config.multiply.latency,
                name=f"offset_{lane}",
            )
            total = Signal(signed_range(low, high), name=f"total_{lane}", reset_less=True)
            m.d.sync += total.eq(product + offset.as_signed())
            scaled = Signal(signed_range(low >> op.shift, high >> op.shift), name=f"scaled_{lane}")
            m.d.comb += scaled.eq(total >> op.shift)
            if op.residual:
                own = delayed(m, self.before.payload[lane], config.latency - 2, name=f"before_{lane}")
                added = Signal(
                    signed_range(low >> op.shift, (high >> op.shift) + op.output.maximum),
                    name=f"added_{lane}",
                    reset_less=True,
                )
                m.d.sync += added.eq(scaled + own)
                scaled = added
            result = Signal(Shape(op.output.bits), name=f"result_{lane}", reset_less=True)
            m.d.sync += result.eq(nearest_word(m, scaled, op.output, name=f"fits_{lane}"))
            m.d.comb += output.i.payload.words[lane].eq(result)
        return m

    def _constants(self, m: Module, fold: Signal, ends_map: Value, ends_frame: Value) -> Value:
        """The constants of the beat of `_READ_LATENCY` cycles ago."""
        config = self.config
        words = config.words
        width = config.lanes * sum(config.constant_bits)
        start, address = Signal(range(len(words) + 1)), Signal(range(len(words)), reset_less=True)
        following = Signal.like(start)
        m.d.comb += following.eq(Mux(ends_frame, 0, start + config.folds))
        with m.If(ends_map):
            m.d.sync += start.eq(following)
        m.d.sync += address.eq(start + fold)
        m.submodules.constants = rom = memory.Memory(
            shape=Shape(width), depth=len(words), init=words, attrs=rom_attributes("block")
        )
        read = rom.read_port()
        m.d.comb += read.addr.eq(address)
        return delayed(m, read.data, _READ_LATENCY - 2, name="constants")
