"""Counters for nested loops."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, ValueLike


def cyclic_counter(m: Module, count: int, step: ValueLike, *, name: str) -> tuple[Signal, Signal]:
    """Number the steps of a loop from 0 to ``count - 1``, again and again.

    That the number is the last is worked out one step ahead: loops nest by ``step & is_last``, and a comparison of each
    counter would lengthen that chain.

    Parameters
    ----------
    m : Module
        Where the registers go.
    count : int
        1 or more.
    step : ValueLike
        Whether to count in this cycle.
    name : str
        Name of the register.

    Returns
    -------
    number, is_last : Signal
        Registers.
    """
    number = Signal(range(count), name=name)
    is_last = Signal(init=count == 1, name=f"{name}_is_last")
    if count > 1:
        with m.If(step):
            m.d.sync += is_last.eq(number == count - 2)
            with m.If(is_last):
                m.d.sync += number.eq(0)
            with m.Else():
                m.d.sync += number.eq(number + 1)
    return number, is_last
