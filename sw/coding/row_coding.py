"""A row of codes as bits: a word for every few codes, or the non-zeros with the gaps between them.

Of the ways to say the same the writer takes the one of fewest bits, code tables included.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from karui.sw.coding.bit_fields import BitReader, BitWriter, DamagedStream
from karui.sw.coding.code_table import best_code, code_bits, information, read_code, write_code
from karui.sw.coding.gap_symbols import FILLER, GapSymbols
from karui.sw.coding.neighbour_coding import read_by_neighbour, write_by_neighbour
from karui.sw.coding.relative_index import LARGEST_GAP_BITS, Entries, from_entries, to_entries

HEADER, GAPS, FILLERS, CODES = "header", "gaps", "fillers", "codes"

_BLOCK_BITS = 3
_LARGEST_BLOCK_ALPHABET = 1 << 12
# What would be blocks of eight says that codes go by their neighbour, where eight are too many for a block.
_BY_NEIGHBOUR = 7
_SMALL_ALPHABET = 2
_WIDTH_BITS = 4
_COUNT_ORDER = 5
_MOST_PRECISE = 12
_ALPHABETS_TRIED = 3
# About what a symbol takes in a code table.
_TABLE_BITS = 3
# Zeros a non-zero from which on a word for every few codes is out of the question.
_SPARSE_BEYOND = 16

Integers = npt.NDArray[np.int64]


def write_row(writer: BitWriter, row: Integers, largest: int) -> None:
    """Write codes from 0 to `largest`; the reader knows how many. A bit says whether gaps are coded."""
    every, gaps = BitWriter(), BitWriter()
    gaps.number(HEADER, 1, 1)
    _write_gaps(gaps, row, largest)
    if row.size > _SPARSE_BEYOND * np.count_nonzero(row):
        writer.append(gaps)
        return
    every.number(HEADER, 0, 1)
    _write_blocks(every, row, largest + 1)
    writer.append(min(every, gaps, key=lambda each: each.size))


def read_row(reader: BitReader, length: int, largest: int) -> Integers:
    """Inverse of `write_row`.

    Raises
    ------
    ValueError
        If the bits are not such a row.
    """
    return _read_gaps(reader, length, largest) if reader.number(1) else _read_blocks(reader, length, largest + 1)


def promised_bits(row: Integers) -> float:
    """About the bits of a row, by the information of its symbols."""
    weights = row[row > 0]
    if not weights.size:
        return 0.0
    return min(information(row), min(_promised_gaps(row).values()) + information(weights))


def _write_blocks(writer: BitWriter, codes: Integers, alphabet: int) -> None:
    """As many codes a word as make the fewest bits: three bits for their number, less one; code table; words."""
    if codes.size == 0:
        return
    best = None
    for block in range(1, (1 << _BLOCK_BITS) + 1):
        if block > 1 and alphabet**block > _LARGEST_BLOCK_ALPHABET:
            break
        symbols = _join_block(codes, alphabet, block)
        counts = np.bincount(symbols, minlength=alphabet**block)
        code = best_code(counts)
        bits = code_bits(code, counts)
        if best is None or bits < best[0]:
            best = bits, block, symbols, code
    assert best is not None
    _, block, symbols, code = best
    writer.number(HEADER, block - 1, _BLOCK_BITS)
    write_code(writer, code)
    writer.symbols(CODES, symbols, code)


def _join_block(codes: Integers, alphabet: int, block: int) -> Integers:
    padded = np.zeros(-(-codes.size // block) * block, dtype=np.int64)
    padded[: codes.size] = codes
    return padded.reshape(-1, block) @ alphabet ** np.arange(block - 1, -1, -1)


def _read_blocks(reader: BitReader, count: int, alphabet: int) -> Integers:
    if count == 0:
        return np.empty(0, dtype=np.int64)
    block = reader.number(_BLOCK_BITS) + 1
    if block > 1 and alphabet**block > _LARGEST_BLOCK_ALPHABET:
        raise DamagedStream(f"blocks of {block} codes of an alphabet of {alphabet}")
    code = read_code(reader, alphabet**block)
    symbols = reader.symbols(code, -(-count // block))
    codes = np.empty((symbols.size, block), dtype=np.int64)
    for place in reversed(range(block)):
        symbols, codes[:, place] = np.divmod(symbols, alphabet)
    return codes.ravel()[:count]


def _write_gaps(writer: BitWriter, row: Integers, largest: int) -> None:
    """Number of entries, gap width, leading bits, code table, words, raw bits; the codes of the non-zeros, less one."""
    if not row.any():
        writer.varying(HEADER, 0, _COUNT_ORDER)
        return
    best = None
    promised = _promised_gaps(row)
    for alphabet in sorted(promised, key=promised.__getitem__)[:_ALPHABETS_TRIED]:
        symbols, raw, widths = alphabet.split(to_entries(row, alphabet.gap_bits))
        counts = np.bincount(symbols, minlength=alphabet.alphabet)
        code = best_code(counts)
        bits = code_bits(code, counts) + int(widths.sum())
        if best is None or bits < best[0]:
            best = bits, alphabet, symbols, raw, widths, code
    assert best is not None
    _, alphabet, symbols, raw, widths, code = best
    writer.varying(HEADER, symbols.size, _COUNT_ORDER)
    writer.number(HEADER, alphabet.gap_bits, _WIDTH_BITS)
    writer.number(HEADER, alphabet.precise, _WIDTH_BITS)
    write_code(writer, code)
    writer.symbols(GAPS, symbols, code)
    if code.sorted_symbols.size > 1:
        writer.relabel(GAPS, FILLERS, int(np.count_nonzero(symbols == FILLER)) * int(code.lengths[FILLER]))
    writer.numbers(GAPS, raw, widths)
    _write_codes(writer, row, largest)


def _promised_gaps(row: Integers) -> dict[GapSymbols, float]:
    """Alphabets of gaps, and about the bits of each one's gaps and code table."""
    runs = np.diff(np.flatnonzero(row), prepend=-1) - 1
    widest = min(int(runs.max()).bit_length(), LARGEST_GAP_BITS)
    promised = {}
    for gap_bits in range(max(widest - 5, 0), widest + 1):
        entries = to_entries(row, gap_bits)
        for precise in range(min(gap_bits, 1), min(gap_bits, _MOST_PRECISE) + 1):
            alphabet = GapSymbols(gap_bits=gap_bits, precise=precise)
            symbols, _, widths = alphabet.split(entries)
            used = np.unique(symbols).size
            promised[alphabet] = information(symbols) + int(widths.sum()) + _TABLE_BITS * used
    return promised


