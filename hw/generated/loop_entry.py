"""The entry of a loop: a frame's map from outside, then what comes round, until its layers are complete."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.streams.counters import cycle

KNOWN_LATENCY = 1
"""Cycles from a frame's order to the count that follows it."""
FRAME_GAP = 2
"""Least number of cycles from a frame's last beat to the next frame's first one."""


@dataclass(frozen=True, kw_only=True)
class LoopEntryConfig:
    """Parameters of a `LoopEntry`.

    Parameters
    ----------
    payload : Layout
        A beat.
    beats : int
        Beats of a map.
    order : StructLayout
        With the frame's `depth`.
    """

    payload: data.Layout
    beats: int
    order: data.StructLayout


class LoopEntry(wiring.Component):
    """Takes a map from outside for each frame, and as many from the loop as the frame has further layers.

    Nothing passes before the frame's order is there. Latency 0; what is ready hangs on the reader's ready alone.

    Parameters
    ----------
    config : LoopEntryConfig

    Members
    -------
    orders : In(stream)
        The frame's order, taken with its last beat.
    i : In(stream)
        Maps from outside.
    again : In(stream)
        Maps that come round.
    o : Out(stream)
        The maps of all layers.
    """

    orders: stream.Interface
    i: stream.Interface
    again: stream.Interface
    o: stream.Interface

    def __init__(self, config: LoopEntryConfig) -> None:
        self.config = config
        beat = stream.Signature(config.payload)
        super().__init__(
            {"orders": In(stream.Signature(config.order)), "i": In(beat), "again": In(beat), "o": Out(beat)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        transfer = Signal()
        layers = layer_count(m, self.orders, self.config.beats, step=transfer)
        m.d.comb += [
            self.o.payload.eq(Mux(layers.is_first, self.i.payload.as_value(), self.again.payload.as_value())),
            self.o.valid.eq(layers.known & Mux(layers.is_first, self.i.valid, self.again.valid)),
            self.i.ready.eq(layers.known & layers.is_first & self.o.ready),
            self.again.ready.eq(layers.known & ~layers.is_first & self.o.ready),
            transfer.eq(self.o.valid & self.o.ready),
        ]
        return m


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerCount:
    """Where a frame is, straight from registers.

    Parameters
    ----------
    known : Signal
        Whether the frame's order is there, and all below follows it.
    is_first, is_last : Signal
        Whether the layer is the frame's first, its last.
    number : Signal
        Of the layer, from 0 on.
    ends_map, ends_frame : Value
        Whether this step is the map's last, the frame's.
    """

    known: Signal
    is_first: Signal
    is_last: Signal
    number: Signal
    ends_map: Value
    ends_frame: Value


def layer_count(m: Module, orders: stream.Interface, beats: int, *, step: Value) -> LayerCount:
    """Count the beats and layers of frames, and take each frame's order with its last beat.

    Parameters
    ----------
    m : Module
        Where the registers go.
    orders : stream of a struct with `depth`
    beats : int
        Beats of a map.
    step : Value
        Whether a beat passes; only while the count is `known`. Between frames it is not, for a cycle.
    """
    beat = cycle(m, "beat", beats, step=step)
    number = Signal.like(orders.payload.depth, name="layer")
    is_first = Signal(name="first_layer", init=1)
    is_last = Signal(name="last_layer")
    known = Signal(name="order_known")
    ends_map, ends_frame = Signal(name="ends_map"), Signal(name="ends_frame")
    m.d.comb += [
        ends_map.eq(step & beat.is_last),
        ends_frame.eq(ends_map & is_last),
        orders.ready.eq(ends_frame),
    ]
    m.d.sync += [known.eq(orders.valid & ~ends_frame), is_last.eq(number + 1 == orders.payload.depth)]
    with m.If(ends_map):
        m.d.sync += [
            number.eq(Mux(is_last, 0, number + 1)),
            is_first.eq(is_last),
            is_last.eq(number + 2 == orders.payload.depth),
        ]
    return LayerCount(
        known=known,
        is_first=is_first,
        is_last=is_last,
        number=number,
        ends_map=ends_map,
        ends_frame=ends_frame,
    )
