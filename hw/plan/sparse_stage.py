"""Stages whose weights are stored without their zeros: their foldings and their engine."""

from __future__ import annotations

from functools import lru_cache

from karui.hw.arithmetic.integer_dot_product import Multiplier
from karui.hw.compressed.sparse_entries import EntriesConfig, EntryRomConfig, HuffmanEntriesConfig
from karui.hw.compressed.sparse_matrix_vector import SparseMatrixVectorConfig
from karui.hw.compressed.sparse_segments import SLOTS, SparseSegments
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
