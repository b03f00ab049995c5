from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from karui.hw.engines.walsh_hadamard import WalshHadamard, WalshHadamardConfig
from karui.hw.memory.memory_style import Storage
from karui.hw.streams.stream import ElasticOutputConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream, run_streams
from karui.sw.golden import evaluate
from karui.sw.ir import GraphBuilder
from karui.sw.ir import WalshHadamard as Transform
from karui.sw.numerics import BIPOLAR, NumberFormat, Rounding, signed, unsigned

ELEMENT = signed(5)


def _config(
    size: int,
    lanes: int,
    *,
    element: NumberFormat = ELEMENT,
    transforms: int = 3,
    shifts: tuple[int, ...] | None = None,
    rounding: Rounding = Rounding.HALF_UP,
    storage: Storage = "auto",
) -> WalshHadamardConfig:
    return WalshHadamardConfig(
        transform=Transform(size=size, shifts=shifts, rounding=rounding),
        element=element,
        elements=transforms * size,
        lanes=lanes,
        storage=storage,
    )


def _frames(config: WalshHadamardConfig, seed: int) -> np.ndarray:
    """A frame of extremes, which reach the ends of every stage's range, and one at random."""
    element, random = config.element, np.random.default_rng(seed)
    if element.is_bipolar:
        return random.choice([-1, 1], (2, config.elements))
    extremes = random.choice([element.minimum, element.maximum], config.elements)
    return np.stack([extremes, random.integers(element.minimum, element.maximum + 1, config.elements)])


def _check(
    config: WalshHadamardConfig, *, source: BackPressure, sink: BackPressure, seed: int, against_matrix: bool = False
) -> None:
    """Play frames with pauses; words equal the golden model's, cycles the schedule's where the sink never pauses."""
    frames = _frames(config, seed)
    build = GraphBuilder("transform")
    transform = config.transform
    edge = build.input("x", (config.elements,), config.element)
    graph = build.finish(build.walsh_hadamard("y", edge, transform.size, transform.shifts, transform.rounding))
    assert config.output_format == replace(graph.tensors["y"].number_format, fraction=0)
    if against_matrix:
        runs = frames.reshape(-1, transform.size)
        expected = (runs @ hadamard(transform.size, dtype=np.int64)).reshape(frames.shape)
    else:
        expected = evaluate(graph, frames)
    words = (frames + 1) // 2 if config.element.is_bipolar else frames
    beats = frames.size // config.lanes
    run = run_stream(
        WalshHadamard(config),
        words.reshape(beats, config.lanes),
        beats_out=beats,
        source=source,
        sink=sink,
        seed=seed,
    )
    assert run.words.reshape(frames.shape).tolist() == expected.tolist()
    if sink is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()
        if source is BackPressure.NONE:
            assert run.departures[-1] - run.departures[0] == beats - 1


@pytest.mark.parametrize(("size", "lanes"), [(1 << place, 1) for place in range(2, 12)] + [(256, 4), (1024, 8)])
def test_multiplies_by_the_hadamard_matrix(size: int, lanes: int) -> None:
    config = _config(size, lanes, element=signed(16), transforms=1)
    _check(config, source=BackPressure.NONE, sink=BackPressure.NONE, seed=size, against_matrix=True)


@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize(
    ("size", "lanes"), [(2, 1), (4, 1), (4, 2), (4, 4), (4, 12), (8, 1), (16, 2), (32, 1), (32, 4), (64, 64)]
)
def test_streams_with_back_pressure(size: int, lanes: int, source: BackPressure, sink: BackPressure) -> None:
    _check(_config(size, lanes, transforms=6), source=source, sink=sink, seed=size + lanes)


@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize("storage", ["block", "distributed"])
def test_either_memory_holds_the_delays(storage: Storage, sink: BackPressure) -> None:
    config = _config(128, 2, transforms=4, storage=storage)
    assert {one.in_block_ram for one in config.butterflies if not one.in_registers} == {storage == "block"}
    _check(config, source=BackPressure.RANDOM, sink=sink, seed=7)


@settings(max_examples=40, deadline=None)
@given(
    places=st.integers(1, 6),
    lanes=st.integers(0, 6),
    element=st.sampled_from([signed(2), signed(6), unsigned(1), unsigned(5), BIPOLAR]),
    shifts=st.lists(st.integers(0, 3), min_size=6, max_size=6),
    rounding=st.sampled_from(Rounding),
    storage=st.sampled_from(["block", "distributed", "auto"]),
    source=st.sampled_from(BackPressure),
    sink=st.sampled_from(BackPressure),
    seed=st.integers(0, 99),
)
def test_any_transform(
    places: int,
    lanes: int,
    element: NumberFormat,
    shifts: list[int],
    rounding: Rounding,
    storage: Storage,
    source: BackPressure,
    sink: BackPressure,
    seed: int,
) -> None:
    config = _config(
        1 << places,
        1 << min(lanes, places),
        element=element,
        shifts=tuple(shifts[:places]),
        rounding=rounding,
        storage=storage,
    )
    _check(config, source=source, sink=sink, seed=seed)


def test_a_transform_leaves_without_a_next_one() -> None:
    """The last beat comes after a pause longer than all else takes."""
    config = _config(64, 1, transforms=2)
    frames = _frames(config, 0)[:1]
    arrivals = np.arange(128) + 500 * (np.arange(128) >= 70)
    run = run_stream(WalshHadamard(config), frames.reshape(-1, 1), beats_out=128, arrivals=arrivals)
    expected = frames.reshape(-1, 64) @ hadamard(64)
    assert run.words.reshape(-1, 64).tolist() == expected.tolist()
    assert run.departures[63] < arrivals[70]


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_stalled_pipeline_fills_to_its_last_place(lanes: int) -> None:
    """Each result that has a place at the output leaves its own to a beat, and no beat waits while one is free."""
    size, pause = 128, 1000
    config = _config(size, lanes, transforms=2)
    frames = _frames(config, 0)[:1]
    beats = 2 * size // lanes
    run, outputs = run_streams(
        WalshHadamard(config),
        {"i": frames.reshape(-1, lanes)},
        {"o": beats},
        # The second transform comes when all of the first has left that can.
        arrivals={"i": np.arange(beats) + (pause // 2) * (np.arange(beats) >= beats // 2)},
        takes={"o": np.full(beats, pause)},
    )
    credits = ElasticOutputConfig(payload=1, period=1, latency=config.latency).depth
    # The first result leaves with the last beat; each one after it makes room.
    assert np.count_nonzero(run["i"].accepted < pause) == size // lanes + credits - 1
    expected = frames.reshape(-1, size) @ hadamard(size)
    assert outputs["o"].words.reshape(-1, size).tolist() == expected.tolist()


@pytest.mark.parametrize("shift", [1, 2])
def test_rounds_unsigned_words_of_a_beat(shift: int) -> None:
    config = _config(4, 4, element=unsigned(2), shifts=(shift, 0))
    _check(config, source=BackPressure.NONE, sink=BackPressure.NONE, seed=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elements": 12}, "size 8 takes a multiple of 8 elements, not 12"),
        ({"lanes": 5}, "lanes of a Walsh-Hadamard transform must divide the 48 elements, not 5"),
        ({"lanes": 3}, "must divide its size of 8 or be a multiple, not 3"),
        ({"storage": "tape"}, "storage must be block, distributed or auto, not 'tape'"),
    ],
)
def test_refuses_what_cannot_work(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"elements": 48, "lanes": 1, "storage": "auto"}
    with pytest.raises(ValueError, match=message):
        WalshHadamardConfig(transform=Transform(size=8), element=signed(4), **(arguments | change))
