import numpy as np
import pytest

from karui.hw.streams.stream import ElasticOutputConfig, Fifo, FifoConfig, lanes_of
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_stream
from karui.sw.numerics import BIPOLAR, signed, unsigned


@pytest.mark.parametrize("depth", [3, 4, 16, 17])
@pytest.mark.parametrize("source", BackPressure)
@pytest.mark.parametrize("sink", BackPressure)
def test_fifo_keeps_order_and_schedule(depth, source, sink):
    config = FifoConfig(payload=lanes_of(signed(9), 3), depth=depth)
    beats = np.random.default_rng(depth).integers(-256, 256, size=(200, 3))
    run = run_stream(Fifo(config), beats, beats_out=200, source=source, sink=sink, seed=depth)
    assert run.words.tolist() == beats.tolist()
    if sink is BackPressure.NONE:
        schedule = config.schedule(run.arrivals)
        assert schedule.accepted.tolist() == run.accepted.tolist()
        assert schedule.departures.tolist() == run.departures.tolist()


def test_fifo_holds_its_depth():
    config = FifoConfig(payload=lanes_of(unsigned(8), 1), depth=5)
    run = run_stream(Fifo(config), np.arange(60)[:, None], beats_out=60, sink=BackPressure.BURSTY, seed=3)
    waiting = [int(np.sum(run.accepted <= cycle) - np.sum(run.taken < cycle)) for cycle in run.accepted]
    assert max(waiting) == 5


def test_fifo_refuses_a_depth_that_is_slow():
    with pytest.raises(ValueError, match="depth of 3 or more, not 2"):
        FifoConfig(payload=lanes_of(BIPOLAR, 1), depth=2)


@pytest.mark.parametrize(("period", "latency"), [(1, 0), (1, 9), (4, 12), (16, 30)])
def test_elastic_output_has_a_credit_for_every_word_in_flight(period, latency):
    config = ElasticOutputConfig(payload=lanes_of(BIPOLAR, 1), period=period, latency=latency)
    assert (config.depth - 1) * period >= latency + 3 or config.depth == 3
