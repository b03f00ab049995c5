"""Hostile files: sound checksums over nonsense. The reader refuses them with its own error, in bounded memory."""

import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.sw.coding.bit_fields import BitWriter
from karui.sw.coding.container import Container, ContainerError, pack_container, read_container
from karui.sw.coding.tensors import RawTensor, SharedTensor
from karui.sw.numerics import signed

LARGEST = 1 << 16
"""Weights that the reader accepts in these tests."""
DIRECTORY = b'[{},["a"]]'


def sealed(body: bytes) -> bytes:
    """A file whose checksum fits."""
    return body + zlib.crc32(body).to_bytes(4, "big")


def file_of(*fields: tuple[int, int] | int, directory: bytes = DIRECTORY, deflated: int = 0) -> bytes:
    """A file of one tensor: (value, width) fields and numbers of exponential Golomb codes of order 0."""
    writer = BitWriter()
    writer.number("", deflated, 1)
    writer.varying("", len(directory), 6)
    writer.bits("", np.unpackbits(np.frombuffer(directory, dtype=np.uint8)))
    for field in fields:
        if isinstance(field, tuple):
            writer.number("", *field)
        else:
            writer.varying("", field)
    return sealed(b"kru\x02" + writer.to_bytes() + bytes(16))


def golomb(value: int, order: int) -> tuple[int, int]:
    """A number's exponential Golomb code as a field."""
    return value + (1 << order), 2 * (value + (1 << order)).bit_length() - order - 1


def head(shape: tuple[int, ...], *, shared: int = 1, kind: int = 1, bits: int = 8) -> tuple[tuple[int, int], ...]:
    """Kind, shape, number format and fraction of a tensor."""
    return ((shared, 1), (len(shape), 3), *(golomb(size, 4) for size in shape), (kind, 2), (bits - 1, 5), golomb(0, 3))


# Vector 1, no gap width, a code book of two full words; by rows, nothing left out.
BOOK_OF_TWO = (golomb(0, 0), (0, 1), golomb(2, 2), (0, 3), (100, 8), (200, 8), (0, 3))
GAPS, BLOCKS = (1, 1), (0, 1)
ALL = (0, 2)
NARROW = (1, 3)


