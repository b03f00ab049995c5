"""Ends of an Euler generator's loop: the state that a frame begins with, and the one that a step leads to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.round_saturate import ROUND_LATENCY, round_saturate, rounded, saturated
from karui.hw.arithmetic.wide_multiply import WideMultiply
from karui.hw.generated.loop_entry import layer_count
from karui.hw.memory.memory_style import rom_attributes
from karui.hw.streams.counters import cycle
from karui.hw.streams.elementwise import signed_range
from karui.hw.streams.stream import ElasticOutput, ElasticOutputConfig, delayed, element_shape, lanes_of
from karui.sw.ir import EulerGenerator
from karui.sw.ir.puppet_ops import KERNEL, STATE
from karui.sw.numerics import signed

BEGIN_LATENCY = 2
"""Cycles from a beat of the pattern to that of the state: the sum, and its nearest word."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EulerLoopConfig:
    """Parameters of an `EulerBegin` and an `EulerUpdate`.

    Parameters
    ----------
    generator : EulerGenerator
    order : StructLayout
        With the frame's `depth` and `level`.
    beats : int
        Beats of a state.
    lanes : int
        Output channels a beat.
    base, step : ndarray of int64, shape (levels,)
        The generator's constants.
    """

    generator: EulerGenerator
    order: data.StructLayout
    beats: int
    lanes: int
    base: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]

    @property
    def multiply(self) -> WideMultiply:
        """Slope times step width."""
        limit = self.generator.limit
        steps = signed_range(int(self.step.min()), int(self.step.max()))
        return WideMultiply(left=signed_range(-limit, limit).width, right=steps.width)

    @property
    def update_latency(self) -> int:
        """Cycles from a slope to the state: limit, product, rounding, sum and its nearest word; then the kernel."""
        return 1 + self.multiply.latency + 1 + 2 + ROUND_LATENCY


