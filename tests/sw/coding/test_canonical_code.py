"""Canonical codes: the words as RFC 1951 derives them, optimal and limited lengths, refused lengths."""

import heapq
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karui.sw.coding.canonical_code import LONGEST_CODE, CanonicalCode


def code_of(*lengths: int) -> CanonicalCode:
    return CanonicalCode(lengths=np.array(lengths, dtype=np.uint8))


def huffman_bits(counts: list[int]) -> int:
    """Bits of an optimal code without a limit: the sum of the inner nodes of Huffman's tree."""
    heap = [count for count in counts if count]
    if len(heap) == 1:
        return heap[0]
    heapq.heapify(heap)
    bits = 0
    while len(heap) > 1:
        node = heapq.heappop(heap) + heapq.heappop(heap)
        bits += node
        heapq.heappush(heap, node)
    return bits


def limited_bits(counts: list[int], limit: int) -> int:
    """Bits of the best code by trying every way to split the Kraft sum over counts in falling order."""
    falling = sorted((count for count in counts if count), reverse=True)

    def best(index: int, shortest: int, room: int) -> float:
        if index == len(falling):
            return 0 if room == 0 else float("inf")
        return min(
            (
                falling[index] * length + best(index + 1, length, room - (1 << (limit - length)))
                for length in range(shortest, limit + 1)
                if room >= (1 << (limit - length)) + (len(falling) - index - 1)
            ),
            default=float("inf"),
        )

    return int(best(0, 1, 1 << limit))


def test_words_of_the_example_in_rfc_1951():
    code = code_of(3, 3, 3, 3, 3, 2, 4, 4)
    words = [format(word, f"0{length}b") for word, length in zip(code.codes, code.lengths, strict=True)]
    assert words == ["010", "011", "100", "101", "110", "00", "1110", "1111"]
    assert code.sorted_symbols.tolist() == [5, 0, 1, 2, 3, 4, 6, 7]
    assert code.counts.tolist() == [0, 0, 1, 5, 2]
    assert code.first_code.tolist() == [0, 0, 0, 2, 14]
    assert code.offsets.tolist() == [0, 0, 0, 1, 6]
    assert code.max_length == 4


def test_absent_symbols_have_no_word():
    code = code_of(0, 1, 0, 2, 2)
    assert code.sorted_symbols.tolist() == [1, 3, 4]
    assert code.codes[[1, 3, 4]].tolist() == [0, 2, 3]


def test_the_only_symbol_has_one_bit():
    code = CanonicalCode.from_counts([0, 0, 9])
    assert code.lengths.tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="only symbol has 1 bit, not 2"):
        code_of(0, 2)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ((1, 1, 1), "over-subscribed.*to 1.5, not 1"),
        ((1, 2), "incomplete.*to 0.75, not 1"),
        ((16, 1), "at most 15 bits, not 1 to 16"),
        ((0, 0), "at least one symbol"),
        ((), "at least one symbol"),
    ],
)
def test_lengths_that_are_no_complete_code(lengths, message):
    with pytest.raises(ValueError, match=message):
        code_of(*lengths)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=40).filter(any))
def test_no_code_is_shorter(counts):
    # 11 Fibonacci numbers up to 100 make a word of 10 bits, the 29 symbols left of 100 each at most 4 bits more.
    code = CanonicalCode.from_counts(counts)
    assert code.coded_bits(counts) == huffman_bits(counts)
    assert (code.lengths > 0).tolist() == [count > 0 for count in counts]


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=8).filter(any), st.integers(3, 5))
def test_no_code_within_the_limit_is_shorter(counts, limit):
    code = CanonicalCode.from_counts(counts, max_length=limit)
    assert code.max_length <= limit
    if np.count_nonzero(counts) > 1:
        assert code.coded_bits(counts) == limited_bits(counts, limit)


def test_the_limit_binds():
    counts = [1, 1]
    while len(counts) < 30:
        counts.append(counts[-1] + counts[-2])
    assert CanonicalCode.from_counts(counts).max_length == LONGEST_CODE
    assert CanonicalCode.from_counts(counts).coded_bits(counts) > huffman_bits(counts)
    assert CanonicalCode.from_counts(counts[:8], max_length=3).lengths.tolist() == [3] * 8


def test_alphabets_that_the_limit_cannot_hold():
    with pytest.raises(ValueError, match="9 symbols need words of 4 bits, max_length is 3"):
        CanonicalCode.from_counts([1] * 9, max_length=3)
    assert CanonicalCode.from_counts([1] * (1 << LONGEST_CODE)).lengths.min() == LONGEST_CODE


@given(st.lists(st.integers(0, 50), min_size=2, max_size=40).filter(any))
def test_words_are_prefix_free_and_ascend(counts):
    code = CanonicalCode.from_counts(counts)
    words = [format(code.codes[symbol], f"0{code.lengths[symbol]}b") for symbol in code.sorted_symbols]
    for word, following in pairwise(words):
        assert word < following
        assert not following.startswith(word)
