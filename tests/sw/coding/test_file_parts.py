"""The parts of a container's bit stream, each alone: fields, rows of integers, gap symbols, code tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karui.sw.coding.bit_fields import BitReader, BitWriter, DamagedStream
from karui.sw.coding.canonical_code import CanonicalCode
from karui.sw.coding.code_table import best_code, code_bits, read_code, write_code
from karui.sw.coding.gap_symbols import FILLER, GapSymbols
from karui.sw.coding.integer_block import read_integers, write_integers
from karui.sw.coding.neighbour_coding import read_by_neighbour, write_by_neighbour
from karui.sw.coding.relative_index import Entries, to_entries
from karui.sw.numerics import BIPOLAR, signed, unsigned


def bits_of(writer: BitWriter) -> str:
    return "".join(format(byte, "08b") for byte in writer.to_bytes())[: writer.size]


def test_fields_are_most_significant_bit_first():
    writer = BitWriter()
    writer.number("a", 5, 4)
    writer.varying("b", 0)
    writer.varying("b", 4)
    writer.varying("b", 4, 2)
    writer.numbers("c", np.array([2, 0, 1]), np.array([2, 0, 3]))
    writer.unary("d", np.array([2, 0]))
    assert bits_of(writer) == "0101" + "1" + "00101" + "01000" + "10" + "001" + "1100"[:3] + "0"
    assert writer.bits_by_kind == {"a": 4, "b": 11, "c": 5, "d": 4}
    with pytest.raises(ValueError, match="a: 16 does not fit 4 bits"):
        writer.number("a", 16, 4)


@given(st.lists(st.integers(0, 2**40)), st.integers(0, 7))
def test_numbers_of_any_size_come_back(values, order):
    writer = BitWriter()
    for value in values:
        writer.varying("", value, order)
    reader = BitReader(writer.to_bytes())
    assert [reader.varying(order) for _ in values] == values
    assert reader.left < 8


def test_readers_end_with_their_bits():
    reader = BitReader(b"\xff")
    with pytest.raises(DamagedStream, match="the data end 1 bits early"):
        reader.bits(9)
    with pytest.raises(DamagedStream, match="before 1 unary numbers"):
        reader.unary(1)


@given(st.lists(st.integers(-300, 300), min_size=1, max_size=50), st.sampled_from([10, 17, 32]), st.booleans())
def test_integers_come_back(values, bits, ascending):
    values = np.array(sorted(set(values)) if ascending else values)
    writer = BitWriter()
    write_integers(writer, "", values, signed(bits))
    assert writer.size <= 3 + bits * values.size
    assert np.array_equal(read_integers(BitReader(writer.to_bytes()), values.size, signed(bits)), values)


@pytest.mark.parametrize(
    ("values", "number_format", "bits"),
    [
        # Three bits for the form. Full words.
        ([-128, 127, 5, -77], signed(8), 3 + 4 * 8),
        # The least value and a width, which takes 4 bits for 8-bit words; then offsets of 2 bits.
        ([90, 93, 91, 92, 90, 93, 91, 92], signed(8), 3 + 4 + 8 + 8 * 2),
        ([7] * 50, signed(8), 3 + 4 + 8),
        # Rice codes without low bits: 1 bit for 0, 2 for -1.
        ([0, 0, 0, 0, -1, 0, 0, 0], signed(8), 3 + 4 + 9),
        # Ascending steps of 1 or 2: 1 or 2 bits.
        ([40, 41, 43, 44, 45, 46, 47, 48], signed(8), 3 + 8 + 4 + 8),
        # Steps of 0 in 1 bit and of 1 in 3.
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 10, 11, 12, 13], unsigned(4), 3 + 4 + 3 + 1 + 13 * 3),
        ([-1, 1, 1, -1], BIPOLAR, 3 + 4),
    ],
)
def test_the_form_of_fewest_bits(values, number_format, bits):
    writer = BitWriter()
    write_integers(writer, "", np.array(values), number_format)
    assert writer.size == bits
    assert read_integers(BitReader(writer.to_bytes()), len(values), number_format).tolist() == values


def test_gap_symbols_of_two_leading_bits():
    alphabet = GapSymbols(gap_bits=4, precise=2)
    entries = Entries(gaps=np.arange(16), codes=np.ones(16, dtype=np.int64), length=200)
    symbols, raw, widths = alphabet.split(entries)
    assert symbols.tolist() == [1, 2, 3, 4, 5, 5, 6, 6, 7, 7, 7, 7, 8, 8, 8, 8]
    assert widths.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]
    assert raw.tolist() == [0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 2, 3, 0, 1, 2, 3]
    assert alphabet.alphabet == 9


@given(st.integers(0, 13), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_gaps_come_back(gap_bits, precise, seed):
    alphabet = GapSymbols(gap_bits=gap_bits, precise=min(max(precise, min(gap_bits, 1)), gap_bits))
    random = np.random.default_rng(seed)
    entries = to_entries((random.random(30_000) < random.choice([0.3, 0.001])).astype(np.int64), gap_bits)
    symbols, raw, widths = alphabet.split(entries)
    assert symbols.max(initial=0) < alphabet.alphabet
    assert ((symbols == FILLER) == (entries.codes == 0)).all()
    assert np.array_equal(alphabet.widths(symbols), widths)
    assert np.array_equal(alphabet.join(symbols, raw), entries.gaps)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=80).filter(any))
def test_code_tables_come_back(counts):
    code = best_code(np.array(counts))
    writer = BitWriter()
    write_code(writer, code)
    assert np.array_equal(read_code(BitReader(writer.to_bytes()), len(counts)).lengths, code.lengths)
    assert (code.lengths > 0).tolist() == [count > 0 for count in counts]
    assert code_bits(code, np.array(counts)) <= code_bits(CanonicalCode.from_counts(counts), np.array(counts))


def test_tables_of_smooth_lengths_are_preferred_where_they_save_bits():
    counts = np.random.default_rng(1).poisson(20 * 0.97 ** np.arange(100)) + 1
    fewest = CanonicalCode.from_counts(counts)
    assert best_code(counts).coded_bits(counts) > fewest.coded_bits(counts)
    assert code_bits(best_code(counts), counts) < code_bits(fewest, counts)


@given(st.integers(3, 40), st.integers(1, 300), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_codes_by_their_neighbour_come_back(alphabet, size, share, seed):
    random = np.random.default_rng(seed)
    codes, adjacent = random.integers(0, alphabet, size), random.random(size) < share
    writer = write_by_neighbour(codes, adjacent, alphabet)
    assert np.array_equal(read_by_neighbour(BitReader(writer.to_bytes()), adjacent, alphabet), codes)


def test_neighbours_of_one_sign_take_fewer_bits():
    random = np.random.default_rng(1)
    signs = np.repeat(random.integers(0, 2, 200), 10)
    codes, adjacent = 4 * signs + random.integers(0, 4, 2000), np.ones(2000, dtype=np.bool_)
    size = write_by_neighbour(codes, adjacent, 8).size
    assert 2000 * (2 + 0.2) < size < 2000 * (2 + 0.5)


def test_codes_that_do_not_have_the_contexts_counted():
    writer = BitWriter()
    writer.varying("", 3, 2)
    writer.varying("", 5, 5)
    # All are the code 0, so that all but the first stand behind one below the split.
    for count in (1, 5, 94):
        write_code(writer, CanonicalCode.from_counts([1] * 8))
        writer.bits("", np.zeros(3 * count, dtype=np.uint8))
    with pytest.raises(DamagedStream, match="other than 5 codes stand behind one below 4"):
        read_by_neighbour(BitReader(writer.to_bytes()), np.ones(100, dtype=np.bool_), 8)
