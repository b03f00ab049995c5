import json
from pathlib import Path

import numpy as np
import pytest

from karui.hw.memory.resources import Resources
from karui.hw.plan.estimate import Fold, cost, cycles
from karui.hw.plan.folding import Folding, FoldingError, check, choices, fold_for_budget, fold_for_interval, total_cost
from karui.hw.plan.stages import Stage, stages
from karui.sw.ir import Graph, GraphBuilder, GraphError
from karui.sw.numerics import BIPOLAR, unsigned


def perceptron(widths: tuple[int, ...]) -> Graph:
    rng = np.random.default_rng(0)
    build = GraphBuilder("perceptron")
    edge = build.input("pixels", (28, 28, 1), unsigned(8))
    edge = build.threshold("binarize", edge, np.array([[128]]), BIPOLAR)
    edge = build.flatten("flat", edge)
    inputs = 784
    for index, outputs in enumerate(widths[:-1]):
        edge = build.matrix_vector(f"dense{index}", edge, rng.choice([-1, 1], (outputs, inputs)))
        edge = build.threshold(f"fire{index}", edge, np.zeros((outputs, 1)), BIPOLAR)
        inputs = outputs
    edge = build.matrix_vector("last", edge, rng.choice([-1, 1], (widths[-1], inputs)))
    return build.finish(build.arg_max("class", edge))


def convolution() -> Graph:
    rng = np.random.default_rng(0)
    build = GraphBuilder("convolution")
    edge = build.input("pixels", (8, 8, 3), unsigned(8))
    edge = build.sliding_window("conv.window", edge, (3, 3))
    edge = build.matrix_vector("conv", edge, rng.choice([-1, 1], (16, 27)))
    edge = build.threshold("fire", edge, np.zeros((16, 1)), BIPOLAR)
    return build.finish(build.max_pool("pool", edge, (2, 2)))


def test_activations_are_computed_by_the_engine_before_them() -> None:
    pipeline = stages(perceptron((64, 64, 10)))
    assert [tuple(node.name for node in stage.nodes) for stage in pipeline] == [
        ("binarize",), ("dense0", "fire0"), ("dense1", "fire1"), ("last",), ("class",)
    ]  # fmt: skip
    window, engine, pool = stages(convolution())
    assert (window.granule, engine.granule, engine.positions, pool.granule) == (3, 3, 36, 16)


def test_branches_are_refused_by_name() -> None:
    build = GraphBuilder("fork")
    edge = build.input("bits", (4, 4, 2), BIPOLAR)
    build.max_pool("left", edge, (2, 2))
    build.max_pool("right", edge, (2, 2))
    with pytest.raises(GraphError, match="2 outputs"):
        stages(build.finish("left", "right"))
    build = GraphBuilder("tap")
    edge = build.max_pool("pool", build.input("bits", (4, 4, 2), BIPOLAR), (2, 2))
    build.node("again", build.finish(edge).node("pool").op, edge)
    with pytest.raises(GraphError, match="graph tap has 1 inputs and 2 outputs"):
        stages(build.finish("pool", "again"))


@pytest.mark.parametrize("interval", [64, 100, 256, 784, 5000])
def test_least_cost_folding_meets_the_interval(interval: int) -> None:
    pipeline = stages(perceptron((64, 64, 64, 10)))
    folding = check(pipeline, fold_for_interval(pipeline, interval))
    for stage in pipeline:
        fold = folding.folds[stage.name]
        assert cycles(stage.op, stage, fold) <= interval
        cheaper = [
            other
            for other in choices(stage)
            if cycles(stage.op, stage, other) <= interval
            and _dominates(cost(stage.op, stage, other), cost(stage.op, stage, fold))
        ]
        assert not cheaper


def _dominates(one: Resources, other: Resources) -> bool:
    return one.fits(other) and one != other


def test_best_rate_within_a_budget() -> None:
    pipeline = stages(perceptron((64, 64, 64, 10)))
    budget = Resources(luts=3000, block_rams=20)
    folding = fold_for_budget(pipeline, budget)
    assert total_cost(pipeline, folding).fits(budget)
    reached = _interval(pipeline, folding)
    faster = sorted({cycles(stage.op, stage, fold) for stage in pipeline for fold in choices(stage)})
    next_faster = [interval for interval in faster if interval < reached][-1]
    assert not total_cost(pipeline, fold_for_interval(pipeline, next_faster)).fits(budget)


