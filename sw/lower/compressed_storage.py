"""Pass: the weights of products are kept as Huffman-coded non-zeros where that takes fewer bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from karui.sw.coding.canonical_code import CanonicalCode
from karui.sw.coding.relative_index import best_gap_bits, to_entries
from karui.sw.ir import Graph, Huffman, MatrixVector, with_storage
from karui.sw.ir.storage import LARGEST_ALPHABET

# Gaps of the streams have at most so many bits: the alphabet of a decoder.
WIDEST_GAP = LARGEST_ALPHABET.bit_length() - 1


def with_compressed_storage(graph: Graph) -> Graph:
    """Choose Huffman-coded storage for every matrix that it makes smaller; the values stay the same.

    Parameters
    ----------
    graph : Graph
        Of a network whose weights are shared and mostly zero.
    """
    storage = {}
    for node in graph.nodes:
        if not isinstance(node.op, MatrixVector) or node.op.groups != 1 or node.inputs[1] not in graph.constants:
            continue
        weights = graph.constants[node.inputs[1]]
        code_book, inverse = np.unique(weights.values[weights.values != 0], return_inverse=True)
        widest = min(weights.values.shape[1].bit_length() - 1, WIDEST_GAP)
        if weights.number_format.is_bipolar or not 0 < len(code_book) < LARGEST_ALPHABET or widest < 1:
            continue
        codes = np.zeros(weights.values.shape, dtype=np.int64)
        codes[weights.values != 0] = inverse + 1
        gap_bits = best_gap_bits(codes.ravel(), largest=widest)
        if _coded_bits(codes.ravel(), gap_bits) < weights.bits:
            storage[node.inputs[1]] = Huffman(gap_bits=gap_bits)
    return with_storage(graph, storage)


def _coded_bits(codes: npt.NDArray[np.int64], gap_bits: int) -> int:
    entries = to_entries(codes, gap_bits)
    counts = [np.bincount(symbols) for symbols in (entries.gaps, entries.codes)]
    return sum(CanonicalCode.from_counts(count).coded_bits(count) for count in counts)
