"""The container: what goes in comes out, each bit of the file has its account, damage is refused."""

import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.sw.coding.container import ContainerError, pack_container, read_container, write_container
from karui.sw.coding.tensors import RawTensor, SharedTensor, Tensor
from karui.sw.numerics import BIPOLAR, NumberFormat, signed, unsigned

FORMATS = st.one_of(st.just(BIPOLAR), st.builds(signed, st.integers(2, 32)), st.builds(unsigned, st.integers(1, 32)))


def integers(random: np.random.Generator, number_format: NumberFormat, shape: tuple[int, ...]) -> np.ndarray:
    if number_format.is_bipolar:
        return random.choice([-1, 1], shape)
    spread = float(random.choice([1, 20, 1e12]))
    return np.clip(np.rint(random.normal(0, spread, shape)), number_format.minimum, number_format.maximum).astype(int)


@st.composite
def raw_tensors(draw: st.DrawFn) -> RawTensor:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    number_format = draw(FORMATS)
    shape = tuple(draw(st.lists(st.integers(0, 12), max_size=3)))
    values = np.array(integers(random, number_format, shape))
    if number_format.holds_range(0, 0):
        values[random.random(shape) < draw(st.floats(0, 1))] = 0
    return RawTensor(
        name=draw(st.text(min_size=1)),
        values=values,
        number_format=number_format,
        fraction=draw(st.integers(-127, 127)),
    )


@st.composite
def shared_tensors(draw: st.DrawFn) -> SharedTensor:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    number_format = draw(FORMATS)
    vector, rows, columns = draw(st.sampled_from([1, 1, 2, 5, 16])), draw(st.integers(1, 30)), draw(st.integers(1, 60))
    k = draw(st.sampled_from([0, 1, 2, 3, 8, 40, 300]))
    codes = np.minimum(random.geometric(draw(st.floats(0.02, 1)), (rows, columns)), k)
    codes[random.random((rows, columns)) > draw(st.floats(0, 1))] = 0
    codes[random.random(rows) > draw(st.sampled_from([0.3, 1]))] = 0
    codes[:, random.random(columns) > draw(st.sampled_from([0.3, 1]))] = 0
    book = integers(random, number_format, (k, vector))
    return SharedTensor(
        name=draw(st.text(min_size=1)),
        shape=(rows, columns, vector) if draw(st.booleans()) else (rows, columns * vector),
        vector=vector,
        code_book=book[np.argsort(book[:, 0], kind="stable")],
        number_format=number_format,
        fraction=draw(st.integers(-127, 127)),
        codes=codes.ravel(),
        gap_bits=draw(st.none() | st.integers(0, 15)),
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
MODELS = st.lists(raw_tensors() | shared_tensors(), max_size=4, unique_by=lambda tensor: tensor.name)


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert type(found) is type(expected)
    assert found.name == expected.name
    assert found.shape == expected.shape
    assert (found.number_format, found.fraction) == (expected.number_format, expected.fraction)
    assert np.array_equal(found.values, expected.values)
    if isinstance(found, SharedTensor) and isinstance(expected, SharedTensor):
        assert (found.vector, found.gap_bits) == (expected.vector, expected.gap_bits)
        assert np.array_equal(found.code_book, expected.code_book)
        assert np.array_equal(found.codes, expected.codes)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=3), MODELS)
def test_models_come_back(metadata, tensors):
    data, account = pack_container(metadata, tensors)
    assert account.total == 8 * len(data)
    container = read_container(data)
    assert container.metadata == metadata
    assert len(container.tensors) == len(tensors)
    for found, expected in zip(container.tensors, tensors, strict=True):
        assert_same(found, expected)


def shared(name: str, rows: int, columns: int, weights: int, *, k: int = 6, seed: int = 1) -> SharedTensor:
    """A pruned matrix whose weights lie anywhere."""
    random = np.random.default_rng(seed)
    codes = np.zeros(rows * columns, dtype=np.int64)
    codes[random.permutation(codes.size)[:weights]] = random.integers(1, k + 1, weights)
    book = np.sort(random.permutation(np.r_[-100:0, 1:100])[:k])[:, None]
    return SharedTensor(
        name=name, shape=(rows, columns), vector=1, code_book=book, number_format=signed(8), codes=codes, gap_bits=5
    )


def bias(name: str, size: int, weights: int) -> RawTensor:
    values = np.zeros(size, dtype=np.int64)
    values[:weights] = np.clip(np.rint(np.random.default_rng(2).normal(0, 30, weights)), -128, 127)
    return RawTensor(name=name, values=values, number_format=signed(8), fraction=7)


LENET = (shared("conv1.weight", 20, 25, 120), bias("conv1.bias", 20, 20), shared("conv2.weight", 50, 500, 900),
         bias("conv2.bias", 50, 40), shared("dense1.weight", 100, 800, 1800), bias("dense1.bias", 100, 60),
         shared("dense2.weight", 10, 100, 400), bias("dense2.bias", 10, 10))  # fmt: skip


