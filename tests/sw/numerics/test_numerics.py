import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from karui.sw.numerics import (
    BIPOLAR,
    NumberFormat,
    Rounding,
    doubling_high_multiply,
    format_for_range,
    memory_image,
    pack,
    pack_beats,
    read_memory_image,
    rounding_divide,
    saturate,
    shift_right,
    signed,
    unpack,
    unpack_beats,
    unsigned,
)

formats = st.one_of(st.just(BIPOLAR), st.integers(1, 24).map(unsigned), st.integers(2, 24).map(signed))


@st.composite
def arrays(draw: st.DrawFn) -> tuple[NumberFormat, np.ndarray]:
    number_format = draw(formats)
    count = draw(st.integers(1, 40))
    if number_format.is_bipolar:
        elements = st.sampled_from([-1, 1])
    else:
        elements = st.integers(number_format.minimum, number_format.maximum)
    return number_format, np.array(draw(st.lists(elements, min_size=count, max_size=count)), dtype=np.int64)


@given(arrays())
def test_packing_round_trip_and_bit_order(case: tuple[NumberFormat, np.ndarray]) -> None:
    number_format, values = case
    words = pack(values, number_format)
    assert np.array_equal(unpack(words, number_format, len(values)), values)
    integer = int.from_bytes(words.tobytes(), "little")
    for lane, value in enumerate(values.tolist()):
        field = integer >> (lane * number_format.bits) & ((1 << number_format.bits) - 1)
        expected = (value + 1) // 2 if number_format.is_bipolar else value % (1 << number_format.bits)
        assert field == expected


@given(arrays(), st.integers(1, 50))
def test_beats_round_trip_with_zero_unused_lanes(case: tuple[NumberFormat, np.ndarray], lanes: int) -> None:
    number_format, values = case
    words = pack_beats(values[None], number_format, lanes)
    assert np.array_equal(unpack_beats(words, number_format, lanes, values.shape)[0], values)
    used = (len(values) - (words.shape[1] - 1) * lanes) * number_format.bits
    assert int.from_bytes(words[0, -1].tobytes(), "little") >> used == 0


def test_packing_refuses_values_outside_the_format() -> None:
    with pytest.raises(ValueError, match=r"values from 0 to 16 do not fit the number format u4"):
        pack(np.array([0, 16]), unsigned(4))
    with pytest.raises(ValueError, match="bipolar"):
        pack(np.array([0, 1]), BIPOLAR)


@given(st.integers(-(2**40), 2**40), st.integers(0, 20), st.sampled_from(Rounding))
def test_shift_right_is_the_rounded_quotient(value: int, shift: int, rounding: Rounding) -> None:
    quotient, remainder = divmod(value, 1 << shift)
    twice = 2 * remainder
    if rounding is Rounding.HALF_UP:
        quotient += twice >= 1 << shift
    elif rounding is Rounding.HALF_EVEN:
        quotient += twice > 1 << shift or (twice == 1 << shift and quotient % 2 == 1)
    assert shift_right(value, shift, rounding) == quotient
    assert shift_right(np.array([value]), shift, rounding).tolist() == [quotient]
    assert shift_right(torch.tensor([value]), shift, rounding).tolist() == [quotient]


def test_saturate() -> None:
    assert saturate(300, 0, 255) == 255
    assert saturate(np.array([-3, 7]), 0, 5).tolist() == [0, 5]
    assert saturate(torch.tensor([-3, 7]), 0, 5).tolist() == [0, 5]


@given(st.integers(-(2**30), 2**30), st.integers(0, 2**30))
def test_format_for_range_is_the_narrowest(low: int, extent: int) -> None:
    number_format = format_for_range(low, low + extent)
    assert number_format.holds_range(low, low + extent)
    narrower = number_format.bits - 1
    if narrower >= (2 if number_format.kind == "signed" else 1):
        assert not NumberFormat(kind=number_format.kind, bits=narrower).holds_range(low, low + extent)


def test_number_format_is_checked_and_serializes() -> None:
    with pytest.raises(ValueError, match="signed number format has 2 to 64 bits, not 1"):
        signed(1)
    for number_format in (BIPOLAR, unsigned(8, fraction=3), signed(4, fraction=(1, 2))):
        assert NumberFormat.from_dict(number_format.to_dict()) == number_format
    assert [BIPOLAR.at_level(level) for level in range(2)] == [-1, 1]
    assert [signed(2).at_level(level) for level in range(4)] == [-2, -1, 0, 1]


def test_memory_image_round_trip(tmp_path) -> None:
    path = tmp_path / "weights.mem"
    path.write_text(memory_image([0, 0x1FF, 5], bits=9))
    assert path.read_text() == "000\n1ff\n005\n"
    assert read_memory_image(path) == [0, 0x1FF, 5]
    with pytest.raises(ValueError, match="memory word 0 is 0x200"):
        memory_image([0x200], bits=9)
    path.write_text("12\nzz\n")
    with pytest.raises(ValueError, match=r"line 2: 'zz' is not a hexadecimal word"):
        read_memory_image(path)


def _truncated(numerator: int, denominator: int) -> int:
    """C's division of integers."""
    return abs(numerator) // denominator * (1 if numerator >= 0 else -1)


int32 = st.one_of(st.integers(-(2**31), 2**31 - 1), st.sampled_from([-(2**31), 2**31 - 1, -1, 0, 1, 1 << 30]))


@given(int32, int32)
def test_doubling_high_multiply_is_gemmlowps(value: int, multiplier: int) -> None:
    product = value * multiplier
    nudge = 1 << 30 if product >= 0 else 1 - (1 << 30)
    overflows = value == multiplier == -(2**31)
    expected = 2**31 - 1 if overflows else _truncated(product + nudge, 1 << 31)
    assert doubling_high_multiply(value, multiplier) == expected
    assert doubling_high_multiply(np.array([value]), np.array([multiplier])).tolist() == [expected]
    assert doubling_high_multiply(torch.tensor([value]), torch.tensor([multiplier])).tolist() == [expected]


def test_doubling_high_multiply_at_ties_and_saturation() -> None:
    half = 1 << 30
    assert [doubling_high_multiply(value, half) for value in (1, -1, 3, -3)] == [1, 0, 2, -1]
    assert doubling_high_multiply(-(2**31), -(2**31)) == 2**31 - 1
    assert doubling_high_multiply(-(2**31), 2**31 - 1) == -(2**31) + 1


@given(int32, st.integers(0, 31))
def test_rounding_divide_is_half_away_from_zero(value: int, exponent: int) -> None:
    magnitude = (2 * abs(value) + (1 << exponent)) // (2 << exponent)
    expected = magnitude if value >= 0 else -magnitude
    assert rounding_divide(value, exponent) == expected
    assert rounding_divide(np.array([value]), np.array([exponent])).tolist() == [expected]
    assert rounding_divide(torch.tensor([value]), torch.tensor([exponent])).tolist() == [expected]