def _interval(pipeline: tuple[Stage, ...], folding: Folding) -> int:
    return max(cycles(stage.op, stage, folding.folds[stage.name]) for stage in pipeline)


def _multiplying(bits: int) -> tuple[Stage, ...]:
    rng = np.random.default_rng(0)
    build = GraphBuilder("multiplying")
    edge = build.input("values", (64,), unsigned(bits))
    for name in ("first", "second"):
        edge = build.matrix_vector(name, edge, rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (64, 64)))
        edge = build.requantize(f"{name}.scale", edge, np.array([3]), np.array([0]), shift=9, output=unsigned(bits))
    return stages(build.finish(edge))


@pytest.mark.parametrize(
    ("bits", "dsps", "made"),
    [
        (8, 200, ["dsp", "dsp"]),
        (8, 50, ["dsp", "lut"]),
        (8, 20, ["lut", "lut"]),
        (4, 200, ["lut", "lut"]),
    ],
)
def test_wide_products_take_the_multipliers_that_there_are(bits: int, dsps: int, made: list[str]) -> None:
    pipeline = _multiplying(bits)
    folding = check(pipeline, fold_for_interval(pipeline, 128, dsps=dsps))
    assert sorted(folding.folds[name].multiplier for name in ("first", "second")) == made
    assert total_cost(pipeline, folding).dsps <= max(dsps, sum(folding.folds[stage.name].pe for stage in pipeline))


def test_what_cannot_be_met_is_said() -> None:
    pipeline = stages(convolution())
    with pytest.raises(FoldingError, match=r"stage conv\.window takes 324 cycles .* ask for 324 or more"):
        fold_for_interval(pipeline, 100)
    with pytest.raises(FoldingError, match=r"the smallest folding takes an estimated .* choose a larger device"):
        fold_for_budget(pipeline, Resources(luts=10))


def test_foldings_by_hand_are_checked(tmp_path: Path) -> None:
    pipeline = stages(convolution())
    folding = fold_for_interval(pipeline, 2000)
    folding.save(tmp_path / "folding.json")
    assert Folding.load(tmp_path / "folding.json") == folding
    wide = check(pipeline, folding.built_for(6))
    wide.save(tmp_path / "folding.json")
    assert Folding.load(tmp_path / "folding.json") == wide != folding
    assert json.loads((tmp_path / "folding.json").read_text())["conv"] == {"simd": 3, "pe": 4, "lut_inputs": 6}
    folds = dict(folding.folds)
    with pytest.raises(FoldingError, match="lacks the stage 'pool'"):
        check(pipeline, Folding(folds={name: fold for name, fold in folds.items() if name != "pool"}))
    with pytest.raises(
        FoldingError, match="stage conv: SIMD 2 x PE 4 does not divide it; SIMD may be 1, 3, PE 1, 2, 4"
    ):
        check(pipeline, Folding(folds=folds | {"conv": Fold(simd=2, pe=4)}))
    with pytest.raises(FoldingError, match="names 'fire', which is no stage"):
        check(pipeline, Folding(folds=folds | {"fire": Fold(simd=1, pe=1)}))
    (tmp_path / "folding.json").write_text('{"conv": 3}')
    with pytest.raises(FoldingError, match="is no folding"):
        Folding.load(tmp_path / "folding.json")


def test_multipliers_take_over_where_look_up_tables_are_short() -> None:
    rng = np.random.default_rng(0)
    build = GraphBuilder("integers")
    edge = build.input("features", (64,), unsigned(8))
    for index in range(3):
        edge = build.matrix_vector(f"dense{index}", edge, rng.integers(-128, 128, (64, 64)))
        edge = build.requantize(f"quantize{index}", edge, np.array([3]), np.array([0]), shift=14, output=unsigned(8))
    pipeline = stages(build.finish(edge))
    rates = {}
    for dsps in (6, 60, 600):
        budget = Resources(luts=12_000, block_rams=100, dsps=dsps)
        folding = fold_for_budget(pipeline, budget)
        assert total_cost(pipeline, folding).fits(budget)
        rates[dsps] = _interval(pipeline, folding)
    assert rates[6] > rates[60] > rates[600]
    # Not all or nothing: with some multipliers some products stay in look-up tables.
    mixed = fold_for_budget(pipeline, Resources(luts=12_000, block_rams=100, dsps=60))
    assert {fold.multiplier for name, fold in mixed.folds.items() if name.startswith("dense")} == {"dsp", "lut"}
