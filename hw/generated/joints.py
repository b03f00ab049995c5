"""How streams inside a loop are joined."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream, wiring

from karui.hw.streams.width_converter import WidthConverter, WidthConverterConfig
from karui.sw.numerics import NumberFormat


def converter(element: NumberFormat, elements: int, lanes_in: int, lanes_out: int) -> WidthConverterConfig | None:
    """The width converter between two numbers of lanes, if they differ."""
    if lanes_in == lanes_out:
        return None
    return WidthConverterConfig(element=element, elements=elements, lanes_in=lanes_in, lanes_out=lanes_out)


def chain(
    m: Module, name: str, source: stream.Interface, config: WidthConverterConfig | None, sink: stream.Interface
) -> None:
    """Join two streams, by a width converter if there is one."""
    if config is None:
        wiring.connect(m, source, sink)
        return
    m.submodules[name] = between = WidthConverter(config)
    wiring.connect(m, source, between.i)
    wiring.connect(m, between.o, sink)


def to_both(m: Module, source: stream.Interface, one: stream.Interface, other: stream.Interface) -> None:
    """Let two readers, whose readiness hangs on registers alone, take each beat at once."""
    m.d.comb += [
        one.payload.eq(source.payload),
        other.payload.eq(source.payload),
        one.valid.eq(source.valid & other.ready),
        other.valid.eq(source.valid & one.ready),
        source.ready.eq(one.ready & other.ready),
    ]
