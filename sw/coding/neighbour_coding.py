"""Codes by their neighbour: weights of neighbouring pixels resemble one another, so each gets a code table of its own.

A code's context is 0 where the weight before it in the row is zero, otherwise 1 or 2: whether the code there is below a
split (code books ascend, so that a split may divide by sign). Each context has its table and its stream.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from karui.sw.coding.bit_fields import BitReader, BitWriter, DamagedStream
from karui.sw.coding.code_table import best_code, information, read_code, write_code

HEADER, CODES = "header", "codes"

_SPLIT_ORDER, _COUNT_ORDER = 2, 5
_LARGEST_SPLIT_TRIED = 16

Integers = npt.NDArray[np.int64]


def write_by_neighbour(codes: Integers, adjacent: npt.NDArray[np.bool_], alphabet: int) -> BitWriter:
    """Codes, with whether a code stands right before each: the split, how many have context 1, tables and streams."""
    splits = range(1, min(alphabet, _LARGEST_SPLIT_TRIED + 1))
    split = min(splits, key=lambda split: sum(map(information, _by_context(codes, adjacent, split))))
    streams = _by_context(codes, adjacent, split)
    writer = BitWriter()
    writer.varying(HEADER, split - 1, _SPLIT_ORDER)
    writer.varying(HEADER, streams[1].size, _COUNT_ORDER)
    for stream in streams:
        if stream.size:
            code = best_code(np.bincount(stream, minlength=alphabet))
            write_code(writer, code)
            writer.symbols(CODES, stream, code)
    return writer


def _by_context(codes: Integers, adjacent: npt.NDArray[np.bool_], split: int) -> list[Integers]:
    contexts = np.zeros(codes.size, dtype=np.int64)
    contexts[1:] = np.where(adjacent[1:], 1 + (codes[:-1] >= split), 0)
    return [codes[contexts == context] for context in range(3)]


def read_by_neighbour(reader: BitReader, adjacent: npt.NDArray[np.bool_], alphabet: int) -> Integers:
    """Inverse of `write_by_neighbour`.

    Raises
    ------
    DamagedStream
        If the codes do not have the contexts that were counted.
    """
    split, low = reader.varying(_SPLIT_ORDER) + 1, reader.varying(_COUNT_ORDER)
    neighbours = int(np.count_nonzero(adjacent[1:]))
    if split >= alphabet or low > neighbours:
        raise DamagedStream(f"{low} of {neighbours} codes behind one below {split} of {alphabet}")
    streams = [
        iter(reader.symbols(read_code(reader, alphabet), count).data if count else b"")
        for count in (adjacent.size - neighbours, low, neighbours - low)
    ]
    codes = np.empty(adjacent.size, dtype=np.int64)
    code = 0
    for place, follows in enumerate(adjacent.data):
        symbol = next(streams[1 + (code >= split)] if follows and place else streams[0], None)
        if symbol is None:
            raise DamagedStream(f"other than {low} codes stand behind one below {split}")
        codes[place] = code = symbol
    return codes
