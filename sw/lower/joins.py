"""Where branches of a network meet: sums and concatenations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from karui.sw.ir import GraphError
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.lower.values import Lowering, Scores, Value, fixed, one_fraction
from karui.sw.numerics import format_for_range


def lower_add(lowering: Lowering, name: str, operands: Sequence[Value | Scores]) -> Value:
    """The sum of two values, exact on the finer grid of the two; it awaits its activation."""
    one, other = (fixed(lowering, "an addition", name, operand) for operand in operands)
    if one.shape != other.shape or not np.array_equal(one.order, other.order):
        raise GraphError(f"{name}: an addition takes tensors of equal shape, not {one.shape} and {other.shape}")
    fractions = [one_fraction("an addition", name, value) for value in (one, other)]
    finest = max(fractions)
    shifts = finest - fractions[0], finest - fractions[1]
    edge = lowering.build.add(lowering.node_name(name, "add"), one.edge, other.edge, shifts)
    return Value(edge=edge, shape=one.shape, order=one.order, fraction=np.array([finest]), unrounded="an addition")


def lower_concat(lowering: Lowering, name: str, operands: Sequence[Value | Scores]) -> Value:
    """Values side by side along the channels, in one format: that of all, or the narrowest that holds all exactly."""
    values = [fixed(lowering, "a concatenation", name, operand) for operand in operands]
    if len({value.shape[1:] for value in values}) > 1:
        raise GraphError(
            f"{name}: a concatenation takes tensors equal but for their channels, not "
            + " and ".join(str(value.shape) for value in values)
        )
    node = lowering.node_name(name, "concat")
    edges, fraction = _in_one_format(lowering, node, name, values)
    shape = (sum(value.shape[0] for value in values), *values[0].shape[1:])
    starts = np.cumsum([0, *(len(value.order) for value in values)])
    # A map's stream has the channels innermost, so operands alternate position by position.
    order = np.concatenate(
        [
            (value.order + start).reshape(-1, value.shape[0]) if len(shape) == 3 else (value.order + start)[None]
            for value, start in zip(values, starts, strict=False)
        ],
        axis=1,
    )
    edge = lowering.build.concat(node, *edges)
    return Value(edge=edge, shape=shape, order=order.reshape(-1), fraction=np.array([fraction]))


def _in_one_format(lowering: Lowering, node: str, name: str, values: list[Value]) -> tuple[list[str], int]:
    """Edges of equal format, and their fraction."""
    formats = [lowering.build.tensor(value.edge).number_format for value in values]
    fractions = [one_fraction("a concatenation", name, value) for value in values]
    if all(number_format == formats[0] for number_format in formats) and len(set(fractions)) == 1:
        return [value.edge for value in values], fractions[0]
    if any(number_format.is_bipolar for number_format in formats):
        raise UnsupportedLayer(f"a concatenation of differing formats, {' and '.join(map(str, formats))},", name)
    finest = max(fractions)
    shifts = [finest - fraction for fraction in fractions]
    low = min(each.minimum << shift for each, shift in zip(formats, shifts, strict=True))
    high = max(each.maximum << shift for each, shift in zip(formats, shifts, strict=True))
    narrowest = format_for_range(low, high)
    common = replace(narrowest, fraction=finest)
    edges = []
    for index, (value, number_format, shift) in enumerate(zip(values, formats, shifts, strict=True)):
        edge = value.edge
        if number_format != common or shift:
            edge = lowering.build.requantize(
                f"{node}.align{index}", edge, np.array([1 << shift]), np.array([0]), shift=0, output=common
            )
        edges.append(edge)
    return edges, finest
