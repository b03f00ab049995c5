"""Two-entry buffer that ends every combinational path of a stream."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

SKID_BEATS = 2
"""Beats that a `SkidBuffer` holds."""


class SkidBuffer(wiring.Component):
    """Register both directions of a stream at full rate.

    The second entry holds the beat that is on its way while the sink's refusal travels back.

    Parameters
    ----------
    layout : Layout
        Payload.

    Members
    -------
    i, o : stream of `layout`
        Latency 1 cycle, throughput 1 beat a cycle.
    """

    def __init__(self, layout: data.Layout) -> None:
        self.layout = layout
        super().__init__({"i": In(stream.Signature(layout)), "o": Out(stream.Signature(layout))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        front = Signal(self.layout, reset_less=True)
        front_valid = Signal()
        skid = Signal(self.layout, reset_less=True)
        skid_valid = Signal()
        # The contrary of `skid_valid`, in a register of its own: the way of the reply starts without a gate.
        takes = Signal(init=1)

        m.d.comb += [
            self.i.ready.eq(takes),
            self.o.valid.eq(front_valid),
            self.o.payload.eq(front),
        ]
        with m.If(~skid_valid):
            m.d.sync += skid.eq(self.i.payload)
        with m.If(self.o.ready | ~front_valid):
            m.d.sync += [
                front.eq(skid),
                front_valid.eq(skid_valid | self.i.valid),
                skid_valid.eq(0),
                takes.eq(1),
            ]
            with m.If(~skid_valid):
                m.d.sync += front.eq(self.i.payload)
        with m.Elif(self.i.valid):
            m.d.sync += [skid_valid.eq(1), takes.eq(0)]
        return m
