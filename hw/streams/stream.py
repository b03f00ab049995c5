"""Streams between components, and what a fixed-latency pipeline needs to end in one.

A component speaks streams (valid and ready) at its edges. Inside, data flow through pipelines of fixed latency that
cannot be stalled: each word carries a valid tag (`Tagged`), and a word is only sent into the pipeline when its result
has a place to go to (`ElasticOutput`). So no enable signal spans a pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Shape, ShapeLike, Signal, Value, ValueLike, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from karui.hw.streams.counters import level
from karui.hw.streams.timing import Cycles, Schedule, consecutive
from karui.sw.numerics import NumberFormat

FIFO_LATENCY = 2
"""Cycles from the transfer into an empty FIFO to the cycle in which the word is valid at its output."""


def element_shape(number_format: NumberFormat) -> Shape:
    """The shape of one element: a bipolar element is one bit, 1 for +1 and 0 for -1."""
    return signed(number_format.bits) if number_format.kind == "signed" else unsigned(number_format.bits)


def lanes_of(number_format: NumberFormat, lanes: int) -> data.ArrayLayout:
    """The payload of a stream: `lanes` elements, lane 0 in the lowest bits."""
    return data.ArrayLayout(element_shape(number_format), lanes)


def integer_of(word: Value, number_format: NumberFormat) -> Value:
    """The integer that a word stands for; a bipolar bit becomes -1 or +1."""
    return Cat(1, ~word).as_signed() if number_format.is_bipolar else word


class Tagged(wiring.Signature):
    """A word of a fixed-latency pipeline.

    Parameters
    ----------
    payload_shape : ShapeLike
        Shape of the payload.

    Members
    -------
    payload : Out(payload_shape)
        Undefined unless `valid`.
    valid : Out(1)
        Whether there is a payload in this cycle. There is no ready: the pipeline takes a word in any cycle.
    """

    def __init__(self, payload_shape: ShapeLike) -> None:
        super().__init__({"payload": Out(payload_shape), "valid": Out(1)})


def delayed(m: Module, value: ValueLike, cycles: int, *, name: str, control: bool = False) -> Value:
    """`value`, `cycles` cycles later, through plain registers.

    Parameters
    ----------
    m : Module
        Where the registers go.
    value : ValueLike
        What is delayed.
    cycles : int
        0 or more.
    name : str
        Stem of the registers' names.
    control : bool
        Whether the registers are reset (to zero). Data registers are not: a reset keeps them out of block RAM output
        registers and shift registers.
    """
    current = Value.cast(value)
    for stage in range(cycles):
        register = Signal(current.shape(), name=f"{name}_{stage + 1}", reset_less=not control)
        m.d.sync += register.eq(current)
        current = register
    return current


@dataclass(frozen=True, kw_only=True)
class FifoConfig:
    """Parameters of a `Fifo`.

    Parameters
    ----------
    payload : ShapeLike
        Shape of the stream's payload.
    depth : int
        Words that it holds, 3 or more (below that it would not pass a word a cycle).

    Raises
    ------
    ValueError
        If the depth is less than 3.
    """

    payload: ShapeLike
    depth: int

    def __post_init__(self) -> None:
        if self.depth < 3:
            raise ValueError(f"a FIFO that passes a word a cycle needs a depth of 3 or more, not {self.depth}")

    def schedule(self, arrivals: Cycles) -> Schedule:
        """Cycles of each beat; an unstalled FIFO never fills."""
        accepted = consecutive(arrivals)
        return Schedule(accepted=accepted, departures=accepted + FIFO_LATENCY)


class Fifo(wiring.Component):
    """A queue with a registered output.

    Latency 2 cycles, throughput a word a cycle. No combinational path joins its two sides.

    Parameters
    ----------
    config : FifoConfig

    Members
    -------
    i : In(stream)
        Words in.
    o : Out(stream)
        The same words, in order.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: FifoConfig) -> None:
        self.config = config
        super().__init__({"i": In(stream.Signature(config.payload)), "o": Out(stream.Signature(config.payload))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = Shape.cast(self.config.payload).width
        m.submodules.queue = queue = SyncFIFOBuffered(width=width, depth=self.config.depth)
        m.d.comb += [
            queue.w_data.eq(self.i.payload),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            Value.cast(self.o.payload).eq(queue.r_data),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
        ]
        return m


@dataclass(frozen=True, kw_only=True)
class ElasticOutputConfig:
    """Parameters of an `ElasticOutput`.

    Parameters
    ----------
    payload : ShapeLike
        Shape of the stream's payload.
    period : int
        Least number of cycles between two reservations at full rate.
    latency : int
        Cycles from a reservation to the valid tag of its word, at full rate.

    Raises
    ------
    ValueError
        If the period is less than 1 or the latency negative.
    """

    payload: ShapeLike
    period: int
    latency: int

    def __post_init__(self) -> None:
        if self.period < 1:
            raise ValueError(f"period must be 1 cycle or more, not {self.period}")
        if self.latency < 0:
            raise ValueError(f"latency must be 0 cycles or more, not {self.latency}")

    @property
    def depth(self) -> int:
        """Credits: enough that an output which is always ready never holds a reservation back.

        A credit is out from the reservation through the pipeline (`latency`) and the queue (`FIFO_LATENCY`) to the
        transfer, and counts again one cycle after it. One more lets the pipeline run on for a word while the output
        stalls.
        """
        held = self.latency + FIFO_LATENCY + 1
        return max(3, -(-held // self.period) + 1)


class ElasticOutput(wiring.Component):
    """The end of a fixed-latency pipeline: a queue, and credits for its places.

    A pipeline may only be given work that yields a word while `credit` is set, and announces it with `reserve`; every
    reservation is answered by exactly one tagged word. Then the queue cannot overflow, though the pipeline cannot stop.
    Latency 2 cycles from tag to output, throughput a word a cycle.

    Parameters
    ----------
    config : ElasticOutputConfig

    Members
    -------
    i : In(Tagged)
        Results.
    o : Out(stream)
        The same words, in order.
    credit : Out(1)
        Whether a place is free; depends on registers alone.
    reserve : In(1)
        Takes a place. Only while `credit`.
    """

    i: wiring.PureInterface
    o: stream.Interface
    credit: Signal
    reserve: Signal

    def __init__(self, config: ElasticOutputConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(Tagged(config.payload)),
                "o": Out(stream.Signature(config.payload)),
                "credit": Out(1),
                "reserve": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self.config.depth
        m.submodules.queue = queue = Fifo(FifoConfig(payload=self.config.payload, depth=depth))
        m.d.comb += [
            queue.i.payload.eq(self.i.payload),
            queue.i.valid.eq(self.i.valid),
            self.o.payload.eq(queue.o.payload),
            self.o.valid.eq(queue.o.valid),
            queue.o.ready.eq(self.o.ready),
        ]
        returned = Signal()
        m.d.comb += returned.eq(self.o.valid & self.o.ready)
        credits = level(m, "credits", depth, up=returned, down=self.reserve, init=depth)
        m.d.comb += self.credit.eq(~credits.empty)
        return m