def _read_gaps(reader: BitReader, length: int, largest: int) -> Integers:
    count = reader.varying(_COUNT_ORDER)
    if count > length:
        raise DamagedStream(f"{count} entries in a row of {length} weights")
    if count == 0:
        return np.zeros(length, dtype=np.int64)
    alphabet = GapSymbols(gap_bits=reader.number(_WIDTH_BITS), precise=reader.number(_WIDTH_BITS))
    if alphabet.precise > _MOST_PRECISE:
        raise DamagedStream(f"symbols of {alphabet.precise} leading bits of a gap; at most {_MOST_PRECISE} may be")
    symbols = reader.symbols(read_code(reader, alphabet.alphabet), count)
    raw = reader.numbers(alphabet.widths(symbols))
    codes = np.zeros(count, dtype=np.int64)
    weights = symbols != FILLER
    gaps = alphabet.join(symbols, raw)
    codes[weights] = 1 + _read_codes(reader, _adjacent(np.cumsum(gaps + 1)[weights]), largest)
    return from_entries(Entries(gaps=gaps, codes=codes, length=length))


def _write_codes(writer: BitWriter, row: Integers, alphabet: int) -> None:
    """Codes of the non-zeros, less one: in blocks or by their neighbour."""
    positions = np.flatnonzero(row)
    codes = row[positions] - 1
    blocks = BitWriter()
    _write_blocks(blocks, codes, alphabet)
    if alphabet <= _SMALL_ALPHABET:
        writer.append(blocks)
        return
    by_neighbour = BitWriter()
    by_neighbour.number(HEADER, _BY_NEIGHBOUR, _BLOCK_BITS)
    by_neighbour.append(write_by_neighbour(codes, _adjacent(positions), alphabet))
    writer.append(min(blocks, by_neighbour, key=lambda each: each.size))


def _read_codes(reader: BitReader, adjacent: npt.NDArray[np.bool_], alphabet: int) -> Integers:
    if alphabet > _SMALL_ALPHABET and adjacent.size and reader.peek(_BLOCK_BITS) == _BY_NEIGHBOUR:
        reader.number(_BLOCK_BITS)
        return read_by_neighbour(reader, adjacent, alphabet)
    return _read_blocks(reader, adjacent.size, alphabet)


def _adjacent(positions: Integers) -> npt.NDArray[np.bool_]:
    adjacent = np.zeros(positions.size, dtype=np.bool_)
    adjacent[1:] = positions[1:] == positions[:-1] + 1
    return adjacent
