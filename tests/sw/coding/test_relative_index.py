"""Relative indices: entries by hand, fillers, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from karui.sw.coding.relative_index import Entries, best_gap_bits, from_entries, to_entries

ROWS = arrays(np.int64, st.integers(0, 300), elements=st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1, 2, 3]))


def pairs(entries: Entries) -> list[tuple[int, int]]:
    return list(zip(entries.gaps.tolist(), entries.codes.tolist(), strict=True))


def test_gaps_of_two_bits():
    row = np.array([0, 5, 0, 0, 0, 7, 9, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0])
    assert pairs(to_entries(row, 2)) == [(1, 5), (3, 7), (0, 9), (3, 0), (0, 4), (3, 0), (3, 0), (0, 3)]
    assert to_entries(row, 2).fillers == 3
    assert pairs(to_entries(row, 4)) == [(1, 5), (3, 7), (0, 9), (4, 4), (8, 3)]


def test_rows_of_zeros_have_no_entries():
    entries = to_entries(np.zeros(1000, dtype=np.int64), 3)
    assert pairs(entries) == []
    assert from_entries(entries).tolist() == [0] * 1000


@given(ROWS, st.integers(0, 15))
def test_rows_come_back(row, gap_bits):
    entries = to_entries(row, gap_bits)
    assert np.array_equal(from_entries(entries), row)
    assert np.count_nonzero(entries.codes) == np.count_nonzero(row)
    fillers = entries.codes == 0
    assert (entries.gaps[fillers] == (1 << gap_bits) - 1).all()
    assert entries.gaps.size == 0 or entries.gaps.max() < 1 << gap_bits


def test_entries_beyond_the_row_are_refused():
    entries = Entries(gaps=np.array([3, 3]), codes=np.array([1, 1]), length=7)
    with pytest.raises(ValueError, match="weight 8 of a row of 7"):
        from_entries(entries)


@pytest.mark.parametrize("gap_bits", [-1, 16])
def test_gap_widths_out_of_range(gap_bits):
    with pytest.raises(ValueError, match=f"0 to 15 bits, not {gap_bits}"):
        to_entries(np.array([1]), gap_bits)


def test_sparser_rows_want_wider_gaps():
    random = np.random.default_rng(1)
    widths = [best_gap_bits((random.random(20_000) < kept).astype(np.int64)) for kept in (0.5, 0.05, 0.01)]
    assert widths == sorted(widths)
    assert widths[0] < 4 < widths[2]
