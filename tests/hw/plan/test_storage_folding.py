"""Foldings, cycles and costs of stages by the storage of their weights."""

import numpy as np
import pytest

from karui.flows.bench.sparse_engine import fastest
from karui.hw.compressed.sparse_entries import EntryRomConfig, HuffmanEntriesConfig
from karui.hw.compressed.sparse_matrix_vector import SparseMatrixVectorConfig
from karui.hw.engines.constant_engine import ConstantEngineConfig
from karui.hw.memory.shared_weights import SharedWeightsConfig
from karui.hw.plan.components import engine
from karui.hw.plan.estimate import Fold, cost, cycles
from karui.hw.plan.folding import Folding, FoldingError, check, choices, fold_for_interval
from karui.hw.plan.stages import Stage, stages
from karui.sw.ir import GraphBuilder, Huffman, Raw, Shared, Sparse, Storage
from karui.sw.numerics import unsigned


def layer(storage: Storage, *, outputs: int = 40, inputs: int = 96, density: float = 0.1) -> Stage:
    random = np.random.default_rng(2)
    weights = random.choice([-7, -2, 3, 5], (outputs, inputs)) * (random.random((outputs, inputs)) < density)
    build = GraphBuilder("layer")
    edge = build.matrix_vector("fc", build.input("x", (3, inputs), unsigned(4)), weights, storage=storage)
    (stage,) = stages(build.finish(edge))
    return stage


@pytest.mark.parametrize(
    "storage", [Raw(), Shared(), Shared(vector=8), Sparse(gap_bits=4), Huffman(gap_bits=4)], ids=str
)
def test_cycles_of_every_folding_are_those_of_its_engine(storage):
    stage = layer(storage)
    for fold in choices(stage):
        built = engine(stage.op, stage, fold)
        assert built.config.interval == cycles(stage.op, stage, fold)
        assert stage.result.elements % built.lanes_out == 0


def test_storage_chooses_the_engine():
    def built(storage):
        stage = layer(storage)
        return engine(stage.op, stage, choices(stage)[0]).config

    shared = built(Shared(vector=8))
    assert isinstance(shared, ConstantEngineConfig)
    assert isinstance(shared.weights, SharedWeightsConfig)
    for storage, entries in ((Sparse(gap_bits=4), EntryRomConfig), (Huffman(gap_bits=4), HuffmanEntriesConfig)):
        config = built(storage)
        assert isinstance(config, SparseMatrixVectorConfig)
        assert isinstance(config.entries, entries)


def test_vectors_and_lanes_divide_one_another():
    assert {fold.simd for fold in choices(layer(Shared(vector=8)))} == {1, 2, 4, 8, 16, 24, 32, 48, 96}
    assert {fold.simd for fold in choices(layer(Sparse(gap_bits=4)))} == {1, 2, 4, 8, 16, 32}


def test_fewer_weights_cost_less_memory_and_logic():
    dense, sparse = layer(Raw(), outputs=200, inputs=512), layer(Sparse(gap_bits=4), outputs=200, inputs=512)
    cheapest = {stage: fold_for_interval((stage,), 8000).folds["fc"] for stage in (dense, sparse)}
    needed = {stage: cost(stage.op, stage, fold) for stage, fold in cheapest.items()}
    assert cheapest[sparse].pe < cheapest[dense].pe * cheapest[dense].simd
    assert needed[sparse].luts < needed[dense].luts
    assert needed[sparse].block_rams < needed[dense].block_rams


def test_a_folding_that_a_sparse_engine_has_not_is_refused():
    stage = layer(Sparse(gap_bits=4))
    folding = fold_for_interval((stage,), 3000)
    assert check((stage,), folding) is folding
    with pytest.raises(FoldingError, match="SIMD may be 1, 2, 4, 8, 16, 32, PE 1, 2, 3"):
        check((stage,), Folding(folds={"fc": Fold(simd=3, pe=40)}))


def test_fastest_folding_keeps_to_the_multipliers():
    pipeline = (layer(Sparse(gap_bits=4)),)
    (fold,) = fastest(pipeline, 6).folds.values()
    assert fold.pe == 6
    least = min(cycles(stage.op, stage, one) for stage in pipeline for one in choices(stage) if one.pe <= 6)
    assert cycles(pipeline[0].op, pipeline[0], fold) == least
