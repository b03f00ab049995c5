"""Counters whose comparisons are registers: what the next cycle needs to know is decided in this one."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, ValueLike


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """How full something is, straight from registers."""

    empty: Signal
    full: Signal


def level(m: Module, name: str, limit: int, *, up: ValueLike, down: ValueLike, init: int = 0) -> Level:
    """Count between 0 and `limit`.

    Parameters
    ----------
    m : Module
        Where the registers go.
    name : str
        Stem of their names.
    limit : int
        1 or more.
    up, down : ValueLike
        Whether the level rises, falls; both at once leave it. Never up at the limit nor down at 0.
    init : int
        The level after reset.
    """
    value = Signal(range(limit + 1), name=name, init=init)
    flags = Level(
        empty=Signal(name=f"{name}_empty", init=init == 0),
        full=Signal(name=f"{name}_full", init=init == limit),
    )
    rises, falls = Signal(name=f"{name}_rises"), Signal(name=f"{name}_falls")
    m.d.comb += [rises.eq(up), falls.eq(down)]
    with m.If(rises & ~falls):
        m.d.sync += [value.eq(value + 1), flags.empty.eq(0), flags.full.eq(value == limit - 1)]
    with m.Elif(falls & ~rises):
        m.d.sync += [value.eq(value - 1), flags.empty.eq(value == 1), flags.full.eq(0)]
    return flags


@dataclass(frozen=True, kw_only=True, eq=False)
class Cycle:
    """Where a loop is, straight from registers."""

    number: Signal
    is_first: Signal
    is_last: Signal


def cycle(m: Module, name: str, length: int, *, step: ValueLike) -> Cycle:
    """Number steps from 0 to ``length - 1`` and over again.

    Loops nest by ``step & inner.is_last``; that a number is the last is worked out a step ahead, since a comparison of
    each counter would lengthen that chain.

    Parameters
    ----------
    m : Module
        Where the registers go.
    name : str
        Stem of their names.
    length : int
        1 or more.
    step : ValueLike
        Whether to count in this cycle.
    """
    now = Cycle(
        number=Signal(range(length), name=name),
        is_first=Signal(name=f"first_{name}", init=1),
        is_last=Signal(name=f"last_{name}", init=length == 1),
    )
    if length > 1:
        with m.If(step):
            m.d.sync += [
                now.number.eq(Mux(now.is_last, 0, now.number + 1)),
                now.is_first.eq(now.is_last),
                now.is_last.eq(now.number == length - 2),
            ]
    return now
