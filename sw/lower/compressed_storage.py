"""Pass: the weights of products are kept in the form that takes the fewest bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from karui.sw.coding.canonical_code import CanonicalCode
from karui.sw.coding.relative_index import best_gap_bits, to_entries
from karui.sw.compress.config import CodingConfig
from karui.sw.ir import Constant, Graph, Huffman, MatrixVector, Shared, Storage, with_storage
from karui.sw.ir.storage import LARGEST_ALPHABET, WIDEST_CODED_GAP
from karui.sw.numerics import format_for_range

# Lengths of vectors that are tried.
VECTORS = (4, 8, 16)


def with_compressed_storage(graph: Graph, coding: CodingConfig | None = None) -> Graph:
    """Choose the storage of fewest bits for every matrix; the values stay the same.

    Weights may be kept as indices into a code book of the vectors of 4, 8 or 16 that their rows are made of, integers
    as Huffman-coded non-zeros too, if their product is not grouped.

    Parameters
    ----------
    graph : Graph
        Of a network whose weights are shared, and integer ones mostly zero, if any storage is to gain.
    coding : CodingConfig, optional
        Widths of indices and code words.

    Raises
    ------
    ValueError
        If there are widths for another number of matrices, or a code has more words than its lengths can tell apart.
    """
    coding = coding or CodingConfig()
    storage: dict[str, Storage] = {}
    nodes = [node for node in graph.nodes if isinstance(node.op, MatrixVector) and node.inputs[1] in graph.constants]
    widths: tuple[int | None, ...] = coding.gap_bits or (None,)
    if len(widths) == 1:
        widths *= len(nodes)
    elif len(widths) != len(nodes):
        raise ValueError(f"gap_bits has widths for {len(widths)} layers; give 1, or one for each of the {len(nodes)}")
    for node, gap_bits in zip(nodes, widths, strict=True):
        assert isinstance(node.op, MatrixVector)
        weights, grouped = graph.constants[node.inputs[1]], node.op.groups > 1
        if weights.number_format.is_bipolar and grouped:
            continue
        forms = [_shared(weights)]
        # The engine that skips zeros takes whole rows of integers alone.
        if not weights.number_format.is_bipolar and not grouped:
            forms.append(_huffman(weights, gap_bits, coding.longest_code))
        bits = {form: size for form, size in filter(None, forms) if size < weights.bits}
        if bits:
            storage[node.inputs[1]] = min(bits, key=lambda form: bits[form])
    return with_storage(graph, storage)


def _huffman(weights: Constant, gap_bits: int | None, longest_code: int) -> tuple[Storage, int] | None:
    """Huffman codes of the values and the gaps between them, and their bits."""
    code_book, inverse = np.unique(weights.values[weights.values != 0], return_inverse=True)
    widest = min(weights.values.shape[1].bit_length() - 1, WIDEST_CODED_GAP)
    if not 0 < len(code_book) < LARGEST_ALPHABET or widest < 1:
        return None
    codes = np.zeros(weights.values.shape, dtype=np.int64)
    codes[weights.values != 0] = inverse + 1
    if gap_bits is not None and gap_bits > widest:
        raise ValueError(f"rows of {weights.values.shape[1]} weights have gaps of 1 to {widest} bits, not {gap_bits}")
    gap_bits = gap_bits or best_gap_bits(codes.ravel(), largest=widest, max_length=longest_code)
    return Huffman(gap_bits=gap_bits, max_length=longest_code), _coded_bits(codes.ravel(), gap_bits, longest_code)


def _shared(weights: Constant) -> tuple[Storage, int] | None:
    """A code book of vectors of the best length, and its bits with the indices."""
    lengths = [vector for vector in VECTORS if weights.values.shape[1] % vector == 0]
    bits = {vector: shared_bits(weights, vector) for vector in lengths}
    best = min(bits, key=lambda vector: bits[vector], default=None)
    return None if best is None else (Shared(vector=best), bits[best])


def shared_bits(weights: Constant, vector: int) -> int:
    """Bits of the indices of all vectors of so many weights, and of one code book."""
    vectors = weights.values.reshape(-1, vector)
    words = len(np.unique(vectors, axis=0))
    return len(vectors) * format_for_range(0, words - 1).bits + words * vector * weights.number_format.bits


def _coded_bits(codes: npt.NDArray[np.int64], gap_bits: int, longest_code: int) -> int:
    entries = to_entries(codes, gap_bits)
    counts = [np.bincount(symbols) for symbols in (entries.gaps, entries.codes)]
    return sum(CanonicalCode.from_counts(count, max_length=longest_code).coded_bits(count) for count in counts)
