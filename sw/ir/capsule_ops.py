"""The operations of capsule networks (Sabour et al. 2017); see `karui.sw.ir.ops`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from karui.sw.numerics import TABLE_FRACTION, NumberFormat


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Have a frame's tensor `times` times: (...) to (times, ...). Operands: an activation.

    In front of a matrix-vector product it makes predictions that are not kept but made anew for each iteration of a
    `Routing`.

    Parameters
    ----------
    times : int
        1 or more.
    """

    times: int

    def __post_init__(self) -> None:
        _check_positive("repeat", times=self.times)


@dataclass(frozen=True, kw_only=True)
class Squash:
    """Shrink vectors to a length below 1: each run of `length` elements of the last axis is a vector.

    The vector's squared norm n is exact; its leading bits choose a gain g, and each element x becomes
    ``saturate(round_half_up(x * g / 2**shift))``. Operands: the vectors, signed; the gains (places, 2**index_bits) of
    `squash_gains`.

    Parameters
    ----------
    length : int
        Elements of a vector; divides the last axis.
    shift : int
        1 or more: what takes the fraction of the products to that of the output.
    output : NumberFormat
        Signed.
    """

    length: int
    shift: int
    output: NumberFormat

    def __post_init__(self) -> None:
        _check_positive("squash", length=self.length, shift=self.shift)
        _check_signed("squash yields", self.output)


@dataclass(frozen=True, kw_only=True)
class SquaredLength:
    """Sum of squares of each run of `length` elements of the last axis, (..., C) to (..., C / length).

    Operands: the vectors, unsigned or signed. The sums have the narrowest format of the exact range.

    Parameters
    ----------
    length : int
        Elements of a vector; divides the last axis.
    """

    length: int

    def __post_init__(self) -> None:
        _check_positive("a squared length", length=self.length)


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Route prediction vectors by agreement (Sabour et al. 2017, procedure 1): (I * J * D) elements to (J * D).

    Element ``(i * J + j) * D + d`` is u[i, j, d], the prediction of capsule i for output capsule j. Every iteration
    computes, with coupling coefficients c of `TABLE_FRACTION` fractional bits,

    - ``s[j] = saturate(round_half_up(sum over i of c[i, j] u[i, j] / 2**sum_shift))``,
    - ``v[j] = squash(s[j])``, with `squash_shift`, as a `Squash` does;

    and before the next one

    - ``b[i, j] = saturate(b[i, j] + round_half_up(u[i, j] . v[j] * agreement_multiplier / 2**agreement_shift))``, which
      starts at 0; the logits b count powers of two,
    - c[i] = softmax of b[i] over j, base 2: with ``t = max(b[i]) - b[i]`` of q integer bits and the index r of leading
      fractional bits, ``p = powers[r] >> q``; with the leading bits (e, m) of the sum of p over j,
      ``c = min(round_half_up(p * reciprocals[m] / 2**e), 2**TABLE_FRACTION - 1)``.

    The first iteration's c are all ``round(2**TABLE_FRACTION / J)``, limited likewise. The output is v of the last.

    Predictions may also come once for each iteration, (iterations, I * J * D): then iteration r, of its coefficients
    and of its sums, knows row r alone, and hardware keeps none of them.

    Operands: the predictions, signed; the gains of `squash_gains` for vectors of D words of `sums`; the powers of
    `negative_powers`; the reciprocals of `reciprocals`.

    Parameters
    ----------
    outputs, length : int
        Output capsules J and elements D of each.
    iterations : int
        1 or more.
    sums : NumberFormat
        Signed, of the sums s.
    sum_shift, squash_shift, agreement_shift : int
        1 or more; they take products to the fractions of `sums`, `output` and `logits`.
    output : NumberFormat
        Signed, of the vectors v.
    logits : NumberFormat
        Signed, of the logits b.
    agreement_multiplier : int
        ``round(log2(e) * 2**agreement_shift)`` in the scale of the logits, so that ``2**b`` is e to the agreement.
    """

    outputs: int
    length: int
    iterations: int
    sums: NumberFormat
    sum_shift: int
    squash_shift: int
    output: NumberFormat
    logits: NumberFormat
    agreement_multiplier: int
    agreement_shift: int

    def __post_init__(self) -> None:
        _check_positive(
            "routing",
            outputs=self.outputs,
            length=self.length,
            iterations=self.iterations,
            sum_shift=self.sum_shift,
            squash_shift=self.squash_shift,
            agreement_multiplier=self.agreement_multiplier,
            agreement_shift=self.agreement_shift,
        )
        for what, element in (("sums", self.sums), ("logits", self.logits), ("an output", self.output)):
            _check_signed(f"routing has {what} of", element)

    @property
    def squash(self) -> Squash:
        """What is done to the sums."""
        return Squash(length=self.length, shift=self.squash_shift, output=self.output)

    @property
    def largest_coupling(self) -> int:
        """The largest coupling coefficient."""
        return (1 << TABLE_FRACTION) - 1

    @property
    def first_coupling(self) -> int:
        """The coupling coefficient of all predictions in the first iteration."""
        equal = ((1 << TABLE_FRACTION) + self.outputs // 2) // self.outputs
        return min(equal, self.largest_coupling)


def squash_of(words: NumberFormat, length: int, output: NumberFormat) -> Squash:
    """The `Squash` of vectors of one format to another, whose shift follows from their fractions."""
    shift = TABLE_FRACTION + single_fraction(words) - single_fraction(output)
    return Squash(length=length, shift=shift, output=output)


def routing_of(
    predictions: NumberFormat,
    *,
    outputs: int,
    length: int,
    iterations: int,
    sums: NumberFormat,
    output: NumberFormat,
    logits: NumberFormat,
) -> Routing:
    """The `Routing` of predictions, whose shifts follow from the formats' fractions."""
    # A multiplier of 11 bits is log2(e) to 0.02 %.
    agreement_shift = 10 + single_fraction(predictions) + single_fraction(output) - single_fraction(logits)
    return Routing(
        outputs=outputs,
        length=length,
        iterations=iterations,
        sums=sums,
        sum_shift=single_fraction(predictions) + TABLE_FRACTION - single_fraction(sums),
        squash_shift=single_fraction(sums) + TABLE_FRACTION - single_fraction(output),
        output=output,
        logits=logits,
        agreement_multiplier=agreement_multiplier(predictions, output, logits, agreement_shift),
        agreement_shift=agreement_shift,
    )


def agreement_multiplier(predictions: NumberFormat, capsules: NumberFormat, logits: NumberFormat, shift: int) -> int:
    """What takes dot products of two formats, times log2(e) and shifted right, to logits that count powers of two."""
    to, *since = (single_fraction(element) for element in (logits, predictions, capsules))
    return round(math.log2(math.e) * 2.0 ** (to - sum(since) + shift))


def single_fraction(element: NumberFormat) -> int:
    """The fraction of all channels.

    Raises
    ------
    ValueError
        If channels have fractions of their own.
    """
    if not isinstance(element.fraction, int):
        raise ValueError(f"elements of a vector have one fraction, not one a channel: {element}")
    return element.fraction


def _check_positive(what: str, **values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{what} has a {name} of 1 or more, not {value}")


def _check_signed(what: str, element: NumberFormat) -> None:
    single_fraction(element)
    if element.kind != "signed":
        raise ValueError(f"{what} signed words, not {element}")
