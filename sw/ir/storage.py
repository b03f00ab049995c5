"""How hardware keeps a constant: its values stay the same, whatever the storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from karui.sw.ir.tensor import GraphError

LARGEST_ALPHABET = 256
"""Symbols that a Huffman code of a stored constant has at most."""
WIDEST_CODED_GAP = LARGEST_ALPHABET.bit_length() - 1
"""Bits that a Huffman-coded gap has at most."""
LONGEST_CODE = 15
"""Bits that a code word of a stored constant has at most."""
LARGEST_GAP_BITS = 15


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Every value as a word of its format."""

    def __str__(self) -> str:
        return "raw"


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Dense indices into a code book.

    Parameters
    ----------
    vector : int
        Neighbouring values of a row that share an index; it divides the rows.

    Raises
    ------
    GraphError
        If the vector is shorter than 1.
    """

    vector: int = 1

    def __post_init__(self) -> None:
        if self.vector < 1:
            raise GraphError(f"a code book's vectors have 1 or more values, not {self.vector}")

    def __str__(self) -> str:
        return "shared" if self.vector == 1 else f"shared in vectors of {self.vector}"


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """Non-zero values alone, each behind the number of zeros before it, in words of one width.

    Parameters
    ----------
    gap_bits : int
        Width of that number, 1 to 15; 2**gap_bits is no more than a row has values, so that no entry skips a row. A
        longer run of zeros costs an entry of its own for every 2**gap_bits of them.

    Raises
    ------
    GraphError
        If the width is out of range.
    """

    gap_bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.gap_bits <= LARGEST_GAP_BITS:
            raise GraphError(f"gaps have 1 to {LARGEST_GAP_BITS} bits, not {self.gap_bits}")

    def __str__(self) -> str:
        return f"sparse, gaps of {self.gap_bits} bits"


@dataclass(frozen=True, kw_only=True)
class Huffman:
    """Non-zero values alone, numbers of zeros and values each as the words of a Huffman code.

    Parameters
    ----------
    gap_bits : int
        As of `Sparse`, 1 to 8.
    max_length : int
        Longest code word, 1 to 15 bits.

    Raises
    ------
    GraphError
        If a number is out of range.
    """

    gap_bits: int
    max_length: int = LONGEST_CODE

    def __post_init__(self) -> None:
        if not 1 <= self.gap_bits <= WIDEST_CODED_GAP:
            raise GraphError(f"Huffman-coded gaps have 1 to {WIDEST_CODED_GAP} bits, not {self.gap_bits}")
        if not 1 <= self.max_length <= LONGEST_CODE:
            raise GraphError(f"code words have at most 1 to {LONGEST_CODE} bits, not {self.max_length}")

    def __str__(self) -> str:
        return f"Huffman-coded, gaps of {self.gap_bits} bits"


Storage = Raw | Shared | Sparse | Huffman

RAW = Raw()

_KINDS: dict[str, type[Storage]] = {"raw": Raw, "shared": Shared, "sparse": Sparse, "huffman": Huffman}


def storage_to_dict(storage: Storage) -> dict[str, Any]:
    """A JSON-ready mapping; `storage_from_dict` is its inverse."""
    (kind,) = (name for name, cls in _KINDS.items() if type(storage) is cls)
    return {"kind": kind, **asdict(storage)}


def storage_from_dict(mapping: Mapping[str, Any]) -> Storage:
    """Inverse of `storage_to_dict`.

    Raises
    ------
    GraphError
        If the kind is unknown or its parameters are not its own.
    """
    parameters = dict(mapping)
    kind = parameters.pop("kind", None)
    if kind not in _KINDS:
        raise GraphError(f"{kind!r} is not a storage of this karui; it knows {', '.join(_KINDS)}")
    try:
        return _KINDS[kind](**parameters)
    except TypeError as error:
        raise GraphError(f"storage {kind}: {error}") from error
