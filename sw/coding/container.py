"""The file of a compressed model: one stream of bits behind a magic number, a checksum behind it.

The format is written down in ``docs/container.md``.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from karui.sw.coding.bit_fields import BitReader, BitWriter, DamagedStream
from karui.sw.coding.integer_block import read_integers, write_integers
from karui.sw.coding.matrix_coding import read_matrix, write_matrix
from karui.sw.coding.size_account import SizeAccount
from karui.sw.coding.tensors import LARGEST_BOOK, MOST_AXES, Integers, RawTensor, SharedTensor, Tensor
from karui.sw.numerics import NumberFormat
from karui.sw.numerics.number_format import Kind

__all__ = [
    "Container",
    "ContainerError",
    "RawTensor",
    "SharedTensor",
    "SizeAccount",
    "Tensor",
    "pack_container",
    "read_container",
    "write_container",
]

MAGIC = b"kru"
VERSION = 2
CHECKSUM_BYTES = 4
LARGEST_FILE = 1 << 25
LARGEST_DIRECTORY = 1 << 20
LARGEST_MODEL = 1 << 23
"""Weights and integers of code books that a model has at most, unless the reader is told otherwise."""

HEADER, METADATA, BOOK, BIASES, PADDING, CHECKSUM = (
    "header",
    "metadata",
    "code book",
    "biases",
    "padding",
    "checksum",
)

_KINDS: tuple[Kind, ...] = ("unsigned", "signed", "bipolar")
_SHAPE_ORDER, _FRACTION_ORDER, _BOOK_ORDER, _DIRECTORY_ORDER = 4, 3, 2, 6
# What directories are likely to repeat: deflate refers to it, it is part of the format and of no file. The nearer to
# the end, the fewer bits a reference takes.
_DICTIONARY = (
    b'"accuracy":0.9,"recipe":"lenet-300-100","seed":1,"dense1","dense1.bias","dense2","dense2.bias","fc1","fc1.bias",'
    b'"fc2","fc2.bias","conv1.weight","conv3","conv3.bias","ip3","ip3.bias"]]"conv2","conv2.bias","ip1","ip1.bias",'
    b'"ip2","ip2.bias"],"bits":8},["conv1","conv1.bias",[{"family":"'
)


class ContainerError(ValueError):
    """A file is no container, or a damaged one."""


@dataclass(frozen=True, kw_only=True)
class Container:
    """What a file holds.

    Parameters
    ----------
    metadata : mapping
        JSON values.
    tensors : tuple of RawTensor or SharedTensor
        In the order in which they were written.
    """

    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of a name."""
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise KeyError(f"no tensor {name!r}; there are {', '.join(tensor.name for tensor in self.tensors)}")


def write_container(path: Path, metadata: Mapping[str, Any], tensors: Sequence[Tensor]) -> SizeAccount:
    """Write a compressed model, whole or not at all.

    Parameters
    ----------
    path : Path
        File to write.
    metadata : mapping
        JSON values to keep with the model.
    tensors : sequence of RawTensor or SharedTensor
        Its tensors, of different names.

    Returns
    -------
    SizeAccount
        What each bit of the file is for.

    Raises
    ------
    ValueError
        If two tensors have one name, the metadata are no JSON, or there is more than a reader accepts.
    """
    data, account = pack_container(metadata, tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(data)
    unfinished.replace(path)
    return account


def pack_container(metadata: Mapping[str, Any], tensors: Sequence[Tensor]) -> tuple[bytes, SizeAccount]:
    """The bytes of a container and what each bit of them is for; see `write_container`."""
    names = [tensor.name for tensor in tensors]
    if len(set(names)) < len(names):
        raise ValueError(f"tensors of a container have different names, not {', '.join(names)}")
    integers = sum(_integers_of(tensor) for tensor in tensors)
    if integers > LARGEST_MODEL:
        raise ValueError(
            f"a container holds at most {LARGEST_MODEL:,} weights and integers of code books: {integers:,}"
        )
    pieces = {"": BitWriter()}
    _write_directory(pieces[""], metadata, names)
    for tensor in tensors:
        pieces[tensor.name] = piece = BitWriter()
        if isinstance(tensor, RawTensor):
            _write_raw(piece, tensor)
        else:
            _write_shared(piece, tensor)
    whole = BitWriter()
    for piece in pieces.values():
        whole.append(piece)
    body = MAGIC + bytes([VERSION]) + whole.to_bytes()
    data = body + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "big")
    if len(data) > LARGEST_FILE:
        raise ValueError(f"a container has at most {LARGEST_FILE:,} bytes, not {len(data):,}")
    rows = {("", HEADER): 8 * (len(MAGIC) + 1)}
    for name, piece in pieces.items():
        for kind, bits in piece.bits_by_kind.items():
            rows[name, kind] = rows.get((name, kind), 0) + bits
    rows["", PADDING] = -whole.size % 8
    rows["", CHECKSUM] = 8 * CHECKSUM_BYTES
    account = SizeAccount(rows=rows)
    assert account.total == 8 * len(data)
    return data, account


