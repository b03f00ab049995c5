"""Fastfood layers: gathers, diagonals as requantizations, transforms."""

from __future__ import annotations

import numpy as np

from karui.sw.ir import GraphError, product_range
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.lower.values import Integers, Lowering, Scores, Value, fixed, integers, one_fraction
from karui.sw.nn.quant_fastfood import QuantFastfood
from karui.sw.numerics import NumberFormat, format_for_range, signed

_NO_OFFSET = np.zeros(1, dtype=np.int64)


def lower_fastfood(layer: QuantFastfood, lowering: Lowering, name: str, value: Value | Scores) -> Value:
    """A `QuantFastfood`: its blocks lie one behind the other in one vector."""
    what = "layer QuantFastfood"
    value = fixed(lowering, what, name, value)
    if value.shape != (layer.in_features,):
        raise GraphError(f"{name}: {layer} takes vectors, not a tensor of shape {value.shape}")
    fraction = one_fraction(what, name, value)
    if layer.mixing_shifts is not None and layer.input_fraction != fraction:
        raise GraphError(
            f"{name}: the layer was trained for inputs of fraction {layer.input_fraction}, but they have {fraction}"
        )
    build, node = lowering.build, lowering.node_name(name, "fastfood")
    if build.tensor(value.edge).number_format.is_bipolar and layer.in_features < layer.size:
        raise UnsupportedLayer(f"{what} on {layer.in_features} bipolar words, which zeros would pad,", name)

    stack = np.full(layer.size, -1, dtype=np.int64)
    stack[value.order] = np.arange(layer.in_features)
    edge = _gathered(lowering, f"{node}.stack", value.edge, np.tile(stack, layer.blocks))
    edge = _multiplied(lowering, f"{node}.signs", edge, integers(layer.integer_signs()), _NO_OFFSET, fraction)
    edge = build.walsh_hadamard(f"{node}.mix", edge, layer.size, layer.mixing_shifts, layer.rounding)
    mixed_fraction = fraction - sum(layer.mixing_shifts or ())
    edge = _gathered(lowering, f"{node}.permute", edge, integers(layer.permutation))

    gaussian, gaussian_fraction = layer.integer_gaussian()
    shift = gaussian_fraction + mixed_fraction - layer.word_fraction
    multiplier = integers(gaussian) << max(0, -shift)
    low, high = product_range(build.tensor(edge).number_format, multiplier)
    # Rounding adds up to half of what is shifted out.
    lowering.note(max(-low, high) + (1 << max(0, shift)))
    edge = build.requantize(
        f"{node}.gaussian",
        edge,
        multiplier,
        _NO_OFFSET,
        shift=max(0, shift),
        output=signed(layer.word_bits, layer.word_fraction),
        rounding=layer.rounding,
    )
    edge = build.walsh_hadamard(f"{node}.project", edge, layer.size, layer.projecting_shifts, layer.rounding)
    if layer.out_features < layer.blocks * layer.size:
        edge = _gathered(lowering, f"{node}.truncate", edge, np.arange(layer.out_features))
    scale, scale_fraction = layer.integer_scale()
    fraction = scale_fraction + layer.projected_fraction
    edge = _multiplied(lowering, f"{node}.scale", edge, integers(scale), integers(layer.integer_bias()), fraction)
    return Value(
        edge=edge,
        shape=(layer.out_features,),
        order=np.arange(layer.out_features),
        fraction=np.array([fraction], dtype=np.int64),
    )


def _gathered(lowering: Lowering, name: str, edge: str, indices: Integers) -> str:
    """A `Gather`, unless it would change nothing."""
    if np.array_equal(indices, np.arange(lowering.build.tensor(edge).shape[-1])):
        return edge
    return lowering.build.gather(name, edge, indices)


def _multiplied(lowering: Lowering, name: str, edge: str, multiplier: Integers, offset: Integers, fraction: int) -> str:
    """``edge * multiplier + offset``, exactly."""
    low, high = product_range(lowering.build.tensor(edge).number_format, multiplier)
    low, high = low + min(0, int(offset.min())), high + max(0, int(offset.max()))
    lowering.note(max(-low, high))
    words = format_for_range(low, high)
    output = NumberFormat(kind=words.kind, bits=words.bits, fraction=fraction)
    offset = offset if offset.any() else _NO_OFFSET
    return lowering.build.requantize(name, edge, multiplier, offset, shift=0, output=output)