NONSENSE = {
    "1,208,925,819,614,629,174,706,176 weights, 65,536 may be": file_of(*head((1 << 40, 1 << 40))),
    "a number of more than 48 bits": file_of((1, 1), (7, 3), (0, 60)),
    "number formats are of the kinds 0 to 2, not 3": file_of(*head((4, 4), kind=3)),
    "a signed number format has 2 to 64 bits, not 1": file_of(*head((4, 4), bits=1)),
    r"vectors of 3 weights in the shape \[4, 4\]": file_of(*head((4, 4)), golomb(2, 0), (0, 1), golomb(1, 2)),
    r"vectors of 1 weights in the shape \[\]": file_of(*head(()), golomb(0, 0), (0, 1), golomb(1, 2)),
    r"vectors of 1 weights in the shape \[4, 0\]": file_of(*head((4, 0)), golomb(0, 0), (0, 1), golomb(1, 2)),
    "a code book of 1073741824 vectors": file_of(*head((4, 4)), golomb(0, 0), (0, 1), golomb(1 << 30, 2)),
    "32,768 weights and a code book of 134,217,728 integers, 65,536 may be": file_of(
        *head((1, 1 << 15)), golomb((1 << 15) - 1, 0), (0, 1), golomb(4096, 2)
    ),
    "integers have the forms 0 to 4, not 7": file_of(*head((4, 4)), golomb(0, 0), (0, 1), golomb(2, 2), (7, 3)),
    "200 Rice codes of 0 low bits": file_of(*head((4, 4)), golomb(0, 0), (0, 1), golomb(200, 2), (2, 3), (0, 4)),
    "offsets of 9 bits": file_of(*head((4, 4)), golomb(0, 0), (0, 1), golomb(2, 2), (1, 3), (9, 4)),
    "40 integers of 8 bits in 1.. bits": file_of(*head((40,), shared=0), (0, 1), (0, 3)),
    "17 entries in a row of 16 weights": file_of(*head((4, 4)), *BOOK_OF_TWO, GAPS, golomb(17, 5)),
    "1099511627776 entries in a row of 16 weights": file_of(*head((4, 4)), *BOOK_OF_TWO, GAPS, golomb(1 << 40, 5)),
    "1 to 3 leading bits of a gap, not 4": file_of(*head((4, 4)), *BOOK_OF_TWO, GAPS, golomb(1, 5), (3, 4), (4, 4)),
    "at most 12 may be": file_of(*head((4, 4)), *BOOK_OF_TWO, GAPS, golomb(1, 5), (15, 4), (15, 4)),
    "entries reach to weight 8 of a row of 4": file_of(
        *head((1, 4)), *BOOK_OF_TWO, GAPS, golomb(1, 5), (3, 4), (3, 4), (1, 2), 8, 0, (0, 3), (1, 2), 0, 0
    ),
    # The same within the row, of two codes whose split is beyond them.
    "0 of 0 codes behind one below 4 of 3": file_of(
        *head((1, 9)),
        golomb(0, 0),
        (0, 1),
        golomb(3, 2),
        (1, 3),
        (0, 4),
        (9, 8),
        (0, 3),
        GAPS,
        golomb(1, 5),
        (3, 4),
        (3, 4),
        (1, 2),
        8,
        0,
        (7, 3),
        golomb(3, 2),
        golomb(0, 5),
    ),
    "over-subscribed": file_of(*head((4, 4)), *BOOK_OF_TWO, BLOCKS, (0, 3), ALL, (0, 3), (1, 4), (1, 4)),
    "incomplete": file_of(*head((4, 4)), *BOOK_OF_TWO, BLOCKS, (0, 3), ALL, (0, 3), (1, 4), (15, 4)),
    "words of no bits": file_of(*head((4, 4)), *BOOK_OF_TWO, BLOCKS, (0, 3), ALL, (0, 3), (1, 4), (0, 4)),
    "blocks of 8 codes of an alphabet of 3": file_of(*head((4, 4)), *BOOK_OF_TWO, BLOCKS, (7, 3)),
    "symbols 2 to 3 of an alphabet of 3": file_of(*head((4, 4)), *BOOK_OF_TWO, BLOCKS, (0, 3), (1, 2), 2, 1),
    "a code of no symbol": file_of(*head((4, 4)), *BOOK_OF_TWO, BLOCKS, (0, 3), (2, 2), (0, 3)),
    "4 symbols of an alphabet of 3": file_of(*head((4, 4)), *BOOK_OF_TWO, BLOCKS, (0, 3), (3, 2), 3),
    "not ascending within the alphabet of 3": file_of(
        *head((4, 4)), *BOOK_OF_TWO, BLOCKS, (0, 3), (3, 2), 1, (0, 3), (2, 15), (1, 15)
    ),
    "do not hold 60000": file_of(*head((1, 60_000)), *BOOK_OF_TWO, BLOCKS, (0, 3), ALL, (0, 3), (1, 4), (2, 4)),
    "directory: it is not a pair of metadata and names": file_of(directory=b"[{}]"),
    "directory: two tensors have one name": file_of(directory=b'[{},["a","a"]]'),
    "directory: a tensor has no name": file_of(directory=b'[{},[""]]'),
    "directory: Expecting value": file_of(directory=b'{"a":'),
    "directory: 'utf-8' codec": file_of(directory=b"\xff"),
    "directory: maximum recursion depth": file_of(directory=b"[" * 100_000),
    "directory: Exceeds the limit": file_of(directory=b"9" * 10_000),
    "directory: Error -3": file_of(directory=b"\xff\xff", deflated=1),
    "its deflated text does not end": file_of(directory=zlib.compress(b" " * (1 << 27), 9, -15), deflated=1),
    "directory: the data end .* bits early": sealed(b"kru\x02" + b"\x00\x01" + b"\xff" * 4),
}


@pytest.mark.parametrize(("message", "data"), NONSENSE.items(), ids=NONSENSE)
def test_nonsense_under_a_sound_checksum(message: str, data: bytes):
    peak = peak_of(lambda: refused(data, message))
    assert peak < 8 << 20


def refused(data: bytes, message: str) -> None:
    with pytest.raises(ContainerError, match=message) as caught:
        read_container(data, largest_model=LARGEST)
    assert "\n" not in str(caught.value)


