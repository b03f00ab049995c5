"""Register that ends the combinational path of a stream's ready."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out


class ReverseSlice(wiring.Component):
    """Register the ready of a stream at full rate; payload and valid pass at once.

    A register takes the beat that is on its way while the sink's refusal travels back. It takes what is offered
    whenever it is empty, so that no logic is on the way to its enables, which may be hundreds.

    Parameters
    ----------
    layout : Layout
        Payload.

    Members
    -------
    i, o : stream of `layout`
        Latency 0 cycles, throughput 1 beat a cycle.
    """

    def __init__(self, layout: data.Layout) -> None:
        self.layout = layout
        super().__init__({"i": In(stream.Signature(layout)), "o": Out(stream.Signature(layout))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        held = Signal(self.layout, reset_less=True)
        held_valid = Signal()
        m.d.comb += [
            self.i.ready.eq(~held_valid),
            self.o.valid.eq(self.i.valid | held_valid),
            self.o.payload.as_value().eq(Mux(held_valid, held, self.i.payload)),
        ]
        m.d.sync += held_valid.eq(self.o.valid & ~self.o.ready)
        with m.If(~held_valid):
            m.d.sync += held.eq(self.i.payload)
        return m