class EulerBegin(wiring.Component):
    """Adds the base of the frame's level to the pattern: the state that a frame begins with.

    Latency `BEGIN_LATENCY` + 2 cycles, throughput a beat a cycle.

    Parameters
    ----------
    config : EulerLoopConfig

    Members
    -------
    orders : In(stream)
        The frame's order, taken with its last beat.
    i : In(stream)
        Pattern, a map for each frame.
    o : Out(stream)
        State.
    """

    orders: stream.Interface
    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: EulerLoopConfig) -> None:
        self.config = config
        state = stream.Signature(lanes_of(STATE, config.lanes))
        super().__init__({"orders": In(stream.Signature(config.order)), "i": In(state), "o": Out(state)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(payload=lanes_of(STATE, config.lanes), period=1, latency=BEGIN_LATENCY)
        )
        wiring.connect(m, output.o, wiring.flipped(self.o))
        accept, takes = Signal(), Signal()
        maps = _maps(m, self.orders, config.beats, step=accept)
        m.d.comb += [
            takes.eq(maps & output.credit),
            accept.eq(self.i.valid & takes),
            self.i.ready.eq(takes),
            output.reserve.eq(accept),
            output.i.valid.eq(delayed(m, accept, BEGIN_LATENCY, name="valid", control=True)),
        ]
        base = _of_level(m, "base", config.base, self.orders.payload.level)
        for lane in range(config.lanes):
            total = Signal(signed_range(2 * STATE.minimum, 2 * STATE.maximum), name=f"total_{lane}", reset_less=True)
            m.d.sync += total.eq(self.i.payload[lane] + base)
            m.d.comb += output.i.payload[lane].eq(saturated(m, total, STATE, name=f"state_{lane}"))
        return m


class EulerUpdate(wiring.Component):
    """Takes a step: state and slope in, the next state and the kernel of its layer out.

    Latency ``config.update_latency + 2`` cycles, throughput a beat a cycle.

    Parameters
    ----------
    config : EulerLoopConfig

    Members
    -------
    orders : In(stream)
        The frame's order, taken with its last beat.
    i : In(stream)
        Slopes, words of the state's format, `lanes` a beat.
    before : In(stream)
        The state.
    kernel : Out(stream)
        Kernels of all layers.
    again : Out(stream)
        States of all layers but the last.
    """

    orders: stream.Interface
    i: stream.Interface
    before: stream.Interface
    kernel: stream.Interface
    again: stream.Interface

    def __init__(self, config: EulerLoopConfig) -> None:
        self.config = config
        state = stream.Signature(lanes_of(STATE, config.lanes))
        super().__init__(
            {
                "orders": In(stream.Signature(config.order)),
                "i": In(state),
                "before": In(state),
                "kernel": Out(stream.Signature(lanes_of(KERNEL, config.lanes))),
                "again": Out(state),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, generator = self.config, self.config.generator
        latency = config.update_latency
        states, kernels = lanes_of(STATE, config.lanes), lanes_of(KERNEL, config.lanes)
        payload = data.StructLayout({"state": states, "kernel": kernels, "leaves": 1})
        m.submodules.output = output = ElasticOutput(ElasticOutputConfig(payload=payload, period=1, latency=latency))
        accept, takes = Signal(), Signal()
        layers = layer_count(m, self.orders, config.beats, step=accept)
        out = output.o.payload
        m.d.comb += [
            takes.eq(layers.known & output.credit),
            accept.eq(self.i.valid & self.before.valid & takes),
            self.i.ready.eq(self.before.valid & takes),
            self.before.ready.eq(self.i.valid & takes),
            output.reserve.eq(accept),
            output.i.valid.eq(delayed(m, accept, latency, name="valid", control=True)),
            output.i.payload.leaves.eq(delayed(m, layers.is_last, latency, name="leaves")),
            # Both readers take a beat at once; the last layer's state is of no use to the loop.
            self.kernel.payload.eq(out.kernel),
            self.again.payload.eq(out.state),
            self.kernel.valid.eq(output.o.valid & (self.again.ready | out.leaves)),
            self.again.valid.eq(output.o.valid & self.kernel.ready & ~out.leaves),
            output.o.ready.eq(self.kernel.ready & (self.again.ready | out.leaves)),
        ]
        step = _of_level(m, "step", config.step, self.orders.payload.level)
        limit, shift = generator.limit, generator.step_shift
        furthest = limit * int(abs(config.step).max())
        for lane in range(config.lanes):
            slope = Signal(signed_range(-limit, limit), name=f"slope_{lane}", reset_less=True)
            given = self.i.payload[lane]
            m.d.sync += slope.eq(Mux(given > limit, limit, Mux(given < -limit, -limit, given)))
            product = config.multiply.build(m, slope, step, name=f"product_{lane}")
            change = rounded(m, product, shift, low=-furthest, high=furthest, name=f"change_{lane}")
            total = Signal(Shape(max(STATE.bits, len(change)) + 1, signed=True), name=f"total_{lane}", reset_less=True)
            before = delayed(m, self.before.payload[lane], 2 + config.multiply.latency, name=f"before_{lane}")
            m.d.sync += total.eq(change + before.as_signed())
            state = saturated(m, total, STATE, name=f"state_{lane}")
            low, high = STATE.minimum, STATE.maximum
            kernel = round_saturate(m, state, generator.kernel_shift, KERNEL, low=low, high=high, name=f"kernel_{lane}")
            m.d.comb += [
                output.i.payload.state[lane].eq(delayed(m, state, ROUND_LATENCY, name=f"state_{lane}_after")),
                output.i.payload.kernel[lane].eq(kernel),
            ]
        return m


def _maps(m: Module, orders: stream.Interface, beats: int, *, step: Value) -> Signal:
    """Whether a frame's order is there; it is taken with the last beat of a map."""
    beat = cycle(m, "beat", beats, step=step)
    known = Signal(name="order_known")
    m.d.comb += orders.ready.eq(step & beat.is_last)
    m.d.sync += known.eq(orders.valid & ~orders.ready)
    return known


def _of_level(m: Module, name: str, values: npt.NDArray[np.int64], level: Value) -> Value:
    """A constant of the frame's level, as soon as the order counts as known and until a cycle after it is taken."""
    bits = signed_range(int(values.min()), int(values.max())).width
    if len(values) == 1:
        return Const(int(values[0]), element_shape(signed(bits)))
    m.submodules[name] = rom = memory.Memory(
        shape=element_shape(signed(bits)),
        depth=len(values),
        init=values.tolist(),
        attrs=rom_attributes("distributed"),
    )
    read = rom.read_port(domain="comb")
    m.d.comb += read.addr.eq(level)
    return delayed(m, read.data, 1, name=f"{name}_of_level").as_signed()
