"""Stages whose weights are stored without their zeros: their foldings, their engine and its cells."""

from __future__ import annotations

from functools import lru_cache

from karui.hw.arithmetic.integer_dot_product import Multiplier
from karui.hw.compressed.sparse_entries import EntriesConfig, EntryRomConfig, HuffmanEntriesConfig
from karui.hw.compressed.sparse_matrix_vector import SparseMatrixVectorConfig
from karui.hw.compressed.sparse_segments import SLOTS, SparseSegments
from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, DISTRIBUTED_ROM_WORDS
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.memory.shared_weights import BOOK_WORDS
from karui.hw.plan.activation_cost import activation_lane
from karui.hw.plan.stages import Stage
from karui.hw.streams.timing import divisors
from karui.sw.ir import Constant, Huffman, MatrixVector, Sparse

_PES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)
"""Numbers of processing elements that are chosen from; any other would do."""


def is_sparse(stage: Stage) -> bool:
    """Whether a stage's engine leaves out the zeros among its weights."""
    if not isinstance(stage.op, MatrixVector):
        return False
    return isinstance(_weights(stage).storage, Sparse | Huffman)


def sparse_pes(stage: Stage) -> list[int]:
    """Numbers of processing elements that are of use: each slot has an entry at least."""
    entries = _entries(_weights(stage), 1, 1).segments.entry_count
    return [pe for pe in _PES if pe == 1 or pe * SLOTS <= entries]


def sparse_simds(simds: list[int]) -> list[int]:
    """Of numbers of inputs a cycle those that a sparse engine can take: powers of two."""
    return [simd for simd in simds if simd & (simd - 1) == 0]


def sparse_engine(stage: Stage, *, simd: int, pe: int, multiplier: Multiplier) -> SparseMatrixVectorConfig:
    """The engine of a stage, without its activation.

    As few results leave together as let the pass over the weights, not the results, take the most time.
    """
    weights = _weights(stage)
    outputs = weights.values.shape[0]
    entries = _entries(weights, 1, 1).segments.entry_count
    pass_cycles = SLOTS * -(-entries // (SLOTS * pe))
    lanes = [lanes for lanes in divisors(pe) if outputs % lanes == 0]
    # Each result takes a step, and one more for each segment's end that cuts its row.
    enough = [count for count in lanes if (outputs + SLOTS * pe) / count <= pass_cycles]
    bias = [stage.graph.constants[name].values for name in stage.node.inputs[2:]]
    assert isinstance(stage.op, MatrixVector)
    return SparseMatrixVectorConfig(
        entries=_entries(weights, pe, enough[0] if enough else lanes[-1]),
        simd=simd,
        input_format=stage.source.number_format,
        accumulator=stage.op.accumulator,
        bias=bias[0] if bias else None,
        positions=stage.positions,
        multiplier=multiplier,
    )


def sparse_cost(stage: Stage, *, simd: int, pe: int, multiplier: Multiplier) -> Resources:
    """Cells of an engine that leaves zeros out."""
    config = sparse_engine(stage, simd=simd, pe=pe, multiplier=multiplier)
    element, segments = config.pe, config.segments
    vectors = memory_cost(element.vector_words, simd * element.input_format.bits, distributed=DISTRIBUTED_RAM_WORDS)
    sums = memory_cost(element.sum_words, config.accumulator.bits, distributed=DISTRIBUTED_RAM_WORDS)
    book_words = 0 if element.book is None else len(element.book)
    book = memory_cost(book_words, element.weight_format.bits, distributed=BOOK_WORDS)
    products = element.product
    of_product = 0.0 if products.dsps else products.luts
    # Adders of the column (twice) and the row, a multiplexer in front of each, and the sum's.
    adders = 4 * config.inputs.bit_length() + 2.5 * element.address_bits + 2.2 * config.accumulator.bits
    of_element = round(adders + of_product) + vectors.luts * 3 // 2 + sums.luts * 3 // 2 + book.luts
    rams = vectors.block_rams + sums.block_rams + book.block_rams
    table = memory_cost(
        sum(config.steps), segments.lanes * (element.address_bits + 16), distributed=DISTRIBUTED_ROM_WORDS
    )
    entries = _entries_cost(config.entries)
    lane = Resources() if stage.activation is None else activation_lane(stage.activation, stage, config.output_fold)
    out = pe * config.accumulator.bits // 2 + segments.lanes * (4 * config.accumulator.bits + lane.luts)
    return Resources(
        luts=pe * of_element + out + table.luts + entries.luts + 170,
        block_rams=pe * rams + table.block_rams + entries.block_rams + segments.lanes * lane.block_rams,
        dsps=pe * products.dsps + segments.lanes * lane.dsps,
    )


def _entries_cost(entries: EntriesConfig) -> Resources:
    """Cells of a ROM of entries, or of Huffman-coded streams and their decoders."""
    if isinstance(entries, EntryRomConfig):
        return memory_cost(entries.segments.pass_cycles, entries.width, distributed=DISTRIBUTED_ROM_WORDS)
    total = Resources()
    for decoder in (entries.gaps, entries.codes):
        symbols = memory_cost(len(decoder.images[0].symbols), decoder.symbol_bits, distributed=DISTRIBUTED_ROM_WORDS)
        for lane, image in enumerate(decoder.images):
            # Two words at once; each two lanes share a symbol table.
            total += memory_cost(len(image.words), 2 * image.word_bits, distributed=DISTRIBUTED_ROM_WORDS)
            total += Resources(luts=72 + 10 * image.window_bits, block_rams=symbols.block_rams * (lane % 2 == 0))
    return total


def _weights(stage: Stage) -> Constant:
    return stage.graph.constants[stage.node.inputs[1]]


@lru_cache(maxsize=64)
def _entries(weights: Constant, pe: int, lanes: int) -> EntriesConfig:
    """The entries of a constant; the same ones are asked for at each folding of a stage."""
    storage = weights.storage
    assert isinstance(storage, Sparse | Huffman)
    segments = SparseSegments(
        weights=weights.values,
        weight_format=weights.number_format,
        pe=pe,
        lanes=lanes,
        gap_bits=storage.gap_bits,
    )
    if isinstance(storage, Sparse):
        return EntryRomConfig(segments=segments)
    return HuffmanEntriesConfig(segments=segments, max_length=storage.max_length)
