"""What a frame's complexity orders: how many layers it goes through, and the level that its kernels are of."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.streams.stream import FIFO_LATENCY, Fifo, FifoConfig, delayed, lanes_of
from karui.sw.ir import GeneratedLayers
from karui.sw.numerics import NumberFormat

QUEUE = 4
"""Frames whose orders wait, for each reader."""
GIVEN_LATENCY = 2
"""Cycles from a complexity to the entry of its order into the queues: comparators, and what follows from them."""
ORDERS_LATENCY = GIVEN_LATENCY + FIFO_LATENCY
"""Cycles from a complexity to its order at the readers."""


@dataclass(frozen=True, kw_only=True)
class FrameOrdersConfig:
    """Parameters of `FrameOrders`.

    Parameters
    ----------
    op : karui.sw.ir.GeneratedLayers
    element : NumberFormat
        Format of a complexity, unsigned.
    readers : int
        Streams that go out.
    """

    op: GeneratedLayers
    element: NumberFormat
    readers: int

    @property
    def order(self) -> data.StructLayout:
        """A frame's `depth` and `level`."""
        return data.StructLayout({"depth": range(self.op.last_depth + 1), "level": range(self.op.generator.levels)})


class FrameOrders(wiring.Component):
    """Compares each frame's complexity with the steps of the depth and limits its level.

    Latency `ORDERS_LATENCY` cycles; a frame every 4 cycles.

    Parameters
    ----------
    config : FrameOrdersConfig

    Members
    -------
    i : In(stream)
        Complexities.
    o_0, o_1, ... : Out(stream)
        Depths and levels, for each reader, in queues of their own.
    given : Out(1)
        An order enters the queues in this cycle.
    """

    i: stream.Interface
    given: Signal

    def __init__(self, config: FrameOrdersConfig) -> None:
        self.config = config
        order = stream.Signature(config.order)
        super().__init__(
            {"i": In(stream.Signature(lanes_of(config.element, 1))), "given": Out(1)}
            | {f"o_{reader}": Out(order) for reader in range(config.readers)}
        )

    @property
    def outputs(self) -> list[stream.Interface]:
        """The streams that go out, in order."""
        return [getattr(self, f"o_{reader}") for reader in range(self.config.readers)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, op = self.config, self.config.op
        word, accept = self.i.payload[0], Signal()
        stages = [
            delayed(m, accept, after, name=f"valid_{after}", control=True) for after in range(1, GIVEN_LATENCY + 2)
        ]
        # What is under way is in the queues before the next one is asked for.
        idle = ~Cat(stages).any()

        reached = Signal(max(1, len(op.depth_steps)), reset_less=True)
        place = Signal(range((config.element.maximum >> op.level_shift) + 1), reset_less=True)
        is_low = Signal(reset_less=True)
        m.d.sync += [
            reached.eq(Cat(word >= step for step in op.depth_steps)),
            place.eq(word >> op.level_shift),
            is_low.eq(word < op.first_level << op.level_shift),
        ]
        order = Signal(config.order, reset_less=True)
        last = op.generator.levels - 1
        above = Signal(unsigned(len(place)))
        m.d.comb += above.eq(place - op.first_level)
        m.d.sync += [
            order.depth.eq(op.first_depth + sum(reached[step] for step in range(len(op.depth_steps)))),
            order.level.eq(Mux(is_low, 0, Mux(above >= last, last, above))),
        ]
        ready = []
        for reader, output in enumerate(self.outputs):
            m.submodules[f"queue_{reader}"] = queue = Fifo(FifoConfig(payload=config.order, depth=QUEUE))
            wiring.connect(m, queue.o, wiring.flipped(output))
            m.d.comb += [queue.i.payload.eq(order), queue.i.valid.eq(self.given)]
            ready.append(queue.i.ready)
        m.d.comb += [
            self.given.eq(stages[GIVEN_LATENCY - 1]),
            self.i.ready.eq(idle & Cat(ready).all()),
            accept.eq(self.i.valid & self.i.ready),
        ]
        return m
