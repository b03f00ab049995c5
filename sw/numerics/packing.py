"""Bit order: the only place that says which bit of a word is which element.

Element 0 (lane 0) sits in the lowest bits, elements are packed without gaps, a word is padded with zero bits to whole
bytes, and bytes are little-endian. A signed element is two's complement; a bipolar one is one bit, 1 for +1.

Bit strings (Huffman streams and what else is read bit by bit) are the exception: their first bit is the most
significant of the first word or byte, so that a code word reads as the number it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.numerics.number_format import NumberFormat

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]


def word_bytes(bits: int) -> int:
    """Bytes that a word of `bits` bits occupies."""
    return -(-bits // 8)


def pack(values: npt.NDArray[Any], number_format: NumberFormat) -> Bytes:
    """Pack the last axis of an array into one word.

    Parameters
    ----------
    values : ndarray, shape (..., n)
        Integers of the format (bipolar: -1 and +1).
    number_format : NumberFormat
        Format of each element.

    Returns
    -------
    ndarray of uint8, shape (..., word_bytes(n * bits))

    Raises
    ------
    ValueError
        If a value is not a word of the format.
    """
    if not number_format.admits(values):
        raise ValueError(f"values from {values.min()} to {values.max()} do not fit the number format {number_format}")
    if number_format.is_bipolar:
        bits = (values > 0).astype(np.uint8)
    elif number_format.bits == 1:
        bits = values.astype(np.uint8)
    elif number_format.bits == 8:
        return values.astype(np.int64).astype(np.uint8)
    else:
        # Two's complement: the bytes of the int64, little-endian, cut to the format's width.
        raw = np.ascontiguousarray(values.astype("<i8"))[..., None].view(np.uint8)
        raw = raw[..., : word_bytes(number_format.bits)]
        bits = np.unpackbits(raw, axis=-1, bitorder="little", count=number_format.bits)
        bits = bits.reshape(*values.shape[:-1], values.shape[-1] * number_format.bits)
    return np.packbits(bits, axis=-1, bitorder="little")


def unpack(words: Bytes, number_format: NumberFormat, count: int) -> Integers:
    """Inverse of `pack`.

    Parameters
    ----------
    words : ndarray of uint8, shape (..., bytes)
        One word along the last axis.
    number_format : NumberFormat
        Format of each element.
    count : int
        Elements to take from each word.

    Returns
    -------
    ndarray of int64, shape (..., count)
    """
    width = number_format.bits
    if words.shape[-1] < word_bytes(count * width):
        raise ValueError(
            f"{count} elements of {width} bits need {word_bytes(count * width)} bytes a word, not {words.shape[-1]}"
        )
    bits = np.unpackbits(words, axis=-1, bitorder="little", count=count * width)
    if number_format.is_bipolar:
        return bits.astype(np.int64) * 2 - 1
    elements = bits.reshape(*words.shape[:-1], count, width)
    raw = np.packbits(elements, axis=-1, bitorder="little")
    padded = np.zeros((*raw.shape[:-1], 8), dtype=np.uint8)
    padded[..., : raw.shape[-1]] = raw
    values = padded.view("<i8")[..., 0].astype(np.int64)
    if number_format.kind == "signed":
        sign = np.int64(1) << np.int64(width - 1)
        values = (values ^ sign) - sign
    return values


def pack_beats(frames: npt.NDArray[Any], number_format: NumberFormat, lanes: int) -> Bytes:
    """Cut frames into the beats of a stream.

    Parameters
    ----------
    frames : ndarray, shape (n, ...)
        One frame along the first axis; its elements go out in C order (feature maps: row, column, channel).
    number_format : NumberFormat
        Format of each element.
    lanes : int
        Elements a beat. The unused lanes of a frame's last beat are zero bits.

    Returns
    -------
    ndarray of uint8, shape (n, beats, word_bytes(lanes * bits))
    """
    flat = frames.reshape(len(frames), -1)
    elements = flat.shape[1]
    beats = -(-elements // lanes)
    # The filling elements must be words of the format; their bits are cleared after packing.
    padded = np.full((len(frames), beats * lanes), number_format.minimum, dtype=np.int64)
    padded[:, :elements] = flat
    words = pack(padded.reshape(len(frames), beats, lanes), number_format)
    used = (elements - (beats - 1) * lanes) * number_format.bits
    keep = np.packbits(np.arange(words.shape[-1] * 8) < used, bitorder="little")
    words[:, -1] &= keep
    return words


def unpack_beats(words: Bytes, number_format: NumberFormat, lanes: int, shape: tuple[int, ...]) -> Integers:
    """Inverse of `pack_beats`: frames of the given shape from words of shape (n, beats, bytes)."""
    elements = int(np.prod(shape))
    values = unpack(words, number_format, lanes).reshape(len(words), -1)
    return values[:, :elements].reshape(len(words), *shape)


def to_integers(words: Bytes) -> list[int]:
    """Words of shape (n, bytes) as Python integers, for memories of any width."""
    return [int.from_bytes(word.tobytes(), "little") for word in words]


def pack_bits(bits: npt.NDArray[Any]) -> bytes:
    """Pack a bit string into bytes, the first bit the most significant of the first byte; zero bits fill the last."""
    return np.packbits(bits.astype(np.uint8, copy=False)).tobytes()


def unpack_bits(data: bytes, count: int) -> Bytes:
    """The first `count` bits of a bit string in bytes, one an element."""
    if len(data) < word_bytes(count):
        raise ValueError(f"{count} bits need {word_bytes(count)} bytes, not {len(data)}")
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count)


def bit_words(bits: npt.NDArray[Any], width: int) -> list[int]:
    """Cut a bit string into words of a memory, its first bit the most significant of the first word.

    Zero bits fill the last word.
    """
    words = -(-bits.size // width)
    padded = np.zeros(words * width, dtype=np.uint8)
    padded[: bits.size] = bits
    # packbits fills a row with zero bits at its end, which is below the word.
    rows = np.packbits(padded.reshape(words, width), axis=1)
    return [int.from_bytes(row.tobytes(), "big") >> (-width % 8) for row in rows]
