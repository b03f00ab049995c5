"""Whether the operands of capsule operations fit them: formats, and shapes of tables."""

from __future__ import annotations

from karui.sw.ir.bounds import squared_length_range
from karui.sw.ir.capsule_ops import Routing, Squash, agreement_multiplier, single_fraction
from karui.sw.ir.tensor import GraphError, Tensor
from karui.sw.numerics import TABLE_FRACTION, NumberFormat


def check_squash(op: Squash, words: NumberFormat, gains: Tensor) -> None:
    """Check the format of the vectors, and the gains."""
    fraction = _vector_fraction(op, words)
    rows = squared_length_range(op.length, words)[1].bit_length()
    columns = gains.shape[-1]
    if gains.shape != (rows, columns) or columns & (columns - 1):
        raise GraphError(
            f"the gains of vectors of {op.length} words of {words} have shape ({rows}, 2**index_bits), not "
            f"{gains.shape}"
        )
    if gains.number_format.kind != "unsigned":
        raise GraphError(f"gains are unsigned, not {gains.number_format}")
    check_fraction("gains", gains.number_format, TABLE_FRACTION)
    check_fraction("squashed vectors", op.output, fraction + TABLE_FRACTION - op.shift)


def check_routing(op: Routing, inputs: NumberFormat, gains: Tensor, powers: Tensor, reciprocals: Tensor) -> None:
    """Check the format of the predictions, the tables, and the scale of the logits."""
    fraction = _vector_fraction(op, inputs)
    for what, table, most in (
        ("powers", powers, single_fraction(op.logits)),
        ("reciprocals", reciprocals, TABLE_FRACTION),
    ):
        entries = table.elements
        if len(table.shape) != 1 or entries & (entries - 1) or entries.bit_length() - 1 > most:
            raise GraphError(f"the {what} are a table of 1, 2, 4, ... to 2**{most} entries, not of shape {table.shape}")
        check_fraction(what, table.number_format, TABLE_FRACTION)
    check_fraction("sums", op.sums, fraction + TABLE_FRACTION - op.sum_shift)
    check_squash(op.squash, op.sums, gains)
    multiplier = agreement_multiplier(inputs, op.output, op.logits, op.agreement_shift)
    if op.agreement_multiplier != multiplier:
        raise GraphError(
            f"the agreement of {inputs} and {op.output} takes a multiplier of {multiplier} and a shift of "
            f"{op.agreement_shift} to logits of {op.logits}, not a multiplier of {op.agreement_multiplier}"
        )


def check_fraction(what: str, stated: NumberFormat, fraction: int) -> None:
    """Check that a format has so many fractional bits."""
    if stated.fraction != fraction:
        raise GraphError(f"the {what} have {fraction} fractional bits, not {stated.fraction} as {stated} says")


def _vector_fraction(op: Squash | Routing, words: NumberFormat) -> int:
    if words.kind != "signed" or not isinstance(words.fraction, int):
        raise GraphError(f"{type(op).__name__} takes signed words of one fraction, not {words}")
    return words.fraction
