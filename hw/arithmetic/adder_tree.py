"""Sums of many terms, in a tree of adders that is registered at each level."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed


@dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """A number on its way through the tree.

    Parameters
    ----------
    value : Value
        Signed or unsigned; in a register.
    low, high : int
        Its range.
    missing : Value, optional
        One bit that has still to be added, at the lowest place: what a complement lacks to be a negative, or a floor
        to be the next integer. It becomes the carry into an adder of the tree, and costs none of its own.
    """

    value: Value
    low: int
    high: int
    missing: Value | None = None


def tree_latency(terms: int) -> int:
    """Cycles of the tree: its levels."""
    return (terms - 1).bit_length()


def add_tree(m: Module, terms: list[Term], *, name: str = "level") -> Term:
    """Add the tree to a module.

    Parameters
    ----------
    m : Module
        Where it goes.
    terms : list of Term
        One or more; n terms have n - 1 adders, which take n - 1 missing ones.
    name : str
        Stem of the registers' names.

    Returns
    -------
    Term
        The sum, `tree_latency` cycles later; it lacks one where every term did.
    """
    level = 0
    while len(terms) > 1:
        level += 1
        terms = [_added(m, terms[low : low + 2], f"{name}_{level}_{low // 2}") for low in range(0, len(terms), 2)]
    return terms[0]


def _added(m: Module, terms: list[Term], name: str) -> Term:
    """The sum of one or two terms and one of their missing ones, in a register."""
    low, high = sum(term.low for term in terms), sum(term.high for term in terms)
    missing = [term.missing for term in terms if term.missing is not None]
    carry = missing.pop(0) if missing and len(terms) == 2 else None
    high += carry is not None
    value = Signal(range(low, high + 1), name=name, reset_less=True)
    if len(terms) == 1:
        m.d.sync += value.eq(terms[0].value)
    elif carry is None:
        m.d.sync += value.eq(terms[0].value + terms[1].value)
    else:
        # One bit below the lowest, 1 + carry makes the carry into it: a single carry chain for three operands.
        left, right = (_extended(bit, term) for bit, term in zip((Const(1, 1), carry), terms, strict=True))
        extended = Signal(signed(len(value) + 1), name=f"{name}_extended")
        m.d.comb += extended.eq(left + right)
        m.d.sync += value.eq(extended[1:])
    left_over = None
    if missing:
        left_over = Signal(name=f"{name}_missing", reset_less=True)
        m.d.sync += left_over.eq(missing[0])
    return Term(value=value, low=low, high=high, missing=left_over)


def _extended(bit: Value, term: Term) -> Value:
    word = Cat(bit, term.value)
    return word.as_signed() if term.value.shape().signed else word
