"""Huffman streams: bit by bit as the code says, and back."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karui.sw.coding import huffman, huffman_windows
from karui.sw.coding.canonical_code import CanonicalCode
from karui.sw.coding.huffman import BitString, StreamError, decode, decode_from, encode
from karui.sw.numerics import pack_bits


@st.composite
def streams(draw: st.DrawFn) -> tuple[np.ndarray, CanonicalCode]:
    """Symbols of any skew over an alphabet that may be larger than what occurs."""
    seed, size = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 5000))
    random = np.random.default_rng(seed)
    alphabet = draw(st.integers(1, 300))
    symbols = np.minimum(random.geometric(draw(st.floats(0.01, 0.99)), size) - 1, alphabet - 1)
    symbols = random.permutation(alphabet)[symbols]
    counts = np.bincount(symbols, minlength=alphabet) + random.integers(0, 2, alphabet)
    counts[0] += not counts.any()
    return symbols, CanonicalCode.from_counts(counts, max_length=draw(st.integers(9, 15)))


def bits_of(string: BitString) -> str:
    return "".join(format(byte, "08b") for byte in string.data)


@given(streams())
def test_symbols_come_back_from_the_words_of_the_code(stream):
    symbols, code = stream
    string = encode(symbols, code)
    words = "".join(format(code.codes[symbol], f"0{code.lengths[symbol]}b") for symbol in symbols)
    assert string.bits == len(words)
    assert bits_of(string) == words + "0" * (-len(words) % 8)
    assert np.array_equal(decode(string, code, symbols.size), symbols)


@given(streams(), st.integers(1, 200))
def test_words_of_a_memory_read_from_their_most_significant_bit(stream, width):
    symbols, code = stream
    string = encode(symbols, code)
    words = "".join(format(word, f"0{width}b") for word in string.words(width))
    assert words[: string.bits] == bits_of(string)[: string.bits]
    assert set(words[string.bits :]) <= {"0"}
    assert len(words) - string.bits < width


@pytest.fixture
def short_segments(monkeypatch):
    """Limits so low that short streams, too, go the ways of long ones."""
    monkeypatch.setattr(huffman, "_MANY", 50)
    monkeypatch.setattr(huffman, "_SEGMENT", 3000)
    monkeypatch.setattr(huffman_windows, "_FEW", 50)
    monkeypatch.setattr(huffman_windows, "_CHUNK", 200)
    monkeypatch.setattr(huffman_windows, "_WARM_UP", 60)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(stream=streams())
def test_streams_of_many_segments_and_chunks(stream, short_segments):
    symbols, code = stream
    string = encode(symbols, code)
    words = "".join(format(code.codes[symbol], f"0{code.lengths[symbol]}b") for symbol in symbols)
    assert bits_of(string)[: string.bits] == words
    assert np.array_equal(decode(string, code, symbols.size), symbols)


@pytest.mark.parametrize("length", range(1, 16))
def test_words_of_one_length(length):
    """They never find their boundaries again: chunks must begin at them."""
    code = CanonicalCode.from_counts(np.ones(1 << length, dtype=np.int64))
    symbols = np.random.default_rng(length).integers(0, 1 << length, 20_000)
    assert np.array_equal(decode(encode(symbols, code), code, symbols.size), symbols)


def test_words_that_hardly_ever_find_their_boundaries_again():
    """250 words of 8 bits but for 6 of 7: the last chunks are gone through one after another."""
    code = CanonicalCode.from_counts(np.ones(250, dtype=np.int64))
    symbols = np.random.default_rng(1).integers(0, 250, 100_000)
    assert np.array_equal(decode(encode(symbols, code), code, symbols.size), symbols)


@given(streams(), streams(), st.integers(0, 40))
def test_streams_amid_other_bits(first, second, lead):
    symbols, code = first
    strings = [encode(*first), encode(*second)]
    text = "1" * lead + "".join(bits_of(string)[: string.bits] for string in strings)
    joined = BitString(data=pack_bits(np.array([bit == "1" for bit in text])), bits=len(text))
    found, end = decode_from(joined, lead, code, symbols.size)
    assert end == lead + strings[0].bits
    assert np.array_equal(found, symbols)
    found, end = decode_from(joined, end, second[1], second[0].size)
    assert end == len(text)
    assert np.array_equal(found, second[0])


@given(streams())
def test_streams_that_end_within_a_word_are_refused(stream):
    symbols, code = stream
    string = encode(symbols, code)
    if not string.bits:
        return
    cut = BitString(data=string.data[: -(-(string.bits - 1) // 8)], bits=string.bits - 1)
    with pytest.raises(StreamError, match="symbols"):
        decode_from(cut, 0, code, symbols.size)


def test_symbols_without_a_word():
    code = CanonicalCode.from_counts([1, 0, 1])
    with pytest.raises(ValueError, match="symbol 1 has no word"):
        encode(np.array([0, 2, 1]), code)
    with pytest.raises(ValueError, match="0 to 3 exceed the alphabet of 3"):
        encode(np.array([0, 3]), code)


@given(streams(), st.integers(-3, 3), st.integers(-9, 9))
def test_streams_of_other_lengths_are_refused(stream, more_symbols, more_bits):
    symbols, code = stream
    string = encode(symbols, code)
    bits, count = string.bits + more_bits, symbols.size + more_symbols
    if bits < 0 or (not more_symbols and not more_bits):
        return
    text = (bits_of(string)[: string.bits] + "1" * 9)[:bits]
    other = BitString(data=int(text + "0" * (-bits % 8) or "0", 2).to_bytes(-(-bits // 8), "big"), bits=bits)
    if count == decoded_symbols(text, code):
        return
    with pytest.raises(StreamError, match="symbol"):
        decode(other, code, count)


def decoded_symbols(text: str, code: CanonicalCode) -> int:
    """How many words a text is made of, bit by bit; -1 if it is not."""
    words = {format(code.codes[symbol], f"0{code.lengths[symbol]}b") for symbol in code.sorted_symbols}
    count, word = 0, ""
    for bit in text:
        word += bit
        if word in words:
            count, word = count + 1, ""
    return -1 if word else count


def test_counts_beyond_the_bits_are_refused_before_any_allocation():
    code = CanonicalCode.from_counts([1, 1])
    with pytest.raises(StreamError, match="8 bits do not hold 1000000000000000 symbols"):
        decode(BitString(data=b"a", bits=8), code, 10**15)


def test_bit_strings_state_their_bytes():
    with pytest.raises(ValueError, match="9 bits fill 2 bytes, not 1"):
        BitString(data=b"a", bits=9)
