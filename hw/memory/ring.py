"""A value as it was some steps ago."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Shape, Signal, Value
from amaranth.lib import memory

from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, ram_attributes, resolve
from karui.hw.streams.counters import cycle

_REGISTERS = 2
"""Steps up to which the values lie in registers: a memory is read a step before it is written."""


def ring(m: Module, name: str, value: Value, length: int, *, step: Value) -> Value:
    """Add a ring of `length` words to a module, which each step turns on by one.

    Parameters
    ----------
    m : Module
        Where it goes.
    name : str
        Of the submodule, and stem of the registers' names.
    value : Value
        Taken in at each step.
    length : int
        1 or more.
    step : Value
        Whether there is one in this cycle.

    Returns
    -------
    Value
        The value of `length` steps ago, from a register: in the cycle of a step and until then.
    """
    if length <= _REGISTERS:
        current = value
        for number in range(length):
            register = Signal(value.shape(), name=f"{name}_{number}", reset_less=True)
            with m.If(step):
                m.d.sync += register.eq(current)
            current = register
        return current
    storage = resolve("auto", depth=length, limit=DISTRIBUTED_RAM_WORDS)
    m.submodules[name] = words = memory.Memory(
        shape=Shape(len(value)), depth=length, init=[], attrs=ram_attributes(storage)
    )
    place = cycle(m, f"{name}_place", length, step=step)
    write, read = words.write_port(), words.read_port()
    m.d.comb += [
        write.en.eq(step),
        write.addr.eq(place.number),
        write.data.eq(value),
        read.en.eq(step),
        read.addr.eq(Mux(place.is_last, 0, place.number + 1)),
    ]
    return read.data.as_signed() if value.shape().signed else Value.cast(read.data)