def read_container(source: Path | bytes, *, largest_model: int = LARGEST_MODEL) -> Container:
    """Read a compressed model.

    Parameters
    ----------
    source : Path or bytes
        The file, or what is in it.
    largest_model : int
        Weights and integers of code books to accept at most. Reading allocates at most 64 bytes for each and 64 times
        the file, and 64 MiB.

    Raises
    ------
    ContainerError
        If it is not there, no container, of another version, truncated or damaged.
    """
    data, where = (source, "container") if isinstance(source, bytes) else (_read_file(source), str(source))
    if data[: len(MAGIC)] != MAGIC:
        raise ContainerError(f"{where} is no container of a compressed model: it does not begin with {MAGIC!r}")
    if len(data) < len(MAGIC) + 1 + CHECKSUM_BYTES:
        raise ContainerError(f"{where} is truncated: {len(data)} bytes hold no model")
    if data[len(MAGIC)] != VERSION:
        raise ContainerError(f"{where} has version {data[len(MAGIC)]}, this reader knows {VERSION}; write it again")
    body, checksum = data[:-CHECKSUM_BYTES], int.from_bytes(data[-CHECKSUM_BYTES:], "big")
    if zlib.crc32(body) != checksum:
        raise ContainerError(f"{where} is damaged or truncated: its checksum does not fit; get it again")
    reader = BitReader(body[len(MAGIC) + 1 :])
    try:
        metadata, names = _read_directory(reader)
    except (ValueError, zlib.error, RecursionError) as error:
        raise ContainerError(f"{where}, directory: {error}") from error
    tensors: list[Tensor] = []
    for name in names:
        try:
            tensors.append(_read_tensor(reader, name, largest_model))
        except ValueError as error:
            raise ContainerError(f"{where}, tensor {name!r}: {error}") from error
        largest_model -= _integers_of(tensors[-1])
    if reader.left >= 8 or reader.bits(reader.left).any():
        raise ContainerError(f"{where} goes on behind its last tensor")
    return Container(metadata=metadata, tensors=tuple(tensors))


def _integers_of(tensor: Tensor) -> int:
    return math.prod(tensor.shape) + (tensor.code_book.size if isinstance(tensor, SharedTensor) else 0)


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ContainerError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > LARGEST_FILE:
        raise ContainerError(f"{path} is no container: it has more than {LARGEST_FILE:,} bytes")
    return data


def _write_directory(writer: BitWriter, metadata: Mapping[str, Any], names: list[str]) -> None:
    text = json.dumps([dict(metadata), names], separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    if len(text) > LARGEST_DIRECTORY:
        raise ValueError(f"metadata and names take at most {LARGEST_DIRECTORY:,} bytes, not {len(text):,}")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zdict=_DICTIONARY)
    deflated = deflate.compress(text) + deflate.flush()
    shorter = min(text, deflated, key=len)
    writer.number(METADATA, shorter is deflated, 1)
    writer.varying(METADATA, len(shorter), _DIRECTORY_ORDER)
    writer.bits(METADATA, np.unpackbits(np.frombuffer(shorter, dtype=np.uint8)))


def _read_directory(reader: BitReader) -> tuple[dict[str, Any], list[str]]:
    is_deflated, size = reader.number(1), reader.varying(_DIRECTORY_ORDER)
    text = np.packbits(reader.bits(8 * size)).tobytes()
    if is_deflated:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS, zdict=_DICTIONARY)
        text = inflate.decompress(text, LARGEST_DIRECTORY)
        if not inflate.eof or inflate.unused_data:
            raise DamagedStream("its deflated text does not end where it should")
    directory = json.loads(text)
    match directory:
        case [dict(metadata), list(names)] if all(isinstance(name, str) for name in names):
            if len(set(names)) < len(names) or "" in names:
                raise DamagedStream("a tensor has no name" if "" in names else "two tensors have one name")
            return metadata, names
    raise DamagedStream("it is not a pair of metadata and names")


def _write_head(writer: BitWriter, shape: tuple[int, ...], number_format: NumberFormat, fraction: int) -> None:
    writer.number(HEADER, len(shape), MOST_AXES.bit_length())
    for size in shape:
        writer.varying(HEADER, size, _SHAPE_ORDER)
    writer.number(HEADER, _KINDS.index(number_format.kind), 2)
    writer.number(HEADER, number_format.bits - 1, 5)
    writer.varying(HEADER, 2 * fraction if fraction >= 0 else -2 * fraction - 1, _FRACTION_ORDER)