def peak_of(call: Callable[[], None]) -> int:
    """Bytes that a call holds at most at a time; numpy reports its arrays to tracemalloc."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


SHAPE = (1 << 8, (1 << 8) - 1)
BOOK_OF_FIVES = (golomb(0, 0), (0, 1), golomb(3, 2), NARROW, (0, 4), (5, 8), (0, 3))
ONLY_1 = ((1, 2), 1, 0)
ALIKE = {
    "raw": file_of(*head(SHAPE, shared=0), (0, 1), NARROW, (0, 4), (5, 8)),
    "blocks": file_of(*head(SHAPE), *BOOK_OF_FIVES, BLOCKS, (0, 3), *ONLY_1),
    # As many entries as weights, each of the only gap, 0, and all but the first behind a code that is not below 1.
    "gaps": file_of(*head(SHAPE), *BOOK_OF_FIVES, GAPS, golomb(SHAPE[0] * SHAPE[1], 5), (0, 4), (0, 4), *ONLY_1,
                    (7, 3), golomb(0, 2), golomb(0, 5), *ONLY_1, *ONLY_1),
}  # fmt: skip


@pytest.mark.parametrize("data", ALIKE.values(), ids=ALIKE)
def test_the_most_memory_that_few_bytes_claim(data):
    """As many weights as are accepted, all alike, take no bits; what is read of them is bounded all the same."""
    data = data[:-4].rstrip(b"\x00")
    found: list[Container] = []
    peak = peak_of(lambda: found.append(read_container(sealed(data), largest_model=LARGEST)))
    assert len(data) < 50
    assert peak < 64 * LARGEST + (1 << 20)
    assert (found[0]["a"].values == (5 - 128)).all()


def model() -> bytes:
    """One tensor of each form."""
    random = np.random.default_rng(1)
    sparse, dense = np.zeros(1000, dtype=np.int64), random.integers(0, 6, 120)
    sparse[random.permutation(1000)[:90]] = random.integers(1, 4, 90)
    alike = np.zeros(2000, dtype=np.int64)
    for begin in random.permutation(200)[:40] * 10:
        alike[begin : begin + 6] = random.integers(1, 4, 6) + 3 * random.integers(2)
    skewed = np.minimum(random.geometric(0.4, 200), 30)
    common = {"vector": 1, "number_format": signed(8), "fraction": 5}
    book = np.array([[-9], [2], [40]])
    return pack_container(
        {"recipe": "lenet5"},
        [
            SharedTensor(name="sparse", shape=(40, 25), code_book=book, codes=sparse, gap_bits=4, **common),
            SharedTensor(name="dense", shape=(12, 10), code_book=np.arange(5)[:, None] * 7, codes=dense, **common),
            SharedTensor(name="alike", shape=(20, 100), code_book=np.arange(6)[:, None] - 3, codes=alike, **common),
            SharedTensor(name="skewed", shape=(20, 10), code_book=np.arange(30)[:, None], codes=skewed, **common),
            SharedTensor(name="pairs", shape=(6, 10), code_book=random.integers(-99, 99, (4, 2)),
                         codes=np.repeat(np.arange(5), 6), **(common | {"vector": 2})),
            RawTensor(name="bias", values=random.integers(-99, 99, 20), number_format=signed(8)),
            RawTensor(name="zeros", values=np.eye(8, dtype=np.int64), number_format=signed(20)),
        ],
    )[0]  # fmt: skip


MODEL = model()
BODY = MODEL[:-4]


def read_or_refuse(data: bytes) -> bool:
    """Whether a file is refused; any error but the reader's own fails."""
    try:
        container = read_container(data, largest_model=LARGEST)
    except ContainerError as error:
        return "\n" not in str(error)
    for tensor in container.tensors:
        assert tensor.values.shape == tensor.shape
        assert tensor.number_format.admits(tensor.values)
    return False


def test_seeded_mutations_are_read_or_refused():
    random = np.random.default_rng(20)
    refused_files = 0
    for _ in range(1500):
        body = np.frombuffer(BODY, dtype=np.uint8).copy()
        match random.integers(4):
            case 0:
                bits = np.unpackbits(body)
                bits[random.integers(32, bits.size, random.integers(1, 4))] ^= 1
                body = np.packbits(bits)
            case 1:
                body[random.integers(4, body.size, random.integers(1, 9))] = random.integers(0, 256)
            case 2:
                begin, end = np.sort(random.integers(4, body.size, 2))
                body = np.delete(body, slice(begin, min(end, begin + 30)))
            case 3:
                at = random.integers(4, body.size)
                body = np.insert(body, at, random.integers(0, 256, random.integers(1, 30)))
        refused_files += read_or_refuse(sealed(body.astype(np.uint8).tobytes()))
    assert 1000 < refused_files < 1500


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_behind_a_directory_are_read_or_refused(tail):
    read_or_refuse(sealed(file_of()[:-20] + tail))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(tail):
    read_or_refuse(sealed(b"kru\x02" + tail))


def test_mutated_files_take_bounded_memory():
    random = np.random.default_rng(3)
    for _ in range(60):
        body = bytearray(BODY)
        body[int(random.integers(4, len(body)))] ^= int(random.integers(1, 256))
        data = sealed(bytes(body))
        assert peak_of(lambda data=data: read_or_refuse(data)) < 64 * (LARGEST + len(data)) + (4 << 20)
