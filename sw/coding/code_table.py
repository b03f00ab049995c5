"""The table of a canonical code in a file: which symbols have a word, and how long each is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from karui.sw.coding.bit_fields import BitReader, BitWriter, DamagedStream
from karui.sw.coding.canonical_code import LONGEST_CODE, CanonicalCode
from karui.sw.coding.integer_block import read_integers, write_integers
from karui.sw.numerics import unsigned

KIND = "code table"
LENGTH = unsigned(4)
LARGEST_ALPHABET = 1 << LONGEST_CODE

ALL, RANGE, MAP, LIST = range(4)
_MODE_BITS = 2
_SMOOTHINGS = 4


def best_code(counts: npt.NDArray[np.int64]) -> CanonicalCode:
    """The code that makes table and stream together the smallest.

    Lengths that vary smoothly with the symbol take fewer bits in the table than those of the fewest bits in the
    stream, which follow chance; so the codes of smoothed counts are tried too.
    """
    used = np.flatnonzero(counts)
    smooth, best = counts[used].astype(np.float64), CanonicalCode.from_counts(counts)
    if used.size < 3:
        return best
    fewest = code_bits(best, counts)
    for _ in range(_SMOOTHINGS):
        padded = np.pad(smooth, 1, mode="edge")
        smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
        weights = np.zeros_like(counts)
        weights[used] = np.maximum(np.rint(16 * smooth), 1)
        code = CanonicalCode.from_counts(weights)
        bits = code_bits(code, counts)
        if bits < fewest:
            best, fewest = code, bits
    return best


def information(symbols: npt.NDArray[np.int64]) -> float:
    """Bits that no code of the symbols alone falls below."""
    counts = np.bincount(symbols)
    used = counts[counts > 0]
    return float((used * np.log2(symbols.size / used)).sum())


def code_bits(code: CanonicalCode, counts: npt.NDArray[np.int64]) -> int:
    """Bits of a code's table and of a stream of so many symbols each."""
    writer = BitWriter()
    write_code(writer, code)
    return writer.size + (code.coded_bits(counts) if code.sorted_symbols.size > 1 else 0)


def write_code(writer: BitWriter, code: CanonicalCode) -> None:
    """Write a code whose alphabet the reader knows.

    Two bits say which symbols have a word: all (0), a range of them (1), those of a bit map (2) or of a list (3).
    The lengths follow, except for the last: it is what the others leave.
    """
    used = np.flatnonzero(code.lengths)
    candidates = []
    for mode in (ALL, RANGE, MAP, LIST):
        candidate = BitWriter()
        candidate.number(KIND, mode, _MODE_BITS)
        if mode == ALL and used.size < code.alphabet:
            continue
        if mode == RANGE:
            if used[-1] - used[0] + 1 > used.size:
                continue
            candidate.varying(KIND, int(used[0]))
            candidate.varying(KIND, used.size - 1)
        elif mode == MAP:
            candidate.bits(KIND, (code.lengths > 0).astype(np.uint8))
        elif mode == LIST:
            candidate.varying(KIND, used.size - 1)
            write_integers(candidate, KIND, used, unsigned(LONGEST_CODE))
        candidates.append(candidate)
    writer.append(min(candidates, key=lambda each: each.size))
    if used.size > 1:
        write_integers(writer, KIND, code.lengths[used[:-1]].astype(np.int64), LENGTH)


def read_code(reader: BitReader, alphabet: int) -> CanonicalCode:
    """Inverse of `write_code`.

    Raises
    ------
    ValueError
        If it is not a complete prefix code of the alphabet.
    """
    used = _read_used(reader, alphabet)
    lengths = np.zeros(alphabet, dtype=np.uint8)
    if used.size == 1:
        lengths[used] = 1
        return CanonicalCode(lengths=lengths)
    known = read_integers(reader, used.size - 1, LENGTH)
    if not known.all():
        raise DamagedStream("a code has words of no bits")
    left = (1 << LONGEST_CODE) - int((1 << (LONGEST_CODE - known)).sum())
    if left <= 0:
        raise DamagedStream("the code is over-subscribed: its words leave none for its last symbol")
    lengths[used[:-1]] = known
    # Of a complete code a power of two; of any other the code refuses the lengths.
    lengths[used[-1]] = LONGEST_CODE + 1 - left.bit_length()
    return CanonicalCode(lengths=lengths)


def _read_used(reader: BitReader, alphabet: int) -> npt.NDArray[np.int64]:
    mode = reader.number(_MODE_BITS)
    if mode == ALL:
        used = np.arange(alphabet)
    elif mode == RANGE:
        first, count = reader.varying(), reader.varying() + 1
        if first + count > alphabet:
            raise DamagedStream(f"symbols {first} to {first + count - 1} of an alphabet of {alphabet}")
        used = np.arange(first, first + count)
    elif mode == MAP:
        used = np.flatnonzero(reader.bits(alphabet))
    else:
        count = reader.varying() + 1
        if count > alphabet:
            raise DamagedStream(f"{count} symbols of an alphabet of {alphabet}")
        used = read_integers(reader, count, unsigned(LONGEST_CODE))
        if (np.diff(used) <= 0).any() or used[-1] >= alphabet:
            raise DamagedStream(f"a list of symbols that is not ascending within the alphabet of {alphabet}")
    if used.size == 0:
        raise DamagedStream("a code of no symbol")
    return used
