"""Routing by agreement in hardware against its definition: words at any back-pressure, and every cycle."""

from dataclasses import replace

import numpy as np
import pytest

from karui.hw.arithmetic.integer_dot_product import Multiplier
from karui.hw.engines.routing import Routing, RoutingConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.ir import Graph, GraphBuilder
from karui.sw.ir import Routing as RoutingOp
from karui.sw.ir.capsule_arithmetic import route, route_passes
from karui.sw.numerics import signed, squash_gains

FRAMES = 3


def _graph(capsules: int, outputs: int, length: int, iterations: int, *, index_bits: int, logit_bits: int) -> Graph:
    build = GraphBuilder("routing")
    edge = build.input("x", (capsules * outputs * length,), signed(8, fraction=6))
    edge = build.routing(
        "y",
        edge,
        outputs=outputs,
        length=length,
        iterations=iterations,
        sums=signed(16, fraction=11),
        output=signed(8, fraction=7),
        logits=signed(logit_bits, fraction=10),
        index_bits=index_bits,
    )
    return build.finish(edge)


def _config(
    capsules: int,
    outputs: int,
    length: int,
    iterations: int,
    lanes: int,
    *,
    multiplier: Multiplier = "dsp",
    index_bits: int = 6,
    logit_bits: int = 16,
    kept: bool = True,
) -> RoutingConfig:
    graph = _graph(capsules, outputs, length, iterations, index_bits=index_bits, logit_bits=logit_bits)
    op = graph.node("y").op
    assert isinstance(op, RoutingOp)
    gains, powers, reciprocals = (graph.constants[name].values for name in graph.node("y").inputs[1:])
    return RoutingConfig(
        op=op,
        element=signed(8, fraction=6),
        capsules=capsules,
        lanes=lanes,
        gains=gains,
        powers=powers,
        reciprocals=reciprocals,
        multiplier=multiplier,
        kept=kept,
    )


