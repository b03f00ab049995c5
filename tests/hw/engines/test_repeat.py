import numpy as np
import pytest

from karui.hw.engines.repeat import Repeat, RepeatConfig
from karui.hw.memory.memory_style import Storage
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.golden import evaluate
from karui.sw.ir import GraphBuilder
from karui.sw.ir import Repeat as RepeatOp
from karui.sw.numerics import signed

FRAMES = 4


def _check(
    config: RepeatConfig, source: BackPressure = BackPressure.NONE, sink: BackPressure = BackPressure.NONE
) -> None:
    build = GraphBuilder("repeat")
    edge = build.input("x", (config.elements,), config.element)
    graph = build.finish(build.node("y", RepeatOp(times=config.times), edge))
    frames = np.random.default_rng(1).integers(-16, 16, (FRAMES, config.elements))
    expected = evaluate(graph, frames)
    assert expected.shape == (FRAMES, config.times, config.elements)
    run = run_stream(
        Repeat(config),
        frames.reshape(-1, config.lanes),
        beats_out=expected.size // config.lanes,
        source=source,
        sink=sink,
        seed=config.lanes,
    )
    assert run.words.reshape(expected.shape).tolist() == expected.tolist()
    if source is BackPressure.NONE and sink is BackPressure.NONE:
        assert np.diff(run.departures).tolist() == [1] * (len(run.words) - 1)


@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_back_pressure(source: BackPressure, sink: BackPressure) -> None:
    _check(RepeatConfig(element=signed(5), elements=12, times=3, lanes=2), source, sink)


@pytest.mark.parametrize(("elements", "times", "lanes"), [(1, 1, 1), (6, 1, 2), (4, 5, 4), (10, 2, 2), (7, 2, 1)])
def test_shapes_at_the_edge(elements: int, times: int, lanes: int) -> None:
    _check(RepeatConfig(element=signed(5), elements=elements, times=times, lanes=lanes))


@pytest.mark.parametrize("storage", ["block", "distributed"])
def test_either_memory_holds_the_frames(storage: Storage) -> None:
    _check(RepeatConfig(element=signed(5), elements=120, times=2, lanes=3, storage=storage))


def test_refuses_lanes_that_do_not_divide_a_frame() -> None:
    with pytest.raises(ValueError, match="lanes of a repeat must divide the 12 elements of a frame, not 5"):
        RepeatConfig(element=signed(5), elements=12, times=3, lanes=5)
