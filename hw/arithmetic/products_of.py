"""Dot products of operands that arrive together, in a pipeline of a module."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, Value

from karui.hw.arithmetic.integer_dot_product import IntegerDotProduct, IntegerDotProductConfig
from karui.hw.streams.stream import delayed, lanes_of


def products_latency(config: IntegerDotProductConfig) -> int:
    """Cycles of `products_of`."""
    return config.prepare_latency + config.latency


def products_of(
    m: Module, config: IntegerDotProductConfig, values: Sequence[Value], weights: Sequence[Value], *, name: str
) -> list[Value]:
    """Add an `IntegerDotProduct` to a module, whose activations take as long to prepare as the weights are delayed.

    Parameters
    ----------
    m : Module
        Where it goes.
    config : IntegerDotProductConfig
    values : sequence of Value
        The `simd` activations.
    weights : sequence of Value
        For each row its weights, first lane lowest.
    name : str
        Of the submodule.

    Returns
    -------
    list of Value
        A dot product a row, `products_latency` cycles later.
    """
    m.submodules[name] = products = IntegerDotProduct(config)
    activations = Signal(lanes_of(config.input_format, config.simd), name=f"{name}_values")
    m.d.comb += [
        activations.as_value().eq(Cat(*(value[: config.input_format.bits] for value in values))),
        Value.cast(products.i.payload.activations).eq(config.prepare(m, activations)),
    ]
    ahead = config.prepare_latency
    for row, weight in enumerate(weights):
        m.d.comb += products.i.payload.weights[row].eq(delayed(m, weight, ahead, name=f"{name}_weights_{row}"))
    return [products.o.payload[row] for row in range(config.rows)]