def _predictions(config: RoutingConfig, frames: int = FRAMES) -> np.ndarray:
    """Half of the capsules agree upon an output, another one each frame; the last frame is of extremes."""
    random = np.random.default_rng(config.capsules)
    op = config.op
    votes = random.integers(-128, 128, (frames, config.capsules, op.outputs, op.length))
    half = max(1, config.capsules // 2)
    for frame in range(frames):
        agreed = frame % op.outputs
        votes[frame, :half, agreed] = (votes[frame, :1, agreed] + votes[frame, :half, agreed] // 8).clip(-128, 127)
    votes[-1] = random.choice([-128, 127], votes.shape[1:])
    return votes


def _expected(config: RoutingConfig, votes: np.ndarray) -> np.ndarray:
    """Capsules of predictions (frames, I, J, D), or (frames, iterations, I, J, D) where they are not kept."""
    tables = config.gains, config.powers, config.reciprocals
    if config.kept:
        return np.asarray(route(config.op, votes, *tables))
    return np.asarray(route_passes(config.op, list(votes.swapaxes(0, 1)), *tables))


def _check(
    config: RoutingConfig,
    *,
    source: BackPressure = BackPressure.NONE,
    sink: BackPressure = BackPressure.NONE,
    gap: int = 0,
) -> None:
    votes = _predictions(config)
    if not config.kept:
        # Not the same in each pass, so that none is taken for another.
        votes = np.stack(
            [votes, *(np.roll(votes, turn, axis=1) // (1 + turn) for turn in range(1, config.op.iterations))], 1
        )
    expected = _expected(config, votes)
    beats = votes.reshape(-1, config.lanes)
    run = run_stream(
        Routing(config),
        beats,
        beats_out=FRAMES * config.turn,
        source=source,
        sink=sink,
        seed=config.capsules,
        arrivals=np.arange(len(beats)) * (1 + gap) if gap else None,
    )
    assert run.words.reshape(expected.shape).tolist() == expected.tolist()
    if source is BackPressure.NONE and sink is BackPressure.NONE:
        departures = run.departures.reshape(FRAMES, -1)
        interval = max(config.interval, len(beats) // FRAMES * (1 + gap))
        assert np.diff(departures, axis=0).tolist() == [[interval] * config.turn] * (FRAMES - 1)
        assert np.diff(departures[0]).tolist() == [1] * (config.turn - 1)
        if config.kept:
            passes = (config.op.iterations - 1) * config.iteration_cycles
            assert departures[0, 0] == run.accepted[config.beats - 1] + 1 + passes + config.result_latency


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("iterations", [1, 2, 3, 4])
@pytest.mark.parametrize(("outputs", "length", "lanes"), [(3, 4, 4), (3, 4, 1)])
def test_routes_as_the_definition_says(outputs: int, length: int, lanes: int, iterations: int, kept: bool) -> None:
    _check(_config(5, outputs, length, iterations, lanes, kept=kept))


@pytest.mark.parametrize(
    ("capsules", "outputs", "length", "lanes"),
    [(1, 1, 1, 1), (1, 2, 2, 1), (7, 1, 2, 2), (4, 2, 1, 1), (2, 5, 3, 3), (30, 4, 2, 2)],
)
def test_shapes_at_the_edge(capsules: int, outputs: int, length: int, lanes: int) -> None:
    for iterations, kept in ((1, True), (3, True), (1, False), (3, False)):
        _check(_config(capsules, outputs, length, iterations, lanes, kept=kept))


@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize(("iterations", "kept"), [(1, True), (2, True), (3, False)])
def test_back_pressure(iterations: int, kept: bool, source: BackPressure, sink: BackPressure) -> None:
    _check(_config(4, 3, 4, iterations, 2, kept=kept), source=source, sink=sink)


@pytest.mark.parametrize(("lanes", "gap"), [(1, 1), (2, 2), (4, 9)])
def test_passes_take_predictions_that_come_slowly(lanes: int, gap: int) -> None:
    _check(_config(8, 3, 4, 3, lanes, kept=False), gap=gap)


def test_products_in_look_up_tables() -> None:
    _check(_config(4, 3, 4, 3, 2, multiplier="lut"))


@pytest.mark.parametrize(("index_bits", "logit_bits"), [(3, 13), (7, 18)])
def test_other_formats(index_bits: int, logit_bits: int) -> None:
    _check(_config(6, 3, 4, 3, 2, index_bits=index_bits, logit_bits=logit_bits))


def test_refuses_lanes_that_do_not_divide_a_prediction() -> None:
    with pytest.raises(ValueError, match="lanes of a routing must divide the 4 elements of a prediction, not 3"):
        _config(4, 3, 4, 3, 3)


def test_the_comparison_can_fail() -> None:
    config = _config(4, 3, 4, 3, 2)
    powers = config.powers.copy()
    powers[0] -= 64
    broken = replace(config, powers=powers)
    votes = _predictions(config)
    expected = route(config.op, votes, config.gains, config.powers, config.reciprocals)
    run = run_stream(Routing(broken), votes.reshape(-1, 2), beats_out=FRAMES * config.turn)
    assert run.words.reshape(expected.shape).tolist() != expected.tolist()


def test_coefficients_at_another_time_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    config = _config(4, 3, 4, 2, 4)
    monkeypatch.setattr(RoutingConfig, "weigh_latency", config.weigh_latency + 1)
    with pytest.raises(AssertionError):
        _check(config)


def test_gains_of_another_scale_are_found() -> None:
    config = _config(4, 3, 4, 1, 2)
    broken = replace(config, gains=squash_gains(signed(16, fraction=12), 4))
    votes = _predictions(config)
    expected = route(config.op, votes, config.gains, config.powers, config.reciprocals)
    run = run_stream(Routing(broken), votes.reshape(-1, 2), beats_out=FRAMES * config.turn)
    assert run.words.reshape(expected.shape).tolist() != expected.tolist()
