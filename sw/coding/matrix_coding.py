"""A matrix of codes as bits: by rows or columns, without the empty ones where that takes fewer bits."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from karui.sw.coding.bit_fields import BitReader, BitWriter
from karui.sw.coding.row_coding import promised_bits, read_row, write_row

HEADER, MAP = "header", "map"

_LAYOUTS_TRIED = 2

Integers = npt.NDArray[np.int64]


def write_matrix(writer: BitWriter, codes: Integers, largest: int) -> None:
    """Write codes from 0 to `largest`; the reader knows the shape and `largest`.

    Three bits say whether the matrix goes column after column instead of row after row, whether empty rows are left
    out, and empty columns. Maps of the rows and columns kept follow, then the codes.
    """
    rows, columns = np.count_nonzero(codes, axis=1) > 0, np.count_nonzero(codes, axis=0) > 0
    layouts: list[tuple[float, BitWriter, Integers]] = []
    for by_column, skip_rows, skip_columns in product((False, True), repeat=3):
        if (skip_rows and rows.all()) or (skip_columns and columns.all()):
            continue
        layout = BitWriter()
        for flag in (by_column, skip_rows, skip_columns):
            layout.number(HEADER, flag, 1)
        kept = codes
        if skip_rows:
            _write_map(layout, rows)
            kept = kept[rows]
        if skip_columns:
            _write_map(layout, columns)
            kept = kept[:, columns]
        row = (kept.T if by_column else kept).ravel()
        layouts.append((layout.size + promised_bits(row), layout, row))
    layouts.sort(key=lambda each: each[0])
    for _, layout, row in layouts[:_LAYOUTS_TRIED]:
        write_row(layout, row, largest)
    writer.append(min((layout for _, layout, _ in layouts[:_LAYOUTS_TRIED]), key=lambda each: each.size))


def read_matrix(reader: BitReader, shape: tuple[int, int], largest: int) -> Integers:
    """Inverse of `write_matrix`.

    Raises
    ------
    ValueError
        If the bits are not such a matrix.
    """
    by_column, skip_rows, skip_columns = (reader.number(1) for _ in range(3))
    rows = np.flatnonzero(read_row(reader, shape[0], 1)) if skip_rows else np.arange(shape[0])
    columns = np.flatnonzero(read_row(reader, shape[1], 1)) if skip_columns else np.arange(shape[1])
    row = read_row(reader, rows.size * columns.size, largest)
    kept = row.reshape(columns.size, rows.size).T if by_column else row.reshape(rows.size, columns.size)
    if not skip_rows and not skip_columns:
        return kept
    codes = np.zeros(shape, dtype=np.int64)
    codes[np.ix_(rows, columns)] = kept
    return codes


def _write_map(writer: BitWriter, kept: npt.NDArray[np.bool_]) -> None:
    """A row of codes 0 and 1 as any other, under its own kind."""
    row = BitWriter()
    write_row(row, kept.astype(np.int64), 1)
    for kind in list(row.bits_by_kind):
        row.relabel(kind, MAP, row.bits_by_kind[kind])
    writer.append(row)
