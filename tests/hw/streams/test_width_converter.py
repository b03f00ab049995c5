import numpy as np
import pytest

from karui.hw.streams.width_converter import WidthConverter, WidthConverterConfig
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import BIPOLAR, signed, unsigned

SHAPES = [
    (12, 3, 3),
    (18, 2, 6),
    (12, 1, 12),
    (12, 12, 1),
    (12, 2, 4),
    (24, 8, 2),
    (24, 8, 4),
    (42, 6, 7),
    (30, 15, 2),
    (4, 4, 4),
]
FRAMES = 4
# Element, elements, lanes: words of two groups, of groups of unequal runs, of as many groups as pieces allow.
WIDE = [(signed(16), 64, 1, 16), (signed(16), 72, 1, 18), (signed(32), 24, 2, 12), (signed(32), 32, 2, 8)]


def _random_words(config: WidthConverterConfig, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    element = config.element
    low, high = (0, 1) if element.is_bipolar else (element.minimum, element.maximum)
    return random.integers(low, high + 1, size=FRAMES * config.elements)


@pytest.mark.parametrize(("elements", "lanes_in", "lanes_out"), SHAPES)
@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_keeps_every_element_in_order(elements, lanes_in, lanes_out, source, sink):
    config = WidthConverterConfig(element=signed(5), elements=elements, lanes_in=lanes_in, lanes_out=lanes_out)
    words = _random_words(config, seed=elements)
    run = run_stream(
        WidthConverter(config),
        words.reshape(-1, lanes_in),
        beats_out=words.size // lanes_out,
        source=source,
        sink=sink,
        seed=lanes_in,
    )
    assert run.words.reshape(-1).tolist() == words.tolist()


@pytest.mark.parametrize(("elements", "lanes_in", "lanes_out"), SHAPES)
@pytest.mark.parametrize("source", BackPressure)
def test_schedule_equals_simulation(elements, lanes_in, lanes_out, source):
    config = WidthConverterConfig(element=BIPOLAR, elements=elements, lanes_in=lanes_in, lanes_out=lanes_out)
    words = _random_words(config, seed=1)
    run = run_stream(
        WidthConverter(config), words.reshape(-1, lanes_in), beats_out=words.size // lanes_out, source=source, seed=5
    )
    schedule = config.schedule(run.arrivals)
    assert schedule.accepted.tolist() == run.accepted.tolist()
    assert schedule.departures.tolist() == run.departures.tolist()


@pytest.mark.parametrize(("elements", "lanes_in", "lanes_out"), SHAPES)
def test_interval_is_the_steady_distance_of_frames(elements, lanes_in, lanes_out):
    config = WidthConverterConfig(element=unsigned(2), elements=elements, lanes_in=lanes_in, lanes_out=lanes_out)
    departures = config.schedule(np.zeros(FRAMES * elements // lanes_in, dtype=np.int64)).departures
    last_of_frames = departures[elements // lanes_out - 1 :: elements // lanes_out]
    assert np.diff(last_of_frames)[1:].tolist() == [config.interval] * (FRAMES - 2)


@pytest.mark.parametrize(("element", "elements", "lanes_in", "lanes_out"), WIDE)
@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_wide_words_are_collected_in_groups(element, elements, lanes_in, lanes_out, source, sink):
    config = WidthConverterConfig(element=element, elements=elements, lanes_in=lanes_in, lanes_out=lanes_out)
    assert config.groups == {16: 2, 18: 3, 12: 3, 8: 2}[lanes_out]
    words = _random_words(config, seed=elements)
    beats = words.reshape(-1, lanes_in)
    run = run_stream(
        WidthConverter(config), beats, beats_out=words.size // lanes_out, source=source, sink=sink, seed=lanes_out
    )
    assert run.words.reshape(-1).tolist() == words.tolist()
    if sink is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()


def test_refuses_lanes_that_do_not_divide_the_frame():
    with pytest.raises(ValueError, match="lanes_in of a width converter must divide the 12 elements of a frame, not 5"):
        WidthConverterConfig(element=BIPOLAR, elements=12, lanes_in=5, lanes_out=4)
