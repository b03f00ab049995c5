"""Pass: the weights of products are kept in the form that takes the fewest bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from karui.sw.coding.canonical_code import CanonicalCode
from karui.sw.coding.relative_index import best_gap_bits, to_entries
from karui.sw.ir import Constant, Graph, Huffman, MatrixVector, Shared, Storage, with_storage
from karui.sw.ir.storage import LARGEST_ALPHABET
from karui.sw.numerics import format_for_range

# Gaps of the streams have at most so many bits: the alphabet of a decoder.
WIDEST_GAP = LARGEST_ALPHABET.bit_length() - 1
# Lengths of binary vectors that are tried.
VECTORS = (4, 8, 16)


def with_compressed_storage(graph: Graph) -> Graph:
    """Choose the storage of fewest bits for every matrix; the values stay the same.

    Integers may be kept as Huffman-coded non-zeros, those of grouped products and binary weights as indices into a code
    book of the vectors that their rows are made of.

    Parameters
    ----------
    graph : Graph
        Of a network whose weights are shared, and integer ones mostly zero, if any storage is to gain.
    """
    storage: dict[str, Storage] = {}
    for node in graph.nodes:
        if not isinstance(node.op, MatrixVector) or node.inputs[1] not in graph.constants:
            continue
        weights, grouped = graph.constants[node.inputs[1]], node.op.groups > 1
        if weights.number_format.is_bipolar and grouped:
            continue
        # The engine that skips zeros takes whole rows alone.
        smallest = _shared(weights) if weights.number_format.is_bipolar or grouped else _huffman(weights)
        if smallest is not None:
            storage[node.inputs[1]] = smallest
    return with_storage(graph, storage)


def _huffman(weights: Constant) -> Huffman | None:
    code_book, inverse = np.unique(weights.values[weights.values != 0], return_inverse=True)
    widest = min(weights.values.shape[1].bit_length() - 1, WIDEST_GAP)
    if not 0 < len(code_book) < LARGEST_ALPHABET or widest < 1:
        return None
    codes = np.zeros(weights.values.shape, dtype=np.int64)
    codes[weights.values != 0] = inverse + 1
    gap_bits = best_gap_bits(codes.ravel(), largest=widest)
    return Huffman(gap_bits=gap_bits) if _coded_bits(codes.ravel(), gap_bits) < weights.bits else None


def _shared(weights: Constant) -> Shared | None:
    lengths = [vector for vector in VECTORS if weights.values.shape[1] % vector == 0]
    bits = {vector: shared_bits(weights, vector) for vector in lengths}
    best = min(bits, key=lambda vector: bits[vector], default=None)
    return None if best is None or bits[best] >= weights.bits else Shared(vector=best)


def shared_bits(weights: Constant, vector: int) -> int:
    """Bits of the indices of all vectors of so many weights, and of one code book."""
    vectors = weights.values.reshape(-1, vector)
    words = len(np.unique(vectors, axis=0))
    return len(vectors) * format_for_range(0, words - 1).bits + words * vector * weights.number_format.bits


def _coded_bits(codes: npt.NDArray[np.int64], gap_bits: int) -> int:
    entries = to_entries(codes, gap_bits)
    counts = [np.bincount(symbols) for symbols in (entries.gaps, entries.codes)]
    return sum(CanonicalCode.from_counts(count).coded_bits(count) for count in counts)
