import itertools

import numpy as np
import pytest

from karui.hw.engines.arg_max import ArgMax, ArgMaxConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import BIPOLAR, NumberFormat, signed, unsigned

SHAPES = [(10, 10), (10, 5), (10, 1), (12, 3), (7, 7), (1, 1), (16, 4), (2, 1)]
FORMATS = [signed(4), unsigned(3), BIPOLAR]


def _vectors(element: NumberFormat, elements: int, count: int) -> np.ndarray:
    low, high = (0, 1) if element.is_bipolar else (element.minimum, element.maximum)
    return np.random.default_rng(elements).integers(low, high + 1, size=(count, elements))


@pytest.mark.parametrize(("elements", "lanes"), SHAPES)
@pytest.mark.parametrize("element", FORMATS, ids=str)
@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_finds_the_first_largest(elements, lanes, element, source, sink):
    config = ArgMaxConfig(element=element, elements=elements, lanes=lanes)
    vectors = _vectors(element, elements, 20)
    run = run_stream(ArgMax(config), vectors.reshape(-1, lanes), beats_out=20, source=source, sink=sink, seed=elements)
    assert run.words[:, 0].tolist() == vectors.argmax(axis=1).tolist()
    if sink is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_all_vectors_of_four_small_elements(lanes):
    vectors = np.array(list(itertools.product(range(-2, 2), repeat=4)))
    config = ArgMaxConfig(element=signed(2), elements=4, lanes=lanes)
    run = run_stream(ArgMax(config), vectors.reshape(-1, lanes), beats_out=len(vectors))
    assert run.words[:, 0].tolist() == vectors.argmax(axis=1).tolist()


@pytest.mark.parametrize(("elements", "lanes"), SHAPES)
def test_interval_is_the_steady_distance_of_vectors(elements, lanes):
    config = ArgMaxConfig(element=signed(6), elements=elements, lanes=lanes)
    vectors = _vectors(config.element, elements, 30)
    run = run_stream(ArgMax(config), vectors.reshape(-1, lanes), beats_out=30)
    assert np.diff(run.departures).tolist() == [config.interval] * 29


def test_refuses_lanes_that_do_not_divide_the_vector():
    with pytest.raises(ValueError, match="lanes of the arg max must divide the 10 elements of the vector, not 3"):
        ArgMaxConfig(element=signed(4), elements=10, lanes=3)
