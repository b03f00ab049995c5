"""Number formats: what the integers of a tensor mean and which of them can occur."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["unsigned", "signed", "bipolar"]

_KINDS: tuple[Kind, ...] = ("unsigned", "signed", "bipolar")


@dataclass(frozen=True, kw_only=True)
class NumberFormat:
    """The integer words of a tensor and the real values that they stand for.

    A word ``q`` stands for ``q * 2**-fraction``. A bipolar word takes the values -1 and +1 and is carried by one
    bit, 1 for +1 and 0 for -1.

    Parameters
    ----------
    kind : {"unsigned", "signed", "bipolar"}
        Signed words are two's complement.
    bits : int
        Width of a word, 1 to 64; a bipolar word has 1 bit, a signed one at least 2.
    fraction : int or tuple of int
        Fractional bits, one for all or one per channel (last axis of the tensor). May be negative.

    Raises
    ------
    ValueError
        If the kind is unknown or the width is out of range.
    """

    kind: Kind
    bits: int
    fraction: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"number format kind must be one of {', '.join(_KINDS)}, not {self.kind!r}")
        lowest = 2 if self.kind == "signed" else 1
        highest = 1 if self.kind == "bipolar" else 64
        if not lowest <= self.bits <= highest:
            raise ValueError(f"a {self.kind} number format has {lowest} to {highest} bits, not {self.bits}")

    @property
    def minimum(self) -> int:
        """Smallest integer of the format."""
        if self.kind == "unsigned":
            return 0
        return -1 if self.kind == "bipolar" else -(1 << (self.bits - 1))

    @property
    def maximum(self) -> int:
        """Largest integer of the format."""
        if self.kind == "unsigned":
            return (1 << self.bits) - 1
        return 1 if self.kind == "bipolar" else (1 << (self.bits - 1)) - 1

    @property
    def is_bipolar(self) -> bool:
        """Whether a word is one bit that stands for -1 or +1."""
        return self.kind == "bipolar"

    @property
    def levels(self) -> int:
        """Number of different integers of the format."""
        return 1 << self.bits

    def holds_range(self, low: int, high: int) -> bool:
        """Whether every integer from `low` to `high` is a word of the format (bipolar: only -1 and +1)."""
        if self.is_bipolar:
            return low == high and low in (-1, 1)
        return self.minimum <= low and high <= self.maximum

    def admits(self, values: npt.NDArray[Any]) -> bool:
        """Whether every value of an array is an integer of the format."""
        if values.size == 0:
            return True
        if self.is_bipolar:
            return bool(np.all((values == 1) | (values == -1)))
        whole = np.issubdtype(values.dtype, np.integer) or values.dtype == np.bool_ or np.all(values == np.rint(values))
        return bool(whole) and int(values.min()) >= self.minimum and int(values.max()) <= self.maximum

    def at_level(self, level: int) -> int:
        """The integer `level` steps above the minimum (the output of a threshold ladder that counted `level`)."""
        if not 0 <= level < self.levels:
            raise ValueError(f"{self} has levels 0 to {self.levels - 1}, not {level}")
        return (-1, 1)[level] if self.is_bipolar else self.minimum + level

    def __str__(self) -> str:
        if self.is_bipolar:
            return "bipolar"
        name = f"{'u' if self.kind == 'unsigned' else 's'}{self.bits}"
        return name if self.fraction == 0 else f"{name} / 2^{self.fraction}"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping; `from_dict` is its inverse."""
        fraction = list(self.fraction) if isinstance(self.fraction, tuple) else self.fraction
        return {"kind": self.kind, "bits": self.bits, "fraction": fraction}

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> NumberFormat:
        """Inverse of `to_dict`."""
        fraction = mapping["fraction"]
        return cls(
            kind=mapping["kind"],
            bits=mapping["bits"],
            fraction=tuple(fraction) if isinstance(fraction, list) else fraction,
        )


BIPOLAR = NumberFormat(kind="bipolar", bits=1)


def unsigned(bits: int, fraction: int | tuple[int, ...] = 0) -> NumberFormat:
    """An unsigned format of `bits` bits."""
    return NumberFormat(kind="unsigned", bits=bits, fraction=fraction)


def signed(bits: int, fraction: int | tuple[int, ...] = 0) -> NumberFormat:
    """A two's complement format of `bits` bits, sign included."""
    return NumberFormat(kind="signed", bits=bits, fraction=fraction)


def format_for_range(low: int, high: int) -> NumberFormat:
    """The narrowest unsigned or signed format that holds every integer from `low` to `high`."""
    if low > high:
        raise ValueError(f"a range goes from low to high, not from {low} to {high}")
    if low >= 0:
        return unsigned(max(1, high.bit_length()))
    return signed(max(2, max(high, -low - 1).bit_length() + 1))