def test_the_size_of_the_file_is_the_figure(tmp_path):
    path = tmp_path / "lenet.karui"
    account = write_container(path, {"recipe": "lenet5-small"}, LENET)
    assert account.total == 8 * path.stat().st_size
    assert sum(account.by_kind.values()) == sum(account.by_tensor.values()) == account.total
    assert account.by_kind["checksum"] == 32
    assert account.by_kind["padding"] < 8
    assert set(account.by_tensor) == {"", *(tensor.name for tensor in LENET)}
    container = read_container(path)
    for found, expected in zip(container.tensors, LENET, strict=True):
        assert_same(found, expected)
    assert container["conv2.bias"].values.tolist() == LENET[3].values.tolist()
    with pytest.raises(KeyError, match=r"no tensor 'conv3'; there are conv1\.weight, conv1\.bias"):
        container["conv3"]


def test_sparse_matrices_take_little_more_than_their_information():
    tensor = shared("dense", 300, 784, 4000, k=4)
    _, account = pack_container({}, [tensor])
    share = 4000 / tensor.codes.size
    positions = -tensor.codes.size * (share * math.log2(share) + (1 - share) * math.log2(1 - share))
    assert account.total < 1.03 * (positions + 2 * 4000)


def test_what_surrounds_the_weights_takes_few_bytes():
    data, _ = pack_container({}, [])
    assert len(data) <= 16
    tensor = shared("a", 10, 10, 100, k=2)
    data, _ = pack_container({}, [tensor])
    assert len(data) <= 30 + 100 / 8


def test_the_written_form():
    """By ``docs/container.md``, bit by bit: a file of this version must be read by all later ones."""
    codes = np.array([0, 0, 2, 0, 1, 0, 0, 2])
    weights = SharedTensor(name="w", shape=(2, 4), vector=1, code_book=np.array([[-70], [42]]), number_format=signed(8),
                           fraction=7, codes=codes)  # fmt: skip
    bias = RawTensor(name="b", values=np.array([3, -5, 3]), number_format=signed(4), fraction=-1)
    data, account = pack_container({}, [weights, bias])
    text = "".join(format(byte, "08b") for byte in data[4:-4])
    assert text.startswith("1" + "1001100")  # deflated, to 12 bytes
    fields = [
        "1", "010", "10010", "10100",  # shared, 2 axes: 2, 4
        "01", "00111", "010110",  # signed, 8 bits, fraction 7
        "1", "0", "110",  # vectors of 1, no gap width, 2 vectors
        "000", "00111010", "10101010",  # full words: -70, 42
        "000", "0", "100",  # row by row, every row and column; blocks, of 5 codes
        "01", "000010011", "010", "000", "0001",  # symbols 18 (00200), of 1 bit, and 19 (00201)
        "1", "0",  # 19 and 18
        "0", "001", "10011",  # raw, 1 axis: 3
        "01", "00011", "1001",  # signed, 4 bits, fraction -1
        "0", "000", "1011", "0011", "1011",  # integers, full words: 3, -5, 3
    ]  # fmt: skip
    rest = text[8 + 8 * 12 :]
    assert rest == "".join(fields) + "000"
    assert account.rows["", "padding"] == 3


def test_every_truncation_is_refused():
    data, _ = pack_container({"a": 1}, LENET[:2])
    for size in range(len(data)):
        with pytest.raises(ContainerError, match=r"truncated|does not begin"):
            read_container(data[:size])


def test_every_flipped_bit_is_refused():
    data, _ = pack_container({"a": 1}, LENET[:2])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 128 >> bit % 8
        with pytest.raises(ContainerError):
            read_container(bytes(damaged))


def test_files_that_are_no_containers(tmp_path):
    with pytest.raises(ContainerError, match=r"cannot read .*missing\.karui: No such file"):
        read_container(tmp_path / "missing.karui")
    with pytest.raises(ContainerError, match="no container of a compressed model"):
        read_container(b"PK\x03\x04 and more")
    data, _ = pack_container({}, [])
    with pytest.raises(ContainerError, match="version 9, this reader knows 2"):
        read_container(data[:3] + b"\x09" + data[4:])
    with pytest.raises(ContainerError, match="goes on behind its last tensor"):
        read_container(sealed(data[:-4] + b"\x00"))


def sealed(body: bytes) -> bytes:
    """A body with the checksum that fits it."""
    return body + zlib.crc32(body).to_bytes(4, "big")


def test_models_that_the_writer_refuses():
    with pytest.raises(ValueError, match="different names, not a, a"):
        pack_container({}, [bias("a", 2, 1), bias("a", 3, 1)])
    with pytest.raises(ValueError, match="JSON"):
        pack_container({"a": math.nan}, [])


def test_the_reader_accepts_no_more_weights_than_it_was_told():
    data, _ = pack_container({}, [shared("a", 10, 10, 5), shared("b", 10, 10, 5)])
    assert len(read_container(data, largest_model=212).tensors) == 2
    with pytest.raises(ContainerError, match="tensor 'b': 100 weights and a code book of 6 integers, 105 may be"):
        read_container(data, largest_model=211)
    with pytest.raises(ContainerError, match="tensor 'a': 100 weights, 99 may be"):
        read_container(data, largest_model=99)
