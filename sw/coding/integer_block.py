"""Short rows of integers (biases, code books, code lengths) in whichever of five forms takes the fewest bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.coding.bit_fields import BitReader, BitWriter, DamagedStream
from karui.sw.numerics import NumberFormat, unsigned

WIDEST = 32

FULL, NARROW, RICE, ASCENDING, STEPS = range(5)
_MODE_BITS = 3
_LONGEST_UNARY = 1 << 10

Integers = npt.NDArray[np.int64]


def write_integers(writer: BitWriter, kind: str, values: npt.NDArray[Any], number_format: NumberFormat) -> None:
    """Write integers of a format of at most 32 bits; the reader knows how many there are, and bounds their number.

    Three bits say how: as words of the format (0); as the least of them and narrower offsets from it (1); Rice-coded
    with the sign folded in (2); ascending, the first and the Rice-coded steps less one (3); any, the first and the
    Rice-coded steps with the sign folded in (4).
    """
    if values.size == 0:
        return
    if number_format.is_bipolar:
        values, number_format = values + 1 >> 1, unsigned(1)
    candidates: list[BitWriter | None] = [_full(kind, values, number_format), _narrow(kind, values, number_format)]
    candidates.append(_rice(kind, RICE, values, number_format, first=False))
    if values.size > 1:
        candidates.append(_rice(kind, STEPS, values, number_format, first=True))
        if (np.diff(values) > 0).all():
            candidates.append(_rice(kind, ASCENDING, values, number_format, first=True))
    writer.append(min((each for each in candidates if each is not None), key=lambda each: each.size))


def read_integers(reader: BitReader, count: int, number_format: NumberFormat) -> Integers:
    """Inverse of `write_integers`.

    Raises
    ------
    DamagedStream
        If the bits end early or a value is not of the format.
    """
    if count == 0:
        return np.empty(0, dtype=np.int64)
    if number_format.is_bipolar:
        return 2 * read_integers(reader, count, unsigned(1)) - 1
    mode = reader.number(_MODE_BITS)
    if mode == FULL:
        values = number_format.minimum + _read_words(reader, count, number_format.bits)
    elif mode == NARROW:
        width = reader.number(_width_bits(number_format))
        if width > number_format.bits:
            raise DamagedStream(f"offsets of {width} bits in the number format {number_format}")
        low = number_format.minimum + reader.number(number_format.bits)
        values = low + _read_words(reader, count, width)
    elif mode == RICE:
        values = _unfold(_read_rice(reader, count, number_format))
    elif mode in (ASCENDING, STEPS):
        first = number_format.minimum + reader.number(number_format.bits)
        steps = _read_rice(reader, count - 1, number_format)
        steps = steps + 1 if mode == ASCENDING else _unfold(steps)
        values = np.cumsum(np.concatenate([[first], steps]))
    else:
        raise DamagedStream(f"integers have the forms {FULL} to {STEPS}, not {mode}")
    if not number_format.admits(values):
        raise DamagedStream(f"integers from {values.min()} to {values.max()} are not {number_format}")
    return values


def _width_bits(number_format: NumberFormat) -> int:
    """Bits of the number that says how wide a field is, 0 to the format's width."""
    return number_format.bits.bit_length()


def _begin(kind: str, mode: int) -> BitWriter:
    writer = BitWriter()
    writer.number(kind, mode, _MODE_BITS)
    return writer


def _words(writer: BitWriter, kind: str, values: Integers, width: int) -> None:
    writer.numbers(kind, values, np.full(values.size, width))


def _read_words(reader: BitReader, count: int, width: int) -> Integers:
    if width == 0:
        return np.zeros(count, dtype=np.int64)
    if count * width > reader.left:
        raise DamagedStream(f"{count} integers of {width} bits in {reader.left} bits")
    return reader.numbers(np.full(count, width))


def _full(kind: str, values: Integers, number_format: NumberFormat) -> BitWriter:
    writer = _begin(kind, FULL)
    _words(writer, kind, values - number_format.minimum, number_format.bits)
    return writer


def _narrow(kind: str, values: Integers, number_format: NumberFormat) -> BitWriter:
    writer = _begin(kind, NARROW)
    low, width = int(values.min()), int(values.max() - values.min()).bit_length()
    writer.number(kind, width, _width_bits(number_format))
    writer.number(kind, low - number_format.minimum, number_format.bits)
    _words(writer, kind, values - low, width)
    return writer


def _rice(kind: str, mode: int, values: Integers, number_format: NumberFormat, *, first: bool) -> BitWriter | None:
    """Rice codes with the parameter of fewest bits; None where even that is no use."""
    writer = _begin(kind, mode)
    if first:
        writer.number(kind, int(values[0]) - number_format.minimum, number_format.bits)
        steps = np.diff(values)
        values = steps - 1 if mode == ASCENDING else steps
    folded = values if mode == ASCENDING else _fold(values)
    sizes = [int((folded >> low).sum()) + (low + 1) * folded.size for low in range(number_format.bits)]
    low = int(np.argmin(sizes))
    quotients = folded >> low
    if sizes[low] > number_format.bits * folded.size or quotients.max() >= _LONGEST_UNARY:
        return None
    writer.number(kind, low, _width_bits(number_format))
    writer.unary(kind, quotients)
    _words(writer, kind, folded & ((1 << low) - 1), low)
    return writer


def _read_rice(reader: BitReader, count: int, number_format: NumberFormat) -> Integers:
    low = reader.number(_width_bits(number_format))
    if low >= number_format.bits or count * (low + 1) > reader.left:
        raise DamagedStream(f"{count} Rice codes of {low} low bits in {reader.left} bits")
    quotients = reader.unary(count)
    return quotients << low | _read_words(reader, count, low)


def _fold(values: Integers) -> Integers:
    """0, -1, 1, -2, 2 ... as 0, 1, 2, 3, 4 ..."""
    return np.where(values < 0, -2 * values - 1, 2 * values)


def _unfold(folded: Integers) -> Integers:
    return np.where(folded & 1, -(folded + 1 >> 1), folded >> 1)
