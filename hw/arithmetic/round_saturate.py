"""Rounding to fewer binary places, limited to a format's range."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value

from karui.hw.streams.stream import element_shape
from karui.sw.numerics import NumberFormat, format_for_range

ROUND_LATENCY = 2
"""Cycles of `round_saturate`."""


def round_saturate(
    m: Module, value: Value, shift: int, output: NumberFormat, *, low: int, high: int, name: str
) -> Signal:
    """Add ``saturate((value + half) >> shift)`` to a module: an adder, then a choice, each with a register behind it.

    Parameters
    ----------
    m : Module
        Where it goes.
    value : Value
        From registers.
    shift : int
        Binary places that are dropped, rounding halves up; 0 or more.
    output : NumberFormat
        Signed or unsigned.
    low, high : int
        Range of the value.
    name : str
        Stem of the registers' names.

    Returns
    -------
    Signal
        A register, `ROUND_LATENCY` cycles later, whatever the shift.
    """
    return saturated(m, rounded(m, value, shift, low=low, high=high, name=name), output, name=name)


def rounded(m: Module, value: Value, shift: int, *, low: int, high: int, name: str) -> Signal:
    """The value without `shift` places, halves rounded up, a cycle later and not limited; see `round_saturate`."""
    half = (1 << shift) >> 1
    total = format_for_range(min(low + half, -1), high + half)
    added = Signal(element_shape(total), name=f"{name}_rounded", reset_less=True)
    m.d.sync += added.eq(value + half)
    places = format_for_range(min(low + half, -1) >> shift, (high + half) >> shift)
    rest = Signal(element_shape(places), name=f"{name}_places")
    m.d.comb += rest.eq(added >> shift)
    return rest


def saturated(m: Module, value: Signal, output: NumberFormat, *, name: str) -> Signal:
    """A register of the format's word that is nearest to a signed value."""
    result = Signal(element_shape(output), name=name, reset_less=True)
    m.d.sync += result.eq(nearest_word(m, value, output, name=f"{name}_fits"))
    return result


def nearest_word(m: Module, value: Signal, output: NumberFormat, *, name: str) -> Value:
    """The format's word that is nearest to a signed value, at once; `name` is that of the signal that it fits."""
    if output.kind == "signed" and len(value) <= output.bits:
        return value
    # In range, the bits above the output's magnitude all equal the sign (of an unsigned output: zero).
    magnitude = output.bits - (output.kind == "signed")
    above = value[min(magnitude, len(value) - 1) :]
    fits = Signal(name=name)
    m.d.comb += fits.eq((above == 0) | ((output.kind == "signed") & above.all()))
    shape = element_shape(output)
    limit = Mux(value[-1], Const(output.minimum, shape), Const(output.maximum, shape))
    return Mux(fits, value[: output.bits], limit.as_unsigned()[: output.bits])
