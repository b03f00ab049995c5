"""What the operations of capsule networks compute.

Every function works alike on NumPy integer arrays and torch integer tensors, since it uses nothing but their
operators: quantized layers, golden kernels and hardware tests all share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from karui.sw.ir.capsule_ops import Routing, Squash, single_fraction
from karui.sw.numerics import Rounding, leading_bits, saturate, shift_right


def squash(op: Squash, vectors: Any, gains: Any) -> Any:
    """Squash vectors (..., length) along the last axis."""
    place, index = leading_bits((vectors * vectors).sum(-1), index_bits_of(gains.shape[1]))
    products = vectors * gains[place, index][..., None]
    return saturate(shift_right(products, op.shift, Rounding.HALF_UP), op.output.minimum, op.output.maximum)


def route(op: Routing, predictions: Any, gains: Any, powers: Any, reciprocals: Any) -> Any:
    """Output capsules (..., J, D) of predictions (..., I, J, D)."""
    return route_passes(op, [predictions] * op.iterations, gains, powers, reciprocals)


def route_passes(op: Routing, passes: Sequence[Any], gains: Any, powers: Any, reciprocals: Any) -> Any:
    """Output capsules (..., J, D) of predictions (..., I, J, D) for each iteration."""
    capsules = squashed_sums(op, (passes[0] * op.first_coupling).sum(-3), gains)
    # The first agreement is added to logits of 0.
    logits: Any = 0
    for predictions in passes[1:]:
        logits = updated_logits(op, logits, (predictions * capsules[..., None, :, :]).sum(-1))
        coefficients = couplings(op, logits, powers, reciprocals)
        capsules = squashed_sums(op, (predictions * coefficients[..., None]).sum(-3), gains)
    return capsules


def updated_logits(op: Routing, logits: Any, agreements: Any) -> Any:
    """Logits of the next iteration, of those before it and of agreements u . v."""
    added = shift_right(agreements * op.agreement_multiplier, op.agreement_shift, Rounding.HALF_UP)
    return saturate(logits + added, op.logits.minimum, op.logits.maximum)


def couplings(op: Routing, logits: Any, powers: Any, reciprocals: Any) -> Any:
    """Softmax, base 2, of logits (..., J) along the last axis."""
    peak = logits[..., 0]
    for output in range(1, op.outputs):
        other = logits[..., output]
        peak = peak + (other - peak) * (other > peak)
    below = peak[..., None] - logits
    fraction = single_fraction(op.logits)
    index = (below >> (fraction - index_bits_of(len(powers)))) & (len(powers) - 1)
    shares = powers[index] >> saturate(below >> fraction, 0, 62)
    place, index = leading_bits(shares.sum(-1), index_bits_of(len(reciprocals)))
    # The largest share is more than half of one: the sum's highest one is never in place 0.
    place = place[..., None]
    rounded = (shares * reciprocals[index][..., None] + (1 << (place - 1))) >> place
    return saturate(rounded, 0, op.largest_coupling)


def squashed_sums(op: Routing, sums: Any, gains: Any) -> Any:
    """Output capsules of the exact sums (..., D) of predictions times couplings."""
    rounded = saturate(shift_right(sums, op.sum_shift, Rounding.HALF_UP), op.sums.minimum, op.sums.maximum)
    return squash(op.squash, rounded, gains)


def index_bits_of(entries: int) -> int:
    """Bits of an index into so many entries of a table."""
    return entries.bit_length() - 1
