"""Predictions that are not kept: routing keeps the rate of the slower one, itself or what makes them."""

from dataclasses import replace

import numpy as np
import pytest

from karui.hw.engines.routing import RoutingConfig
from karui.hw.plan.capsule_stage import capsule_cost
from karui.hw.plan.components import engine
from karui.hw.plan.estimate import Fold
from karui.hw.plan.event_graph import EventGraph
from karui.hw.plan.folding import choices
from karui.hw.plan.stages import stages
from karui.hw.plan.transfers import connect
from karui.sw.ir import Graph, GraphBuilder, with_recomputed_predictions
from karui.sw.numerics import signed


def network(capsules: int, outputs: int, length: int, iterations: int) -> Graph:
    build = GraphBuilder("capsules")
    edge = build.input("x", (4 * capsules,), signed(8, fraction=7))
    weights = np.random.default_rng(0).integers(-9, 9, (capsules * outputs * length, 4))
    edge = build.matrix_vector("products", edge, weights, groups=capsules)
    edge = build.requantize("words", edge, np.array([1]), np.array([0]), shift=5, output=signed(8, fraction=6))
    words = {"sums": signed(16, fraction=9), "output": signed(8, fraction=7), "logits": signed(16, fraction=10)}
    edge = build.routing("routed", edge, outputs=outputs, length=length, iterations=iterations, **words)
    return with_recomputed_predictions(build.finish(edge))


def routing(capsules: int, outputs: int, length: int, iterations: int, lanes: int) -> RoutingConfig:
    stage = stages(network(capsules, outputs, length, iterations))[-1]
    config = engine(stage.op, stage, Fold(simd=lanes, pe=lanes)).config
    assert isinstance(config, RoutingConfig)
    return config


def keeps_the_rate(config: RoutingConfig, pace: float, burst: int) -> bool:
    """Whether frames can follow one another at the interval of the slower one.

    Each burst of beats is made in the time that its beats take at a pace, while the one before leaves.
    """
    beats = config.op.iterations * config.beats
    count, cycles = beats // burst, -int(-burst * pace // 1)
    graph = EventGraph()
    words, results, bursts = graph.events(beats), graph.events(config.turn), graph.events(count, cycles)
    numbers = np.arange(count)
    graph.wait_at(words, numbers * burst, bursts, numbers, 1)
    graph.wait_at(bursts, numbers, words, numbers * burst - 1, 0)
    connect(config, graph, [words], [results])
    period = max(config.interval, count * cycles)
    return graph.earliest(graph.every(0), period=period, rounds=3000, within=5 * period) is not None


@pytest.mark.parametrize("shape", [(30, 3, 4, 3, 1), (12, 4, 8, 3, 4), (12, 10, 16, 3, 16), (20, 5, 8, 4, 2)])
def test_no_slow_prediction_waits(shape: tuple[int, int, int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    config = routing(*shape)
    of_routing = config.interval / (config.op.iterations * config.beats)
    paces = [1.0, *(share * of_routing for share in (0.9, 1.0, 1.01, 1.1, 2.0))]
    bursts = [1, config.folds, config.turn]
    assert all(keeps_the_rate(config, pace, burst) for pace in paces for burst in bursts)
    # With a fifth of the queue passes begin too late.
    room = replace(config.predictions, depth=config.folds + config.predictions.depth // 5)
    monkeypatch.setattr(RoutingConfig, "predictions", room)
    assert not all(keeps_the_rate(config, pace, burst) for pace in paces for burst in bursts)


def test_capsules_are_repeated_in_parts_of_a_group() -> None:
    repeat = stages(network(6, 3, 4, 3))[0]
    assert repeat.name == "products.repeated"
    assert [fold.simd for fold in choices(repeat)] == [1, 2, 4]


@pytest.mark.parametrize(
    ("lanes", "block_rams", "luts"),
    [(1, (59, 13), (1467, 1479)), (4, (61, 14), (2236, 2332)), (16, (55, 10), (6405, 7077))],
)
def test_what_routing_takes_in_both_forms(lanes: int, block_rams: tuple[int, int], luts: tuple[int, int]) -> None:
    """The table of docs/capsules.md."""
    anew = routing(288, 10, 16, 3, lanes)
    forms = replace(anew, kept=True), anew
    costs = [capsule_cost(form) for form in forms]
    assert tuple(cost.block_rams for cost in costs) == block_rams
    assert tuple(cost.luts for cost in costs) == luts
    assert forms[0].interval - forms[1].interval == 2
    assert forms[1].interval == {1: 139_373, 4: 34_933, 16: 8_825}[lanes]
