import numpy as np
import pytest

from karui.hw.engines.gather import Gather, GatherConfig
from karui.hw.memory.memory_style import Storage
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.golden import evaluate
from karui.sw.ir import GraphBuilder
from karui.sw.numerics import BIPOLAR, signed

RANDOM = np.random.default_rng(0)
INDICES = {
    "permuted": RANDOM.permutation(24),
    "padded": np.concatenate((np.arange(24), np.full(8, -1))),
    "repeated": np.tile(RANDOM.permutation(24), 2),
    "truncated": np.arange(20, 8, -1),
    "one element": np.full(4, 7),
    "nothing": np.full(8, -1),
}


def _check(config: GatherConfig, source: BackPressure, sink: BackPressure) -> None:
    build = GraphBuilder("gather")
    edge = build.input("x", (config.positions, 1, config.channels), config.element)
    graph = build.finish(build.gather("y", edge, config.indices))
    vectors = np.random.default_rng(1).integers(-16, 16, (1, config.positions, 1, config.channels))
    expected = evaluate(graph, vectors)
    run = run_stream(
        Gather(config),
        vectors.reshape(-1, config.lanes),
        beats_out=expected.size // config.lanes,
        source=source,
        sink=sink,
        seed=config.lanes,
    )
    assert run.words.reshape(expected.shape).tolist() == expected.tolist()
    if sink is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("indices", INDICES)
@pytest.mark.parametrize(
    ("source", "sink"), [(BackPressure.NONE, BackPressure.NONE), (BackPressure.RANDOM, BackPressure.BURSTY)]
)
def test_gathers_as_the_golden_model_does(indices: str, lanes: int, source: BackPressure, sink: BackPressure) -> None:
    config = GatherConfig(element=signed(5), channels=24, indices=INDICES[indices], positions=5, lanes=lanes)
    _check(config, source, sink)


@pytest.mark.parametrize("storage", ["block", "distributed"])
def test_either_memory_holds_the_vectors(storage: Storage) -> None:
    config = GatherConfig(
        element=signed(5), channels=128, indices=RANDOM.permutation(128), positions=4, lanes=2, storage=storage
    )
    _check(config, BackPressure.NONE, BackPressure.NONE)


def test_vectors_follow_one_another_without_a_pause() -> None:
    config = GatherConfig(element=signed(5), channels=24, indices=INDICES["permuted"], positions=6, lanes=2)
    departures = config.schedule(np.zeros(72, dtype=np.int64)).departures
    assert np.all(np.diff(departures) == 1)


def test_refuses_what_cannot_work() -> None:
    with pytest.raises(ValueError, match="lanes of a gather must divide the 24 channels, not 5"):
        GatherConfig(element=signed(5), channels=24, indices=np.arange(10), lanes=5)
    with pytest.raises(ValueError, match="lanes of a gather must divide the 10 indices, not 4"):
        GatherConfig(element=signed(5), channels=24, indices=np.arange(10), lanes=4)
    with pytest.raises(ValueError, match="indices of a gather are -1 to 23, not 0 to 24"):
        GatherConfig(element=signed(5), channels=24, indices=np.arange(25), lanes=1)
    with pytest.raises(ValueError, match="no zero to stand at an index of -1"):
        GatherConfig(element=BIPOLAR, channels=2, indices=np.array([0, -1]), lanes=1)