def _write_raw(writer: BitWriter, tensor: RawTensor) -> None:
    """Head; then the values, or the code book of those that occur and their codes."""
    writer.number(HEADER, 0, 1)
    _write_head(writer, tensor.shape, tensor.number_format, tensor.fraction)
    values = tensor.values.astype(np.int64).ravel()
    if values.size == 0:
        return
    plain, shared = BitWriter(), BitWriter()
    plain.number(BIASES, 0, 1)
    write_integers(plain, BIASES, values, tensor.number_format)
    book = np.unique(values[values != 0])
    if len(book) <= LARGEST_BOOK:
        codes = np.where(values == 0, 0, np.searchsorted(book, values) + 1)
        shared.number(BIASES, 1, 1)
        shared.varying(BIASES, len(book), _BOOK_ORDER)
        write_integers(shared, BIASES, book, tensor.number_format)
        write_matrix(shared, codes[None], len(book))
    shorter = shared if 0 < shared.size < plain.size else plain
    for kind in list(shorter.bits_by_kind):
        if kind != BIASES:
            shorter.relabel(kind, BIASES, shorter.bits_by_kind[kind])
    writer.append(shorter)


def _write_shared(writer: BitWriter, tensor: SharedTensor) -> None:
    writer.number(HEADER, 1, 1)
    _write_head(writer, tensor.shape, tensor.number_format, tensor.fraction)
    writer.varying(HEADER, tensor.vector - 1)
    writer.number(HEADER, tensor.gap_bits is not None, 1)
    if tensor.gap_bits is not None:
        writer.number(HEADER, tensor.gap_bits, 4)
    writer.varying(HEADER, len(tensor.code_book), _BOOK_ORDER)
    write_integers(writer, BOOK, tensor.code_book.astype(np.int64).ravel(), tensor.number_format)
    write_matrix(writer, tensor.codes.astype(np.int64).reshape(tensor.shape[0], -1), len(tensor.code_book))


def _read_tensor(reader: BitReader, name: str, largest: int) -> Tensor:
    is_shared = reader.number(1)
    shape = tuple(reader.varying(_SHAPE_ORDER) for _ in range(reader.number(MOST_AXES.bit_length())))
    weights = math.prod(shape)
    if weights > largest:
        raise DamagedStream(f"{weights:,} weights, {largest:,} may be")
    kind = reader.number(2)
    if kind >= len(_KINDS):
        raise DamagedStream(f"number formats are of the kinds 0 to {len(_KINDS) - 1}, not {kind}")
    number_format = NumberFormat(kind=_KINDS[kind], bits=reader.number(5) + 1)
    folded = reader.varying(_FRACTION_ORDER)
    fraction = -(folded + 1 >> 1) if folded & 1 else folded >> 1
    if not is_shared:
        values = _read_raw(reader, weights, number_format).reshape(shape)
        return RawTensor(name=name, values=values, number_format=number_format, fraction=fraction)
    vector = reader.varying() + 1
    gap_bits = reader.number(4) if reader.number(1) else None
    count = _read_book_size(reader)
    if weights == 0 or vector > weights or not shape or weights // shape[0] % vector:
        raise DamagedStream(f"vectors of {vector} weights in the shape {list(shape)}")
    if weights + count * vector > largest:
        raise DamagedStream(f"{weights:,} weights and a code book of {count * vector:,} integers, {largest:,} may be")
    book = read_integers(reader, count * vector, number_format).reshape(count, vector)
    codes = read_matrix(reader, (shape[0], weights // shape[0] // vector), count).ravel()
    return SharedTensor(name=name, shape=shape, vector=vector, code_book=book, number_format=number_format,
                        fraction=fraction, codes=codes, gap_bits=gap_bits)  # fmt: skip


def _read_raw(reader: BitReader, count: int, number_format: NumberFormat) -> Integers:
    if count == 0:
        return np.empty(0, dtype=np.int64)
    if not reader.number(1):
        return read_integers(reader, count, number_format)
    size = _read_book_size(reader)
    book = read_integers(reader, size, number_format)
    codes = read_matrix(reader, (1, count), size).ravel()
    return np.append(book, 0)[codes - 1]


def _read_book_size(reader: BitReader) -> int:
    count = reader.varying(_BOOK_ORDER)
    if count > LARGEST_BOOK:
        raise DamagedStream(f"a code book of {count} vectors; at most {LARGEST_BOOK} may be")
    return count
